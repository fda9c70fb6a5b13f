//! Fixing on real servers: what a step does, what takes it back, and what it does when the server is not as expected.

/// A test of several parts on one server, which is cleaned and gets a new ledger after each: a server takes longer than
/// most parts.
macro_rules! on_one_server {
    ($name:ident: $($part:ident,)*) => {
        #[test]
        fn $name() {
            let mut site = $crate::Site::new();
            $(
                // Shown only when the test fails: says in which part.
                eprintln!(stringify!($part));
                $part(&site);
                site.begin_again();
            )*
        }
    };
}

mod hba;
mod interrupted;
mod settings;
mod statements;
mod surprises;
mod undo;

use std::{fmt::Debug, thread, time::Duration};
use surus_check::fix::{self, Applied, FixError, FixPlan, Numbered, Patience, Scene, TakenBack};
use surus_core::{clock::Deadline, monitor::Silent, plan::Step, proof::Outcome};
use surus_pg::{Manners, Session, Target, quote};
use surus_store::{Entry, Filter, Store};
use surus_testkit::{Builder, Server};
use tokio::runtime::Runtime;

/// Waits that are long enough to meet a lock and short enough for a test.
const PATIENCE: Patience = Patience {
    tries: 3,
    pause: Duration::from_millis(100),
    lock_wait: Duration::from_millis(200),
    lock_wait_alone: Duration::from_millis(500),
};
/// How long a test waits for the server to show something.
const SOON: Duration = Duration::from_secs(20);

/// A server that is to be changed, and the ledger of what is done to it.
struct Site {
    server: Server,
    target: Target,
    store: Store,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

/// The newest major that is here and 15, as Debian has it.
fn two_majors() -> Vec<u16> {
    let majors = surus_testkit::majors();
    let newest = majors.last().copied();
    majors.into_iter().filter(|major| *major == 15 || Some(*major) == newest).collect()
}

fn newest() -> u16 {
    two_majors().pop().unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

impl Site {
    fn new() -> Self {
        Self::around(Server::start())
    }

    fn of(builder: Builder) -> Self {
        Self::around(builder.start())
    }

    fn around(server: Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            target: Target::parse(&server.dsn("postgres")).unwrap(),
            store: Store::open(&surus_store::path_in(dir.path())).unwrap(),
            runtime: runtime(),
            server,
            dir,
        }
    }

    /// Nothing of what was done is left on the server or in the ledger.
    fn begin_again(&mut self) {
        self.server.sql("ALTER SYSTEM RESET ALL");
        self.server.sql(
            "SELECT pg_reload_conf(); DROP SCHEMA IF EXISTS \"Odd one\" CASCADE; DROP SCHEMA public CASCADE; \
             CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC; DROP ROLE IF EXISTS app",
        );
        self.dir = tempfile::tempdir().unwrap();
        self.store = Store::open(&surus_store::path_in(self.dir.path())).unwrap();
    }

    fn cluster(&self) -> String {
        self.server.value("SELECT system_identifier AS v FROM pg_control_system()")
    }

    fn apply(&self, steps: impl IntoIterator<Item = Step>) -> Applied {
        self.apply_as(&self.target, steps)
    }

    fn apply_as(&self, target: &Target, steps: impl IntoIterator<Item = Step>) -> Applied {
        let (cluster, reference) = (self.cluster(), target.reference());
        let scene = Scene { target, cluster: &cluster, reference: &reference, store: &self.store, patience: PATIENCE };
        self.runtime.block_on(fix::apply(scene, &plan(steps), &Silent))
    }

    /// Takes the steps, all of which must succeed; returns the ledger's number of the last.
    fn done(&self, steps: impl IntoIterator<Item = Step>) -> i64 {
        let applied = self.apply(steps);
        assert!(applied.stopped.is_none(), "{:?}", applied.stopped);
        applied.done.last().unwrap().ledger
    }

    /// Takes the steps, which must stop; returns why.
    fn stops(&self, steps: impl IntoIterator<Item = Step>) -> FixError {
        let applied = self.apply(steps);
        applied.stopped.unwrap_or_else(|| panic!("nothing stopped it: {:?}", applied.done))
    }

    fn undo(&self, number: Option<i64>) -> Result<TakenBack, FixError> {
        let undoable = fix::undoable(&self.store, number)?;
        let target = Target::parse(&undoable.server).unwrap();
        self.runtime.block_on(fix::take_back(&undoable, &target, &self.store))
    }

    /// The newest entry of the ledger.
    fn last_entry(&self) -> Entry {
        self.entries().pop().unwrap()
    }

    fn entries(&self) -> Vec<Entry> {
        self.store.entries(&Filter::default()).unwrap()
    }

    /// The kinds and outcomes in the ledger, in order.
    fn story(&self) -> Vec<String> {
        let one = |entry: Entry| {
            let failed = if entry.proof.outcome == Outcome::Failed { " failed" } else { "" };
            format!("{}{failed}", entry.proof.kind)
        };
        self.entries().into_iter().map(one).collect()
    }

    /// What postgresql.auto.conf says about a setting.
    fn entry(&self, name: &str) -> Option<String> {
        let sql = format!(
            "SELECT setting AS v FROM pg_file_settings WHERE name = {} AND sourcefile LIKE '%.auto.conf'",
            quote::literal(name)
        );
        self.server.query(&sql).iter().next().map(|row| row.text("v").unwrap())
    }

    /// What new sessions get.
    fn show(&self, name: &str) -> String {
        self.server.value(&format!("SELECT current_setting('{name}') AS v"))
    }

    /// A session of somebody else, open until it is dropped.
    fn session(&self) -> Session {
        let manners = Manners { application_name: "somebody".into(), ..Manners::changing() };
        self.runtime.block_on(self.target.connect(&manners)).unwrap()
    }

    fn run_in(&self, session: &Session, sql: &str) {
        self.runtime.block_on(session.run(sql)).unwrap();
    }

    /// Waits until the column `v` of this query is true.
    fn until(&self, sql: &str) {
        let deadline = Deadline::after(SOON);
        while self.server.value(sql) != "t" {
            assert!(!deadline.passed(), "not within {SOON:?}: {sql}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A plan of these steps, in the database postgres.
fn plan(steps: impl IntoIterator<Item = Step>) -> FixPlan {
    let numbered = |(at, step): (usize, Step)| Numbered {
        number: at + 1,
        key: format!("test.step:{}", at + 1),
        title: "a test".into(),
        step,
        database: Some("postgres".into()),
    };
    FixPlan { steps: steps.into_iter().enumerate().map(numbered).collect(), by_name: Vec::new(), manual: Vec::new() }
}

/// The text of an error, which must name its kind and say these things.
#[track_caller]
fn says<E: std::fmt::Display + Debug>(error: &E, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is not in: {text}");
    }
}
