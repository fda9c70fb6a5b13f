//! The command's side: asks the agent, and does not wait for one that says nothing.

use super::{
    home::Home,
    words::{Answer, LONGEST, Request, WAIT},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

/// An agent that is at work says so every second; one that is silent for longer is not waited for.
const SILENCE: Duration = Duration::from_secs(5);

/// Asks the agent for a file. `None` when there is none, or it gave no answer: then nothing is known.
pub fn ask(home: &Home, name: &str) -> Option<Answer> {
    let mut stream = UnixStream::connect(home.socket()).ok()?;
    stream.set_read_timeout(Some(SILENCE)).ok()?;
    stream.set_write_timeout(Some(SILENCE)).ok()?;
    let mut line = serde_json::to_vec(&Request { name: name.to_owned() }).ok()?;
    line.push(b'\n');
    stream.write_all(&line).ok()?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        lines.by_ref().take(LONGEST).read_line(&mut line).ok()?;
        match line.strip_suffix('\n')? {
            WAIT => {}
            answer => return serde_json::from_str(answer).ok(),
        }
    }
}
