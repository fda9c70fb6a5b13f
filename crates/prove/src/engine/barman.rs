//! Barman: its catalogue read where it lies, brought back with `barman recover`.
//!
//! It runs with a configuration of our own in the place: the original's, without its hooks and connections, and with
//! lock, log and staging directories of our own. As root it steps down to Barman's user by itself.
//! Source: barman(5) and the file formats of Barman 3.4 to 3.19.

mod info;

use super::{
    Archive, Engine, Held, Kind, Landed, Order, Survey, Wish,
    basebackup::WalDir,
    choose,
    detect::{self, BarmanFiles},
    land,
    manifest::Manifest,
    tool::{self, Tool},
};
use crate::{
    error::{ProveError, Result},
    scratch::Place,
};
use info::Info;
use jiff::Timestamp;
use std::{
    fmt::Write,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};
use surus_backup::{
    restore::target::{Goal, RecoveryTarget},
    wal::name::Segment,
};
use surus_core::{code, version::Version};
use surus_pg::account::Account;

/// Keys that are not taken over: what would run programs, or connect to the original.
const LEFT_OUT: &[&str] = &[
    "configuration_files_directory",
    "barman_lock_directory",
    "log_file",
    "log_level",
    "recovery_staging_path",
    "conninfo",
    "streaming_conninfo",
    "wal_conninfo",
    "wal_streaming_conninfo",
    "ssh_command",
    "recovery_options",
];
/// Where it puts the WAL for the server that recovers.
const WAL: &str = "barman_wal";
/// What Barman changes in what it restores, or adds to it.
const CHANGED: &[&str] = &[
    "postgresql.conf",
    "postgresql.conf.origin",
    "postgresql.auto.conf.origin",
    "pg_hba.conf",
    "pg_ident.conf",
    ".barman-recover.info",
    WAL,
    "recovery.conf",
    "tablespace_map",
];

/// A server in Barman's catalogue.
#[derive(Debug, Clone)]
pub struct Barman {
    server: String,
    files: BarmanFiles,
    config: PathBuf,
    tool: Tool,
    account: Account,
}

impl Barman {
    /// From `--server` and `--engine-config`; without a server the only one of the configuration.
    ///
    /// # Errors
    /// When Barman is not installed, or several servers may be meant.
    pub fn open(wish: &Wish) -> Result<Self> {
        let unclear = |text: String| Err(ProveError::refused(code::PROVE_ENGINE, text));
        let Some(config) = wish.config.clone().or_else(|| detect::Machine::here().barman_file()) else {
            return unclear("Barman's configuration was not found: name it with --engine-config".into());
        };
        fs::File::open(&config).map_err(ProveError::named("cannot open", &config))?;
        let files = detect::barman(&config);
        let servers = files.servers();
        let server = match (&wish.server, servers.as_slice()) {
            (Some(name), all) if all.contains(name) => name.clone(),
            (Some(name), all) => {
                let known = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
                return unclear(format!("Barman knows no server {name}; it knows: {known}"));
            }
            (None, [one]) => one.clone(),
            (None, all) => {
                return unclear(format!(
                    "Barman has {} servers: name one with --server: {}",
                    all.len(),
                    all.join(", ")
                ));
            }
        };
        let program = tool::find("barman")?;
        let tool = Tool { name: "Barman", program, account: None, environment: Vec::new() };
        Ok(Self { server, files, config, tool, account: Account::unprivileged()? })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.files.value(&self.server, name)
    }

    fn home(&self) -> PathBuf {
        PathBuf::from(self.value("barman_home").unwrap_or("/var/lib/barman"))
    }

    /// A directory of the server: as configured, or where it is by default.
    fn directory(&self, key: &str, below: &str) -> PathBuf {
        let own = self.value("backup_directory").map_or_else(|| self.home().join(&self.server), PathBuf::from);
        self.value(key).map_or_else(|| own.join(below), PathBuf::from)
    }

    fn base(&self) -> PathBuf {
        self.directory("basebackups_directory", "base")
    }

    fn infos(&self) -> Result<Vec<Info>> {
        let base = self.base();
        let mut all = Vec::new();
        for entry in fs::read_dir(&base).map_err(ProveError::input("cannot read", &base))?.flatten() {
            let path = entry.path().join("backup.info");
            match fs::read_to_string(&path) {
                Ok(text) => all.extend(Info::parse(&entry.file_name().to_string_lossy(), &text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(ProveError::input("cannot read", &path)(error)),
            }
        }
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    fn held(&self, info: &Info) -> Held {
        Held {
            label: info.id.clone(),
            // Of 3.11 and newer, where PostgreSQL 17 makes incremental ones.
            full: info.parent.is_none(),
            timeline: info.timeline,
            started_at: info.begun_at,
            stopped_at: info.ended_at,
            start_lsn: info.begin,
            stop_lsn: info.end,
            size: info.size,
            trouble: info.trouble(&self.base()),
        }
    }

    /// The WAL files that are there, with the times and sizes that Barman wrote down.
    fn archive_of(&self, infos: &[Info]) -> Result<Archive> {
        let wals = self.directory("wals_directory", "wals");
        let mut dir = WalDir::read(&wals)?;
        if let Some(size) = infos.iter().rev().find_map(|info| info.segment_size) {
            dir.segment_size = size;
        }
        let mut archive = dir.into_archive();
        let listed = info::xlog_db(&fs::read_to_string(wals.join("xlog.db")).unwrap_or_default());
        for line in listed {
            let Some(segment) = Segment::parse(&line.name, archive.segment_size.max(1 << 20)) else { continue };
            let Some(kept) = archive.segments.iter_mut().find(|kept| kept.segment == segment) else {
                archive.holes.push(segment);
                continue;
            };
            kept.at = line.at.or(kept.at);
            let path = wals.join(&line.name[..16]).join(&line.name);
            let actual = path.metadata().map_or(line.size, |meta| meta.len());
            let known = archive.troubles.iter().any(|text| text.contains(&line.name));
            if actual != line.size && !known {
                let expected = line.size;
                archive
                    .troubles
                    .push(format!("WAL segment {segment} has {actual} bytes, and it should have {expected}"));
            }
        }
        Ok(archive)
    }

    fn survey_of(&self, infos: &[Info], archive: &Archive) -> Survey {
        let mut backups: Vec<Held> = infos.iter().map(|info| self.held(info)).collect();
        for held in &mut backups {
            let lost = archive.timelines(std::slice::from_ref(held)).into_iter().flat_map(|one| one.gaps);
            let breaks = lost.into_iter().find(|gap| gap.breaks.contains(&held.label));
            held.trouble = held.trouble.take().or(breaks.map(|gap| format!("lacks WAL segment {}", gap.range.first)));
        }
        let newest = infos.last();
        Survey {
            system_identifier: newest.and_then(|info| info.system_identifier),
            major: newest.and_then(|info| info.version).map(|num| Version::from_num(num).major()),
            gaps: archive.gaps(&backups),
            newest_segment: archive.newest().map(|kept| kept.segment.to_string()),
            newest_segment_at: archive.newest().and_then(|kept| kept.at),
            backups,
            notes: Vec::new(),
        }
    }

    /// The configuration with which it runs in the place.
    fn own_config(&self, place: &Place) -> Result<PathBuf> {
        let home = self.home();
        let owner = home.metadata().map_err(ProveError::input("cannot open", &home))?;
        let room = place.dir().join("barman");
        let staging = room.join("staging");
        fs::create_dir_all(&staging).map_err(ProveError::file("cannot make", &staging))?;
        let mut text = String::from("; Made by surus for one restore: the original without hooks and connections.\n");
        for (section, values) in &self.files.sections {
            if section != "barman" && *section != self.server {
                continue;
            }
            let _ = writeln!(text, "[{section}]");
            for (name, value) in values.iter().filter(|(name, _)| !left_out(name)) {
                let _ = writeln!(text, "{name} = {}", value.replace('\n', "\n  "));
            }
            if section == "barman" {
                let (lock, log) = (room.display(), room.join("barman.log"));
                let _ =
                    writeln!(text, "barman_lock_directory = {lock}\nlog_file = {}\nlog_level = INFO", log.display());
            } else {
                text +=
                    "conninfo = host=/nonexistent dbname=none\nstreaming_conninfo = host=/nonexistent dbname=none\n";
                text += "ssh_command = false\n";
            }
        }
        let path = room.join("barman.conf");
        fs::write(&path, text).map_err(ProveError::file("cannot write", &path))?;
        for path in [&room, &staging, &path] {
            let mode = if path.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(ProveError::file("cannot change", path))?;
            give(path, &owner)?;
        }
        for path in [place.data(), place.tablespaces()] {
            fs::create_dir_all(&path).map_err(ProveError::file("cannot make", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
                .map_err(ProveError::file("cannot change", &path))?;
            give(&path, &owner)?;
        }
        Ok(path)
    }

    fn options(&self, order: &Order<'_>, info: &Info, config: &Path, timeline: u32) -> Vec<String> {
        let place = order.place;
        let mut all: Vec<String> =
            ["-c", &config.display().to_string(), "recover", "--no-get-wal", "--jobs", &order.jobs.max(1).to_string()]
                .map(str::to_owned)
                .into();
        for (name, oid, _) in &info.tablespaces {
            let to = place.tablespaces().join(oid.to_string());
            all.extend(["--tablespace".into(), format!("{name}:{}", to.display())]);
        }
        if info.compressed {
            let staging = place.dir().join("barman/staging");
            all.extend(["--recovery-staging-path".into(), staging.display().to_string()]);
        }
        all.extend(goal_options(order.target));
        if info.timeline.is_some_and(|own| own != timeline) {
            all.extend(["--target-tli".into(), timeline.to_string()]);
        }
        all.extend([self.server.clone(), info.id.clone(), place.data().display().to_string()]);
        all
    }
}

impl Engine for Barman {
    fn kind(&self) -> Kind {
        Kind::Barman
    }

    fn address(&self) -> String {
        format!("server {} of {}", self.server, self.config.display())
    }

    fn off_site(&self) -> Option<bool> {
        // Whether the database is on this machine, too, its files do not tell for sure.
        None
    }

    fn survey(&self) -> Result<Survey> {
        let infos = self.infos()?;
        let archive = self.archive_of(&infos)?;
        Ok(self.survey_of(&infos, &archive))
    }

    fn archive(&self) -> Result<Archive> {
        self.archive_of(&self.infos()?)
    }

    fn restore(&self, order: &Order<'_>) -> Result<Landed> {
        let infos = self.infos()?;
        let archive = self.archive_of(&infos)?;
        let survey = self.survey_of(&infos, &archive);
        let held = choose(&survey, order)?;
        let Some(info) = infos.iter().find(|info| info.id == held.label) else {
            return Err(ProveError::refused(code::PROVE_NO_BACKUP, format!("there is no backup {}", held.label)));
        };
        let way = archive.demand(held, order.target)?;
        let config = self.own_config(order.place)?;
        let options = self.options(order, info, &config, way.timeline);
        self.tool.run(order.place.dir(), &options)?;
        let data = order.place.data();
        land::own_all(&data, &self.account)?;
        land::own_all(&order.place.tablespaces(), &self.account)?;
        let seen = land::inspect(&data)?;
        let mut notes = Vec::new();
        let manifest = data.join(format!("backup_manifest.{}", info.id));
        match Manifest::read(&manifest)? {
            Some(found) => {
                let name = format!("backup_manifest.{}", info.id);
                found.verify(&data, &[CHANGED, &[name.as_str()]].concat())?;
            }
            None => {
                notes.push("Barman has no manifest of this backup: its files could not be verified one by one".into())
            }
        }
        let mut commands = vec![self.tool.words(&options)];
        commands.extend(
            info.tablespaces.iter().map(|(name, oid, was)| format!("# tablespace {name} ({oid}) was in {was}")),
        );
        let at_hand = way.newest.and_then(|newest| newest_at_hand(&data.join(WAL), newest.size).or(Some(newest)));
        if let (Some(at_hand), Some(newest)) = (at_hand, way.newest)
            && at_hand.number < newest.number
        {
            notes.push(format!("for this target Barman gives WAL up to {at_hand}, of {newest} that it has"));
        }
        Ok(land::landed(order, &held.label, seen, at_hand, commands, notes))
    }
}

fn left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name) || name.ends_with("_script")
}

fn give(path: &Path, owner: &fs::Metadata) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid())).map_err(ProveError::file("cannot change the owner of", path))
}

/// The newest segment that Barman has put there; for a time it leaves out what it takes for later WAL. None when it put
/// none there.
fn newest_at_hand(folder: &Path, size: u64) -> Option<Segment> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let segments = names.filter_map(|name| Segment::parse(name.to_str()?, size));
    segments.max_by_key(|segment| (segment.timeline, segment.number))
}

/// The target in Barman's words.
fn goal_options(target: &RecoveryTarget) -> Vec<String> {
    let time = |time: &Timestamp| time.strftime("%Y-%m-%d %H:%M:%S.%6f+00:00").to_string();
    let mut all = match &target.goal {
        Goal::Latest => return Vec::new(),
        Goal::Immediate => vec!["--target-immediate".to_owned()],
        Goal::Time(at) => vec!["--target-time".into(), time(at)],
        Goal::Lsn(lsn) => vec!["--target-lsn".into(), lsn.to_string()],
        Goal::Xid(xid) => vec!["--target-xid".into(), xid.to_string()],
        Goal::Name(name) => vec!["--target-name".into(), name.clone()],
    };
    if target.exclusive {
        all.push("--exclusive".into());
    }
    all.extend(["--target-action".into(), "promote".into()]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_and_connections_are_left_out() {
        for name in ["pre_recovery_script", "post_recovery_retry_script", "conninfo", "log_file"] {
            assert!(left_out(name), "{name}");
        }
        assert!(!left_out("compression") && !left_out("barman_home"));
    }

    #[test]
    fn what_barman_puts_there_is_what_can_be_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let size = 1 << 20;
        assert_eq!(newest_at_hand(dir.path(), size), None);
        for name in ["00000001000000000000000E", "00000001000000000000000F", "00000002.history", "other"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(newest_at_hand(dir.path(), size).unwrap().to_string(), "00000001000000000000000F");
        assert_eq!(newest_at_hand(&dir.path().join("gone"), size), None);
    }

    #[test]
    fn targets_are_told() {
        let goal = Goal::Time("2026-01-31T12:00:00.5Z".parse().unwrap());
        let target = RecoveryTarget { goal, ..RecoveryTarget::default() };
        let expected = ["--target-time", "2026-01-31 12:00:00.500000+00:00", "--target-action", "promote"];
        assert_eq!(goal_options(&target), expected);
        assert_eq!(goal_options(&RecoveryTarget::default()), [""; 0]);
    }
}
