//! `surus serve`: watch, remember, answer, until it is told to stop.

use crate::{
    args::{Global, ServeArgs},
    failure::Failure,
    output::print,
    serve::{lock::Lock, log, notify::Notify, settings::Settings},
};
use std::sync::Arc;
use surus_web::{Site, access::Access, server};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Runs the command.
pub async fn run(global: &Global, args: ServeArgs) -> Result<u8, Failure> {
    let settings = Settings::read(global, &args)?;
    let access = Access::new(settings.password.as_ref(), settings.token.as_ref());
    if args.check_config {
        return check(&settings, &access);
    }
    log::start(global, args.log_format)?;
    let signals = Signals::listen()?;
    let _lock = Lock::take(&settings.data_dir)?;
    let listener = server::listen(settings.listen, &access).await?;
    let site = Arc::new(Site::new(access));
    let (stop, stopped) = watch::channel(false);
    let answering = tokio::spawn(server::serve(listener, surus_web::routes(Arc::clone(&site)), stopped));
    let notify = Notify::from_environment();
    site.set_ready(true);
    tracing::info!(listen = %settings.listen, data_dir = %settings.data_dir.display(), targets = settings.targets.len(), "surus serves");
    notify.ready(&format!("watching {} targets on http://{}", settings.targets.len(), settings.listen));
    work(signals, &notify, |settings_now| reload(global, &args, settings_now), settings).await;
    notify.stopping();
    site.set_ready(false);
    let _told = stop.send(true);
    answering.await.map_err(|error| Failure::bug(error.to_string()))?;
    tracing::info!("surus has stopped");
    Ok(0)
}

/// Until a signal to stop comes.
async fn work(
    mut signals: Signals,
    notify: &Notify,
    reload: impl Fn(&Settings) -> Option<Settings>,
    mut settings: Settings,
) {
    let every = notify.watchdog_every();
    loop {
        let alive = async {
            match every {
                Some(every) => tokio::time::sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = signals.terminate.recv() => return,
            Some(()) = signals.interrupt.recv() => return,
            Some(()) = signals.hangup.recv() => {
                notify.reloading();
                if let Some(new) = reload(&settings) {
                    settings = new;
                }
                notify.ready(&format!("watching {} targets on http://{}", settings.targets.len(), settings.listen));
            }
            () = alive => notify.alive(),
        }
    }
}

/// Reads the configuration again. What is wrong with it leaves everything as it is.
fn reload(global: &Global, args: &ServeArgs, old: &Settings) -> Option<Settings> {
    let mut new = match Settings::read(global, args) {
        Ok(new) => new,
        Err(failure) => {
            tracing::error!(
                code = failure.code.id,
                "nothing was reloaded: {}",
                surus_core::secret::masked(&failure.message)
            );
            return None;
        }
    };
    for difference in old.differences(&new) {
        tracing::info!("configuration: {difference}");
    }
    if new.listen != old.listen || new.data_dir != old.data_dir {
        tracing::warn!("listen and data_dir are not reloaded: restart surus for them");
        (new.listen, new.data_dir) = (old.listen, old.data_dir.clone());
    }
    Some(new)
}

/// `--check-config`
fn check(settings: &Settings, access: &Access) -> Result<u8, Failure> {
    server::may_listen(settings.listen, access)?;
    let mut out = format!(
        "The configuration is fit for surus serve.\n  listens on {}, {}\n  keeps its files in {}\n",
        settings.listen,
        if access.asks() { "with a login" } else { "without a login" },
        settings.data_dir.display(),
    );
    for watched in &settings.targets {
        out.push_str(&format!("  watches {}: {}\n", watched.name, watched.target.label()));
    }
    for remote in &settings.remotes {
        out.push_str(&format!("  sends every sample to {}: {}\n", remote.config.name, remote.config.url));
    }
    print(&out)?;
    Ok(0)
}

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::bug(format!("signals cannot be received: {error}")));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }
}

impl From<server::ListenError> for Failure {
    fn from(error: server::ListenError) -> Self {
        Self::new(error.code(), format!("nothing was started: {error}"))
    }
}
