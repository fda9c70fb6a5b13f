//! The pages of the demo: what `surus serve` runs, in the demo's own process, over the demo's servers.

use super::{link, repository::Repository};
use crate::{
    config::{ObserveConfig, SamplesConfig, quantity::Span},
    failure::Failure,
    serve::{
        install_cryptography,
        lock::Lock,
        running::Running,
        settings::{Settings, Watched},
    },
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use surus_core::secret::Secret;
use surus_pg::Target;
use surus_web::{access::Access, server};
use tokio::{sync::watch, task::JoinHandle};

/// Where `surus serve` listens too; another port when it is taken.
const PORT: u16 = 7432;
/// The label `cluster` of both servers.
const CLUSTER: &str = "demo";
/// The demo changes quickly, so it is looked at often.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// A drill measures with it what would have been lost.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The pages, as long as this is there.
pub struct Pages {
    settings: Settings,
    running: Running,
    stop: watch::Sender<bool>,
    answering: JoinHandle<()>,
    password: Secret,
    _lock: Lock,
}

impl Pages {
    /// Listens on loopback and begins to watch. Reading needs no login there; ending a session does.
    pub async fn open(data_dir: PathBuf, targets: &[(&str, String)], repository: &Repository) -> Result<Self, Failure> {
        let password = link::random()?;
        let access = Access::new(Some(&password), None).with_open_reading();
        let lock = Lock::take(&data_dir)?;
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let listener = match server::listen(loopback(PORT), &access).await {
            Ok(listener) => listener,
            Err(_) => server::listen(loopback(0), &access).await?,
        };
        let listen = listener.local_addr().map_err(|error| Failure::bug(error.to_string()))?;
        let settings = settings(listen, data_dir, targets, repository)?;
        install_cryptography();
        let running = Running::start(&settings, access)?;
        let (stop, stopped) = watch::channel(false);
        let routes = surus_web::routes(Arc::clone(&running.site));
        let answering = tokio::spawn(server::serve(listener, routes, stopped));
        running.site.set_ready(true);
        Ok(Self { settings, running, stop, answering, password, _lock: lock })
    }

    /// Watches these from now on, checks them, and takes backups when they are due.
    pub async fn watch(&mut self, targets: &[(&str, String)], repository: &Repository) -> Result<(), Failure> {
        self.settings.targets = watched(targets)?;
        self.settings.backups = repository.read_config()?.backup;
        self.settings.check_every = Some(CHECK_EVERY);
        self.running.reload(&self.settings).await
    }

    /// The address for a browser.
    pub fn url(&self) -> String {
        format!("http://{}/", self.settings.listen)
    }

    /// For whoever wants to end a session.
    pub fn password(&self) -> &str {
        self.password.reveal()
    }

    /// Ends it before the servers end.
    pub async fn close(self) {
        let _told = self.stop.send(true);
        self.running.stop().await;
        self.answering.abort();
    }
}

fn settings(
    listen: SocketAddr,
    data_dir: PathBuf,
    targets: &[(&str, String)],
    repository: &Repository,
) -> Result<Settings, Failure> {
    let seconds = |seconds| Span(Duration::from_secs(seconds));
    Ok(Settings {
        listen,
        data_dir,
        password: None,
        token: None,
        targets: watched(targets)?,
        observe: ObserveConfig {
            counters: seconds(2),
            detail: seconds(10),
            slow: seconds(60),
            ..ObserveConfig::default()
        },
        samples: SamplesConfig::default(),
        samples_at_most: 256 << 20,
        remotes: Vec::new(),
        check_every: None,
        check: surus_check::options::CheckConfig::default(),
        repositories: repository.read_config()?.repository,
        // The first one is taken before the user's eyes.
        backups: Vec::new(),
        config: Some(repository.config()),
        drills: Vec::new(),
        program: Some(repository.program().to_owned()),
    })
}

fn watched(targets: &[(&str, String)]) -> Result<Vec<Watched>, Failure> {
    let one = |(name, dsn): &(&str, String)| {
        let target = Target::parse(dsn)?;
        Ok(Watched {
            name: (*name).to_owned(),
            dsn: dsn.clone(),
            target,
            cluster: Some(CLUSTER.to_owned()),
            // A standby writes none.
            heartbeat: Some(HEARTBEAT),
        })
    };
    targets.iter().map(one).collect()
}

/// Shows the pages in the browser of whoever runs the demo.
///
/// # Errors
/// When there is no program for that.
pub fn show_in_browser(url: &str) -> Result<(), Failure> {
    let quiet = std::process::Stdio::null;
    let started = std::process::Command::new("xdg-open").arg(url).stdout(quiet()).stderr(quiet()).spawn();
    started.map(drop).map_err(|error| {
        let text = format!("{url} was not opened in a browser: xdg-open: {error}");
        Failure::new(surus_core::code::OUTPUT_TERMINAL, text)
    })
}
