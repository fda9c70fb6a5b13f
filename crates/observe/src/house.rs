//! What belongs to no target: surus's own process, and the machine when a target is on it. A task of its own.

use crate::{
    desk::Desk,
    host, process,
    schedule::Grid,
    settings::{Settings, Watched},
    snapshot::{Answer, TargetNow},
    writing::{self, Writing},
};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use surus_core::clock;
use tokio::task::JoinHandle;

/// The name under which surus's own series are kept: their labels `job` and `instance`.
const SURUS: &str = "surus";

/// The newest state of the machine.
#[derive(Debug, Default)]
pub(crate) struct House(Mutex<Option<Arc<Answer>>>);

impl House {
    /// `node_*`, when surus runs on the host of a target.
    pub(crate) fn host(&self) -> Option<Arc<Answer>> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the settings, and the newest state of all targets with their descriptions.
pub(crate) type Look = Box<dyn Fn() -> (Arc<Settings>, Vec<(Watched, Arc<TargetNow>)>) + Send + Sync>;

/// Reads and hands over until the task is ended.
pub(crate) async fn keep(desk: Desk, house: Arc<House>, look: Look) {
    let mut every = look().0.counters;
    let mut grid = Grid::new(every, SURUS, clock::now_ms());
    let mut own = Writing::of_job(
        desk.clone(),
        SURUS,
        &Watched { name: SURUS.into(), dsn: String::new(), cluster: None, heartbeat: None },
    );
    let mut writings: HashMap<String, (Watched, Writing)> = HashMap::new();
    let mut reading: Option<JoinHandle<Vec<surus_core::series::Told>>> = None;
    loop {
        let pause = (grid.next_ms() - clock::now_ms()).clamp(1, 60_000).unsigned_abs();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let Some(due) = grid.take(clock::now_ms()) else { continue };
        let answer = |collector, told| Arc::new(Answer { collector, database: None, at_ms: due.at_ms, told });
        let process = answer("process", process::told(&desk));
        own.group("process", due.at_ms, grid.every_ms(), std::iter::once(&process));
        let (settings, targets) = look();
        if let Some(remote_write) = &settings.remote_write {
            let sent = answer("remote_write", remote_write.told());
            own.group("remote_write", due.at_ms, grid.every_ms(), std::iter::once(&sent));
        }
        if settings.counters != every {
            every = settings.counters;
            grid = Grid::new(every, SURUS, due.at_ms);
        }
        let here: Vec<(Watched, Arc<TargetNow>)> =
            targets.into_iter().filter(|(_, now)| now.places.is_some()).collect();
        writings.retain(|name, (watched, writing)| {
            let stays = here.iter().any(|(other, _)| other.name == *name && other == watched);
            if !stays {
                writing.leave(due.at_ms);
            }
            stays
        });
        if !settings.host || here.is_empty() {
            *house.slot() = None;
            continue;
        }
        // A file system that hangs holds up the reading, of which there is never more than one.
        let task = reading.get_or_insert_with(|| {
            let mut places: Vec<PathBuf> = here.iter().filter_map(|(_, now)| now.places.clone()).flatten().collect();
            places.sort();
            places.dedup();
            tokio::task::spawn_blocking(move || host::read(&places))
        });
        let Ok(read) = tokio::time::timeout(settings.counters / 2, task).await else {
            tracing::warn!("the machine's state cannot be read: a file system does not answer");
            *house.slot() = None;
            continue;
        };
        reading = None;
        let Ok(told) = read else { continue };
        let machine = answer("host", told);
        for (watched, _) in here {
            let name = watched.name.clone();
            let (_, writing) =
                writings.entry(name).or_insert_with(|| (watched.clone(), Writing::new(desk.clone(), &watched)));
            writing.group(writing::HOST, due.at_ms, grid.every_ms(), std::iter::once(&machine));
        }
        *house.slot() = Some(machine);
    }
}
