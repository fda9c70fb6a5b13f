//! What watches over a copy whose maker may be killed: a small process of surus's own that waits for the maker's end
//! and then stops what still runs there.
//!
//! The two hold the ends of a pipe. The maker never writes into it but one letter, "all is well"; the end of the pipe
//! without that letter means that the maker is gone. What is on disk stays for the next sweep, or for `--resume`.

use crate::{
    error::{ProveError, Result},
    scratch::Place,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_pg::server::kill_leftover;

/// "All is well": the maker has cleaned up.
const WELL: u8 = b'w';
/// How long is looked again for what was just about to start.
const LOOK_FOR: Duration = Duration::from_secs(3);

/// The maker's end.
#[derive(Debug)]
pub struct Watchdog {
    child: Option<Child>,
}

impl Watchdog {
    /// Starts it over a place. `words` is the command, to which the maker's process group and the place are added;
    /// empty: nobody watches.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn over(place: &Place, words: &[String]) -> Result<Self> {
        let Some((program, arguments)) = words.split_first() else { return Ok(Self { child: None }) };
        let group = rustix::process::getpgrp().as_raw_nonzero().to_string();
        let mut command = Command::new(program);
        command.args(arguments).arg(group).arg(place.dir()).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: what interrupts the maker at its terminal must not end it.
        command.process_group(0);
        let child = command.spawn().map_err(ProveError::file("cannot run", Path::new(program)))?;
        Ok(Self { child: Some(child) })
    }

    /// The maker has cleaned up itself.
    pub fn dismiss(mut self) {
        if let Some(mut child) = self.child.take() {
            // One that is gone needs no telling.
            let _ = child.stdin.take().map(|mut pipe| pipe.write_all(&[WELL]));
            let _ = child.wait();
        }
    }
}

/// The other end: waits for the maker, and stops what it left running in its place.
pub fn watch(mut pipe: impl Read, group: i32, place: &Path) {
    let mut said = [0];
    // A broken pipe is the end of it, too.
    if matches!(pipe.read(&mut said), Ok(1)) && said[0] == WELL {
        return;
    }
    let deadline = Deadline::after(LOOK_FOR);
    while !deadline.passed() {
        kill_leftover(&place.join("data"));
        kill_all(working_in(place, |process| process.group == group || process.is_our_agent()));
        thread::sleep(Duration::from_millis(200));
    }
}

/// Ends what fetched WAL ahead for the copy's server: it would wait for further questions for a while.
pub fn stop_agents(place: &Path) {
    kill_all(working_in(place, Process::is_our_agent));
}

fn kill_all(pids: Vec<Pid>) {
    for pid in pids {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}

struct Process {
    group: i32,
    words: Vec<String>,
}

impl Process {
    /// `surus … wal agent …`
    fn is_our_agent(&self) -> bool {
        self.words.first().is_some_and(|program| program.ends_with("surus"))
            && self.words.windows(2).any(|pair| pair == ["wal", "agent"])
    }
}

/// Processes that work in the place: the commands of other backup tools are of the maker's group. Somebody who looks
/// around there has a group of his own.
fn working_in(place: &Path, wanted: impl Fn(&Process) -> bool) -> Vec<Pid> {
    let Ok(place) = fs::canonicalize(place) else { return Vec::new() };
    let of = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let group = rest.split_whitespace().nth(2)?.parse().ok()?;
        let works_in = fs::read_link(entry.path().join("cwd")).ok()?;
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        (works_in.starts_with(&place) && wanted(&Process { group, words })).then(|| Pid::from_raw(pid))?
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(of).collect()
}
