//! A drill is a guest on its machine: the last in the queue for processors and disks.

use rustix::process::{getpid, getpriority_process, getsid, setpriority_process, setsid};
use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The nice value of a drill and of everything that it starts.
const NICE: i32 = 19;
/// How often new processes of the copy's server are looked for. The kernel lets users other than root say it ten times
/// a second, all together.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How often it is tried at most.
const TRIES: u32 = 5;

/// Takes this process to a session of its own that waits for all others, unless a terminal could interrupt it. Where
/// the kernel shares the processors between sessions first, nice values count only within one, and a nice process takes
/// as much as any process of a server. Source: sched(7), "The autogroup feature".
pub fn leave_for_own_session() {
    if File::open("/dev/tty").is_ok() {
        return;
    }
    if setsid().is_ok() || getsid(None).is_ok_and(|leader| leader == getpid()) {
        let said = |_: &u32| {
            wait_for_others(Path::new("/proc/self")) || {
                thread::sleep(LOOK_EVERY);
                false
            }
        };
        (0..TRIES).find(said);
    }
}

/// Says it of the session of a process. False when it may not be said now.
fn wait_for_others(process: &Path) -> bool {
    let file = process.join("autogroup");
    // A process that has ended, or a kernel without the feature, wants nothing.
    !file.exists() || fs::write(&file, NICE.to_string()).is_ok()
}

/// Makes each process of the copy's server wait for others, for each begins a session of its own; until it is dropped.
#[derive(Debug)]
pub struct PoliteServer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PoliteServer {
    /// Of the server that is, or will be, started in this data directory.
    pub fn of(data: &Path) -> Self {
        let (over, data) = (Arc::new(AtomicBool::new(false)), data.to_owned());
        let until = over.clone();
        let thread = thread::spawn(move || {
            let mut told = HashSet::new();
            while !until.load(Ordering::Relaxed) {
                for process in processes(&data) {
                    if !told.contains(&process) && wait_for_others(&process) {
                        told.insert(process);
                    }
                }
                thread::park_timeout(LOOK_EVERY);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for PoliteServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// The processes that the server in a data directory has started, as folders of /proc.
fn processes(data: &Path) -> Vec<PathBuf> {
    let Some(postmaster) = surus_pg::server::running_pid(data) else { return Vec::new() };
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| Path::new("/proc").join(pid)).collect()
}

/// Makes this thread, and whatever thread or process it starts from now on, wait for others. Says what was done.
pub fn be_polite() -> String {
    // On Linux priorities belong to threads: the rest of this process stays as it is.
    let nice = match getpriority_process(None) {
        Ok(now) if now >= NICE => format!("nice {now}"),
        _ => match setpriority_process(None, NICE) {
            Ok(()) => format!("nice {NICE}"),
            Err(error) => format!("the processor's share is not limited ({error})"),
        },
    };
    let disk = if only_idle_disk() { "the disk when it is idle" } else { "the disk is not limited: no ionice" };
    format!("{nice}; {disk}")
}

/// There is no safe call for it; the program of util-linux takes a thread's number, too.
fn only_idle_disk() -> bool {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else { return false };
    let Some(number) = thread.file_name() else { return false };
    let mut command = Command::new("ionice");
    command.args(["-c", "3", "-p"]).arg(number);
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
