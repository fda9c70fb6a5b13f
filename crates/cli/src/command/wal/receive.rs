//! `surus wal receive`: WAL over the replication protocol.

use crate::{
    args::{DataFormat, Global},
    config::Config,
    failure::Failure,
    ledger,
    output::{json, print},
    repository::RepoArgs,
};
use clap::Args;
use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use surus_backup::{
    repo::codec::Codec,
    wal::receive::{Finished, ReceiveOptions, Received, finish, receive},
};
use surus_core::{clock, lsn::Lsn, monitor::Monitor};
use surus_pg::Target;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus wal receive --repo /srv/surus --slot surus --create-slot \"$DSN\"
  surus wal receive --repo /srv/surus --slot surus --synchronous \"$DSN application_name=surus_receive\"
      with synchronous_standby_names = 'surus_receive', a commit that was answered is never lost
  surus wal receive --repo /srv/surus --finish
      the server will not come back: archive what was received of its last segment

The role needs REPLICATION, and pg_hba.conf a line for the database replication. The segment that grows is kept below
surus's data directory (--data-dir). SIGTERM and Ctrl-C stop it; the next run goes on where it was.

Exit status: 0 stopped as asked, or --until was reached · 1 the server no longer has WAL that is missing here
  2 usage · 3 it would overwrite or mix WAL · 4 something outside failed")]
pub struct ReceiveArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Connection string of the primary or of a standby
    #[arg(value_name = "DSN", required_unless_present = "finish")]
    pub dsn: Option<String>,
    /// The physical replication slot that holds WAL while nobody receives it
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,
    /// Make the slot when it is not there
    #[arg(long, requires = "slot")]
    pub create_slot: bool,
    /// Tell the server at once what is durable here, as a synchronous standby does
    #[arg(long)]
    pub synchronous: bool,
    /// Stop when WAL has come up to here
    #[arg(long, value_name = "LSN")]
    pub until: Option<Lsn>,
    /// Archive what was received of the last segment as .partial, for a server that will not come back
    #[arg(long, conflicts_with_all = ["dsn", "slot", "create_slot", "synchronous", "until"])]
    pub finish: bool,
    /// Compression: none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "METHOD", default_value = "zstd:1", value_parser = |text: &str| text.parse::<Codec>())]
    pub compress: Codec,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// Runs the command.
pub async fn run(global: &Global, args: ReceiveArgs) -> Result<u8, Failure> {
    let store = ledger::path(global, &Config::load(global.config.as_deref())?)?;
    let data = store.parent().map_or_else(PathBuf::new, Path::to_owned);
    let Some(dsn) = &args.dsn else { return finish_tail(&args, &data).await };
    let target = Target::parse(dsn)?;
    let options = ReceiveOptions {
        slot: args.slot.clone(),
        create_slot: args.create_slot,
        synchronous: args.synchronous,
        codec: args.compress,
        until: args.until,
        ..ReceiveOptions::default()
    };
    let repo = tokio::task::block_in_place(|| args.repo.open_or_create())?;
    let monitor: Arc<dyn Monitor> = Arc::new(Lines { quiet: global.quiet });
    let received = receive(&repo, &target, &data, &options, stop()?, &monitor).await?;
    match args.format {
        DataFormat::Json => print(&json(&as_json(&received))?)?,
        DataFormat::Text => print(&format!(
            "WAL of cluster {} is durable here up to {} on timeline {}; {} segments went into the archive\n",
            received.system_identifier, received.end, received.timeline, received.archived
        ))?,
    }
    Ok(0)
}

/// Turns true when somebody wants us to stop.
fn stop() -> Result<watch::Receiver<bool>, Failure> {
    let (tell, stop) = watch::channel(false);
    let listen = |kind| signal(kind).map_err(|error| Failure::bug(format!("no signal can be waited for: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Nobody listens any more when the work has ended by itself.
        let _ = tell.send(true);
    });
    Ok(stop)
}

async fn finish_tail(args: &ReceiveArgs, data: &Path) -> Result<u8, Failure> {
    let cluster = tokio::task::block_in_place(|| args.repo.open_cluster())?;
    let (data, codec) = (data.to_owned(), args.compress);
    let finished = tokio::task::spawn_blocking(move || finish(&cluster, &data, codec)).await;
    let finished = finished.map_err(|error| Failure::bug(error.to_string()))??;
    match args.format {
        DataFormat::Json => print(&json(&finished_json(&finished))?)?,
        DataFormat::Text => print(&finished_text(&finished))?,
    }
    Ok(0)
}

fn as_json(received: &Received) -> serde_json::Value {
    serde_json::json!({
        "system_identifier": received.system_identifier, "timeline": received.timeline, "end": received.end,
        "archived": received.archived,
    })
}

fn finished_json(finished: &Finished) -> serde_json::Value {
    let tail = finished.tail.as_ref().map(|(name, end)| serde_json::json!({ "name": name, "end": end }));
    serde_json::json!({ "whole": finished.whole, "tail": tail })
}

fn finished_text(finished: &Finished) -> String {
    let mut out = String::new();
    if !finished.whole.is_empty() {
        let _ = writeln!(out, "archived {}", finished.whole.join(", "));
    }
    let _ = match &finished.tail {
        Some((name, end)) => writeln!(out, "archived {name}: WAL up to {end}"),
        None => writeln!(out, "no beginning of a segment waits here"),
    };
    out
}

/// What is worth a line, with the time, on standard error: this runs for long and may be watched by a log.
struct Lines {
    quiet: bool,
}

impl Monitor for Lines {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: &str, _: u64) {}
    fn end(&self, _: &str, _: &str) {}
    fn note(&self, text: &str) {
        if !self.quiet {
            // Nothing can be done about a closed standard error.
            let _ = writeln!(anstream::stderr(), "{:.0} {}", clock::now(), surus_core::secret::masked(text));
        }
    }
}
