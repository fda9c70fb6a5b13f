//! pg_basebackup of the major, in all its forms.

use crate::{
    scene::{
        MAJOR, SEGMENTS, Scene, client, copy, cut, directory, flip, own_directory, restore, run, segment_name, to_root,
    },
    tally::{Tally, named},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use surus_backup::{
    restore::target::{Goal, RecoveryTarget},
    wal::name::Segment,
};
use surus_prove::{
    drill::aim::Aim,
    engine::{Engine, Kind, Wish, open},
};
use surus_testkit::require_major;
use tempfile::TempDir;

/// A backup, and the archive of the server that it was taken from.
pub struct Master {
    pub scene: Scene,
}

/// A copy of the backup and of the archive.
pub struct Copy {
    pub dir: TempDir,
    pub engine: Box<dyn Engine>,
}

pub fn archive_command(dir: &Path) -> String {
    format!("test -d {0}/wal || mkdir {0}/wal; cp %p {0}/wal/%f.tmp && mv {0}/wal/%f.tmp {0}/wal/%f", dir.display())
}

impl Master {
    pub fn new(arguments: &[&str]) -> Option<Self> {
        let master = Self::without()?;
        master.back_up(arguments);
        Some(master)
    }

    /// A server that was not backed up yet.
    pub fn without() -> Option<Self> {
        require_major(MAJOR)?;
        let scene = Scene::new(archive_command);
        own_directory(scene.dir.path());
        fs::set_permissions(scene.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        scene.fill();
        Some(Self { scene })
    }

    pub fn back_up(&self, arguments: &[&str]) {
        let to = self.scene.path("backup");
        let mut command = client(&self.scene.server, "pg_basebackup");
        command.args(["-c", "fast", "-D"]).arg(&to).args(arguments);
        if !arguments.contains(&"t") {
            let map = format!("{}={}", self.scene.path("space").display(), self.scene.path("copied-space").display());
            command.args(["-T", &map]);
        }
        run(&mut command);
    }

    /// A copy; `wal` says whether the archive belongs to it.
    pub fn copy(&self, wal: bool) -> Copy {
        let dir = directory();
        let backup = dir.path().join("backup");
        copy(&self.scene.path("backup"), &backup);
        // The tablespace of a plain backup is where its link leads.
        if self.scene.path("copied-space").exists() {
            copy(&self.scene.path("copied-space"), &dir.path().join("copied-space"));
            let link = backup.join(format!("pg_tblspc/{}", self.scene.space()));
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(dir.path().join("copied-space"), &link).unwrap();
        }
        let archive = dir.path().join("wal");
        copy(&self.scene.path("wal"), &archive);
        let wish =
            Wish { kind: Some(Kind::Basebackup), dir: Some(backup), wal: wal.then_some(archive), ..Wish::default() };
        Copy { engine: open(&wish).unwrap(), dir }
    }
}

impl Copy {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn a_plain_backup_leads_to_its_end_and_with_an_archive_further() {
    let Some(master) = Master::new(&[]) else { return };
    master.scene.go_on();
    let alone = master.copy(false);
    let survey = alone.engine.survey().unwrap();
    assert_eq!((survey.major, survey.backups.len()), (Some(MAJOR), 1));
    assert!(survey.backups[0].stop_lsn > survey.backups[0].start_lsn && survey.backups[0].stopped_at.is_some());
    let good = restore(alone.engine.as_ref(), &RecoveryTarget::default()).unwrap();
    assert_eq!(good.later, 0);
    let time =
        RecoveryTarget { goal: Goal::Time("2030-01-01T00:00:00Z".parse().unwrap()), ..RecoveryTarget::default() };
    assert!(restore(alone.engine.as_ref(), &time).err().unwrap().contains("without a WAL archive"));
    let with = master.copy(true);
    assert_eq!(restore(with.engine.as_ref(), &RecoveryTarget::default()).unwrap().later, SEGMENTS);
    let stop = with.engine.survey().unwrap().backups[0].stop_lsn.unwrap();
    let lsn = RecoveryTarget { goal: Goal::Lsn(stop), ..RecoveryTarget::default() };
    assert_eq!(restore(with.engine.as_ref(), &lsn).unwrap().later, 0);
}

#[test]
fn tar_files_are_unpacked_with_their_tablespaces() {
    for arguments in [&["-F", "t"][..], &["-F", "t", "-X", "fetch"], &["-F", "t", "-z", "--manifest-checksums=SHA256"]]
    {
        let Some(master) = Master::new(arguments) else { return };
        let good = restore(master.copy(false).engine.as_ref(), &RecoveryTarget::default()).unwrap();
        assert_eq!(good.later, 0);
        let original = master.scene.path("space").display().to_string();
        let used = run(std::process::Command::new("find").arg(original).args(["-newer", "/proc/self", "-name", "x"]));
        assert!(used.is_empty());
    }
}

impl Copy {
    /// The archived segments, oldest first, counted from the end.
    fn nth(&self, from_end: usize) -> PathBuf {
        let mut all: Vec<PathBuf> =
            fs::read_dir(self.path("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.file_name().unwrap().len() == 24);
        all.sort();
        all[all.len() - 1 - from_end].clone()
    }
}

/// Plants defects in copies of backups.
pub fn defects(tally: &mut Tally) {
    if tally.may_want("pg_basebackup,") {
        plain_defects(tally);
    }
    if tally.may_want("pg_basebackup with an archive,") {
        archive_defects(tally);
    }
    tar_defects(tally);
    if !tally.whole || !tally.may_want("pg_basebackup, a page") {
        return;
    }
    if let Some(mut master) = Master::without() {
        master.scene.damage("orders", 8192 * 3 + 4000);
        master.back_up(&["--no-verify-checksums"]);
        let copy = master.copy(false);
        let expected = named(&["public.orders", "block 3"]);
        tally.defect("pg_basebackup, a page was damaged when it was backed up", Ok(copy.engine.as_ref()), &expected);
    }
}

/// Plants one in a copy of the backup.
fn case(tally: &mut Tally, master: &Master, name: &str, short: bool, plant: &dyn Fn(&Copy) -> Vec<String>) {
    if tally.wants(name, short) {
        let copy = master.copy(false);
        let expected = plant(&copy);
        tally.defect(&format!("pg_basebackup, {name}"), Ok(copy.engine.as_ref()), &expected);
    }
}

fn inside(copy: &Copy, file: &str) -> PathBuf {
    copy.path("backup").join(file)
}

fn plain_defects(tally: &mut Tally) {
    let Some(master) = Master::new(&[]) else { return };
    let (orders, key) = (master.scene.file_of("orders"), master.scene.file_of("orders_pkey"));
    let (space, hot) = (master.scene.space(), master.scene.file_of("hot"));
    frame_defects(tally, &master);
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Copy) -> Vec<String>| {
        case(tally, &master, name, short, plant);
    };
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    case("a byte of a table is flipped", true, &|copy| {
        flip(&inside(copy, &orders), 8192 * 3 + 4000);
        named(&[&orders, "is damaged: its CRC32C checksum does not fit"])
    });
    case("a byte of an index is flipped", false, &|copy| {
        flip(&inside(copy, &key), 8192 + 4000);
        named(&[&key, "is damaged: its CRC32C checksum does not fit"])
    });
    case("a byte in a tablespace is flipped", false, &|copy| {
        flip(&inside(copy, &hot), 4000);
        named(&[&hot, "is damaged"])
    });
    case("a table is cut short", true, &|copy| {
        let path = inside(copy, &orders);
        let length = fs::metadata(&path).unwrap().len();
        cut(&path, 8192);
        named(&[&orders, &(length - 8192).to_string(), &length.to_string()])
    });
    case("a table is gone", false, &|copy| {
        fs::remove_file(inside(copy, &orders)).unwrap();
        named(&[&orders, "is missing"])
    });
    case("a file is too much", false, &|copy| {
        fs::write(inside(copy, "base/1/99999"), vec![0; 8192]).unwrap();
        named(&["base/1/99999 is there and not in the backup's manifest"])
    });
    case("everybody may enter", true, &|copy| {
        mode(&copy.path("backup"), 0o777);
        named(&["has mode 0777"])
    });
    case("a file may not be read", false, &|copy| {
        mode(&inside(copy, &orders), 0);
        named(&[&orders, "cannot be read by the backup's owner: mode 0000"])
    });
    case("a tablespace is gone", true, &|copy| {
        fs::remove_dir_all(copy.path("copied-space")).unwrap();
        named(&[&format!("tablespace {space} is missing"), "copied-space"])
    });
}

/// In what is around the files of relations.
fn frame_defects(tally: &mut Tally, master: &Master) {
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Copy) -> Vec<String>| {
        case(tally, master, name, short, plant);
    };
    case("the manifest is cut short", false, &|copy| {
        cut(&inside(copy, "backup_manifest"), 200);
        named(&["backup_manifest is damaged", "cut short"])
    });
    case("the manifest was changed", false, &|copy| {
        let path = inside(copy, "backup_manifest");
        let text = fs::read_to_string(&path).unwrap().replacen("\"Size\": 3", "\"Size\": 4", 1);
        fs::write(&path, text).unwrap();
        named(&["backup_manifest is damaged: its own checksum does not fit"])
    });
    case("the control file is damaged", false, &|copy| {
        flip(&inside(copy, "global/pg_control"), 40);
        named(&["global/pg_control is damaged"])
    });
    case("there is no backup_label", false, &|copy| {
        fs::remove_file(inside(copy, "backup_label")).unwrap();
        named(&["has no backup_label"])
    });
    case("its WAL is missing", true, &|copy| {
        let start = copy.engine.survey().unwrap().backups[0].start_lsn.unwrap();
        let name = Segment::at(1, start, 1 << 20).to_string();
        fs::remove_file(inside(copy, &format!("pg_wal/{name}"))).unwrap();
        named(&[&name, "is missing"])
    });
    case("its WAL is cut short", false, &|copy| {
        let start = copy.engine.survey().unwrap().backups[0].start_lsn.unwrap();
        let name = Segment::at(1, start, 1 << 20).to_string();
        cut(&inside(copy, &format!("pg_wal/{name}")), 1000);
        named(&[&name, "1047576 bytes"])
    });
}

fn archive_defects(tally: &mut Tally) {
    if !tally.whole {
        return;
    }
    let Some(master) = Master::new(&["-X", "none"]) else { return };
    master.scene.go_on();
    let mut case = |name: &str, plant: &dyn Fn(&Copy) -> Vec<String>| {
        let copy = master.copy(true);
        let expected = plant(&copy);
        tally.defect(&format!("pg_basebackup with an archive, {name}"), Ok(copy.engine.as_ref()), &expected);
    };
    case("a WAL segment is missing", &|copy| {
        let gone = copy.nth(2);
        fs::remove_file(&gone).unwrap();
        named(&[&segment_name(&gone), "is missing"])
    });
    case("WAL that the backup needs is missing", &|copy| {
        let start = copy.engine.survey().unwrap().backups[0].start_lsn.unwrap();
        let name = Segment::at(1, start, 1 << 20).to_string();
        fs::remove_file(copy.path("wal").join(&name)).unwrap();
        named(&[&name, "cannot be made consistent without it"])
    });
    case("a WAL segment is cut short", &|copy| {
        let path = copy.nth(2);
        cut(&path, 1000);
        named(&[&segment_name(&path), "1047576 bytes"])
    });
    case("a byte of a WAL segment is flipped", &|copy| {
        let path = copy.nth(3);
        flip(&path, 60);
        named(&[&segment_name(&path)[16..], "damaged"])
    });
    case("a WAL segment may not be read", &|copy| {
        let path = copy.nth(2);
        to_root(&path, 0o600);
        named(&[&segment_name(&path), "may not read", "0600"])
    });
    case("the archive may not be entered", &|copy| {
        to_root(&copy.path("wal"), 0o700);
        named(&["may not read", "wal (mode 0700"])
    });
}

fn tar_defects(tally: &mut Tally) {
    for (packed, name) in [(false, "tar"), (true, "tar.gz")] {
        if !tally.wants("", !packed) || !tally.may_want(&format!("pg_basebackup {name},")) {
            continue;
        }
        let arguments = if packed { &["-F", "t", "-z"][..] } else { &["-F", "t"] };
        let Some(master) = Master::new(arguments) else { return };
        let space = master.scene.space();
        let whole = tally.whole;
        let mut case = |what: &str, short: bool, plant: &dyn Fn(&Copy) -> Vec<String>| {
            if whole || short {
                let copy = master.copy(false);
                let expected = plant(&copy);
                tally.defect(&format!("pg_basebackup {name}, {what}"), Ok(copy.engine.as_ref()), &expected);
            }
        };
        let file = |copy: &Copy, one: &str| copy.path("backup").join(format!("{one}.{name}"));
        case("it is cut short", true, &|copy| {
            let path = file(copy, "base");
            let length = fs::metadata(&path).unwrap().len();
            cut(&path, length / 2);
            named(&[&format!("base.{name} ({} bytes) is cut short or damaged", length - length / 2)])
        });
        case("a byte is flipped", false, &|copy| {
            let path = file(copy, "base");
            flip(&path, fs::metadata(&path).unwrap().len() / 2);
            if packed { named(&["base.tar.gz", "damaged"]) } else { named(&["is damaged: its CRC32C"]) }
        });
        case("a tablespace is gone", false, &|copy| {
            fs::remove_file(file(copy, &space.to_string())).unwrap();
            named(&[&format!("tablespace {space}"), "is missing"])
        });
        case("its WAL is gone", false, &|copy| {
            fs::remove_file(file(copy, "pg_wal")).unwrap();
            named(&["is missing", "00000001"])
        });
        case("it may not be read", false, &|copy| {
            fs::set_permissions(file(copy, "base"), fs::Permissions::from_mode(0o000)).unwrap();
            named(&["cannot be read by the backup's owner: mode 0000"])
        });
    }
}

/// Healthy backups of every form.
pub fn healthy(tally: &mut Tally) {
    if !tally.may_want("pg_basebackup") {
        return;
    }
    let forms: &[&[&str]] = &[
        &[],
        &["-X", "fetch"],
        &["-X", "none"],
        &["--manifest-checksums=SHA512"],
        &["--no-manifest"],
        &["-F", "t"],
        &["-F", "t", "-z"],
        &["-F", "t", "-X", "none"],
        &["-F", "t", "--compress=server-gzip", "-X", "fetch"],
    ];
    for form in forms {
        let Some(master) = Master::new(form) else { return };
        master.scene.go_on();
        let name = form.join(" ");
        if !form.contains(&"none") {
            let alone = master.copy(false);
            tally.healthy(&format!("pg_basebackup {name}, alone"), alone.engine.as_ref(), Aim::Latest, None);
        }
        let with = master.copy(true);
        tally.healthy(&format!("pg_basebackup {name}, with WAL"), with.engine.as_ref(), Aim::Latest, None);
        tally.healthy(&format!("pg_basebackup {name}, by chance"), with.engine.as_ref(), Aim::Random, None);
    }
}
