//! A connection for physical replication: WAL as it is written, and whole base backups.
//!
//! Here the server speaks a small language of commands in place of SQL, and sends data by COPY in one or both
//! directions.
//! Source: PostgreSQL documentation, 53.4 "Streaming Replication Protocol", and `walsender.c`.

pub mod base_backup;
pub mod command;
mod frame;
mod startup;
pub mod stream;

use crate::{
    ask::{AskError, AskErrorKind},
    connect::{
        self, ConnectError, Opening, Reached, Seen, Target,
        refusal::{self, Circumstances, Said},
        settings::{ChannelBinding, Endpoint, SessionAttrs},
        tls::TlsInfo,
    },
};
use frame::{Frame, Frames, Parts, message};
use startup::Startup;
use std::{collections::BTreeMap, io};
use surus_core::{code, version::Version};

/// An open connection for physical replication.
#[derive(Debug)]
pub struct Replication {
    frames: Frames,
    parameters: BTreeMap<String, String>,
    tls: Option<TlsInfo>,
    endpoint: Endpoint,
}

/// The rows that a command answered with; values are bytes, for a file may be among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Option<Vec<u8>>>>,
}

/// What comes next in an answer.
enum Step {
    Row(Vec<Option<Vec<u8>>>),
    Columns(Vec<String>),
    /// A command, or a part of one, is done.
    Complete,
    CopyOut,
    CopyBoth,
    CopyIn,
    CopyData(Frame),
    CopyDone,
    /// All is done.
    Ready,
}

impl Target {
    /// Opens a connection for physical replication, by the same rules as [`Target::connect`]. The role needs
    /// REPLICATION, and pg_hba.conf a line for `replication`.
    ///
    /// # Errors
    /// Each cause has its own code; see [`surus_core::code`].
    pub async fn replicate(&self) -> Result<Replication, ConnectError> {
        self.open(&Physical).await
    }
}

/// How a connection for physical replication is opened.
struct Physical;

impl Opening for Physical {
    type Opened = Replication;

    fn database<'a>(&self, _: &'a str) -> &'a str {
        "replication"
    }

    async fn open(&self, reached: Reached<'_>, wanted: SessionAttrs) -> Result<Replication, connect::Failure> {
        let Reached { target, endpoint, wire, tls, password, origin, .. } = reached;
        let settings = target.settings();
        let mut frames = Frames::new(wire);
        let startup = Startup {
            user: &settings.user,
            application_name: &settings.application_name,
            options: settings.options.as_deref(),
            password: password.as_ref(),
            binding: settings.channel_binding,
        };
        let case = Circumstances {
            endpoint,
            user: &settings.user,
            password: &origin,
            binding_required: settings.channel_binding == ChannelBinding::Require,
        };
        let parameters = startup.run(&mut frames).await.map_err(|error| refusal::failure(error, case))?;
        let mut replication = Replication { frames, parameters, tls, endpoint: target.shown(endpoint) };
        if wanted != SessionAttrs::Any {
            let seen = replication.look_around().await.map_err(|error| {
                let why = format!("the server does not say whether it is a standby: {}", error.message);
                connect::Failure::final_one(ConnectError::at(code::CONNECT_OTHER, endpoint, why))
            })?;
            if let Some(why) = connect::unwanted(wanted, &seen) {
                let error = ConnectError::at(code::CONNECT_SESSION_ATTRS, endpoint, why.to_owned());
                return Err(connect::Failure::of_host(error));
            }
        }
        Ok(replication)
    }
}

impl Replication {
    /// The server's version.
    pub fn version(&self) -> Version {
        let text = self.parameters.get("server_version").map_or("", String::as_str);
        Version::from_text(text).unwrap_or(Version::from_num(0))
    }

    /// The encryption and the server's certificate; none without TLS.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
    }

    /// Which of the target's hosts it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Was the server a standby when it let us in? `None` before PostgreSQL 14, which does not say so by itself.
    pub fn in_recovery(&self) -> Option<bool> {
        self.parameters.get("in_hot_standby").map(|value| value == "on")
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        self.frames.hang_up().await;
    }

    async fn look_around(&mut self) -> Result<Seen, AskError> {
        let read_only = self.show("transaction_read_only").await? == "on";
        Ok(Seen { pid: 0, in_recovery: self.in_recovery().unwrap_or(read_only), read_only })
    }

    /// Runs a command that answers with rows.
    async fn ask(&mut self, command: &str) -> Result<Answer, AskError> {
        self.send_query(command).await?;
        let answer = self.rows().await?;
        self.until_ready().await?;
        Ok(answer)
    }

    async fn send_query(&mut self, command: &str) -> Result<(), AskError> {
        self.frames.send(&message(b'Q', &[command.as_bytes(), &[0]].concat())).await.map_err(|error| gone(&error))
    }

    /// Reads one result up to its completion.
    async fn rows(&mut self) -> Result<Answer, AskError> {
        let mut answer = Answer::default();
        loop {
            match self.step().await? {
                Step::Columns(columns) => answer = Answer { columns, rows: Vec::new() },
                Step::Row(row) => answer.rows.push(row),
                Step::Complete => return Ok(answer),
                _ => return Err(strange("rows were expected")),
            }
        }
    }

    async fn until_ready(&mut self) -> Result<(), AskError> {
        loop {
            match self.step().await? {
                Step::Ready => return Ok(()),
                Step::Complete => {}
                _ => return Err(strange("the end of the answer was expected")),
            }
        }
    }

    /// The next step of an answer. A refusal is read to its end, so that the connection can be asked again. May be
    /// given
    /// up while it waits.
    async fn step(&mut self) -> Result<Step, AskError> {
        loop {
            let frame = self.frames.next().await.map_err(|error| gone(&error))?;
            if let Some(step) = self.step_of(frame).await? {
                return Ok(step);
            }
        }
    }

    async fn step_of(&mut self, frame: Frame) -> Result<Option<Step>, AskError> {
        let body = self.frames.body(&frame);
        let broken = |error: io::Error| strange(&error.to_string());
        Ok(Some(match frame.tag {
            b'd' => Step::CopyData(frame),
            b'D' => Step::Row(row(Parts(body)).map_err(broken)?),
            b'T' => Step::Columns(columns(Parts(body)).map_err(broken)?),
            b'C' | b'I' => Step::Complete,
            b'H' => Step::CopyOut,
            b'W' => Step::CopyBoth,
            b'G' => Step::CopyIn,
            b'c' => Step::CopyDone,
            b'Z' => Step::Ready,
            b'E' => {
                let said = Said::parse(body);
                return Err(self.refused(said).await);
            }
            // Notices and changed parameters come at any time.
            b'N' | b'S' => return Ok(None),
            other => return Err(strange(&format!("it is of type {:?}", other.escape_ascii().to_string()))),
        }))
    }

    /// The error for a refusal, once the server waits for a command again; a FATAL one is followed by nothing.
    async fn refused(&mut self, said: Said) -> AskError {
        if !said.fatal {
            while self.frames.next().await.is_ok_and(|frame| frame.tag != b'Z') {}
        }
        said.into()
    }
}

impl Answer {
    /// A value of the first row; `None` when it is NULL.
    fn value(&self, column: &str) -> Result<Option<&[u8]>, AskError> {
        let row = self.rows.first().ok_or_else(|| strange("the answer has no row"))?;
        self.of_row(row, column)
    }

    fn of_row<'a>(&self, row: &'a [Option<Vec<u8>>], column: &str) -> Result<Option<&'a [u8]>, AskError> {
        let at = self.columns.iter().position(|name| name == column);
        let value = at.and_then(|at| row.get(at)).ok_or_else(|| strange(&format!("the answer has no {column}")))?;
        Ok(value.as_deref())
    }

    /// A value of the first row, read as a number, an LSN or a text.
    fn parsed<T: std::str::FromStr>(&self, column: &str) -> Result<T, AskError> {
        parsed(column, self.value(column)?)
    }
}

fn parsed<T: std::str::FromStr>(column: &str, value: Option<&[u8]>) -> Result<T, AskError> {
    let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let value = text.and_then(|text| text.parse().ok());
    value.ok_or_else(|| strange(&format!("{column} has the value {text:?}")))
}

fn columns(mut parts: Parts<'_>) -> io::Result<Vec<String>> {
    let count = parts.u16()?;
    let column = |_| {
        let name = parts.text()?;
        // Relation, attribute, type, its size and modifier, format.
        parts.take(18)?;
        Ok(name)
    };
    (0..count).map(column).collect()
}

fn row(mut parts: Parts<'_>) -> io::Result<Vec<Option<Vec<u8>>>> {
    let count = parts.u16()?;
    let value = |_| match usize::try_from(parts.i32()?) {
        Ok(length) => Ok(Some(parts.take(length)?.to_vec())),
        Err(_) => Ok(None),
    };
    (0..count).map(value).collect()
}

/// A name as the commands take it. Their language has key words of its own, so that every name is quoted.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as the commands take it; a backslash has no meaning there.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The error for a connection that is gone.
fn gone(error: &io::Error) -> AskError {
    let message = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        io::ErrorKind::InvalidData => return strange(&error.to_string()),
        _ => format!("the connection to the server broke: {error}"),
    };
    AskError { kind: AskErrorKind::Closed, sqlstate: None, message, detail: None, hint: None }
}

/// The error for an answer that is not one.
fn strange(what: &str) -> AskError {
    let message = format!("the server's answer does not follow the replication protocol: {what}");
    AskError { kind: AskErrorKind::Server, sqlstate: None, message, detail: None, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bytes() {
        let body = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01\xfe";
        assert_eq!(row(Parts(body)).unwrap(), [Some(b"ab".to_vec()), None, Some(vec![0xfe])]);
        assert!(row(Parts(&body[..body.len() - 1])).is_err());
        assert!(row(Parts(b"\0\x01\x7f\xff\xff\xff")).is_err());
    }

    #[test]
    fn columns_have_names() {
        let body = [b"\0\x01systemid\0".as_slice(), &[0; 18]].concat();
        assert_eq!(columns(Parts(&body)).unwrap(), ["systemid"]);
    }
}
