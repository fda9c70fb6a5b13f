//! A proxy for HTTP/1.1 on 127.0.0.1 that lets requests through, or does to them what networks do.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mishap {
    /// The connection ends before the server hears of it.
    Drop,
    /// The server answers, and the connection ends before the answer comes.
    LoseAnswer,
    /// The connection ends after this many bytes of the answer's body.
    CutAnswer(usize),
    /// The server never hears of it; this is answered: a status, and an error code as S3 has them.
    Say(u16, &'static str),
    /// Nothing happens for so long, then the connection ends.
    Stall(Duration),
}

/// A mishap, and which requests it befalls.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `PUT`, `GET`, …
    pub method: &'static str,
    /// A part of the path with its query; empty for any.
    pub path: String,
    pub mishap: Mishap,
    /// How many requests it befalls.
    pub times: usize,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// Method and path of every request.
    seen: Vec<String>,
}

/// The proxy. It listens until the test's process ends.
#[derive(Debug)]
pub struct HttpProxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl HttpProxy {
    /// In front of a server on a port of 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                // A connection that breaks off is nobody's business here.
                thread::spawn(move || drop(serve(client, server, &shared)));
            }
        });
        Self { port, state }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next requests of this kind fare so. Rules are asked in their order.
    pub fn befall(&self, method: &'static str, path: &str, mishap: Mishap, times: usize) {
        self.state().rules.push(Rule { method, path: path.to_owned(), mishap, times });
    }

    /// Requests since the last time: method and path.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state().seen)
    }

    /// Mishaps that are still to come.
    pub fn left(&self) -> usize {
        self.state().rules.iter().map(|rule| rule.times).sum()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self, method: &str, path: &str) -> Option<Mishap> {
        self.seen.push(format!("{method} {path}"));
        let rule =
            self.rules.iter_mut().find(|rule| rule.times > 0 && rule.method == method && path.contains(&rule.path))?;
        rule.times -= 1;
        Some(rule.mishap.clone())
    }
}

/// One request on one connection; then both connections end.
fn serve(mut client: TcpStream, server: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let line = head[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mishap = state.lock().unwrap_or_else(PoisonError::into_inner).next(method, path);
    match mishap {
        Some(Mishap::Drop) => return client.shutdown(Shutdown::Both),
        Some(Mishap::Stall(time)) => {
            thread::sleep(time);
            return client.shutdown(Shutdown::Both);
        }
        _ => {}
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if let Some(Mishap::Say(status, code)) = mishap {
        let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>");
        let head = format!("HTTP/1.1 {status} Injected\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", text.len());
        return client.write_all(format!("{head}{text}").as_bytes());
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server))?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let line_end = answer.windows(2).position(|two| two == b"\r\n").unwrap_or(answer.len());
    let body_at = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let until = match mishap {
        Some(Mishap::LoseAnswer) => return client.shutdown(Shutdown::Both),
        Some(Mishap::CutAnswer(bytes)) => (body_at + bytes).min(answer.len()),
        _ => answer.len(),
    };
    client.write_all(&answer[..line_end])?;
    client.write_all(b"\r\nConnection: close")?;
    client.write_all(&answer[line_end..until])?;
    client.shutdown(Shutdown::Both)
}
