//! pgBackRest of Debian's package.

use crate::{
    scene::{
        MAJOR, SEGMENTS, Scene, command, copy, cut, directory, flip, installed, listing, lose, lose_needed, nth,
        own_directory, restore, run, segment_name, to_root,
    },
    tally::{Tally, named},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_core::lsn::Lsn;
use surus_prove::{
    drill::aim::Aim,
    engine::{Engine, Kind, Wish, open},
};
use surus_testkit::require_major;
use tempfile::TempDir;

/// A stanza with a backup.
pub struct Master {
    pub scene: Scene,
    program: PathBuf,
}

/// A copy of its repository, to be damaged.
pub struct Repo {
    pub dir: TempDir,
    pub engine: Box<dyn Engine>,
}

impl Master {
    /// A server that archives into a new stanza; none when a program is not here. `options` are lines of [global].
    pub fn new(options: &str) -> Option<Self> {
        Self::on(options, |archive| Scene::new(archive))
    }

    pub fn on(options: &str, scene: impl Fn(&dyn Fn(&Path) -> String) -> Scene) -> Option<Self> {
        require_major(MAJOR)?;
        let program = installed("pgbackrest")?;
        let archive = |dir: &Path| {
            format!(
                "{} --config={}/pgbackrest.conf --stanza=shop --log-level-stderr=off archive-push %p",
                program.display(),
                dir.display()
            )
        };
        let master = Self { scene: scene(&archive), program: program.clone() };
        master.scene.fill();
        own_directory(&master.scene.path("repo"));
        fs::write(master.scene.path("pgbackrest.conf"), master.config(&master.scene.path("repo"), options)).unwrap();
        master.run(&["stanza-create"]);
        Some(master)
    }

    fn config(&self, repo: &Path, options: &str) -> String {
        let (dir, server) = (self.scene.dir.path().display(), &self.scene.server);
        own_directory(&self.scene.path("run"));
        format!(
            "[global]\nrepo1-path={}\nrepo1-retention-full=9\nlog-path={dir}/run\nlock-path={dir}/run\nspool-path={dir}/run\n\
             log-level-console=warn\nlog-level-file=off\nstart-fast=y\n{options}\n[shop]\npg1-path={}\npg1-port={}\n\
             pg1-socket-path={}\npg1-user=postgres\n",
            repo.display(),
            server.data_dir().display(),
            server.local().port(),
            server.local().socket_dir().display()
        )
    }

    /// A command of pgBackRest.
    pub fn run(&self, arguments: &[&str]) -> String {
        let config = format!("--config={}/pgbackrest.conf", self.scene.dir.path().display());
        run(command(&self.program, self.scene.dir.path()).arg(config).arg("--stanza=shop").args(arguments))
    }

    pub fn back_up(&self, kind: &str) {
        self.run(&["backup", &format!("--type={kind}")]);
    }

    /// A copy of the repository with a configuration of its own.
    pub fn repo(&self, options: &str) -> Repo {
        let dir = directory();
        let repo = dir.path().join("repo");
        copy(&self.scene.path("repo"), &repo);
        let config = dir.path().join("pgbackrest.conf");
        fs::write(&config, self.config(&repo, options)).unwrap();
        let wish =
            Wish { kind: Some(Kind::Pgbackrest), stanza: Some("shop".into()), config: Some(config), ..Wish::default() };
        Repo { engine: open(&wish).unwrap(), dir }
    }
}

impl Repo {
    /// The newest backup's directory.
    pub fn backup(&self) -> PathBuf {
        let shop = self.dir.path().join("repo/backup/shop");
        let mut all: Vec<PathBuf> = fs::read_dir(shop).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.is_dir() && !path.is_symlink() && !path.ends_with("backup.history"));
        all.sort();
        all.pop().unwrap()
    }

    /// The archived segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        let archive = self.dir.path().join("repo/archive/shop").join(format!("{MAJOR}-1"));
        for folder in fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            all.extend(
                files
                    .filter(|path| path.to_string_lossy().contains('-') && !path.to_string_lossy().ends_with("backup")),
            );
        }
        all.retain(|path| path.file_name().unwrap().len() > 40);
        all.sort();
        all
    }
}

#[test]
fn a_stanza_is_surveyed_and_restored() {
    let Some(master) = Master::new("compress-type=zst\nrepo1-bundle=y") else { return };
    master.back_up("full");
    master.scene.go_on();
    let repo = master.repo("");
    let survey = repo.engine.survey().unwrap();
    assert_eq!((survey.major, survey.backups.len(), survey.gaps.len()), (Some(MAJOR), 1, 0));
    assert_eq!(
        survey.system_identifier.unwrap().to_string(),
        master.scene.server.value("SELECT system_identifier::text AS v FROM pg_control_system()")
    );
    let held = &survey.backups[0];
    assert!(held.full && held.trouble.is_none() && held.stop_lsn > held.start_lsn);
    assert_eq!(survey.newest_segment.as_ref().unwrap().len(), 24);
    let before = listing(repo.dir.path());
    let good = restore(repo.engine.as_ref(), &RecoveryTarget::default()).unwrap();
    assert_eq!(good.later, SEGMENTS);
    assert!(good.landed.recovers && good.landed.major == MAJOR && good.landed.commands.len() == 2);
    assert_eq!(listing(repo.dir.path()), before, "the repository is only read");
    let end = Lsn(held.stop_lsn.unwrap().0);
    let target = RecoveryTarget { goal: Goal::Lsn(end), ..RecoveryTarget::default() };
    assert_eq!(restore(repo.engine.as_ref(), &target).unwrap().later, 0);
}

/// Plants defects in copies of repositories.
pub fn defects(tally: &mut Tally) {
    packed_defects(tally);
    source_defects(tally);
    if !tally.may_want("pgBackRest,") {
        return;
    }
    let Some(master) = Master::new("compress-type=none") else { return };
    master.back_up("full");
    master.scene.go_on();
    wal_defects(tally, &master);
    file_defects(tally, &master);
}

/// Plants one in a copy of the repository.
fn case(tally: &mut Tally, master: &Master, name: &str, short: bool, plant: &dyn Fn(&Repo) -> Vec<String>) {
    if tally.wants(name, short) {
        let repo = master.repo("");
        let expected = plant(&repo);
        tally.defect(&format!("pgBackRest, {name}"), Ok(repo.engine.as_ref()), &expected);
    }
}

fn wal_defects(tally: &mut Tally, master: &Master) {
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Repo) -> Vec<String>| {
        case(tally, master, name, short, plant);
    };
    case("a WAL segment is missing", true, &|repo| lose(&nth(repo.segments(), 2)));
    case("two WAL segments are missing", false, &|repo| {
        fs::remove_file(nth(repo.segments(), 3)).unwrap();
        let gone = nth(repo.segments(), 3);
        fs::remove_file(&gone).unwrap();
        named(&[&segment_name(&gone), "2 WAL segments from"])
    });
    case("WAL that the backup needs is missing", false, &|repo| lose_needed(repo.engine.as_ref(), repo.segments()));
    case("a WAL segment is cut short", false, &|repo| {
        let path = nth(repo.segments(), 2);
        cut(&path, 1000);
        named(&[&segment_name(&path), "1047576 bytes", "1048576"])
    });
    case("a byte of a WAL segment is flipped", false, &|repo| {
        let path = nth(repo.segments(), 3);
        flip(&path, 60);
        named(&[&segment_name(&path)[16..], "damaged"])
    });
    case("a WAL segment may not be read", false, &|repo| {
        let path = nth(repo.segments(), 2);
        to_root(&path, 0o600);
        named(&[&segment_name(&path)])
    });
}

fn file_defects(tally: &mut Tally, master: &Master) {
    let (orders, key) = (master.scene.file_of("orders"), master.scene.file_of("orders_pkey"));
    let (space, hot) = (master.scene.space(), master.scene.file_of("hot"));
    let mut case = |name: &str, short: bool, plant: &dyn Fn(&Repo) -> Vec<String>| {
        case(tally, master, name, short, plant);
    };
    let inside = |repo: &Repo, file: &str| repo.backup().join("pg_data").join(file);
    case("a byte of a table is flipped", true, &|repo| {
        flip(&inside(repo, &orders), 8192 * 3 + 4000);
        named(&[&orders, "is not what was backed up"])
    });
    case("a byte of an index is flipped", true, &|repo| {
        flip(&inside(repo, &key), 8192 + 4000);
        named(&[&key, "is not what was backed up"])
    });
    case("a table is cut short", true, &|repo| {
        cut(&inside(repo, &orders), 8192 + 100);
        named(&[&orders])
    });
    case("a table is gone", false, &|repo| {
        fs::remove_file(inside(repo, &orders)).unwrap();
        named(&[&orders, "is missing"])
    });
    case("a file may not be read", true, &|repo| {
        to_root(&inside(repo, &orders), 0o600);
        named(&[&orders, "may not read", "0600"])
    });
    case("the backup's directory may not be entered", false, &|repo| {
        to_root(&repo.backup(), 0o700);
        named(&["may not read", "0700"])
    });
    case("a tablespace is gone", true, &|repo| {
        // In pg_data there is a link to it only.
        fs::remove_dir_all(repo.backup().join(format!("pg_tblspc/{space}"))).unwrap();
        named(&[&format!("tablespace {space} is missing")])
    });
    case("a byte in a tablespace is flipped", false, &|repo| {
        flip(&inside(repo, &hot), 4000);
        named(&[hot.rsplit('/').next().unwrap(), "is not what was backed up"])
    });
    case("the manifest is cut short", false, &|repo| {
        for name in ["backup.manifest", "backup.manifest.copy"] {
            cut(&repo.backup().join(name), 700);
        }
        named(&["backup.manifest"])
    });
}

fn packed_defects(tally: &mut Tally) {
    if !tally.whole || !tally.may_want("pgBackRest packed") {
        return;
    }
    let Some(master) = Master::new("compress-type=gz") else { return };
    master.back_up("full");
    master.scene.server.sql_in("shop", "UPDATE customers SET name = 'x' WHERE id = 1");
    master.scene.server.sql("CHECKPOINT");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    master.back_up("incr");
    master.scene.go_on();
    let orders = format!("{}.gz", master.scene.file_of("orders"));
    let mut case = |name: &str, plant: &dyn Fn(&Repo, &Path) -> Vec<String>| {
        let repo = master.repo("");
        let full = repo.backup().file_name().unwrap().to_string_lossy().split('_').next().unwrap().to_owned();
        let expected = plant(&repo, &repo.backup().with_file_name(full));
        tally.defect(&format!("pgBackRest packed, {name}"), Ok(repo.engine.as_ref()), &expected);
    };
    case("a table that the increment refers to is cut short", &|_, full| {
        cut(&full.join("pg_data").join(&orders), 500);
        named(&[orders.trim_end_matches(".gz")])
    });
    case("a byte of it is flipped", &|_, full| {
        flip(&full.join("pg_data").join(&orders), 2000);
        named(&[orders.trim_end_matches(".gz")])
    });
    case("it is gone", &|_, full| {
        fs::remove_file(full.join("pg_data").join(&orders)).unwrap();
        named(&[&orders, "is missing"])
    });
    case("a WAL segment is cut short", &|repo, _| {
        let all = repo.segments();
        cut(&all[all.len() - 3], 50);
        named(&[&segment_name(&all[all.len() - 3])])
    });
    case("a byte of a WAL segment is flipped", &|repo, _| {
        let all = repo.segments();
        let path = &all[all.len() - 3];
        flip(path, fs::metadata(path).unwrap().len() / 2);
        named(&[&segment_name(path)[16..]])
    });
}

fn source_defects(tally: &mut Tally) {
    if !tally.may_want("pgBackRest, a page") {
        return;
    }
    let Some(mut master) = Master::new("compress-type=zst") else { return };
    if tally.wants("", true) {
        master.scene.damage("orders", 8192 * 3 + 4000);
        master.back_up("full");
        let repo = master.repo("");
        let expected = named(&["public.orders", "block 3"]);
        tally.defect("pgBackRest, a page was damaged when it was backed up", Ok(repo.engine.as_ref()), &expected);
    }
    if !tally.whole {
        return;
    }
    let without = |archive: &dyn Fn(&Path) -> String| Scene::with(archive, false, "1");
    let Some(mut master) = Master::on("compress-type=zst", without) else { return };
    // A line pointer of the first leaf.
    master.scene.damage("orders_pkey", 8192 + 24 + 4 * 10 + 1);
    master.back_up("full");
    let repo = master.repo("");
    let expected = named(&["orders_pkey"]);
    tally.defect("pgBackRest, an index without checksums was damaged", Ok(repo.engine.as_ref()), &expected);
}

/// Healthy repositories of every kind.
pub fn healthy(tally: &mut Tally) {
    if !tally.may_want("pgBackRest") {
        return;
    }
    for options in [
        "compress-type=none",
        "compress-type=gz",
        "compress-type=lz4",
        "compress-type=zst\nrepo1-bundle=y",
        "compress-type=bz2",
        "repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=secret\ncompress-type=none",
    ] {
        let Some(master) = Master::new(options) else { return };
        master.back_up("full");
        master.scene.go_on();
        let cipher = if options.contains("cipher") { options } else { "" };
        let repo = master.repo(cipher);
        let options = options.replace('\n', " ").replace("secret", "…");
        tally.healthy(&format!("pgBackRest {options}"), repo.engine.as_ref(), Aim::Latest, None);
        tally.healthy(&format!("pgBackRest {options}, by chance"), repo.engine.as_ref(), Aim::Random, None);
    }
    let Some(master) = Master::on("compress-type=zst", |archive| Scene::with(archive, false, "16")) else { return };
    for kind in ["full", "incr", "diff"] {
        master.back_up(kind);
        master.scene.server.sql_in("shop", "UPDATE customers SET name = name || 'x'");
    }
    master.scene.go_on();
    let repo = master.repo("");
    for held in repo.engine.survey().unwrap().backups {
        let name = format!("pgBackRest 16 MB segments, no checksums, {}", held.label);
        tally.healthy(&name, repo.engine.as_ref(), Aim::Latest, Some(&held.label));
    }
}
