//! `surus serve`: watch, remember, answer, until it is told to stop.

use crate::{
    args::{Global, ServeArgs},
    failure::Failure,
    output::print,
    serve::{install_cryptography, lock::Lock, log, notify::Notify, running::Running, settings::Settings},
};
use std::sync::Arc;
use surus_core::secret::masked;
use surus_web::{access::Access, server};
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
    install_cryptography();
    let running = Running::start(&settings, access)?;
    let site = Arc::clone(&running.site);
    let (stop, stopped) = watch::channel(false);
    let answering = tokio::spawn(server::serve(listener, surus_web::routes(Arc::clone(&site)), stopped));
    let notify = Notify::from_environment();
    site.set_ready(true);
    tracing::info!(
        listen = %settings.listen,
        data_dir = %settings.data_dir.display(),
        targets = settings.targets.len(),
        "surus serves"
    );
    notify.ready(&status(&settings));
    work(global, &args, settings, signals, &notify, &running).await;
    notify.stopping();
    site.set_ready(false);
    tracing::info!("surus stops");
    let _told = stop.send(true);
    answering.await.map_err(|error| Failure::bug(error.to_string()))?;
    running.stop().await;
    tracing::info!("surus has stopped");
    Ok(0)
}

fn status(settings: &Settings) -> String {
    let count = settings.targets.len();
    format!("watching {count} target{} on http://{}", if count == 1 { "" } else { "s" }, settings.listen)
}

/// Until a signal to stop comes.
async fn work(
    global: &Global,
    args: &ServeArgs,
    mut settings: Settings,
    mut signals: Signals,
    notify: &Notify,
    running: &Running,
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
                if let Some(new) = reload(global, args, &settings, running).await {
                    settings = new;
                }
                notify.ready(&status(&settings));
            }
            () = alive => notify.alive(),
        }
    }
}

/// Reads the configuration again. What is wrong with it leaves everything as it is.
async fn reload(global: &Global, args: &ServeArgs, old: &Settings, running: &Running) -> Option<Settings> {
    let refused = |failure: Failure| {
        tracing::error!(code = failure.code.id, "nothing was reloaded: {}", masked(&failure.message));
    };
    let mut new = Settings::read(global, args).map_err(refused).ok()?;
    for difference in old.differences(&new) {
        tracing::info!("configuration: {difference}");
    }
    let kept = new.keep_fixed(old);
    if !kept.is_empty() {
        tracing::warn!("not reloaded, restart surus for it: {}", kept.join(", "));
    }
    running.reload(&new).await.map_err(refused).ok()?;
    tracing::info!("the configuration was reloaded");
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
    out.push_str(&format!(
        "  remembers samples for {}, in {} MiB at most\n",
        settings.samples.keep,
        settings.samples_at_most >> 20
    ));
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
