//! WAL-G, where it is in PATH: no package that the set-up could install has it.

use crate::{
    scene::{
        MAJOR, SEGMENTS, Scene, client, command, copy, cut, directory, flip, listing, lose, lose_needed, nth,
        own_directory, restore, run, segment_name, to_root,
    },
    tally::{Tally, named},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_prove::{
    drill::aim::Aim,
    engine::{Engine, Kind, Wish, open},
};
use surus_testkit::{peer, require_major};
use tempfile::TempDir;

/// A server that archives into a storage of WAL-G.
struct Master {
    scene: Scene,
    program: PathBuf,
}

/// A copy of the storage, to be damaged.
struct Storage {
    dir: TempDir,
    engine: Box<dyn Engine>,
}

impl Master {
    /// None when a program is not here. `options` are settings of WAL-G, as parts of a JSON object.
    fn new(options: &str) -> Option<Self> {
        Self::on(options, |archive| Scene::new(archive))
    }

    fn on(options: &str, scene: impl Fn(&dyn Fn(&Path) -> String) -> Scene) -> Option<Self> {
        require_major(MAJOR)?;
        let Some(program) = peer::program("wal-g") else {
            let test = std::thread::current().name().unwrap_or("test").to_owned();
            eprintln!("skipped: {test}: wal-g is not in PATH, and no package of Debian has it");
            return None;
        };
        let archive = |dir: &Path| format!("{} --config {}/walg.json wal-push %p", program.display(), dir.display());
        let master = Self { scene: scene(&archive), program: program.clone() };
        own_directory(&master.scene.path("storage"));
        fs::write(master.scene.path("walg.json"), config(&master.scene.path("storage"), options)).unwrap();
        master.scene.fill();
        Some(master)
    }

    /// A backup; the first is whole, and others build on it where a delta is allowed.
    fn back_up(&self) {
        let local = self.scene.server.local();
        let mut push = command(&self.program, self.scene.dir.path());
        push.arg("--config").arg(self.scene.path("walg.json")).arg("backup-push").arg(self.scene.server.data_dir());
        push.env("PGHOST", local.socket_dir()).env("PGPORT", local.port().to_string());
        run(push.env("PGUSER", "postgres").env("PGDATABASE", "postgres"));
    }

    fn storage(&self, options: &str) -> Storage {
        let dir = directory();
        let folder = dir.path().join("storage");
        copy(&self.scene.path("storage"), &folder);
        let file = dir.path().join("walg.json");
        fs::write(&file, config(&folder, options)).unwrap();
        let wish = Wish { kind: Some(Kind::WalG), config: Some(file), ..Wish::default() };
        Storage { engine: open(&wish).unwrap(), dir }
    }
}

fn config(folder: &Path, options: &str) -> String {
    format!("{{\"WALG_FILE_PREFIX\": \"{}\"{options}}}", folder.display())
}

/// Segments of 1 MiB, which WAL-G must be told of; several parts.
const SMALL: &str = ", \"WALG_PG_WAL_SIZE\": \"1\", \"WALG_TAR_SIZE_THRESHOLD\": \"4000000\"";

impl Storage {
    fn below(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.dir.path().join("storage").join(folder);
        let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    }

    /// The archived segments, oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let plain = |path: &PathBuf| name(path).split('.').next().is_some_and(|stem| stem.len() == 24);
        self.below("wal_005").into_iter().filter(|path| plain(path) && !name(path).contains("backup")).collect()
    }

    /// The name of the newest backup.
    fn newest(&self) -> String {
        self.engine.survey().unwrap().backups.last().unwrap().label.clone()
    }

    /// The part of the newest backup that has a relation's file.
    fn part_with(&self, file: &str) -> PathBuf {
        let folder = self.dir.path().join("storage/basebackups_005").join(self.newest());
        let list: Value = serde_json::from_slice(&fs::read(folder.join("files_metadata.json")).unwrap()).unwrap();
        let has = |names: &Value| names.as_array().unwrap().iter().any(|name| name == &*format!("/{file}"));
        let parts = list["TarFileSets"].as_object().unwrap();
        folder.join("tar_partitions").join(parts.iter().find(|(_, names)| has(names)).unwrap().0)
    }

    /// The largest part of the newest backup.
    fn part(&self) -> PathBuf {
        let parts = self.below(&format!("basebackups_005/{}/tar_partitions", self.newest()));
        parts.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}

#[test]
fn a_storage_of_wal_g_is_surveyed_and_restored() {
    let Some(master) = Master::new(SMALL) else { return };
    master.back_up();
    master.scene.go_on();
    // Prefetched for another server: not for a copy.
    let prefetch = own_directory(&master.scene.path("prefetch"));
    let others = own_directory(&prefetch.join(".wal-g/prefetch"));
    let options = format!("{SMALL}, \"WALG_PREFETCH_DIR\": \"{}\"", prefetch.display());
    let storage = master.storage(&options);
    for segment in storage.segments() {
        fs::write(others.join(segment_name(&segment)), vec![0; 1 << 20]).unwrap();
    }
    let prefetched = listing(&prefetch);
    let survey = storage.engine.survey().unwrap();
    assert_eq!((survey.major, survey.backups.len(), survey.gaps.len()), (Some(MAJOR), 1, 0), "{survey:?}");
    assert_eq!(
        survey.system_identifier.unwrap().to_string(),
        master.scene.server.value("SELECT system_identifier::text AS v FROM pg_control_system()")
    );
    let held = &survey.backups[0];
    assert!(held.full && held.trouble.is_none() && held.stop_lsn > held.start_lsn, "{held:?}");
    assert!(held.stopped_at > held.started_at && held.size.is_some(), "{held:?}");
    assert_eq!(storage.engine.off_site(), Some(false));
    let before = listing(storage.dir.path());
    let good = restore(storage.engine.as_ref(), &RecoveryTarget::default()).unwrap();
    assert_eq!(good.later, SEGMENTS);
    assert!(good.landed.recovers && good.landed.major == MAJOR && good.landed.commands.len() == 2);
    assert_eq!(listing(storage.dir.path()), before, "the storage is only read");
    assert_eq!(listing(&prefetch), prefetched, "nothing is taken from what others prefetched");
    assert!(good.landed.notes.is_empty(), "{:?}", good.landed.notes);
    let target = RecoveryTarget { goal: Goal::Lsn(held.stop_lsn.unwrap()), ..RecoveryTarget::default() };
    assert_eq!(restore(storage.engine.as_ref(), &target).unwrap().later, 0);
}

#[test]
fn a_backup_without_a_list_of_files_is_restored_and_that_is_said() {
    let options = format!("{SMALL}, \"WALG_WITHOUT_FILES_METADATA\": \"true\"");
    let Some(master) = Master::new(&options) else { return };
    master.back_up();
    master.scene.go_on();
    let good = restore(master.storage(&options).engine.as_ref(), &RecoveryTarget::default()).unwrap();
    assert!(good.later == SEGMENTS && good.landed.notes[0].contains("without its list of files"), "{:?}", good.landed);
}

/// Plants defects in copies of the storage.
pub fn defects(tally: &mut Tally) {
    if !tally.may_want("WAL-G,") {
        return;
    }
    source_defects(tally);
    let Some(master) = Master::new(SMALL) else { return };
    master.back_up();
    master.scene.go_on();
    wal_defects(tally, &master);
    file_defects(tally, &master);
}

/// Plants one in a copy of the storage.
fn case(tally: &mut Tally, master: &Master, name: &str, short: bool, plant: &dyn Fn(&Storage) -> Vec<String>) {
    if tally.wants(name, short) {
        let storage = master.storage(SMALL);
        let expected = plant(&storage);
        tally.defect(&format!("WAL-G, {name}"), Ok(storage.engine.as_ref()), &expected);
    }
}

fn wal_defects(tally: &mut Tally, master: &Master) {
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Storage) -> Vec<String>| {
        case(tally, master, name, short, plant);
    };
    case("a WAL segment is missing", true, &|storage| lose(&nth(storage.segments(), 2)));
    case("WAL that the backup needs is missing", false, &|storage| {
        lose_needed(storage.engine.as_ref(), storage.segments())
    });
    case("a WAL segment is cut short", false, &|storage| {
        let path = nth(storage.segments(), 2);
        cut(&path, fs::metadata(&path).unwrap().len() / 2);
        named(&[&segment_name(&path)])
    });
    case("a byte of a WAL segment is flipped", false, &|storage| {
        let path = nth(storage.segments(), 2);
        flip(&path, fs::metadata(&path).unwrap().len() / 2);
        named(&[&segment_name(&path)])
    });
    case("a WAL segment may not be read", false, &|storage| {
        let path = nth(storage.segments(), 2);
        to_root(&path, 0o600);
        named(&[&segment_name(&path)])
    });
}

fn file_defects(tally: &mut Tally, master: &Master) {
    let orders = master.scene.file_of("orders");
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Storage) -> Vec<String>| {
        case(tally, master, name, short, plant);
    };
    let part_name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    // Each of what cannot be unpacked is tried again after a minute.
    case("a byte of a part is flipped", false, &|storage| {
        let path = storage.part();
        flip(&path, fs::metadata(&path).unwrap().len() / 2);
        named(&[&part_name(&path)])
    });
    case("a part is cut short", false, &|storage| {
        let path = storage.part();
        cut(&path, fs::metadata(&path).unwrap().len() / 2);
        named(&[&part_name(&path)])
    });
    case("a part is gone", true, &|storage| {
        let gone = storage.part_with(&orders);
        fs::remove_file(gone).unwrap();
        named(&["is missing", "the backup's list of files has it"])
    });
    case("a part may not be read", false, &|storage| {
        let path = storage.part();
        to_root(&path, 0o600);
        named(&[&part_name(&path)])
    });
    case("the part with pg_control is gone", false, &|storage| {
        let parts = storage.below(&format!("basebackups_005/{}/tar_partitions", storage.newest()));
        fs::remove_file(parts.iter().find(|path| part_name(path).starts_with("pg_control")).unwrap()).unwrap();
        named(&["pg_control"])
    });
    case("what it says of itself is gone", false, &|storage| {
        fs::remove_file(
            storage.dir.path().join(format!("storage/basebackups_005/{}_backup_stop_sentinel.json", storage.newest())),
        )
        .unwrap();
        named(&["no backup"])
    });
}

/// Damage that was there before the backup was taken.
fn source_defects(tally: &mut Tally) {
    for (relation, at) in [("orders", 8192 * 3 + 4000), ("orders_pkey", 8192 + 4000)] {
        let name = format!("{relation} was damaged before");
        if !tally.wants(&name, false) {
            continue;
        }
        let Some(mut master) = Master::new(SMALL) else { return };
        let file = master.scene.file_of(relation);
        master.scene.damage(relation, at);
        master.back_up();
        master.scene.go_on();
        let storage = master.storage(SMALL);
        tally.defect(&format!("WAL-G, {name}"), Ok(storage.engine.as_ref()), &named(&[&file]));
    }
}

/// Healthy storages of every kind.
pub fn healthy(tally: &mut Tally) {
    if !tally.may_want("WAL-G") {
        return;
    }
    for (options, segment) in [
        (", \"WALG_PG_WAL_SIZE\": \"1\", \"WALG_COMPRESSION_METHOD\": \"zstd\"", "1"),
        (", \"WALG_PG_WAL_SIZE\": \"1\", \"WALG_DELTA_MAX_STEPS\": \"3\"", "1"),
        ("", "16"),
    ] {
        let Some(master) = Master::on(options, |archive| Scene::with(archive, true, segment)) else { return };
        master.back_up();
        run(client(&master.scene.server, "psql").args([
            "-XAtqd",
            "shop",
            "-c",
            "UPDATE orders SET note = note || 'x'",
        ]));
        master.back_up();
        master.scene.go_on();
        let storage = master.storage(options);
        for held in storage.engine.survey().unwrap().backups {
            let name = format!("WAL-G {options} {}", held.label);
            tally.healthy(&name, storage.engine.as_ref(), Aim::Latest, Some(&held.label));
        }
        tally.healthy(&format!("WAL-G {options}, by chance"), storage.engine.as_ref(), Aim::Random, None);
    }
}
