//! Commands of the user before and after a backup.

use crate::error::{BackupError, Result};
use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::{clock::Deadline, code};

/// A hook that runs longer is ended.
pub const WITHIN: Duration = Duration::from_secs(3600);
/// Of what a hook says, this much is repeated in an error.
const OUTPUT: usize = 4096;

/// Runs a command with `sh -c`, with these variables added to the environment.
///
/// # Errors
/// When it cannot be started, does not end with 0, or not in time; its whole process group is ended then.
pub fn run(command: &str, variables: &[(&str, String)], within: Duration) -> Result<()> {
    let refuse = |why: String| Err(BackupError::refused(code::BACKUP_HOOK, format!("the hook {command:?} {why}")));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec 2>&1; eval \"$1\"", "hook", command]).process_group(0);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    shell.envs(variables.iter().map(|(name, value)| (name, value)));
    let mut child = match shell.spawn() {
        Ok(child) => child,
        Err(error) => return refuse(format!("could not be started: {error}")),
    };
    let output = child.stdout.take().map(|mut out| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // All is read, so that the hook is never held up; only the beginning is kept.
            let mut part = [0; OUTPUT];
            while let Ok(read @ 1..) = out.read(&mut part) {
                let room = OUTPUT.saturating_sub(text.len()).min(read);
                text.extend_from_slice(&part[..room]);
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        })
    });
    let deadline = Deadline::after(within);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if !deadline.passed() => thread::sleep(Duration::from_millis(20)),
            _ => {
                end_group(child.id());
                // It was told to end for good; there is no other way left.
                let _ = child.wait();
                return refuse(format!("did not end within {} s", within.as_secs()));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = output.and_then(|output| output.join().ok()).unwrap_or_default();
    refuse(format!("failed ({status}){}{said}", if said.is_empty() { "" } else { ":\n" }))
}

fn end_group(leader: u32) {
    let group = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // Gone already: that is what was wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_knows_what_it_is_about_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let variables = [("SURUS_BACKUP", "a-full".to_owned())];
        run(&format!("echo \"$SURUS_BACKUP\" > {}", file.display()), &variables, WITHIN).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a-full\n");
        let error = run("echo no room >&2; exit 3", &variables, WITHIN).unwrap_err();
        assert_eq!(error.code(), code::BACKUP_HOOK);
        assert!(error.to_string().contains("no room") && error.to_string().contains('3'), "{error}");
        let error = run("sleep 60", &[], Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
