//! Where every target hands over what shall be remembered. Nobody waits for the store here: a thread of its own writes,
//! and what it cannot write is counted and said, not kept.

use crate::{changes::Change, remote_write::RemoteWrite};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};
use surus_core::{
    clock,
    series::{Labels, MetricKind},
};
use surus_store::{
    StoreError,
    samples::{self, Event, QueryDelta, SampleStore, SessionSample},
};

/// What may wait for the store. A slow disk is bridged; a dead one is not, since memory is not a store.
const WAITING_AT_MOST: usize = 1_024;
/// Points that may wait.
const POINTS_AT_MOST: usize = 1_000_000;
/// How often the store tidies up.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);
/// How often a failure that lasts is said again.
const REMIND_EVERY_MS: i64 = 60_000;

/// All series of one group of one target at one moment.
#[derive(Debug)]
pub(crate) struct Batch {
    pub target: Arc<str>,
    pub group: Arc<str>,
    pub at_ms: i64,
    pub every_ms: i64,
    pub points: Vec<(Labels, f64)>,
}

/// What is handed over.
#[derive(Debug)]
pub(crate) enum Item {
    Batch(Batch),
    Activity {
        target: Arc<str>,
        at_ms: i64,
        sessions: Vec<SessionSample>,
    },
    Deltas {
        target: Arc<str>,
        at_ms: i64,
        deltas: Vec<QueryDelta>,
    },
    Texts {
        target: Arc<str>,
        at_ms: i64,
        texts: Vec<(i64, String)>,
    },
    Happened {
        target: Arc<str>,
        at_ms: i64,
        change: Change,
    },
    Describe(Vec<(&'static str, MetricKind, &'static str)>),
    /// Tells when everything before it is written.
    Done(SyncSender<()>),
}

impl Item {
    fn points(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.points.len(),
            Self::Activity { sessions, .. } => sessions.len(),
            Self::Deltas { deltas, .. } => deltas.len(),
            Self::Texts { texts, .. } => texts.len(),
            Self::Happened { .. } | Self::Describe(_) | Self::Done(_) => 1,
        }
    }

    fn write(&self, store: &SampleStore) -> Result<(), StoreError> {
        match self {
            Self::Batch(Batch { target, group, at_ms, every_ms, points }) => {
                let batch = samples::Batch { target, group, at_ms: *at_ms, every_ms: *every_ms, points };
                store.append(&batch).map(drop)
            }
            Self::Activity { target, at_ms, sessions } => store.append_activity(target, *at_ms, sessions),
            Self::Deltas { target, at_ms, deltas } => store.append_query_deltas(target, *at_ms, deltas),
            Self::Texts { target, at_ms, texts } => {
                let texts: Vec<(i64, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
                store.remember_query_texts(target, *at_ms, &texts)
            }
            Self::Happened { target, at_ms, change } => {
                let event = Event {
                    at_ms: *at_ms,
                    target: target.to_string(),
                    kind: change.kind.to_owned(),
                    title: change.title.clone(),
                    detail: change.detail.clone(),
                    key: None,
                };
                store.append_event(&event).map(drop)
            }
            Self::Describe(metrics) => store.describe(metrics),
            Self::Done(tell) => {
                // Whoever asked may have lost patience.
                let _told = tell.try_send(());
                Ok(())
            }
        }
    }
}

impl Item {
    /// A cycle goes on to other stores, once it is stored here.
    fn send_on(&self, remote: Option<&RemoteWrite>) -> Result<(), StoreError> {
        match (self, remote) {
            (Self::Batch(Batch { target, group, at_ms, points, .. }), Some(remote)) => {
                remote.hand_over(target, group, *at_ms, points)
            }
            _ => Ok(()),
        }
    }
}

/// How handing over goes.
#[derive(Debug, Default)]
struct Tally {
    waiting_points: AtomicUsize,
    errors: AtomicU64,
    dropped: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Debug)]
struct Trouble {
    text: String,
    since_ms: i64,
    said_ms: i64,
}

/// Takes what is handed over. Cheap to clone; the thread ends when the last one is gone.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    items: SyncSender<Item>,
    tally: Arc<Tally>,
    store: Arc<SampleStore>,
    /// Ends the thread that tidies up when the last desk is gone.
    _open: Arc<SyncSender<()>>,
}

impl Desk {
    /// Begins to write to the store and to what sends on from there, and to tidy it up once a minute.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(crate) fn open(store: Arc<SampleStore>, remote: Option<Arc<RemoteWrite>>) -> std::io::Result<Self> {
        let (items, waiting) = sync_channel(WAITING_AT_MOST);
        let (open, closed) = sync_channel(1);
        let desk = Self { items, tally: Arc::default(), store, _open: Arc::new(open) };
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let (store, tally) = (desk.store.clone(), desk.tally.clone());
        thread("surus-store").spawn(move || write_all(&waiting, &store, remote.as_deref(), &tally))?;
        let (store, tally) = (desk.store.clone(), desk.tally.clone());
        thread("surus-tidy").spawn(move || tidy(&closed, &store, &tally))?;
        Ok(desk)
    }

    /// Waits until everything that was handed over is written, or the patience is over. Blocks.
    pub(crate) fn flush(&self, patience: Duration) {
        let (tell, told) = sync_channel(1);
        let item = Item::Done(tell);
        self.tally.waiting_points.fetch_add(item.points(), Ordering::Relaxed);
        if self.items.send(item).is_ok() {
            // Either way there is nothing more to be done.
            let _in_time = told.recv_timeout(patience);
        }
    }

    /// Hands something over.
    pub(crate) fn take(&self, item: Item) {
        let points = item.points();
        if self.tally.waiting_points.fetch_add(points, Ordering::Relaxed) > POINTS_AT_MOST {
            self.tally.waiting_points.fetch_sub(points, Ordering::Relaxed);
            self.tally.drop_one("more waits for it than surus keeps in memory");
            return;
        }
        if let Err(error) = self.items.try_send(item) {
            self.tally.waiting_points.fetch_sub(points, Ordering::Relaxed);
            let why = match error {
                TrySendError::Full(_) => "more waits for it than surus keeps in memory",
                TrySendError::Disconnected(_) => "the thread that writes has ended",
            };
            self.tally.drop_one(why);
        }
    }

    /// The store itself, for what must be asked. Its calls block.
    pub(crate) fn store(&self) -> &Arc<SampleStore> {
        &self.store
    }

    /// Times that something could not be stored.
    pub(crate) fn errors(&self) -> u64 {
        self.tally.errors.load(Ordering::Relaxed)
    }

    /// What was thrown away because too much waited.
    pub(crate) fn dropped(&self) -> u64 {
        self.tally.dropped.load(Ordering::Relaxed)
    }

    /// Why nothing is remembered now.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.tally.trouble().as_ref().map(|trouble| trouble.text.clone())
    }
}

impl Tally {
    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_one(&self, why: &str) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.say(format!("the store is too slow: {why}; newer samples are lost"));
    }

    fn failed(&self, error: &StoreError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.say(error.to_string());
    }

    /// Says it at once, and again every minute as long as it lasts.
    fn say(&self, text: String) {
        let now_ms = clock::now_ms();
        let mut trouble = self.trouble();
        let before = trouble.as_ref();
        let again = before.is_none_or(|before| now_ms - before.said_ms >= REMIND_EVERY_MS);
        let said_ms = if again { now_ms } else { before.map_or(now_ms, |before| before.said_ms) };
        if again {
            tracing::error!("samples are not remembered: {text}");
        }
        let since_ms = before.map_or(now_ms, |before| before.since_ms);
        *trouble = Some(Trouble { text, since_ms, said_ms });
    }

    fn well(&self) {
        if let Some(trouble) = self.trouble().take() {
            let seconds = (clock::now_ms() - trouble.since_ms) / 1000;
            tracing::warn!("samples are remembered again after {seconds} s");
        }
    }
}

fn write_all(waiting: &Receiver<Item>, store: &SampleStore, remote: Option<&RemoteWrite>, tally: &Tally) {
    while let Ok(item) = waiting.recv() {
        tally.waiting_points.fetch_sub(item.points(), Ordering::Relaxed);
        // The queue first: what a killed process remembers must not be missing where it is sent to, for good.
        let queued = item.send_on(remote);
        match item.write(store).and(queued) {
            Ok(()) => tally.well(),
            // It is about this item alone; others can be stored.
            Err(error @ StoreError::Refused { .. }) => {
                tally.errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("not remembered: {error}");
            }
            Err(error) => tally.failed(&error),
        }
    }
}

/// In a thread of its own, because what is handed over must not wait for it.
fn tidy(closed: &Receiver<()>, store: &SampleStore, tally: &Tally) {
    while closed.recv_timeout(MAINTAIN_EVERY) == Err(RecvTimeoutError::Timeout) {
        if let Err(error) = store.maintain(clock::now_ms()) {
            tally.failed(&error);
        }
    }
}
