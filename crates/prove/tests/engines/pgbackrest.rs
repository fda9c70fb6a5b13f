//! pgBackRest of Debian's package.

use crate::scene::{MAJOR, SEGMENTS, Scene, command, copy, directory, installed, own_directory, restore, run};
use std::{
    fs,
    path::{Path, PathBuf},
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_core::lsn::Lsn;
use surus_prove::engine::{Engine, Kind, Wish, open};
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

/// Every file with its size and time.
fn listing(dir: &Path) -> String {
    let mut find = std::process::Command::new("find");
    run(find.arg(dir).args(["-printf", "%p %s %T@ %m %u\\n"]))
}
