//! A drill is a guest on its machine: the last in the queue for processors and disks.

use rustix::process::{getpriority_process, setpriority_process};
use std::process::{Command, Stdio};

/// The nice value of a drill and of everything that it starts.
const NICE: i32 = 10;

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
