//! One connection: from the server's first word to the end of its stream.

use super::{
    ReceiveOptions, Work,
    begin::{Stranger, There, begin},
    spool::Growing,
};
use crate::{
    error::BackupError,
    wal::{
        name::{FileKind, Segment, file_kind, history_name},
        timeline::History,
    },
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use surus_core::{clock::Stopwatch, code, lsn::Lsn, monitor::Monitor};
use surus_pg::{
    AskError, AskErrorKind, ConnectError,
    replication::{
        Replication,
        command::Identity,
        stream::{NextTimeline, Started, WalEvent, WalStream},
    },
};
use tokio::sync::watch;

/// A server that says nothing for this long, though asked, has gone. PostgreSQL's own `wal_receiver_timeout`.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// Why a connection ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As asked.
    Stopped,
    /// The server shuts down, or has ended the stream.
    ServerLeft,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) struct Broken {
    pub error: BackupError,
    /// Trying again cannot help.
    pub for_good: bool,
    /// WAL had come: the server is well, and the next attempt need not wait long.
    pub streamed: bool,
}

impl Broken {
    pub(super) fn for_good(error: BackupError) -> Self {
        Self { error, for_good: true, streamed: false }
    }

    pub(super) fn for_now(error: BackupError) -> Self {
        Self { error, for_good: false, streamed: false }
    }

    /// Of the repository or of a file: whether it helps to try again, the code says.
    pub(super) fn by_code(error: BackupError) -> Self {
        let transient =
            [code::REPO_UNREACHABLE, code::REPO_FULL, code::REPO_BROKEN, code::BACKUP_NO_ROOM, code::REPO_ABSENT];
        if transient.contains(&error.code()) { Self::for_now(error) } else { Self::for_good(error) }
    }

    /// A server that is down comes back; a wrong password does not become right.
    pub(super) fn connecting(error: ConnectError) -> Self {
        let transient = [
            code::CONNECT_RESOLVE,
            code::CONNECT_REFUSED,
            code::CONNECT_TIMEOUT,
            code::CONNECT_SOCKET,
            code::CONNECT_STARTING,
            code::CONNECT_TOO_MANY,
            code::CONNECT_CLOSED,
            code::CONNECT_SESSION_ATTRS,
        ];
        let for_good = !transient.contains(&error.code);
        Self { error: error.into(), for_good, streamed: false }
    }

    pub(super) fn asking(error: AskError) -> Self {
        let for_good = matches!(error.kind, AskErrorKind::Privilege | AskErrorKind::Undefined);
        Self { error: error.into(), for_good, streamed: false }
    }
}

/// A connection that was made.
pub(super) struct Connection<'a> {
    pub replication: &'a mut Replication,
    pub identity: Identity,
    pub options: &'a ReceiveOptions,
    pub monitor: &'a Arc<dyn Monitor>,
}

/// How the WAL of one timeline ended.
enum Ending {
    Outcome(Outcome),
    Next(NextTimeline),
}

impl Connection<'_> {
    /// Receives timeline after timeline.
    pub(super) async fn run(mut self, work: &mut Work, stop: &mut watch::Receiver<bool>) -> Result<Outcome, Broken> {
        let slot = self.slot().await?;
        let history = self.histories(work, self.identity.timeline).await?;
        let mut segment = match work.next {
            // Where it was; the server may have gone over to another timeline meanwhile.
            Some(next) => begin(&history, &There { spooled: Some(next), ..There::default() }, next),
            None => self.look_up(work, &history, slot).await?,
        }
        .map_err(|Stranger { here }| {
            let text = format!(
                "the server is on timeline {}, which does not come from timeline {} of {here} that was received before",
                history.timeline, here.timeline
            );
            Broken::for_good(BackupError::refused(code::WAL_CONFLICT, text))
        })?;
        loop {
            self.not_ahead(segment)?;
            work.next = Some(segment);
            self.monitor.note(&format!("receiving from {} on timeline {}", segment.start(), segment.timeline));
            match self.stream(work, segment, stop).await? {
                Ending::Outcome(outcome) => return Ok(outcome),
                Ending::Next(next) => {
                    self.histories(work, next.timeline).await?;
                    segment = Segment::at(next.timeline, next.from, work.segment_size);
                }
            }
        }
    }

    /// Is what is wanted next within the server's WAL? A standby may be behind for a while; a primary that is has lost
    /// WAL.
    fn not_ahead(&self, segment: Segment) -> Result<(), Broken> {
        if segment.start() <= self.identity.position {
            return Ok(());
        }
        let text = format!(
            "the server's WAL ends at {}, and WAL up to {} was received before",
            self.identity.position,
            segment.start()
        );
        if self.replication.in_recovery() == Some(false) {
            let text = format!("{text}: the server was set back, or is a copy");
            return Err(Broken::for_good(BackupError::refused(code::WAL_CONFLICT, text)));
        }
        Err(Broken::for_now(BackupError::refused(code::WAL_STREAM, text)))
    }

    /// Sees to it that the slot is there; gives the position that it holds.
    async fn slot(&mut self) -> Result<Option<(Lsn, u32)>, Broken> {
        let Some(name) = &self.options.slot else { return Ok(None) };
        // Older servers cannot be asked here.
        let can_ask = self.replication.version().major() >= 15;
        let there = if can_ask { self.replication.read_slot(name).await.map_err(Broken::asking)? } else { None };
        if let Some(slot) = there {
            return Ok(slot.restart);
        }
        if self.options.create_slot {
            return match self.replication.create_physical_slot(name, false, true).await {
                Ok(()) => Ok(None),
                Err(error) if error.sqlstate.as_deref() == Some("42710") => Ok(None),
                Err(error) => Err(Broken::asking(error)),
            };
        }
        if can_ask {
            let text = format!("the server has no slot {name}; --create-slot makes it");
            return Err(Broken::for_good(BackupError::refused(code::WAL_STREAM, text)));
        }
        Ok(None)
    }

    /// Keeps the histories that lead to the server's timeline; gives the newest one.
    async fn histories(&mut self, work: &mut Work, timeline: u32) -> Result<History, Broken> {
        if timeline == 1 {
            return Ok(History::of_first(1));
        }
        let file = self.replication.timeline_history(timeline).await.map_err(Broken::asking)?;
        let history = History::parse(timeline, &String::from_utf8_lossy(&file.content)).map_err(|bad| {
            Broken::for_good(BackupError::refused(code::WAL_REFUSED, format!("the server's {}: {bad}", file.name)))
        })?;
        let ancestors = history.entries.iter().map(|switch| switch.timeline).filter(|ancestor| *ancestor > 1);
        for ancestor in ancestors.collect::<Vec<_>>() {
            let there = work.cluster.clone();
            let name = there.names.wal(&history_name(ancestor));
            let known = crate::blocking(move || Ok(there.repo.place().read(&name)?.is_some())).await;
            if known.map_err(Broken::by_code)? {
                continue;
            }
            // A server that was restored may lack those of its ancestors, and need not have them.
            match self.replication.timeline_history(ancestor).await {
                Ok(file) => self.keep(work, &history_name(ancestor), &file.content)?,
                Err(error) if error.kind == AskErrorKind::Closed => return Err(Broken::asking(error)),
                Err(error) => self.monitor.note(&format!("no history of timeline {ancestor}: {error}")),
            }
        }
        self.keep(work, &history_name(timeline), &file.content)?;
        Ok(history)
    }

    fn keep(&self, work: &mut Work, name: &str, content: &[u8]) -> Result<(), Broken> {
        work.spool.keep(name, content).map_err(Broken::by_code)?;
        work.shelf.wake();
        Ok(())
    }

    /// Where to begin when nothing is known: after what archive and spool hold, else where the slot or the server is.
    async fn look_up(
        &self,
        work: &Work,
        history: &History,
        slot: Option<(Lsn, u32)>,
    ) -> Result<Result<Segment, Stranger>, Broken> {
        let waiting = work.spool.segments(work.segment_size).map_err(Broken::by_code)?;
        let (cluster, size) = (work.cluster.clone(), work.segment_size);
        let timelines: Vec<_> =
            history.entries.iter().map(|switch| switch.timeline).chain([history.timeline]).collect();
        let archived = crate::blocking(move || {
            let mut found = BTreeSet::new();
            for timeline in timelines {
                for entry in cluster.repo.place().list(&cluster.names.wal_folder(Some(timeline)))? {
                    let name = entry.name.rsplit('/').next().unwrap_or_default();
                    if file_kind(name) == Some(FileKind::Segment) {
                        found.extend(Segment::parse(name, size));
                    }
                }
            }
            Ok(found)
        });
        let mut whole = archived.await.map_err(Broken::by_code)?;
        whole.extend(waiting.iter().filter(|waiting| waiting.whole).map(|waiting| waiting.segment));
        let there = There { spooled: waiting.last().map(|waiting| waiting.segment), whole };
        let (lsn, timeline) = slot.unwrap_or((self.identity.position, self.identity.timeline));
        Ok(begin(history, &there, Segment::at(timeline, lsn, size)))
    }

    /// Receives one timeline's WAL from a segment's beginning on.
    async fn stream(
        &mut self,
        work: &mut Work,
        segment: Segment,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Ending, Broken> {
        let slot = self.options.slot.as_deref();
        let started = self.replication.start_physical(slot, segment.start(), segment.timeline).await;
        match started.map_err(|error| lost(error, segment))? {
            Started::Ended(Some(next)) => Ok(Ending::Next(next)),
            Started::Ended(None) => Ok(Ending::Outcome(Outcome::ServerLeft)),
            Started::Streaming(stream) => {
                let growing = work.spool.growing(segment).map_err(Broken::by_code)?;
                let flow = Flow { work, stream, options: self.options, growing: Some(growing), told: Lsn(0) };
                flow.run(segment.start(), stop).await
            }
        }
    }
}

/// The error when WAL cannot be had: 58P01 says that it was removed, 55000 that the slot has lost it.
fn lost(error: AskError, segment: Segment) -> Broken {
    let removed = matches!(error.sqlstate.as_deref(), Some("58P01"));
    let invalid = error.sqlstate.as_deref() == Some("55000") && error.message.contains("can no longer");
    if !removed && !invalid {
        return Broken::asking(error);
    }
    let text = format!("the server no longer has {segment}, which is the next that is needed here: {error}");
    Broken::for_good(BackupError::refused(code::WAL_GAP, text))
}

/// WAL that flows.
struct Flow<'a> {
    work: &'a mut Work,
    stream: WalStream<'a>,
    options: &'a ReceiveOptions,
    /// There is always one, but while it is being flushed.
    growing: Option<Growing>,
    /// What the server was told last to be durable.
    told: Lsn,
}

/// What is to be done after a part of the stream.
enum Then {
    Nothing,
    Answer,
    Ended(Option<NextTimeline>),
}

impl Flow<'_> {
    async fn run(mut self, from: Lsn, stop: &mut watch::Receiver<bool>) -> Result<Ending, Broken> {
        let mut position = from;
        let mut heard = Stopwatch::start();
        let mut asked = false;
        let mut status = tokio::time::interval(self.options.status_every);
        loop {
            let then = tokio::select! {
                event = self.stream.next() => {
                    heard = Stopwatch::start();
                    asked = false;
                    let wanted = self.growing.as_ref().map_or(Segment::at(1, position, 1 << 24), |one| one.segment);
                    match event.map_err(|error| lost(error, wanted))? {
                        WalEvent::Data { start, bytes } => {
                            if start != position {
                                return Err(jump(position, start));
                            }
                            position = Lsn(position.0 + bytes.len() as u64);
                            take(self.work, &mut self.growing, bytes).await.map_err(|error| broken(error, true))?;
                            Then::Nothing
                        }
                        WalEvent::KeepAlive { answer_at_once: true, .. } => Then::Answer,
                        WalEvent::KeepAlive { .. } => Then::Nothing,
                        WalEvent::Ended(next) => Then::Ended(next),
                    }
                }
                _ = status.tick() => {
                    if heard.elapsed() > SILENT_FOR {
                        let text = format!("the server has said nothing for {} s", SILENT_FOR.as_secs());
                        return Err(Broken::for_now(BackupError::refused(code::WAL_STREAM, text)));
                    }
                    asked = asked || heard.elapsed() > SILENT_FOR / 2;
                    Then::Answer
                }
                _ = stop.wait_for(|stop| *stop) => return self.stop().await,
            };
            if let Some(error) = self.work.shelf.refused() {
                return Err(Broken::for_good(error));
            }
            match then {
                Then::Nothing if !self.options.synchronous || self.stream.has_next() => {}
                Then::Nothing => self.tell(false, false).await?,
                Then::Answer => self.tell(true, asked).await?,
                Then::Ended(next) => {
                    self.flush().await?;
                    return Ok(next.map_or(Ending::Outcome(Outcome::ServerLeft), Ending::Next));
                }
            }
            if self.options.until.is_some_and(|until| position >= until) {
                return self.stop().await;
            }
        }
    }

    /// Makes durable what has come.
    async fn flush(&mut self) -> Result<Lsn, Broken> {
        if let Some(mut growing) = self.growing.take() {
            let flushed = crate::blocking(move || {
                growing.flush()?;
                Ok(growing)
            });
            let growing = flushed.await.map_err(|error| broken(error, true))?;
            self.work.received.end = growing.durable();
            self.work.received.timeline = growing.segment.timeline;
            self.growing = Some(growing);
        }
        Ok(self.work.received.end)
    }

    /// Makes it durable and tells the server so; also when there is nothing new if `always`.
    async fn tell(&mut self, always: bool, ask: bool) -> Result<(), Broken> {
        let durable = self.flush().await?;
        if always || durable > self.told {
            self.stream.report(durable, durable, ask).await.map_err(Broken::asking)?;
            self.told = durable;
        }
        Ok(())
    }

    async fn stop(mut self) -> Result<Ending, Broken> {
        self.tell(true, false).await?;
        // When the server does not hear it any more, it is no worse for us.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.stream.end()).await;
        Ok(Ending::Outcome(Outcome::Stopped))
    }
}

/// Takes in WAL, and goes on to the next segment where one is whole.
async fn take(work: &mut Work, growing: &mut Option<Growing>, bytes: &[u8]) -> crate::Result<()> {
    let mut rest = bytes;
    while let Some(mut now) = growing.take() {
        rest = now.take(rest)?;
        if !now.is_whole() {
            *growing = Some(now);
            break;
        }
        let next = now.segment.next();
        crate::blocking(move || now.finish()).await?;
        work.received.end = next.start();
        work.next = Some(next);
        work.shelf.wake();
        *growing = Some(work.spool.growing(next)?);
        if rest.is_empty() {
            break;
        }
    }
    Ok(())
}

fn jump(from: Lsn, to: Lsn) -> Broken {
    let text = format!("the server's stream jumps from {from} to {to}");
    Broken::for_now(BackupError::refused(code::WAL_STREAM, text))
}

fn broken(error: BackupError, streamed: bool) -> Broken {
    Broken { streamed, ..Broken::by_code(error) }
}
