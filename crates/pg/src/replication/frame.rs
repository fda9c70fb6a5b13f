//! Messages of the protocol on a byte stream, each whole and of a size that is allowed.
//!
//! Source: PostgreSQL documentation, 53.7 "Message Formats": a type, then the length of what follows with its own four
//! bytes.

use crate::connect::wire::Wire;
use std::{
    io::{self, ErrorKind},
    ops::Range,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest message before we are let in; libpq's limit (`CONNECTION_AWAITING_RESPONSE` in `fe-connect.c`).
const LONGEST_AT_FIRST: usize = 30_000;
/// The longest afterwards. A server sends WAL and files in pieces of at most 1 MiB; the rest is smaller.
const LONGEST: usize = 16 << 20;
/// What is read at once.
const AT_ONCE: usize = 256 << 10;

/// A message that was read: its type, and where its body is until the next one is read.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub tag: u8,
    body: Range<usize>,
}

/// The stream of messages in both directions.
#[derive(Debug)]
pub(crate) struct Frames {
    wire: Wire,
    /// What has come; before `at` it was handed out.
    buffer: Vec<u8>,
    at: usize,
    longest: usize,
}

impl Frames {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, buffer: Vec::new(), at: 0, longest: LONGEST_AT_FIRST }
    }

    /// We were let in: larger messages come now.
    pub(crate) fn let_in(&mut self) {
        self.longest = LONGEST;
    }

    /// The hash of the server's certificate for channel binding.
    pub(crate) fn end_point(&self) -> Option<&[u8]> {
        self.wire.end_point.as_deref()
    }

    /// The next message when all of it is here already.
    pub(crate) fn here(&mut self) -> io::Result<Option<Frame>> {
        let Some((tag, length)) = header(&self.buffer[self.at..], self.longest)? else { return Ok(None) };
        let body = self.at + 5..self.at + 1 + length;
        if self.buffer.len() < body.end {
            return Ok(None);
        }
        self.at = body.end;
        Ok(Some(Frame { tag, body }))
    }

    /// Is the next message here already?
    pub(crate) fn has_next(&self) -> bool {
        let rest = &self.buffer[self.at..];
        matches!(header(rest, self.longest), Ok(Some((_, length))) if rest.len() > length)
    }

    /// The next message. May be given up while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.here()? {
                return Ok(frame);
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            self.buffer.reserve(AT_ONCE);
            if self.wire.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// What a message says.
    pub(crate) fn body(&self, frame: &Frame) -> &[u8] {
        &self.buffer[frame.body.clone()]
    }

    /// Sends bytes that are whole messages.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await
    }

    /// Hangs up, and waits a moment until the server has, too.
    pub(crate) async fn hang_up(&mut self) {
        // Whoever does not take our goodbye has gone already.
        let _ = self.send(&message(b'X', &[])).await;
        let _ = self.wire.shutdown().await;
    }
}

/// The type of the message that begins here, and its length with the length's own four bytes.
fn header(bytes: &[u8], longest: usize) -> io::Result<Option<(u8, usize)>> {
    let Some(start) = bytes.get(..5) else { return Ok(None) };
    let length = u32::from_be_bytes([start[1], start[2], start[3], start[4]]) as usize;
    if (4..=longest).contains(&length) {
        return Ok(Some((start[0], length)));
    }
    let text = format!("a message of type {:?} claims to have {length} bytes", start[0].escape_ascii().to_string());
    Err(io::Error::new(ErrorKind::InvalidData, text))
}

/// A message to be sent.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(tag);
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Reads the parts of a message's body, one after the other.
pub(crate) struct Parts<'a>(pub &'a [u8]);

impl<'a> Parts<'a> {
    pub(crate) fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| too_short())
    }

    pub(crate) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A text that ends with a zero byte.
    pub(crate) fn text(&mut self) -> io::Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(too_short)?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(text)
    }
}

fn too_short() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a message is shorter than its parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_limits() {
        assert_eq!(header(b"Z\0\0\0", 100).unwrap(), None);
        assert_eq!(header(b"Z\0\0\0\x05I", 100).unwrap(), Some((b'Z', 5)));
        for bad in [b"Z\0\0\0\x03", b"Z\0\0\x01\0", b"Z\xff\xff\xff\xff"] {
            assert!(header(bad, 100).is_err());
        }
    }

    #[test]
    fn parts_end_where_the_body_does() {
        let mut parts = Parts(b"\0\x02name\0\0\0\0\x07");
        assert_eq!((parts.u16().unwrap(), parts.text().unwrap(), parts.i32().unwrap()), (2, "name".into(), 7));
        assert!(parts.byte().is_err() && Parts(b"no end").text().is_err());
    }
}
