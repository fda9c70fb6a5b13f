//! Everything that works while `surus serve` runs, begun and ended in the right order.

use super::{
    by_hand::ByHand,
    checking::{Checking, Plan},
    drilling::{self, Drilling},
    protecting::{self, Protecting},
    settings::{Remote, Settings},
};
use crate::{config::ObserveConfig, failure::Failure};
use std::sync::Arc;
use surus_check::reports::Reports;
use surus_core::code;
use surus_observe::{
    Observatory, Settings as ObserveSettings, Watched, collectors,
    remote_write::{Login, Receiver, ReceiverError, RemoteWrite},
};
use surus_store::samples::{self, SampleStore};
use surus_web::{Site, access::Access, drills::Drills};

/// What may wait on disk for a receiver that does not answer.
const QUEUE_BYTES: u64 = 1 << 30;

/// The rooms at work.
pub struct Running {
    pub site: Arc<Site>,
    observatory: Arc<Observatory>,
    remote_write: Arc<RemoteWrite>,
    checking: Checking,
    protecting: Protecting,
    drilling: Drilling,
    by_hand: Arc<ByHand>,
}

impl Running {
    /// Opens the store, then begins to send, then to watch, then to check.
    pub fn start(settings: &Settings, access: Access) -> Result<Self, Failure> {
        let limits = samples::Settings {
            keep: settings.samples.keep.0,
            keep_long: settings.samples.keep_long.0,
            max_bytes: Some(settings.samples_at_most),
            ..samples::Settings::default()
        };
        let store = Arc::new(SampleStore::open(&samples::path_in(&settings.data_dir), limits)?);
        let remote_write = RemoteWrite::start(receivers(&settings.remotes), Arc::clone(&store))?;
        let remote_write = Arc::new(remote_write);
        let pace = ObserveSettings { remote_write: Some(Arc::clone(&remote_write)), ..observe(&settings.observe) };
        let observatory = Observatory::start(watched(settings), pace, Arc::clone(&store))
            .map_err(|error| Failure::bug(format!("nothing was started: the system gave no thread: {error}")))?;
        let observatory = Arc::new(observatory);
        let (reports, ledger) = (Arc::<Reports>::default(), surus_store::path_in(&settings.data_dir));
        let checking = Checking::start(
            Arc::clone(&observatory),
            Arc::clone(&store),
            ledger.clone(),
            Arc::clone(&reports),
            plan(settings),
        );
        let protecting = Protecting::start(Arc::clone(&observatory), Arc::clone(&store), protection(settings));
        let drilling = Drilling::start(Arc::clone(&observatory), Arc::clone(&store), ledger.clone(), drills(settings));
        let by_hand = Arc::new(ByHand::new(settings));
        let site = Site::new(access, Arc::clone(&observatory), store, Arc::clone(&remote_write), reports, ledger)
            .with_drills(Arc::clone(&by_hand) as Arc<dyn Drills>);
        Ok(Self { site: Arc::new(site), observatory, remote_write, checking, protecting, drilling, by_hand })
    }

    /// Takes over what can be changed while it runs.
    pub async fn reload(&self, new: &Settings) -> Result<(), Failure> {
        self.remote_write.reload(receivers(&new.remotes)).await?;
        self.observatory.reload(watched(new), observe(&new.observe)).await;
        self.checking.reload(plan(new));
        self.protecting.reload(protection(new));
        self.drilling.reload(drills(new));
        self.by_hand.reload(new);
        Ok(())
    }

    /// Ends watching first, so that its last words are still stored and sent.
    pub async fn stop(&self) {
        self.drilling.stop();
        self.protecting.stop();
        self.by_hand.stop().await;
        self.checking.stop();
        self.observatory.stop().await;
        self.remote_write.stop().await;
    }
}

fn protection(settings: &Settings) -> protecting::Plan {
    protecting::Plan {
        backups: settings.backups.clone(),
        repositories: settings.repositories.clone(),
        config: settings.config.clone(),
    }
}

fn drills(settings: &Settings) -> drilling::Plan {
    drilling::Plan {
        data_dir: settings.data_dir.clone(),
        drills: settings.drills.clone(),
        backups: settings.backups.clone(),
        repositories: settings.repositories.clone(),
        targets: settings.targets.iter().map(|target| target.name.clone()).collect(),
        config: settings.config.clone(),
    }
}

fn plan(settings: &Settings) -> Plan {
    Plan {
        repositories: settings.repositories.clone(),
        every: settings.check_every,
        config: settings.check.clone(),
        targets: settings.targets.iter().map(|target| target.name.clone()).collect(),
    }
}

fn watched(settings: &Settings) -> Vec<Watched> {
    let one = |watched: &super::settings::Watched| Watched {
        name: watched.name.clone(),
        dsn: watched.dsn.clone(),
        cluster: watched.cluster.clone(),
        heartbeat: watched.heartbeat,
    };
    settings.targets.iter().map(one).collect()
}

fn observe(config: &ObserveConfig) -> ObserveSettings {
    ObserveSettings {
        activity: config.activity.0,
        counters: config.counters.0,
        detail: config.detail.0,
        slow: config.slow.0,
        // The names were checked when the configuration was read.
        collectors: collectors::with(&config.also).unwrap_or(collectors::ALL),
        ..ObserveSettings::default()
    }
}

fn receivers(remotes: &[Remote]) -> Vec<Receiver> {
    let one = |Remote { config, password, token }: &Remote| Receiver {
        name: config.name.clone(),
        url: config.url.clone(),
        login: match (token, &config.username, password) {
            (Some(token), ..) => Login::Bearer(token.clone()),
            (None, Some(username), Some(password)) => {
                Login::Basic { username: username.clone(), password: password.clone() }
            }
            _ => Login::None,
        },
        headers: config.headers.clone(),
        external_labels: config.external_labels.clone(),
        max_bytes: config.max_bytes.map_or(QUEUE_BYTES, |size| size.0),
    };
    remotes.iter().map(one).collect()
}

impl From<ReceiverError> for Failure {
    fn from(error: ReceiverError) -> Self {
        Self::new(code::CONFIG_SYNTAX, error.to_string())
    }
}
