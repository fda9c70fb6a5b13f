//! The agent's process: it listens, works, and ends when nobody has asked for some time.

use super::{
    home::Home,
    words::{Answer, LONGEST, Request, WAIT},
};
use crate::{
    error::{BackupError, Result},
    wal::name::{FileKind, file_kind},
};
use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{
        fs::MetadataExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use surus_core::{clock::Stopwatch, monitor::Monitor};

/// How long a command may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked at whether the agent is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What an agent may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Threads that work ahead.
    pub workers: usize,
    /// Commands that are answered at one time.
    pub connections: usize,
    /// It ends after so long without a request.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let workers = thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
        Self { workers, connections: 16, idle: Duration::from_secs(60) }
    }
}

/// What an agent does: archive ahead, or fetch ahead.
pub trait Role: Send + Sync + 'static {
    /// Answers for a segment. `alive` is told every second, and says whether somebody still waits.
    fn answer(&self, name: &str, alive: &mut dyn FnMut() -> bool) -> Answer;

    /// Does the next piece of work; waits until there is one.
    fn work(&self);

    /// Is nothing being done?
    fn idle(&self) -> bool;

    /// The directory without which it is of no use.
    fn directory(&self) -> &Path;

    /// Is it of no use any more for another reason?
    fn over(&self) -> bool {
        false
    }

    /// Leaves nothing behind.
    fn end(&self);
}

/// Since when nobody asked, and how many are being answered.
struct Callers {
    last: Mutex<Stopwatch>,
    now: AtomicUsize,
    ended: AtomicBool,
}

/// Serves until nobody has asked for some time, the directory is gone, or somebody took the socket away. Returns at
/// once when another agent serves already; what it does is made only when none does.
///
/// # Errors
/// When it cannot listen, or its role cannot be made.
pub fn serve(
    home: &Home,
    make: impl FnOnce() -> Result<Arc<dyn Role>>,
    limits: Limits,
    monitor: &Arc<dyn Monitor>,
) -> Result<()> {
    let Some(_claim) = home.claim()? else { return Ok(()) };
    let role = make()?;
    let socket = home.socket();
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(BackupError::file("cannot remove", &socket)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(BackupError::file("cannot listen at", &socket))?;
    let own = fs::metadata(&socket).map(|about| about.ino()).unwrap_or(0);
    let callers = Arc::new(Callers {
        last: Mutex::new(Stopwatch::start()),
        now: AtomicUsize::new(0),
        ended: AtomicBool::new(false),
    });
    for _ in 0..limits.workers {
        let role = role.clone();
        thread::spawn(move || {
            loop {
                role.work();
            }
        });
    }
    let listener = Arc::new(listener);
    // They wait for callers from the beginning: a thread that is only made for one has to wait behind the workers for
    // its first turn. One more than may be answered turns others away.
    for _ in 0..=limits.connections {
        let (listener, role, callers, monitor) = (listener.clone(), role.clone(), callers.clone(), monitor.clone());
        thread::spawn(move || listen(&listener, role.as_ref(), &callers, limits.connections, monitor.as_ref()));
    }
    monitor.note("the agent listens");
    let ours = || fs::metadata(&socket).is_ok_and(|about| about.ino() == own);
    while ours() && !unwanted(&callers, role.as_ref(), limits.idle) {
        thread::sleep(LOOK_EVERY.min(limits.idle));
    }
    callers.ended.store(true, Ordering::SeqCst);
    if ours() {
        drop(fs::remove_file(&socket));
    }
    role.end();
    monitor.note("the agent ends");
    Ok(())
}

/// Answers one caller after another, until the agent ends.
fn listen(listener: &UnixListener, role: &dyn Role, callers: &Callers, most: usize, monitor: &dyn Monitor) {
    for stream in listener.incoming() {
        if callers.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of file descriptors, for example: commands do without us meanwhile.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        *callers.last.lock().unwrap_or_else(PoisonError::into_inner) = Stopwatch::start();
        if callers.now.fetch_add(1, Ordering::SeqCst) < most
            && let Err(error) = answer(&stream, role)
        {
            monitor.note(&format!("a request was not answered: {error}"));
        }
        callers.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Has nobody asked for some time, or is it of no use any more?
fn unwanted(callers: &Callers, role: &dyn Role, idle: Duration) -> bool {
    let silent = callers.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > idle;
    let unasked = silent && callers.now.load(Ordering::SeqCst) == 0 && role.idle();
    unasked || role.over() || !role.directory().is_dir()
}

fn answer(stream: &UnixStream, role: &dyn Role) -> std::io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_WITHIN))?;
    stream.set_write_timeout(Some(REQUEST_WITHIN))?;
    let mut line = String::new();
    BufReader::new(stream).take(LONGEST).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let mut alive = || (&*stream).write_all(format!("{WAIT}\n").as_bytes()).is_ok();
    let answer = match file_kind(&request.name) {
        Some(FileKind::Segment) => role.answer(&request.name, &mut alive),
        _ => Answer::Pass,
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    (&*stream).write_all(&line)
}
