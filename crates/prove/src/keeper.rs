//! Who ends a copy: a process of its own, begun before the copy is made, that removes it when it is over.
//!
//! It outlives the command that made the copy, also when that is killed: then the copy goes at once, server and all.
//! When the keeper itself is killed, the next command's sweep does its work.

use crate::{
    error::{ProveError, Result},
    scratch::Place,
};
use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock;

/// How often it looks while the copy is being made.
const WATCHED: Duration = Duration::from_millis(200);
/// How often it looks afterwards, at least: the copy may have been dropped.
const KEPT: Duration = Duration::from_secs(2);
/// How long it waits before it tries again what did not go.
const AGAIN: Duration = Duration::from_secs(10);

/// Begins a keeper for a place. `words` are the command to which the place's directory is added, and which calls
/// [`keep`].
///
/// # Errors
/// When it cannot be run.
pub fn begin(words: &[String], place: &Place) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).arg(place.dir()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).map_err(ProveError::file("cannot run", Path::new(program)))
}

/// Keeps the place in a directory until it is gone: removes it when it is over. Blocks.
pub fn keep(dir: &Path) {
    // A session of its own, without a terminal: what is typed there is not for us. It leads one already when it was
    // begun by hand.
    let _ = rustix::process::setsid();
    while let Some(place) = Place::open(dir.to_owned()) {
        let now = clock::now();
        if place.mark.is_over(now) {
            match place.remove_if_over() {
                Ok(true) => return,
                // Somebody uses it, or it does not go: it is looked at again.
                Ok(false) => thread::sleep(KEPT),
                Err(_) => thread::sleep(AGAIN),
            }
            continue;
        }
        let left = place.mark.expires_at.filter(|_| place.mark.lasts).map(|end| end.duration_since(now).unsigned_abs());
        let pause = if place.mark.lasts { left.unwrap_or(KEPT).min(KEPT) } else { WATCHED };
        // A keeper that never sleeps would be worse than one that comes a little late.
        thread::sleep(pause.max(Duration::from_millis(20)));
    }
}
