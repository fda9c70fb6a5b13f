//! Sending every sample on to another store: Prometheus's remote write protocol 1.0
//! (prometheus.io/docs/specs/prw/remote_write_spec), which Prometheus, VictoriaMetrics, Mimir and Thanos take.
//!
//! A cycle that was handed to the store is encoded at once and put into a bounded queue on disk; a courier for each
//! receiver takes from it. So a receiver that is away, or a surus that is, leaves no gap but its own, and a queue that
//! overflows loses the oldest and says how much.

mod courier;
mod message;
mod meter;
mod post;

pub use meter::FAMILIES;

use courier::Courier;
use meter::Meter;
use post::Post;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};
use surus_core::{
    secret::Secret,
    series::{Labels, Told, stale},
};
use surus_store::{StoreError, samples::SampleStore};
use tokio::{sync::watch, task::JoinHandle};

/// Points of one request at most; a larger cycle is sent as several.
const POINTS_AT_MOST: usize = 10_000;

/// A store that gets every sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Names its queue: what waits survives any other change.
    pub name: String,
    /// Where to send, `http://` or `https://`.
    pub url: String,
    pub login: Login,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Put on every series that does not have them.
    pub external_labels: BTreeMap<String, String>,
    /// How much may wait on disk, in bytes.
    pub max_bytes: u64,
}

/// What a receiver wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    None,
    Basic { username: String, password: Secret },
    Bearer(Secret),
}

/// A receiver that cannot be sent to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("nothing is sent to {name}: {why}")]
pub struct ReceiverError {
    pub name: String,
    pub why: String,
}

/// Sends to all receivers until it is stopped.
#[derive(Debug)]
pub struct RemoteWrite {
    store: Arc<SampleStore>,
    // Read by whoever hands over, written only by a reload.
    routes: RwLock<Vec<Route>>,
    tasks: Mutex<Vec<Task>>,
    told_before: Mutex<HashMap<(String, String), Vec<Labels>>>,
}

/// Where to put what is handed over.
#[derive(Debug, Clone)]
struct Route {
    receiver: Arc<Receiver>,
    meter: Arc<Meter>,
}

/// A courier at work.
#[derive(Debug)]
struct Task {
    receiver: Arc<Receiver>,
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl RemoteWrite {
    /// Begins to send. Must be called in a tokio runtime; a provider of cryptography must be installed for `https`.
    ///
    /// # Errors
    /// When a receiver's address or a header cannot be used; nothing was begun then.
    pub fn start(receivers: Vec<Receiver>, store: Arc<SampleStore>) -> Result<Self, ReceiverError> {
        let new = Self { store, routes: RwLock::default(), tasks: Mutex::default(), told_before: Mutex::default() };
        let (routes, tasks) = new.begin(receivers)?;
        *new.tasks() = tasks;
        new.set_routes(routes);
        Ok(new)
    }

    fn begin(&self, receivers: Vec<Receiver>) -> Result<(Vec<Route>, Vec<Task>), ReceiverError> {
        let posts: Vec<(Arc<Receiver>, Post)> = receivers
            .into_iter()
            .map(|receiver| Post::new(&receiver).map(|post| (Arc::new(receiver), post)))
            .collect::<Result<_, _>>()?;
        let begun = posts.into_iter().map(|(receiver, post)| {
            let meter = Arc::new(Meter::new(&receiver.name));
            let (stop, stopped) = watch::channel(false);
            let courier = Courier::new(Arc::clone(&receiver), post, Arc::clone(&self.store), Arc::clone(&meter));
            let handle = tokio::spawn(courier.run(stopped));
            (Route { receiver: Arc::clone(&receiver), meter }, Task { receiver, stop, handle })
        });
        Ok(begun.unzip())
    }

    /// Sends to these from now on. Those that have not changed go on; what waits for one that is gone stays on disk.
    ///
    /// # Errors
    /// As [`RemoteWrite::start`]; everything goes on as before then.
    pub async fn reload(&self, receivers: Vec<Receiver>) -> Result<(), ReceiverError> {
        let routes_now = self.routes();
        let is_kept = |receiver: &Receiver| routes_now.iter().find(|route| *route.receiver == *receiver);
        let mut routes: Vec<Route> = receivers.iter().filter_map(|receiver| is_kept(receiver).cloned()).collect();
        // Checked before anything ends.
        let new: Vec<Receiver> = receivers.into_iter().filter(|receiver| is_kept(receiver).is_none()).collect();
        new.iter().try_for_each(|receiver| Post::new(receiver).map(|_| ()))?;
        let (kept, gone) = {
            let mut tasks = self.tasks();
            let all = std::mem::take(&mut *tasks);
            all.into_iter().partition(|task| routes.iter().any(|route| route.receiver == task.receiver))
        };
        *self.tasks() = kept;
        end(gone).await;
        let (new_routes, new_tasks) = self.begin(new)?;
        routes.extend(new_routes);
        self.set_routes(routes);
        self.tasks().extend(new_tasks);
        Ok(())
    }

    /// Puts the points of one group's cycle into the queue of each receiver. A series that the cycle before had and
    /// this one has not ends there, as it does in the store. Blocks: not for an async task.
    ///
    /// # Errors
    /// When the queue could not be written; the points are missing there then.
    pub fn hand_over(&self, target: &str, group: &str, at_ms: i64, points: &[(Labels, f64)]) -> Result<(), StoreError> {
        let routes = self.routes();
        if routes.is_empty() {
            return Ok(());
        }
        let ended = self.ended(target, group, points);
        for Route { receiver, meter } in &routes {
            for some in points.chunks(POINTS_AT_MOST).chain(ended.chunks(POINTS_AT_MOST)) {
                let body = message::encode(at_ms, some, &receiver.external_labels);
                let pushed =
                    self.store.outbox(&receiver.name, receiver.max_bytes).push(at_ms, some.len() as u64, &body);
                if pushed.is_err() {
                    meter.failed(some.len());
                }
                pushed?;
            }
            meter.wake();
        }
        Ok(())
    }

    /// The series that end with this cycle.
    fn ended(&self, target: &str, group: &str, points: &[(Labels, f64)]) -> Vec<(Labels, f64)> {
        let key = (target.to_owned(), group.to_owned());
        let mut all = self.told_before.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match points {
            // A target that has gone leaves nothing behind.
            [] => all.remove(&key),
            _ => all.insert(key, points.iter().map(|(labels, _)| labels.clone()).collect()),
        }
        .unwrap_or_default();
        // Most cycles tell the same series in the same order.
        let same = before.len() == points.len() && before.iter().zip(points).all(|(before, (now, _))| before == now);
        if same {
            return Vec::new();
        }
        let now: HashSet<&Labels> = points.iter().map(|(labels, _)| labels).collect();
        before.into_iter().filter(|labels| !now.contains(labels)).map(|labels| (labels, stale())).collect()
    }

    /// What it says about itself, under [`FAMILIES`].
    pub fn told(&self) -> Vec<Told> {
        meter::told(self.routes().iter().map(|route| &*route.meter))
    }

    /// Ends all couriers. What waits stays on disk.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks());
        end(tasks).await;
    }

    fn routes(&self) -> Vec<Route> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_routes(&self, routes: Vec<Route>) {
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = routes;
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn end(tasks: Vec<Task>) {
    for task in &tasks {
        task.stop.send_replace(true);
    }
    for task in tasks {
        if let Err(error) = task.handle.await {
            tracing::error!(remote = %task.receiver.name, "sending broke off: {error}");
        }
    }
}
