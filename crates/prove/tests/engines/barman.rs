//! Barman of Debian's package, over pg_basebackup.

use crate::{
    scene::{
        MAJOR, SEGMENTS, Scene, command, copy, cut, directory, flip, installed, lose, lose_needed, nth, own_directory,
        restore, run, segment_name, to_root,
    },
    tally::{Tally, named},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_core::clock::Deadline;
use surus_prove::{
    drill::aim::Aim,
    engine::{Engine, Kind, Wish, open},
};
use surus_testkit::require_major;
use tempfile::TempDir;

/// A server in Barman's catalogue, with a backup.
pub struct Master {
    pub scene: Scene,
    program: PathBuf,
}

/// A copy of the catalogue.
pub struct Catalogue {
    pub dir: TempDir,
    pub engine: Box<dyn Engine>,
}

impl Master {
    /// Server with Barman beside it; none when a program is not here. `options` are lines of the server's section.
    pub fn new(options: &str) -> Option<Self> {
        require_major(MAJOR)?;
        let program = installed("barman")?;
        let scene = Scene::new(|dir| {
            let incoming = format!("{}/barman/pg/incoming", dir.display());
            format!("mkdir -p {incoming} && cp %p {incoming}/%f.tmp && mv {incoming}/%f.tmp {incoming}/%f")
        });
        own_directory(&scene.path("barman"));
        let master = Self { scene, program };
        master.scene.fill();
        fs::write(master.scene.path("barman.conf"), master.config(&master.scene.path("barman"), options)).unwrap();
        master.archive();
        Some(master)
    }

    fn config(&self, home: &Path, options: &str) -> String {
        let server = &self.scene.server;
        let dsn = format!(
            "host={} port={} user=postgres dbname=postgres",
            server.local().socket_dir().display(),
            server.local().port()
        );
        format!(
            "[barman]\nbarman_home = {0}\nbarman_user = postgres\nlog_file = {0}/barman.log\nlog_level = INFO\n\n\
             [pg]\ndescription = shop\nbackup_method = postgres\narchiver = on\nstreaming_archiver = off\n\
             immediate_checkpoint = true\npath_prefix = {1}\nconninfo = {dsn}\nstreaming_conninfo = {dsn}\n{options}\n",
            home.display(),
            server.programs().bin_dir().display(),
        )
    }

    fn run(&self, arguments: &[&str]) -> String {
        let config = self.scene.path("barman.conf");
        run(command(&self.program, self.scene.dir.path()).arg("-c").arg(config).args(arguments))
    }

    /// Lets Barman take in what arrived. It begins no backup before it has seen WAL.
    pub fn archive(&self) {
        let deadline = Deadline::after(Duration::from_secs(60));
        loop {
            self.scene.server.sql("SELECT pg_create_restore_point('x')");
            self.scene.wait_archived();
            self.run(&["archive-wal", "pg"]);
            let wals = self.scene.path("barman/pg/wals/xlog.db");
            if fs::metadata(wals).is_ok_and(|meta| meta.len() > 0) {
                return;
            }
            assert!(!deadline.passed(), "Barman sees no WAL");
        }
    }

    pub fn back_up(&self) {
        self.run(&["backup", "pg"]);
        self.archive();
    }

    /// A copy of the catalogue with a configuration of its own.
    pub fn copy(&self, options: &str) -> Catalogue {
        let dir = directory();
        let home = dir.path().join("barman");
        copy(&self.scene.path("barman"), &home);
        let config = dir.path().join("barman.conf");
        let hook = "pre_recovery_script = touch /tmp/engines-hook-ran\n";
        fs::write(&config, self.config(&home, &format!("{options}{hook}"))).unwrap();
        let wish = Wish { kind: Some(Kind::Barman), config: Some(config), ..Wish::default() };
        Catalogue { engine: open(&wish).unwrap(), dir }
    }
}

impl Catalogue {
    /// The newest backup's directory.
    pub fn backup(&self) -> PathBuf {
        let base = self.dir.path().join("barman/pg/base");
        let mut all: Vec<PathBuf> = fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all.pop().unwrap()
    }

    /// The archived segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let wals = self.dir.path().join("barman/pg/wals");
        let mut all = Vec::new();
        for folder in fs::read_dir(wals).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            all.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.retain(|path| path.file_name().unwrap().len() == 24);
        all.sort();
        all
    }
}

#[test]
fn a_server_of_barman_is_surveyed_and_restored() {
    let Some(master) = Master::new("") else { return };
    master.back_up();
    master.scene.go_on();
    master.archive();
    let catalogue = master.copy("");
    let survey = catalogue.engine.survey().unwrap();
    assert_eq!((survey.major, survey.backups.len(), survey.gaps.len()), (Some(MAJOR), 1, 0));
    let held = &survey.backups[0];
    assert!(held.trouble.is_none() && held.stop_lsn > held.start_lsn && held.stopped_at > held.started_at, "{held:?}");
    let good = restore(catalogue.engine.as_ref(), &RecoveryTarget::default()).unwrap();
    assert_eq!(good.later, SEGMENTS);
    assert!(good.landed.notes.is_empty(), "{:?}", good.landed.notes);
    let target = RecoveryTarget { goal: Goal::Lsn(held.stop_lsn.unwrap()), ..RecoveryTarget::default() };
    assert_eq!(restore(catalogue.engine.as_ref(), &target).unwrap().later, 0);
    assert!(!Path::new("/tmp/engines-hook-ran").exists(), "hooks are not run");
}

/// Plants defects in copies of the catalogue.
pub fn defects(tally: &mut Tally) {
    if !tally.may_want("Barman,") {
        return;
    }
    let Some(master) = Master::new("") else { return };
    master.back_up();
    master.scene.go_on();
    master.archive();
    wal_defects(tally, &master);
    file_defects(tally, &master);
}

/// Plants one in a copy of the catalogue.
fn case(tally: &mut Tally, master: &Master, name: &str, short: bool, plant: &dyn Fn(&Catalogue) -> Vec<String>) {
    if tally.wants(name, short) {
        let catalogue = master.copy("");
        let expected = plant(&catalogue);
        tally.defect(&format!("Barman, {name}"), Ok(catalogue.engine.as_ref()), &expected);
    }
}

fn wal_defects(tally: &mut Tally, master: &Master) {
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Catalogue) -> Vec<String>| {
        case(tally, master, name, short, plant);
    };
    let forget = |catalogue: &Catalogue, name: &str| {
        let path = catalogue.dir.path().join("barman/pg/wals/xlog.db");
        let text = fs::read_to_string(&path).unwrap();
        let left: String =
            text.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect();
        fs::write(&path, left).unwrap();
    };
    case("a WAL segment is missing", true, &|catalogue| lose(&nth(catalogue.segments(), 2)));
    case("a WAL segment is missing, and Barman does not know", false, &|catalogue| {
        let gone = nth(catalogue.segments(), 2);
        fs::remove_file(&gone).unwrap();
        forget(catalogue, &segment_name(&gone));
        named(&[&segment_name(&gone), "is missing"])
    });
    case("the last WAL segment is missing", false, &|catalogue| lose(&nth(catalogue.segments(), 0)));
    case("WAL that the backup needs is missing", false, &|catalogue| {
        lose_needed(catalogue.engine.as_ref(), catalogue.segments())
    });
    case("a WAL segment is cut short", false, &|catalogue| {
        let path = nth(catalogue.segments(), 2);
        cut(&path, 1000);
        named(&[&segment_name(&path), "1047576 bytes", "1048576"])
    });
    case("a byte of a WAL segment is flipped", false, &|catalogue| {
        let path = nth(catalogue.segments(), 3);
        flip(&path, 60);
        named(&[&segment_name(&path)[16..], "damaged"])
    });
}

fn file_defects(tally: &mut Tally, master: &Master) {
    let (orders, key) = (master.scene.file_of("orders"), master.scene.file_of("orders_pkey"));
    let space = master.scene.space();
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Catalogue) -> Vec<String>| {
        case(tally, master, name, short, plant);
    };
    let inside = |catalogue: &Catalogue, file: &str| catalogue.backup().join("data").join(file);
    case("a byte of a table is flipped", true, &|catalogue| {
        flip(&inside(catalogue, &orders), 8192 * 3 + 4000);
        named(&[&orders, "is damaged: its CRC32C checksum does not fit"])
    });
    case("a byte of an index is flipped", false, &|catalogue| {
        flip(&inside(catalogue, &key), 8192 + 4000);
        named(&[&key, "is damaged: its CRC32C checksum does not fit"])
    });
    case("a table is cut short", true, &|catalogue| {
        let path = inside(catalogue, &orders);
        let length = fs::metadata(&path).unwrap().len();
        cut(&path, 8192);
        named(&[&orders, &(length - 8192).to_string(), &length.to_string()])
    });
    case("a table is cut short within a page", false, &|catalogue| {
        cut(&inside(catalogue, &orders), 100);
        named(&[&orders, "is cut short"])
    });
    case("a table is gone", false, &|catalogue| {
        fs::remove_file(inside(catalogue, &orders)).unwrap();
        named(&[&orders, "is missing"])
    });
    case("a file may not be read", true, &|catalogue| {
        to_root(&inside(catalogue, &orders), 0o600);
        named(&[&orders, "may not read", "0600"])
    });
    case("a tablespace is gone", true, &|catalogue| {
        fs::remove_dir_all(catalogue.backup().join(space.to_string())).unwrap();
        named(&[&format!("tablespace fast ({space}"), "is missing"])
    });
    case("the backup had failed", false, &|catalogue| {
        let path = catalogue.backup().join("backup.info");
        let text = fs::read_to_string(&path).unwrap().replace("status=DONE", "status=FAILED");
        fs::write(&path, text).unwrap();
        named(&["Barman says that it is FAILED"])
    });
    case("the data is gone", false, &|catalogue| {
        fs::remove_dir_all(catalogue.backup().join("data")).unwrap();
        named(&["data is not there"])
    });
}

/// Healthy catalogues of every kind.
pub fn healthy(tally: &mut Tally) {
    if !tally.may_want("Barman") {
        return;
    }
    for options in [
        "",
        "compression = gzip",
        "backup_compression = gzip",
        "backup_compression = gzip\nbackup_compression_location = server\nbackup_compression_format = plain",
    ] {
        let Some(master) = Master::new(options) else { return };
        master.back_up();
        if options.is_empty() {
            master.back_up();
        }
        master.scene.go_on();
        master.archive();
        let catalogue = master.copy(&format!("{options}\n"));
        let options = options.replace('\n', " ");
        for held in catalogue.engine.survey().unwrap().backups {
            let name = format!("Barman {options} {}", held.label);
            tally.healthy(&name, catalogue.engine.as_ref(), Aim::Latest, Some(&held.label));
        }
        tally.healthy(&format!("Barman {options}, by chance"), catalogue.engine.as_ref(), Aim::Random, None);
    }
}
