//! SIGKILL at random moments, to whatever of surus is at work while the server is: afterwards every backup that is
//! called complete comes back whole, and no WAL of which the server was told that it is archived is missing.

use crate::{
    load::{CLIENTS, Load, Seen, burst, sound},
    room::{Random, Room, WITHIN, amcheck, end, make_repository, own_folder, text_of, wanted},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use surus_backup::{Repo, restore::directory::JOURNAL, wal::fetch};
use surus_core::{
    clock::{Deadline, Stopwatch, now_ms},
    code,
};
use surus_testkit::{Server, require_major};

/// How often it is looked whether there is something to be killed.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Push,
    Get,
    Backup,
    Restore,
    Expire,
}

const ALL: [What; 5] = [What::Push, What::Get, What::Backup, What::Restore, What::Expire];

#[test]
fn what_was_called_done_is_there_whatever_is_killed() {
    // The same choices each time; the moments are as the machine allows.
    Campaign::new(require_major(15).unwrap_or(18), 42).run(10, 10);
}

/// The long form: `SURUS_KILLS=500 cargo test -p surus --test torture -- --ignored --nocapture kills`.
#[test]
#[ignore = "takes an hour; SURUS_KILLS=500 is shared by three majors"]
fn what_was_called_done_is_there_after_many_kills() {
    let majors: Vec<_> = [15, 16, 18].into_iter().filter_map(require_major).collect();
    let each = wanted("SURUS_KILLS").unwrap_or(500).div_ceil(majors.len() as u64) as u32;
    let seed = wanted("SURUS_SEED").unwrap_or(now_ms() as u64);
    for major in majors {
        Campaign::new(major, seed).run(each, 25);
    }
}

struct Campaign {
    room: Room,
    load: Arc<Load>,
    random: Random,
    seed: u64,
    /// How long each kind of work takes when nobody kills it.
    takes: BTreeMap<What, Duration>,
    kills: BTreeMap<What, u32>,
    /// Files of which the server was told that they are archived.
    acknowledged: BTreeSet<String>,
    /// Restores so far; each has a directory of its own.
    restores: u32,
    /// Restored copies that were started and looked at.
    sound: u32,
}

impl Campaign {
    fn new(major: u16, seed: u64) -> Self {
        let dir = own_folder();
        let repo = dir.path().join("repo");
        make_repository(&repo);
        let builder = Server::builder().major(major).checksums(true).setting("max_wal_size", "64MB");
        let room = Room::new(builder, dir, repo.to_str().unwrap(), Vec::new());
        // Of a backup over the network that was killed.
        room.server.expect_log("connection to client lost");
        room.server.expect_log("base backup could not send data");
        let load = Load::prepare(&room.server);
        eprintln!("PostgreSQL {major}, SURUS_SEED={seed}");
        Self {
            room,
            load,
            random: Random::new(seed),
            seed,
            takes: BTreeMap::new(),
            kills: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            restores: 0,
            sound: 0,
        }
    }

    /// Kills so often, and looks at everything after each batch.
    fn run(mut self, count: u32, batch: u32) {
        while self.killed() < count {
            let until = count.min(self.killed() + batch);
            let working = self.load.begin(&self.room.server.dsn("postgres"), self.seed + u64::from(until));
            self.learn();
            // Each kind has its turn; which one is next is left to chance.
            while self.killed() < until {
                let fewest = ALL.iter().map(|what| self.kills_of(*what)).min().unwrap_or(0);
                let late: Vec<_> = ALL.into_iter().filter(|what| self.kills_of(*what) <= fewest + 1).collect();
                let what = *self.random.choose(&late);
                let killed = self.round(what);
                *self.kills.entry(what).or_default() += u32::from(killed);
                self.acknowledged.extend(self.room.acknowledged());
            }
            let seen = self.load.seen();
            drop(working);
            self.look_at_all(&seen);
        }
        eprintln!(
            "summary: PostgreSQL {}: killed {:?}; {} restored copies were sound; {} archived files were acknowledged",
            self.room.server.major(),
            self.kills,
            self.sound,
            self.acknowledged.len()
        );
    }

    fn kills_of(&self, what: What) -> u32 {
        self.kills.get(&what).copied().unwrap_or(0)
    }

    fn killed(&self) -> u32 {
        self.kills.values().sum()
    }

    /// How long things take, so that they are killed in their middle.
    fn learn(&mut self) {
        let watch = Stopwatch::start();
        self.room.back_up(&["--full"]);
        self.takes.insert(What::Backup, watch.elapsed());
        let watch = Stopwatch::start();
        let to = self.directory();
        self.room.json(&["restore", "--to", to.to_str().unwrap()]);
        self.takes.insert(What::Restore, watch.elapsed());
        let watch = Stopwatch::start();
        self.room.start(&to).map(end).unwrap();
        self.takes.insert(What::Get, watch.elapsed());
        self.room.remove(&to);
        let watch = Stopwatch::start();
        self.expire();
        self.takes.insert(What::Expire, watch.elapsed());
    }

    fn directory(&mut self) -> PathBuf {
        self.restores += 1;
        self.room.path(&format!("restored-{}", self.restores))
    }

    fn expire(&self) {
        self.room.json(&["backup", "expire", "--full", "2"]);
    }

    /// A moment within the time that this takes.
    fn moment(&mut self, what: What) -> Duration {
        Duration::from_micros(self.random.below(self.takes[&what].as_micros() as u64))
    }

    /// Does something and kills it. `false` when it was done before its moment came.
    fn round(&mut self, what: What) -> bool {
        match what {
            What::Push => self.push(),
            What::Get => self.get(),
            What::Backup => {
                let kind = *self.random.choose(&["--full", "--incremental", "--full", "--jobs=1"]);
                let method = *self.random.choose(&["--method=local", "--method=local", "--method=stream"]);
                let dsn = self.room.server.dsn("postgres");
                self.cut_off(what, &["backup", "run", kind, method, &dsn])
            }
            What::Restore => self.restore(),
            What::Expire => {
                let rule = *self.random.choose(&["--full=1", "--full=2", "--age=1s", "--window=1s"]);
                self.cut_off(what, &["backup", "expire", rule])
            }
        }
    }

    /// Runs a command, and kills it at a random moment.
    fn cut_off(&mut self, what: What, arguments: &[&str]) -> bool {
        let moment = self.moment(what);
        let mut command = self.room.surus(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(moment);
        let ended = child.try_wait().unwrap().is_some();
        if !ended {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        // It may have come to its end between the question and the signal.
        let killed = output.status.code().is_none();
        assert!(killed || output.status.success(), "{arguments:?}: {}", text_of(&output));
        killed
    }

    /// The server archives; the command, the agent behind it, or both are killed.
    fn push(&mut self) -> bool {
        let victims =
            *self.random.choose(&[&[" wal agent push "][..], &[" wal push "], &[" wal push ", " wal agent push "]]);
        let pause = Duration::from_millis(self.random.below(150));
        burst(&self.room.server.dsn("postgres"));
        thread::sleep(pause);
        let deadline = Deadline::after(WITHIN);
        while !kill_any(&self.room.repo, victims) {
            assert!(!deadline.passed(), "no {victims:?} came: {}", self.room.server.log());
            thread::sleep(LOOK_EVERY);
            if self.random.one_in(300) {
                burst(&self.room.server.dsn("postgres"));
            }
        }
        true
    }

    /// A restored server recovers; what fetches its WAL is killed. It ends or goes on; it never takes that for the end
    /// of its WAL.
    fn get(&mut self) -> bool {
        let seen = self.load.seen();
        self.room.wait_archived();
        let to = self.directory();
        self.room.json(&["restore", "--to", to.to_str().unwrap()]);
        let victims =
            *self.random.choose(&[&[" wal agent get "][..], &[" wal get "], &[" wal get ", " wal agent get "]]);
        let moment = self.moment(What::Get);
        let (over, killed) = (AtomicBool::new(false), AtomicBool::new(false));
        let room = &self.room;
        let first = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(moment);
                while !over.load(Ordering::SeqCst) && !killed.load(Ordering::SeqCst) {
                    killed.store(kill_any(&room.repo, victims), Ordering::SeqCst);
                    thread::sleep(LOOK_EVERY);
                }
            });
            let first = room.start(&to);
            over.store(true, Ordering::SeqCst);
            first
        });
        let server = first.unwrap_or_else(|error| {
            assert!(killed.load(Ordering::SeqCst) && error.code() == code::RESTORE_START, "{error}");
            // The same server, once more.
            room.start(&to).unwrap_or_else(|error| panic!("{error}"))
        });
        sound(&server.dsn("postgres", "postgres"), &seen);
        end(server);
        room.remove(&to);
        self.sound += 1;
        killed.into_inner()
    }

    /// A restore is killed; what is there cannot be started, and the same command finishes it.
    fn restore(&mut self) -> bool {
        let seen = self.load.seen();
        self.room.wait_archived();
        let to = self.directory();
        let place = to.to_str().unwrap();
        let killed = self.cut_off(What::Restore, &["restore", "--to", place]);
        let half = to.join(JOURNAL).exists();
        if half {
            assert_eq!(self.room.start(&to).unwrap_err().code(), code::RESTORE_START);
        }
        let done = !half && to.join("backup_label").exists();
        if !done {
            self.room.json(&["restore", "--to", place]);
        }
        self.room.verify_with_postgresql(&to);
        let server = self.room.start(&to).unwrap_or_else(|error| panic!("{error}"));
        sound(&server.dsn("postgres", "postgres"), &seen);
        end(server);
        self.room.remove(&to);
        self.sound += 1;
        killed
    }

    /// Nobody works any more: what is called complete comes back, and what was acknowledged is there.
    fn look_at_all(&mut self, seen: &Seen) {
        self.room.wait_archived();
        self.acknowledged.extend(self.room.acknowledged());
        let list = self.room.json(&["backup", "list"]);
        let backups = list["clusters"][0]["backups"].as_array().unwrap().clone();
        assert!(!backups.is_empty(), "{list:#}");
        let newest = backups.len() - 1;
        for (number, backup) in backups.iter().enumerate() {
            assert!(backup["trouble"].is_null(), "{backup:#}");
            let label = backup["label"].as_str().unwrap();
            // All the WAL since then takes long; the newest one goes all the way.
            let goal: &[&str] = if number == newest { &[] } else { &["--immediate"] };
            let to = self.directory();
            let first = ["restore", "--backup", label, "--to", to.to_str().unwrap()];
            self.room.json(&[&first, goal].concat());
            self.room.verify_with_postgresql(&to);
            let server = self.room.start(&to).unwrap_or_else(|error| panic!("{label}: {error}"));
            let dsn = server.dsn("postgres", "postgres");
            amcheck(&dsn);
            sound(&dsn, if number == newest { seen } else { &[0; CLIENTS] });
            end(server);
            self.room.remove(&to);
            self.sound += 1;
        }
        let verified = self.room.run(&["backup", "verify", "--again"]);
        assert!(verified.status.success(), "{}", text_of(&verified));
        let wal = self.room.run(&["wal", "list"]);
        assert!(wal.status.success(), "{}", text_of(&wal));
        self.acknowledged_is_there(&list["clusters"][0]["wal"][0]["first"]);
        self.expire();
    }

    /// Expiry takes WAL away from its beginning on, and nothing else does.
    fn acknowledged_is_there(&self, first: &serde_json::Value) {
        let first = first.as_str().unwrap();
        let cluster = Repo::in_folder(Path::new(&self.room.repo)).unwrap().choose(None).unwrap();
        for name in self.acknowledged.iter().filter(|name| name.len() > 24 || name.as_str() >= first) {
            let found = fetch::look(&cluster, name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(found.is_some(), "{name} was acknowledged and is not there");
        }
    }
}

/// Kills what has one of these words in its command line, for this repository.
fn kill_any(repo: &str, victims: &[&str]) -> bool {
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut killed = false;
    for number in names.filter_map(|name| name.parse::<i32>().ok()) {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // Not the shell that the server runs it with.
        let ours = line.contains(repo) && !line.starts_with("sh ") && !line.starts_with("/bin/sh ");
        if ours && victims.iter().any(|victim| line.contains(victim)) {
            killed |= Pid::from_raw(number).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
        }
    }
    killed
}
