//! Takes from one queue and sends, in order, until it is stopped.

use super::{
    Receiver, message,
    meter::Meter,
    post::{Outcome, Post},
};
use std::{sync::Arc, time::Duration};
use surus_core::{clock::Stopwatch, series::Source};
use surus_store::{
    Result,
    samples::{Parcel, SampleStore},
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// The first pause after a failure; each further one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An empty queue is looked at again after this even if nobody woke the courier: what was there at the start.
const IDLE: Duration = Duration::from_secs(5);
/// How often what metrics mean is sent.
const METADATA_EVERY: Duration = Duration::from_secs(600);
/// How often the same trouble is logged.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How long sending may go on after the stop; then the rest waits on disk.
const LAST_WITHIN: Duration = Duration::from_secs(3);

pub struct Courier {
    receiver: Arc<Receiver>,
    post: Post,
    store: Arc<SampleStore>,
    meter: Arc<Meter>,
    said: Option<Stopwatch>,
    metadata_sent: Option<Stopwatch>,
}

/// What to do after one look into the queue.
enum Next {
    /// There may be more.
    GoOn,
    /// Nothing is there.
    Rest,
    /// It did not work.
    Pause(Option<Duration>),
}

impl Courier {
    pub fn new(receiver: Arc<Receiver>, post: Post, store: Arc<SampleStore>, meter: Arc<Meter>) -> Self {
        Self { receiver, post, store, meter, said: None, metadata_sent: None }
    }

    /// Sends until `stopped` turns true.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut pause = FIRST_PAUSE;
        let mut end = stopped.clone();
        let end = async move {
            stop_said(&mut end).await;
            sleep(LAST_WITHIN).await;
        };
        tokio::pin!(end);
        loop {
            let next = tokio::select! {
                next = self.step() => next,
                () = &mut end => return,
            };
            let wait = match next {
                Next::GoOn => {
                    pause = FIRST_PAUSE;
                    continue;
                }
                Next::Rest => {
                    pause = FIRST_PAUSE;
                    None
                }
                Next::Pause(asked) => {
                    let wait = asked.unwrap_or(pause).max(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    Some(wait)
                }
            };
            // Told so, or nobody is left who could.
            if *stopped.borrow() || stopped.has_changed().is_err() {
                return;
            }
            let meter = Arc::clone(&self.meter);
            let waiting = async move {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => drop(timeout(IDLE, meter.woken()).await),
                }
            };
            tokio::select! {
                () = waiting => {}
                // What was handed over last is still sent, if the receiver takes it at once.
                () = stop_said(&mut stopped) => {}
            }
        }
    }

    /// Sends what is next.
    async fn step(&mut self) -> Next {
        let parcel = match self
            .queue(|store, receiver| {
                let outbox = store.outbox(&receiver.name, receiver.max_bytes);
                Ok((outbox.next()?, outbox.state()?))
            })
            .await
        {
            Some((parcel, state)) => {
                self.meter.set_queue(state);
                parcel
            }
            None => return Next::Pause(None),
        };
        let Some(Parcel { id, at_ms, samples, body }) = parcel else { return Next::Rest };
        match self.post.send(body).await {
            Outcome::Received => {
                self.meter.sent(samples, at_ms);
                if self.settle(id, false).await.is_none() {
                    return Next::Pause(None);
                }
                if self.said.take().is_some() {
                    tracing::info!(remote = %self.receiver.name, "samples are taken again");
                }
                self.send_metadata().await;
                Next::GoOn
            }
            Outcome::Later { why, after } => {
                self.meter.retried();
                self.say(format!("samples wait: {why}"));
                Next::Pause(after)
            }
            Outcome::Never { why } => {
                self.say(format!("{samples} samples were refused and are dropped: {why}"));
                match self.settle(id, true).await {
                    Some(()) => Next::GoOn,
                    None => Next::Pause(None),
                }
            }
        }
    }

    async fn settle(&mut self, id: i64, dropped: bool) -> Option<()> {
        self.queue(move |store, receiver| {
            let outbox = store.outbox(&receiver.name, receiver.max_bytes);
            if dropped { outbox.drop_parcel(id) } else { outbox.done(id) }
        })
        .await
    }

    /// What the metrics mean, from time to time. A receiver that does not want it is not asked again soon.
    async fn send_metadata(&mut self) {
        if self.metadata_sent.is_some_and(|since| since.elapsed() < METADATA_EVERY) {
            return;
        }
        self.metadata_sent = Some(Stopwatch::start());
        let store = Arc::clone(&self.store);
        let body = spawn_blocking(move || store.metadata(None).map(|all| message::encode_metadata(&all))).await;
        if let Ok(Ok(body)) = body
            && let Outcome::Later { why, .. } | Outcome::Never { why } = self.post.send(body).await
        {
            tracing::debug!(remote = %self.receiver.name, "what metrics mean was not taken: {why}");
        }
    }

    /// Does something with the queue, where it may block. None when it failed, which was said.
    async fn queue<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&SampleStore, &Receiver) -> Result<T> + Send + 'static,
    ) -> Option<T> {
        let (store, receiver) = (Arc::clone(&self.store), Arc::clone(&self.receiver));
        match spawn_blocking(move || work(&store, &receiver)).await {
            Ok(Ok(done)) => Some(done),
            Ok(Err(error)) => {
                self.say(format!("the queue on disk failed: {error}"));
                None
            }
            Err(broken) => {
                self.say(format!("the queue on disk failed: {broken}"));
                None
            }
        }
    }

    /// Says it, but not every time.
    fn say(&mut self, text: String) {
        if self.said.is_none_or(|since| since.elapsed() >= SAY_EVERY) {
            self.said = Some(Stopwatch::start());
            tracing::warn!(remote = %self.receiver.name, "{text}");
        }
    }
}

/// Returns when the stop comes, or when nobody is left who could say so.
async fn stop_said(stopped: &mut watch::Receiver<bool>) {
    let _said = stopped.wait_for(|stop| *stop).await;
}
