//! What sending says about itself.

use crate::collector::Page;
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use surus_core::series::{Family, MetricKind, Told};
use surus_store::samples::QueueState;
use tokio::sync::Notify;

const fn family(name: &'static str, kind: MetricKind, help: &'static str) -> Family {
    Family { name, kind, help }
}

use MetricKind::{Counter, Gauge};

static SENT: Family = family("surus_remote_write_samples_total", Counter, "Samples that the receiver took.");
static DROPPED: Family = family(
    "surus_remote_write_dropped_samples_total",
    Counter,
    "Samples that it will never get: refused by it, or thrown away because the queue was full, or not written to the queue.",
);
static RETRIES: Family = family("surus_remote_write_retries_total", Counter, "Requests that were to be sent again.");
static PENDING: Family = family("surus_remote_write_pending_samples", Gauge, "Samples in the queue on disk.");
static PENDING_BYTES: Family = family("surus_remote_write_pending_bytes", Gauge, "Bytes in the queue on disk.");
static OLDEST: Family =
    family("surus_remote_write_oldest_pending_timestamp_seconds", Gauge, "The time of the oldest sample in the queue.");
static NEWEST: Family = family(
    "surus_remote_write_newest_sent_timestamp_seconds",
    Gauge,
    "The time of the newest sample that the receiver took.",
);

/// All families of sending.
pub static FAMILIES: &[&Family] = &[&SENT, &DROPPED, &RETRIES, &PENDING, &PENDING_BYTES, &OLDEST, &NEWEST];

/// Counts for one receiver, and wakes its courier.
#[derive(Debug)]
pub struct Meter {
    name: String,
    sent: AtomicU64,
    /// Not even put into the queue, or refused by the receiver, in this process.
    lost: AtomicU64,
    retries: AtomicU64,
    newest_ms: AtomicU64,
    queue: Mutex<QueueState>,
    wake: Notify,
}

impl Meter {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            newest_ms: AtomicU64::new(0),
            queue: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// There is something to send.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Until there is something to send.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    pub fn sent(&self, samples: u64, at_ms: i64) {
        self.sent.fetch_add(samples, Relaxed);
        self.newest_ms.fetch_max(at_ms.unsigned_abs(), Relaxed);
    }

    /// These could not be put into the queue.
    pub fn failed(&self, samples: usize) {
        self.lost.fetch_add(samples as u64, Relaxed);
    }

    pub fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub fn set_queue(&self, state: QueueState) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// The families of all receivers.
pub fn told<'a>(meters: impl Iterator<Item = &'a Meter>) -> Vec<Told> {
    let mut page = Page::default();
    for meter in meters {
        let queue = *meter.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = [("remote", meter.name.as_str())];
        page.tell(&SENT, labels, meter.sent.load(Relaxed) as f64);
        page.tell(&DROPPED, labels, (queue.dropped_samples + meter.lost.load(Relaxed)) as f64);
        page.tell(&RETRIES, labels, meter.retries.load(Relaxed) as f64);
        page.tell(&PENDING, labels, queue.samples as f64);
        page.tell(&PENDING_BYTES, labels, queue.bytes as f64);
        if let Some(oldest_ms) = queue.oldest_ms {
            page.tell(&OLDEST, labels, oldest_ms as f64 / 1000.0);
        }
        let newest_ms = meter.newest_ms.load(Relaxed);
        if newest_ms > 0 {
            page.tell(&NEWEST, labels, newest_ms as f64 / 1000.0);
        }
    }
    page.into_told()
}
