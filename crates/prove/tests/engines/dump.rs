//! pg_dump and pg_dumpall of the major, in all their forms.

use crate::{
    scene::{MAJOR, Scene, client, cut, directory, flip, own_directory, restore, run},
    tally::{Tally, named},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_prove::{
    drill::aim::Aim,
    engine::{Engine, Kind, Wish, open},
};
use surus_testkit::require_major;
use tempfile::TempDir;

/// A server to dump.
pub struct Master {
    pub scene: Scene,
}

impl Master {
    pub fn new() -> Option<Self> {
        require_major(MAJOR)?;
        let scene = Scene::new(|_| String::new());
        scene.fill();
        Some(Self { scene })
    }

    /// A dump of the database: a directory that holds it, and its path.
    pub fn dump(&self, name: &str, arguments: &[&str]) -> (TempDir, PathBuf) {
        let dir = directory();
        own_directory(&dir.path().join("dumps"));
        let path = dir.path().join("dumps").join(name);
        let mut command = client(&self.scene.server, "pg_dump");
        run(command.arg("-f").arg(&path).args(arguments).arg("shop"));
        (dir, path)
    }

    /// What pg_dumpall writes.
    pub fn dump_all(&self, name: &str, arguments: &[&str]) -> (TempDir, PathBuf) {
        let dir = directory();
        own_directory(&dir.path().join("dumps"));
        let path = dir.path().join("dumps").join(name);
        run(client(&self.scene.server, "pg_dumpall").arg("-f").arg(&path).args(arguments));
        (dir, path)
    }

    pub fn dsn(&self) -> String {
        self.scene.server.dsn("shop")
    }
}

pub fn engine(paths: &[&PathBuf], compare: Option<String>) -> Result<Box<dyn Engine>, String> {
    let dumps = paths.iter().map(|path| (*path).clone()).collect();
    open(&Wish { kind: Some(Kind::Dump), dumps, compare, ..Wish::default() }).map_err(|error| error.to_string())
}

#[test]
fn dumps_of_every_form_are_loaded() {
    let Some(master) = Master::new() else { return };
    for arguments in [&["-F", "c"][..], &["-F", "t"], &["-F", "d"], &["-F", "p"], &["-F", "p", "-C"]] {
        let (_dir, path) = master.dump("shop.dump", arguments);
        let engine = engine(&[&path], Some(master.dsn())).unwrap();
        let survey = engine.survey().unwrap();
        assert_eq!((survey.major, survey.backups.len()), (Some(MAJOR), 1), "{arguments:?}");
        let good = restore(engine.as_ref(), &RecoveryTarget::default())
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        assert!(!good.landed.recovers);
        assert!(good.landed.notes.iter().any(|note| note.contains("without login: clerk")), "{:?}", good.landed.notes);
        let time = Goal::Time("2030-01-01T00:00:00Z".parse().unwrap());
        let target = RecoveryTarget { goal: time, ..RecoveryTarget::default() };
        assert!(restore(engine.as_ref(), &target).err().unwrap().contains("not to 2030-01-01"));
    }
}

#[test]
fn a_dump_of_the_whole_cluster_is_loaded_and_its_tablespaces_go_into_the_place() {
    let Some(master) = Master::new() else { return };
    let (_dir, path) = master.dump_all("all.sql", &[]);
    let whole = engine(&[&path], Some(master.dsn())).unwrap();
    let good = restore(whole.as_ref(), &RecoveryTarget::default()).unwrap();
    assert!(good.landed.notes.is_empty(), "{:?}", good.landed.notes);
    run(std::process::Command::new("gzip").arg(&path));
    let packed = engine(&[&path.with_extension("sql.gz")], Some(master.dsn())).unwrap();
    assert!(restore(packed.as_ref(), &RecoveryTarget::default()).is_ok());
    let (_dir, globals) = master.dump_all("globals.sql", &["--globals-only"]);
    let (_other, shop) = master.dump("shop.dump", &["-F", "c"]);
    let both = engine(&[&shop, &globals], Some(master.dsn())).unwrap();
    let good = restore(both.as_ref(), &RecoveryTarget::default()).unwrap();
    assert!(good.landed.notes.is_empty(), "{:?}", good.landed.notes);
    let there = std::fs::read_dir(master.scene.path("space")).unwrap().count();
    assert_eq!(there, 1, "only the server's own directory is in its tablespace");
}

/// Plants defects in dumps.
pub fn defects(tally: &mut Tally) {
    if !tally.may_want("pg_dump") {
        return;
    }
    let Some(master) = Master::new() else { return };
    let mut case = |name: &str, short: bool, arguments: &[&str], compare: bool, plant: Plant<'_>| {
        case(tally, &master, name, short, arguments, compare, plant);
    };
    case("it is cut short", true, &["-F", "c"], false, &|path| named(&[&half(path), "is cut short or damaged"]));
    case("it is cut short", false, &["-F", "p"], false, &|path| named(&[&half(path), "is cut short"]));
    case("it is cut short", false, &["-F", "t"], false, &|path| named(&[&half(path), "is cut short or damaged"]));
    case("a byte is flipped", false, &["-F", "c"], false, &|path| {
        flip(path, fs::metadata(path).unwrap().len() / 2);
        named(&["shop.dump", "is cut short or damaged"])
    });
    case("a table is left out", true, &["-F", "c", "-T", "hot"], true, &|_| named(&["lacks table public.hot"]));
    case("a table is left out", false, &["-F", "p", "-T", "hot"], true, &|_| named(&["public.hot"]));
    case("a table's rows are left out", false, &["-F", "c", "--exclude-table-data=hot"], true, &|_| {
        named(&["the rows of table public.hot (the server has 500)"])
    });
    case("a table that others refer to is left out", false, &["-F", "c", "-T", "customers"], false, &|_| {
        named(&["public.customers", "does not exist"])
    });
    case("indexes are left out", false, &["-F", "c", "--section=pre-data", "--section=data"], true, &|_| {
        named(&["index public.orders_customer", "orders_pkey"])
    });
    case("only the schema is there", false, &["-F", "c", "--schema-only"], true, &|_| {
        named(&["the rows of table public.orders (the server has 6000)"])
    });
    case("it may not be read", true, &["-F", "c"], false, &|path| {
        mode(path, 0);
        named(&["shop.dump cannot be read by its owner: mode 0000"])
    });
    directory_defects(tally, &master);
    cluster_defects(tally, &master);
}

/// What is done to a dump, and what must be named then.
type Plant<'a> = &'a dyn Fn(&PathBuf) -> Vec<String>;

/// Plants one in a new dump that pg_dump made with these arguments.
fn case(
    tally: &mut Tally,
    master: &Master,
    name: &str,
    short: bool,
    arguments: &[&str],
    compare: bool,
    plant: Plant<'_>,
) {
    if tally.wants(name, short) {
        let (_dir, path) = master.dump("shop.dump", arguments);
        let expected = plant(&path);
        let made = engine(&[&path], compare.then(|| master.dsn()));
        let opened = made.as_ref().map(|engine| engine.as_ref()).map_err(Clone::clone);
        tally.defect(&format!("pg_dump {}, {name}", arguments.join(" ")), opened, &expected);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Cuts a file in half; its size then.
fn half(path: &PathBuf) -> String {
    let length = fs::metadata(path).unwrap().len();
    cut(path, length / 2);
    format!("({} bytes)", length - length / 2)
}

fn directory_defects(tally: &mut Tally, master: &Master) {
    let mut case = |name: &str, short: bool, arguments: &[&str], compare: bool, plant: Plant<'_>| {
        case(tally, master, name, short, arguments, compare, plant);
    };
    let data = |path: &PathBuf| {
        let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| !path.ends_with("toc.dat")).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    };
    case("a file is gone", false, &["-F", "d"], false, &|path| {
        let gone = data(path);
        fs::remove_file(&gone).unwrap();
        named(&[gone.file_name().unwrap().to_string_lossy().trim_end_matches(".gz"), "No such file"])
    });
    case("a file is cut short", false, &["-F", "d"], false, &|path| {
        half(&data(path));
        named(&["shop.dump"])
    });
    case("a file that is not packed is cut short", false, &["-F", "d", "-Z", "0"], false, &|path| {
        half(&data(path));
        named(&["is cut short"])
    });
    case("a file may not be read", false, &["-F", "d"], false, &|path| {
        let file = data(path);
        mode(&file, 0o000);
        named(&[&file.file_name().unwrap().to_string_lossy(), "mode 0000"])
    });
    case("its contents are gone", false, &["-F", "d"], false, &|path| {
        fs::remove_file(path.join("toc.dat")).unwrap();
        named(&["the directory has no toc.dat"])
    });
    case("it is empty", false, &["-F", "c"], false, &|path| {
        fs::write(path, "").unwrap();
        named(&["is empty (0 bytes)"])
    });
    case("it is something else", false, &["-F", "c"], false, &|path| {
        fs::write(path, "\x7fELF").unwrap();
        named(&["nothing that pg_dump or pg_dumpall made"])
    });
}

fn cluster_defects(tally: &mut Tally, master: &Master) {
    if tally.whole {
        let (_dir, path) = master.dump_all("all.sql", &[]);
        run(std::process::Command::new("gzip").arg(&path));
        let path = path.with_extension("sql.gz");
        half(&path);
        let made = engine(&[&path], None);
        let opened = made.as_ref().map(|engine| engine.as_ref()).map_err(Clone::clone);
        tally.defect("pg_dumpall, packed and cut short", opened, &named(&["all.sql.gz", "is cut short or damaged"]));
        let (_dir, path) = master.dump_all("globals.sql", &["--globals-only"]);
        let made = engine(&[&path], Some(master.dsn())).unwrap();
        tally.defect("pg_dumpall, only the globals", Ok(made.as_ref()), &named(&["lacks database shop"]));
    }
}

/// Healthy dumps of every form.
pub fn healthy(tally: &mut Tally) {
    if !tally.may_want("pg_dump") {
        return;
    }
    let Some(master) = Master::new() else { return };
    let forms: &[&[&str]] = &[
        &["-F", "c"],
        &["-F", "c", "-Z", "0"],
        &["-F", "c", "-Z", "9"],
        &["-F", "d"],
        &["-F", "d", "-Z", "0"],
        &["-F", "d", "-j", "2"],
        &["-F", "t"],
        &["-F", "p"],
        &["-F", "p", "-C"],
        &["-F", "p", "--inserts"],
        &["-F", "c", "-O", "-x"],
    ];
    for form in forms {
        let (_dir, path) = master.dump("shop.dump", form);
        let made = engine(&[&path], Some(master.dsn())).unwrap();
        tally.healthy(&format!("pg_dump {}", form.join(" ")), made.as_ref(), Aim::Latest, None);
    }
    for form in [&[][..], &["--no-role-passwords"], &["--clean", "--if-exists"]] {
        let (_dir, path) = master.dump_all("all.sql", form);
        let made = engine(&[&path], Some(master.dsn())).unwrap();
        tally.healthy(&format!("pg_dumpall {}", form.join(" ")), made.as_ref(), Aim::Latest, None);
    }
}
