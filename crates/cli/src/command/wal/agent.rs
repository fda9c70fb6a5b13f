//! `surus wal agent`: the process behind `surus wal push` and `surus wal get` that works ahead of the server.

use super::{get::GetArgs, push::PushArgs};
use crate::failure::Failure;
use clap::Subcommand;
use std::{
    env,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};
use surus_backup::wal::{
    agent::{Home, Limits, fetching::Fetching, pushing::Pushing, serve, serve::Role},
    owner::cluster_of,
};
use surus_core::{clock, monitor::Monitor};

#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// Behind surus wal push
    Push(PushArgs),
    /// Behind surus wal get
    Get(GetArgs),
}

/// Starts the agent with the arguments of this command, detached. When it cannot be started, or does not come up, every
/// command does its own work: there is nothing to report.
pub fn start(home: &Home) {
    let (Ok(program), Ok(log)) = (env::current_exe(), home.log()) else { return };
    let mut command = Command::new(program);
    // What stands before the command, such as --config, is for the agent, too.
    let words: Vec<_> = env::args_os().skip(1).collect();
    let at = words.iter().position(|word| word == "wal").unwrap_or(0);
    command.args(&words[..at]).args(["wal", "agent"]).args(words.iter().skip(at + 1));
    // It is never waited for: it outlives this process.
    drop(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn());
}

/// Runs the agent until nobody has asked for some time.
pub fn run(verb: AgentVerb) -> Result<u8, Failure> {
    // Out of the server's session, so that what ends the server's commands does not end it. It fails for a process that
    // leads one already, and then nothing is to be done.
    let _ = rustix::process::setsid();
    surus_prove::limits::stay_polite();
    let monitor: Arc<dyn Monitor> = Arc::new(Log);
    let limits = limits();
    match verb {
        AgentVerb::Push(args) => {
            let pg_wal = args.pg_wal()?;
            let home = args.home(&pg_wal)?;
            let archiver = args.archiver()?;
            let pushing = Pushing::new(archiver, pg_wal, usize::from(args.ahead), args.threads(), monitor.clone());
            let limits = Limits { workers: args.threads().max(2), ..limits };
            serve(&home, || Ok(Arc::new(pushing) as Arc<dyn Role>), limits, &monitor)?;
        }
        AgentVerb::Get(args) => {
            let known = cluster_of(&args.path, args.repo.cluster)?;
            let home = args.home(known)?;
            let (cluster, spool) = (args.cluster(known)?, args.spool(Path::new(home.key()))?);
            let make = || {
                let fetching = Fetching::new(cluster, spool, u64::from(args.ahead), monitor.clone())?;
                Ok(Arc::new(fetching) as Arc<dyn Role>)
            };
            serve(&home, make, limits, &monitor)?;
        }
    }
    Ok(0)
}

/// The idle time can be shortened, for tests.
fn limits() -> Limits {
    let seconds = env::var("SURUS_AGENT_IDLE").ok().and_then(|text| text.parse().ok());
    let limits = Limits::default();
    Limits { idle: seconds.map_or(limits.idle, std::time::Duration::from_secs), ..limits }
}

/// The agent's log: standard error, which is a file beside its socket.
struct Log;

impl Monitor for Log {
    fn begin(&self, _: &str, _: Option<u64>) {}

    fn advance(&self, _: &str, _: u64) {}

    fn end(&self, _: &str, _: &str) {}

    fn note(&self, text: &str) {
        // A log that cannot be written to must not keep the agent from its work.
        let _ = writeln!(std::io::stderr(), "{} [{}] {text}", clock::now(), std::process::id());
    }
}
