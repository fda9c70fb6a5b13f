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

/// After this process began a session of its own: one that a nice process started stays as nice.
pub fn stay_polite() {
    if getpriority_process(None).is_ok_and(|nice| nice >= NICE) {
        wait_for_others(Path::new("/proc/self"));
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
                let now = processes(&data);
                // Its number may be another process's by now.
                told.retain(|process| now.contains(process));
                for process in now {
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

/// Makes this thread, and whatever thread or process it starts from now on, wait for others, on so many processors at
/// most. Says what was done.
pub fn be_polite(processors: usize) -> String {
    // On Linux priorities belong to threads: the rest of this process stays as it is.
    let nice = match getpriority_process(None) {
        Ok(now) if now >= NICE => format!("nice {now}"),
        _ => match setpriority_process(None, NICE) {
            Ok(()) => format!("nice {NICE}"),
            Err(error) => format!("the processor's share is not limited ({error})"),
        },
    };
    let disk = if only_idle_disk() { "the disk when it is idle" } else { "the disk is not limited: no ionice" };
    format!("{nice} on {}; {disk}", only_processors(processors))
}

/// Who waits for others still makes them wait until its turn is over: it leaves processors to them.
fn only_processors(wanted: usize) -> String {
    let Some(given) = own_processors() else { return "all processors".into() };
    // What was started first, and interrupts, tend to be on the first ones.
    let taken: Vec<String> = given.iter().rev().take(wanted.max(1)).map(usize::to_string).collect();
    match of_this_thread("taskset", &["-c", "-p", &taken.join(",")]) {
        true => format!("{} of {} processors", taken.len(), given.len()),
        false => "all processors: no taskset".into(),
    }
}

/// The numbers of the processors that this thread may use.
fn own_processors() -> Option<Vec<usize>> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    processors_in(list.trim())
}

/// Of a list such as `0-3,6`.
fn processors_in(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

fn only_idle_disk() -> bool {
    of_this_thread("ionice", &["-c", "3", "-p"])
}

/// There are no safe calls for it; the programs of util-linux take a thread's number, too.
fn of_this_thread(program: &str, arguments: &[&str]) -> bool {
    let Ok(thread) = fs::read_link("/proc/thread-self") else { return false };
    let Some(number) = thread.file_name() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).arg(number);
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_of_the_server_waits_for_others() {
        if !Path::new("/proc/self/autogroup").exists() {
            eprintln!("skipped: this kernel does not share the processors between sessions");
            return;
        }
        let server = surus_testkit::Server::start();
        let _polite = PoliteServer::of(server.data_dir());
        let limit = surus_core::clock::Deadline::after(Duration::from_secs(60));
        let waits = |process: &PathBuf| {
            let said = fs::read_to_string(process.join("autogroup"));
            said.is_ok_and(|text| text.trim_end().ends_with("nice 19"))
        };
        loop {
            let all = processes(server.data_dir());
            if !all.is_empty() && all.iter().all(waits) {
                return;
            }
            assert!(!limit.passed(), "{all:?}");
            thread::sleep(LOOK_EVERY);
        }
    }

    #[test]
    fn a_drill_takes_one_processor_of_those_that_it_may_use() {
        assert_eq!(processors_in("0-3,6"), Some(vec![0, 1, 2, 3, 6]));
        assert_eq!(processors_in(""), None);
        let said = thread::spawn(|| (own_processors().unwrap(), be_polite(1), own_processors().unwrap()));
        let (before, said, after) = said.join().unwrap();
        assert_eq!(after, before[before.len() - 1..], "{said}");
        assert!(said.starts_with("nice 19 on 1 of "), "{said}");
    }
}
