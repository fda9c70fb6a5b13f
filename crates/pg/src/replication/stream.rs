//! WAL as the server writes it: `START_REPLICATION`, with COPY in both directions.

use super::{
    Replication, Step,
    frame::{Parts, message},
    gone, parsed, quoted, strange,
};
use crate::ask::AskError;
use std::io;
use surus_core::{clock, lsn::Lsn};

/// Microseconds from 1970 to 2000, where the protocol's clock begins.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// The timeline that follows one that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTimeline {
    pub timeline: u32,
    /// Where it leaves the one before.
    pub from: Lsn,
}

/// What `START_REPLICATION` led to.
#[derive(Debug)]
pub enum Started<'a> {
    Streaming(WalStream<'a>),
    /// There is no more WAL on that timeline.
    Ended(Option<NextTimeline>),
}

/// WAL that is coming.
#[derive(Debug)]
pub struct WalStream<'a> {
    connection: &'a mut Replication,
    /// We have ended the stream, or the server has.
    done: bool,
}

/// What the stream brings.
#[derive(Debug, PartialEq, Eq)]
pub enum WalEvent<'a> {
    /// WAL from `start` on.
    Data { start: Lsn, bytes: &'a [u8] },
    /// The server is alive; `written` is the end of its WAL.
    KeepAlive { written: Lsn, answer_at_once: bool },
    /// The timeline ends here, or the stream was ended by us.
    Ended(Option<NextTimeline>),
}

impl Replication {
    /// `START_REPLICATION … PHYSICAL`: WAL of a timeline from a position on.
    ///
    /// # Errors
    /// When the server refuses: the slot is in use or not there, the timeline is not in its history, the position is
    /// beyond its WAL. That the WAL has been removed already shows only in the stream.
    pub async fn start_physical(
        &mut self,
        slot: Option<&str>,
        from: Lsn,
        timeline: u32,
    ) -> Result<Started<'_>, AskError> {
        let slot = slot.map_or_else(String::new, |slot| format!(" SLOT {}", quoted(slot)));
        self.send_query(&format!("START_REPLICATION{slot} PHYSICAL {from} TIMELINE {timeline}")).await?;
        match self.step().await? {
            Step::CopyBoth => Ok(Started::Streaming(WalStream { connection: self, done: false })),
            // The position is the very end of a timeline that has ended: only what follows is said.
            Step::Columns(columns) => Ok(Started::Ended(self.next_timeline(columns).await?)),
            Step::Complete => {
                self.until_ready().await?;
                Ok(Started::Ended(None))
            }
            _ => Err(strange("a stream was expected")),
        }
    }

    /// Reads the row that names the next timeline, and all that follows it.
    async fn next_timeline(&mut self, columns: Vec<String>) -> Result<Option<NextTimeline>, AskError> {
        let answer = super::Answer { columns, rows: Vec::new() };
        let mut next = None;
        loop {
            match self.step().await? {
                Step::Row(row) => {
                    next = Some(NextTimeline {
                        timeline: parsed("next_tli", answer.of_row(&row, "next_tli")?)?,
                        from: parsed("next_tli_startpos", answer.of_row(&row, "next_tli_startpos")?)?,
                    });
                }
                Step::Complete => {}
                Step::Ready => return Ok(next),
                _ => return Err(strange("the next timeline was expected")),
            }
        }
    }
}

impl WalStream<'_> {
    /// What comes next. May be given up while it waits: nothing is lost.
    ///
    /// # Errors
    /// When the connection is gone, or the server refuses to go on: SQLSTATE 58P01 says that the WAL was removed.
    pub async fn next(&mut self) -> Result<WalEvent<'_>, AskError> {
        if self.done {
            return Ok(WalEvent::Ended(None));
        }
        match self.connection.step().await? {
            Step::CopyData(frame) => event(self.connection.frames.body(&frame)).map_err(|error| gone(&error)),
            Step::CopyDone => {
                self.done = true;
                self.connection.frames.send(&message(b'c', &[])).await.map_err(|error| gone(&error))?;
                Ok(WalEvent::Ended(self.rest().await?))
            }
            // A server that shuts down ends the command without a word.
            Step::Complete => {
                self.done = true;
                self.connection.until_ready().await?;
                Ok(WalEvent::Ended(None))
            }
            _ => Err(strange("WAL was expected")),
        }
    }

    /// Is more here already, without waiting for it?
    pub fn has_next(&self) -> bool {
        self.connection.frames.has_next()
    }

    /// Tells the server how far WAL was written, and how far it is durable, here; with `answer` it says at once that it
    /// is alive.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn report(&mut self, written: Lsn, flushed: Lsn, answer: bool) -> Result<(), AskError> {
        let mut body = vec![b'r'];
        // The third is how far it was applied, which is nowhere.
        for lsn in [written, flushed, Lsn(0)] {
            body.extend_from_slice(&lsn.0.to_be_bytes());
        }
        let now_us = clock::now().as_microsecond() - EPOCH_2000_US;
        body.extend_from_slice(&now_us.to_be_bytes());
        body.push(u8::from(answer));
        self.connection.frames.send(&message(b'd', &body)).await.map_err(|error| gone(&error))
    }

    /// Ends the stream from our side; what was on its way is dropped.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn end(mut self) -> Result<(), AskError> {
        if self.done {
            return Ok(());
        }
        self.done = true;
        self.connection.frames.send(&message(b'c', &[])).await.map_err(|error| gone(&error))?;
        self.rest().await.map(drop)
    }

    /// What comes after the COPY: the next timeline, when there is one.
    async fn rest(&mut self) -> Result<Option<NextTimeline>, AskError> {
        loop {
            match self.connection.step().await? {
                Step::Columns(columns) => return self.connection.next_timeline(columns).await,
                Step::Ready => return Ok(None),
                Step::CopyData(_) | Step::CopyDone | Step::Complete => {}
                _ => return Err(strange("the end of the stream was expected")),
            }
        }
    }
}

fn event(body: &[u8]) -> io::Result<WalEvent<'_>> {
    let mut parts = Parts(body);
    match parts.byte()? {
        b'w' => {
            let start = Lsn(parts.u64()?);
            // The end of the server's WAL, and its clock.
            parts.take(16)?;
            Ok(WalEvent::Data { start, bytes: parts.0 })
        }
        b'k' => {
            let written = Lsn(parts.u64()?);
            parts.take(8)?;
            Ok(WalEvent::KeepAlive { written, answer_at_once: parts.byte()? != 0 })
        }
        other => {
            let text = format!("a part of the stream is of type {:?}", other.escape_ascii().to_string());
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_stream() {
        let mut body = vec![b'w'];
        body.extend([0x0100_0000_u64, 0x0200_0000, 7].iter().flat_map(|number| number.to_be_bytes()));
        body.extend(b"wal");
        assert_eq!(event(&body).unwrap(), WalEvent::Data { start: Lsn(0x0100_0000), bytes: b"wal" });
        let mut body = vec![b'k'];
        body.extend([0x0200_0000_u64, 7].iter().flat_map(|number| number.to_be_bytes()));
        body.push(1);
        let alive = WalEvent::KeepAlive { written: Lsn(0x0200_0000), answer_at_once: true };
        assert_eq!(event(&body).unwrap(), alive);
        assert!(event(&body[..10]).is_err() && event(b"x").is_err());
    }
}
