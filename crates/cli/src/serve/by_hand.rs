//! Restore drills that somebody starts from the pages: `surus prove restore` as a process of its own, one at a time.
//!
//! It writes its proof into the ledger itself; what it says meanwhile is kept for the page.

use super::settings::Settings;
use crate::{config::Config, failure::Failure};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use surus_core::clock;
use surus_web::drills::{Drilling as Told, Drills};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// Of what a drill says, this much is shown.
const SAID: usize = 64 << 10;
/// How long a drill may take to end when it is asked to.
const END_WITHIN: Duration = Duration::from_secs(20);

/// What is known of the configuration.
#[derive(Debug, Clone)]
struct Plan {
    repositories: Vec<String>,
    config: Option<PathBuf>,
    data_dir: PathBuf,
    program: Option<PathBuf>,
}

/// Runs drills.
#[derive(Debug)]
pub struct ByHand {
    plan: Mutex<Plan>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The process of the drill that runs, and what hears of its end.
    running: Option<(i32, watch::Receiver<bool>)>,
    /// By target.
    last: BTreeMap<String, Told>,
}

impl ByHand {
    /// So far without a drill.
    pub fn new(settings: &Settings) -> Self {
        Self { plan: Mutex::new(plan(settings)), state: Arc::default() }
    }

    /// From now on it goes by these settings.
    pub fn reload(&self, settings: &Settings) {
        *lock(&self.plan) = plan(settings);
    }

    /// Asks a drill that runs to end, and lets it clean up.
    pub async fn stop(&self) {
        let running = lock(&self.state).running.clone();
        let Some((pid, mut ended)) = running else { return };
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = tokio::time::timeout(END_WITHIN, ended.wait_for(|ended| *ended)).await;
    }
}

fn plan(settings: &Settings) -> Plan {
    Plan {
        repositories: settings.repositories.iter().map(|one| one.name.clone()).collect(),
        config: settings.config.clone(),
        data_dir: settings.data_dir.clone(),
        program: settings.program.clone(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drills for ByHand {
    fn repositories(&self) -> Vec<String> {
        lock(&self.plan).repositories.clone()
    }

    fn command(&self, target: &str) -> Result<Vec<String>, String> {
        let plan = lock(&self.plan).clone();
        if plan.repositories.is_empty() {
            return Err("there is no [[repository]] in surus.toml".into());
        }
        let Some(file) = &plan.config else {
            return Err("the target must stand in surus.toml, as a [[target]]".into());
        };
        let config = Config::load(Some(file)).map_err(|failure: Failure| failure.message)?;
        if !config.target.iter().any(|one| one.name == target) {
            return Err(format!("{} has no [[target]] named \"{target}\"", file.display()));
        }
        let program = match plan.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(|error| format!("surus does not know where it is: {error}"))?,
        };
        let mut words = vec![program.display().to_string(), "--config".into(), file.display().to_string()];
        words.extend(["--data-dir".into(), plan.data_dir.display().to_string()]);
        words.extend(["prove", "restore", target].map(str::to_owned));
        // A standby has the backups of its cluster, though no [[backup]] of its own.
        let own = config.backup.iter().any(|backup| backup.target == target);
        if let (false, [first, _, ..]) = (own, config.repository.as_slice()) {
            words.extend(["--repo".to_owned(), first.name.clone()]);
        }
        Ok(words)
    }

    fn start(&self, target: &str) -> Result<(), String> {
        let words = self.command(target)?;
        let mut state = lock(&self.state);
        if state.running.is_some() {
            let of = state.last.values().find(|told| told.finished_ms.is_none()).map(|told| told.target.clone());
            return Err(format!("a drill of {} runs already", of.unwrap_or_default()));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("NO_COLOR", "1").env("COLUMNS", "100");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("{} does not start: {error}", words[0]))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        let (end, ended) = watch::channel(false);
        state.running = Some((pid, ended));
        let told = Told {
            target: target.to_owned(),
            command: format!("surus prove restore {target}"),
            started_ms: clock::now_ms(),
            finished_ms: None,
            exit_status: None,
            said: String::new(),
        };
        state.last.insert(target.to_owned(), told);
        tokio::spawn(follow(child, target.to_owned(), Arc::clone(&self.state), end));
        Ok(())
    }

    fn last(&self, target: &str) -> Option<Told> {
        lock(&self.state).last.get(target).cloned()
    }
}

/// Keeps what the drill says until it ends.
async fn follow(mut child: Child, target: String, state: Arc<Mutex<State>>, end: watch::Sender<bool>) {
    let say = |line: &str| {
        if let Some(told) = lock(&state).last.get_mut(&target)
            && told.said.len() < SAID
        {
            told.said.push_str(line);
            told.said.push('\n');
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    tokio::join!(lines(out, &say), lines(err, &say));
    let status = child.wait().await.ok().and_then(|status| status.code());
    let mut state = lock(&state);
    if let Some(told) = state.last.get_mut(&target) {
        (told.finished_ms, told.exit_status) = (Some(clock::now_ms()), Some(status.unwrap_or(-1)));
        tracing::info!(%target, status, "a restore drill from the pages has ended");
    }
    state.running = None;
    drop(state);
    end.send_replace(true);
}

async fn lines(stream: Option<impl AsyncRead + Unpin>, say: &impl Fn(&str)) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        say(line.trim_end());
    }
}
