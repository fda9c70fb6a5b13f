//! pgBackRest: asked with `info` and `repo-ls`, brought back with `restore`, its WAL with `archive-get`.
//!
//! It runs as the server's account, with lock, spool and log of our own in the place: it meets no run of the original,
//! and writes to nothing but the place. Source: pgBackRest's command and configuration reference, 2.45 to 2.59.

use super::{
    Archive, Engine, Held, Kept, Kind, Landed, Order, Survey, Wish, archive, choose, detect, land,
    tool::{self, Tool, quoted},
};
use crate::{
    error::{ProveError, Result},
    scratch::Place,
};
use jiff::Timestamp;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use surus_backup::{
    restore::target::{Goal, RecoveryTarget, TimelineChoice},
    wal::{
        name::{FileKind, Segment, file_kind},
        timeline::History,
    },
};
use surus_core::{code, lsn::Lsn};
use surus_pg::account::Account;

/// Variables that its options may come from.
const VARIABLES: &[&str] = &["PGBACKREST_"];

/// A stanza.
#[derive(Debug, Clone)]
pub struct Pgbackrest {
    stanza: String,
    config: Option<PathBuf>,
    tool: Tool,
    account: Account,
}

/// `info --output=json`, as far as it is used.
#[derive(Debug, Deserialize)]
struct Stanza {
    name: String,
    #[serde(default)]
    backup: Vec<Backup>,
    #[serde(default)]
    db: Vec<Db>,
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Status {
    code: u32,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Db {
    id: u32,
    #[serde(default = "first")]
    repo_key: u32,
    system_id: u64,
    version: String,
}

#[derive(Debug, Deserialize)]
struct Backup {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    database: Database,
    archive: Span<Option<String>>,
    #[serde(default)]
    lsn: Option<Span<Option<Lsn>>>,
    timestamp: Span<i64>,
    info: Sizes,
    #[serde(default)]
    reference: Option<Vec<String>>,
    /// Did pages not fit their checksums as it was taken?
    #[serde(default)]
    error: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Database {
    id: u32,
    #[serde(default = "first")]
    repo_key: u32,
}

#[derive(Debug, Deserialize)]
struct Span<T> {
    start: T,
    stop: T,
}

#[derive(Debug, Deserialize)]
struct Sizes {
    size: u64,
}

/// An entry of `repo-ls --output=json`.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    time: i64,
}

fn first() -> u32 {
    1
}

/// The stanza's newest cluster, with what is there of it.
struct Looked {
    db: Db,
    repo: u32,
    backups: Vec<Backup>,
    notes: Vec<String>,
}

impl Pgbackrest {
    /// From `--stanza` and `--engine-config`; without a stanza the only one of the configuration.
    ///
    /// # Errors
    /// When pgBackRest is not installed, or several stanzas may be meant.
    pub fn open(wish: &Wish) -> Result<Self> {
        if let Some(config) = &wish.config {
            fs::File::open(config).map_err(ProveError::named("cannot open", config))?;
        }
        let account = Account::unprivileged()?;
        let tool = Tool {
            name: "pgBackRest",
            program: tool::find("pgbackrest")?,
            account: Some(account.clone()),
            environment: tool::environment(VARIABLES),
        };
        let files = wish.config.clone().map_or_else(|| detect::Machine::here().pgbackrest_files(), |one| vec![one]);
        let known = detect::stanzas(&files);
        let stanza = match &wish.stanza {
            // Without a configuration its options are variables, and its stanzas are known to nobody.
            Some(stanza) if known.is_empty() || known.contains(stanza) => stanza.clone(),
            Some(stanza) => {
                let text = format!("pgBackRest's configuration has no stanza {stanza}; it has: {}", known.join(", "));
                return Err(ProveError::refused(code::PROVE_ENGINE, text));
            }
            None => only_one(known)?,
        };
        let config = wish.config.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
        Ok(Self { stanza, config, tool, account })
    }

    /// Options of every command. Nothing is logged where the original logs.
    fn options(&self, more: &[&str]) -> Vec<String> {
        let config = self.config.iter().map(|file| format!("--config={}", file.display()));
        let mut all: Vec<String> = config.collect();
        all.extend(["--log-level-console=off", "--log-level-stderr=error", "--log-level-file=off"].map(str::to_owned));
        all.extend(more.iter().map(|&option| option.to_owned()));
        all
    }

    fn ask(&self, more: &[&str]) -> Result<String> {
        self.tool.run(Path::new("/"), &self.options(more))
    }

    fn look(&self) -> Result<Looked> {
        let text = self.ask(&[&format!("--stanza={}", self.stanza), "--output=json", "info"])?;
        looked(&self.stanza, &text)
    }

    fn survey_of(&self, looked: &Looked, archive: &Archive) -> Survey {
        let labels: Vec<&str> = looked.backups.iter().map(|backup| backup.label.as_str()).collect();
        let mut backups: Vec<Held> = looked.backups.iter().map(|backup| held(backup, &labels)).collect();
        for held in &mut backups {
            let lost = archive.timelines(std::slice::from_ref(held)).into_iter().flat_map(|one| one.gaps);
            let breaks = lost.into_iter().find(|gap| gap.breaks.contains(&held.label));
            held.trouble = held.trouble.take().or(breaks.map(|gap| format!("lacks WAL segment {}", gap.range.first)));
        }
        let damaged = looked.backups.iter().filter(|backup| backup.error == Some(true));
        let noted = damaged.map(|backup| {
            format!(
                "pgBackRest saw damaged pages as it took {}: pgbackrest info --set={0} names the files",
                backup.label
            )
        });
        Survey {
            system_identifier: Some(looked.db.system_id),
            major: major(&looked.db.version),
            gaps: archive.gaps(&backups),
            newest_segment: archive.newest().map(|kept| kept.segment.to_string()),
            newest_segment_at: archive.newest().and_then(|kept| kept.at),
            backups,
            notes: looked.notes.iter().cloned().chain(noted).collect(),
        }
    }

    fn archive_of(&self, looked: &Looked) -> Result<Archive> {
        let repo = format!("--repo={}", looked.repo);
        let folder = format!("archive/{}/{}-{}", self.stanza, looked.db.version, looked.db.id);
        let text = self.ask(&[&repo, "--recurse", "--output=json", "--sort=none", "repo-ls", &folder])?;
        let starts = looked.backups.iter().filter_map(|backup| {
            Some((backup.lsn.as_ref().and_then(|lsn| lsn.start)?, backup.archive.start.as_deref()?))
        });
        let size = archive::segment_size(starts);
        let (segments, histories) = listed(&text, size).map_err(|error| unreadable("repo-ls", &error))?;
        let mut known = Vec::new();
        for name in histories {
            let text = self.ask(&[&repo, "repo-get", &format!("{folder}/{name}")])?;
            let timeline = u32::from_str_radix(&name[..8], 16).unwrap_or(0);
            known.extend(History::parse(timeline, &text).ok());
        }
        Ok(Archive::new(segments, known, size))
    }

    /// Lock, spool and log in the place.
    fn own_paths(&self, place: &Place) -> Result<Vec<String>> {
        let room = land::room(place, "pgbackrest", &self.account)?;
        Ok(["lock", "spool", "log"].iter().map(|name| format!("--{name}-path={}", room.join(name).display())).collect())
    }

    /// pgBackRest does not name a packed file that it cannot unpack: it is found by unpacking them, one by one.
    fn with_culprit(&self, error: ProveError, looked: &Looked, label: &str) -> ProveError {
        let text = error.to_string();
        let repo = detect::pgbackrest_path(&self.files(), &self.stanza, looked.repo);
        let backups = repo.join("backup").join(&self.stanza);
        let of_unpacking = ["[029]", "eof", "zlib", "lz4", "zst", "bz", "checksum"];
        if !of_unpacking.iter().any(|word| text.to_ascii_lowercase().contains(word)) {
            return error;
        }
        if text.contains("pg_data/") || text.contains("/data/") || text.contains("backup.manifest") {
            return error;
        }
        let of = looked.backups.iter().find(|backup| backup.label == label);
        let labels = of.and_then(|backup| backup.reference.clone()).unwrap_or_default();
        let mut found = None;
        for label in labels.iter().map(String::as_str).chain([label]) {
            // What cannot be looked through leaves the tool's own words.
            let _ = land::each_below(&backups.join(label), &mut |path, kind| {
                if found.is_none() && kind.is_file() && unpacks(path) == Some(false) {
                    found = Some(path.to_owned());
                }
                Ok(())
            });
        }
        let Some(path) = found else { return error };
        let bytes = path.metadata().map_or(0, |meta| meta.len());
        let text = text.strip_prefix("file is cut short or damaged\n").unwrap_or(&text);
        let text = format!("{} ({bytes} bytes) is cut short or damaged\n{text}", path.display());
        ProveError::refused(code::ENGINE_DAMAGED, text)
    }

    /// The files that configure it.
    fn files(&self) -> Vec<PathBuf> {
        self.config.clone().map_or_else(|| detect::Machine::here().pgbackrest_files(), |one| vec![one])
    }

    fn restore_options(&self, order: &Order<'_>, label: &str, repo: u32, major: u16) -> Result<Vec<String>> {
        let place = order.place;
        let mut all = self.options(&[]);
        all.extend(self.own_paths(place)?);
        all.extend([
            format!("--stanza={}", self.stanza),
            format!("--repo={repo}"),
            format!("--set={label}"),
            format!("--pg1-path={}", place.data().display()),
            format!("--tablespace-map-all={}", land::room(place, "tablespaces", &self.account)?.display()),
            format!("--process-max={}", order.jobs.clamp(1, 999)),
            // Files outside of the data directory belong to the original: nothing is written through links.
            "--no-link-all".into(),
            "--reset-link-map".into(),
            "--reset-tablespace-map".into(),
            "--reset-db-include".into(),
            "--reset-recovery-option".into(),
            "--no-delta".into(),
        ]);
        if major >= 12 {
            all.push("--archive-mode=off".into());
        }
        all.extend(goal_options(order.target));
        all.push("restore".into());
        Ok(all)
    }

    fn fetch(&self, order: &Order<'_>, repo: u32) -> Result<Vec<String>> {
        let mut words = vec![self.tool.program.display().to_string()];
        words.extend(self.options(&[]));
        // Without asynchrony there is no spool.
        words.extend(self.own_paths(order.place)?.into_iter().filter(|path| !path.starts_with("--spool")));
        words.extend([
            format!("--stanza={}", self.stanza),
            format!("--repo={repo}"),
            format!("--pg1-path={}", order.place.data().display()),
            "--no-archive-async".into(),
            "archive-get".into(),
        ]);
        let exports =
            self.tool.environment.iter().map(|(name, value)| {
                format!("export {}={}\n", name.to_string_lossy(), quoted(&value.to_string_lossy()))
            });
        let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let body = format!("{}{} \"$1\" \"$2\"\n", exports.collect::<String>(), command.join(" "));
        land::fetcher(order.place, &self.account, &body)
    }
}

impl Engine for Pgbackrest {
    fn kind(&self) -> Kind {
        Kind::Pgbackrest
    }

    fn address(&self) -> String {
        match &self.config {
            Some(file) => format!("stanza {} of {}", self.stanza, file.display()),
            None => format!("stanza {}", self.stanza),
        }
    }

    fn off_site(&self) -> Option<bool> {
        detect::pgbackrest_is_remote(&self.files(), &self.stanza)
    }

    fn survey(&self) -> Result<Survey> {
        let looked = self.look()?;
        let archive = self.archive_of(&looked)?;
        Ok(self.survey_of(&looked, &archive))
    }

    fn archive(&self) -> Result<Archive> {
        self.archive_of(&self.look()?)
    }

    fn restore(&self, order: &Order<'_>) -> Result<Landed> {
        let looked = self.look()?;
        let archive = self.archive_of(&looked)?;
        let survey = self.survey_of(&looked, &archive);
        let held = choose(&survey, order)?;
        let way = archive.demand(held, order.target)?;
        let data = order.place.data();
        land::room(order.place, "data", &self.account)?;
        let options = self.restore_options(order, &held.label, looked.repo, survey.major.unwrap_or(0))?;
        if let Err(error) = self.tool.run(order.place.dir(), &options) {
            return Err(self.with_culprit(error, &looked, &held.label));
        }
        land::own_all(&data, &self.account)?;
        let seen = land::inspect(&data)?;
        let fetch = self.fetch(order, looked.repo)?;
        land::arm(&data, &self.account, &fetch, order.target, way.timeline)?;
        let commands = vec![self.tool.words(&options), land::fetch_words(&fetch)];
        let taken = looked.backups.iter().find(|backup| backup.label == held.label && backup.error == Some(true));
        let notes = taken.map(|_| "pgBackRest saw damaged pages as it took this backup".to_owned());
        let _ = fs::remove_file(data.join("recovery.conf"));
        Ok(land::landed(order, &held.label, seen, way.newest, commands, notes.into_iter().collect()))
    }
}

/// Can a packed file be unpacked to its end? None for one that is not packed, or whose program is not here.
fn unpacks(path: &Path) -> Option<bool> {
    let packed = [("gz", "gzip"), ("bz2", "bzip2"), ("zst", "zstd"), ("lz4", "lz4")];
    let ending = path.extension()?;
    let (_, program) = packed.into_iter().find(|(known, _)| ending == *known)?;
    let mut command = Command::new(tool::find(program).ok()?);
    command.args(["-t", "-q"]).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok().map(|status| status.success())
}

fn only_one(stanzas: Vec<String>) -> Result<String> {
    let text = match stanzas.as_slice() {
        [one] => return Ok(one.clone()),
        [] => "no stanza is in pgBackRest's configuration: name it with --stanza".to_owned(),
        several => format!("pgBackRest has several stanzas: name one with --stanza: {}", several.join(", ")),
    };
    Err(ProveError::refused(code::PROVE_ENGINE, text))
}

fn unreadable(command: &str, error: &serde_json::Error) -> ProveError {
    let output = format!("its answer is not understood: {error}");
    ProveError::Tool { program: format!("pgbackrest {command}"), status: "0".into(), output }
}

/// What `info` says of the stanza's newest cluster, in the first repository that has backups of it.
fn looked(stanza: &str, text: &str) -> Result<Looked> {
    let all: Vec<Stanza> = serde_json::from_str(text).map_err(|error| unreadable("info", &error))?;
    let none = |text: String| Err(ProveError::refused(code::PROVE_NO_BACKUP, text));
    let Some(mut found) = all.into_iter().find(|one| one.name == stanza) else {
        return none(format!("pgBackRest knows no stanza {stanza}"));
    };
    let Some(db) = found.db.iter().max_by_key(|db| db.id).cloned() else {
        return none(format!("pgBackRest has nothing of stanza {stanza}: {}", found.status.message));
    };
    let repo = found.backup.iter().map(|backup| backup.database.repo_key).min().unwrap_or(db.repo_key);
    let all = found.backup.len();
    found.backup.retain(|backup| backup.database.id == db.id && backup.database.repo_key == repo);
    found.backup.sort_by(|one, other| one.label.cmp(&other.label));
    let mut notes = Vec::new();
    let others = all - found.backup.len();
    if others > 0 {
        notes.push(format!("{others} backups of an earlier cluster, or in another repository, were not looked at"));
    }
    // 1 to 3 say that there is no backup, which the list shows; others that a repository has a trouble.
    if found.status.code > 3 {
        notes.push(format!("pgBackRest says: {}", found.status.message));
    }
    Ok(Looked { db, repo, backups: found.backup, notes })
}

fn held(backup: &Backup, labels: &[&str]) -> Held {
    let lacks = backup.reference.iter().flatten().find(|label| !labels.contains(&label.as_str()));
    let timeline = backup.archive.start.as_deref().and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok());
    Held {
        label: backup.label.clone(),
        full: backup.kind == "full",
        timeline,
        started_at: Timestamp::from_second(backup.timestamp.start).ok(),
        stopped_at: Timestamp::from_second(backup.timestamp.stop).ok(),
        start_lsn: backup.lsn.as_ref().and_then(|lsn| lsn.start),
        stop_lsn: backup.lsn.as_ref().and_then(|lsn| lsn.stop),
        size: Some(backup.info.size),
        trouble: lacks.map(|label| format!("builds on {label}, which is not there")),
    }
}

/// The archive's segments and the names of its history files.
fn listed(text: &str, size: u64) -> Result<(Vec<Kept>, Vec<String>), serde_json::Error> {
    let entries: BTreeMap<String, Entry> = serde_json::from_str(text)?;
    let (mut segments, mut histories) = (Vec::new(), Vec::new());
    for (path, entry) in entries.into_iter().filter(|(_, entry)| entry.kind == "file") {
        let file = path.rsplit('/').next().unwrap_or_default();
        // NAME-SHA1 with an ending when it is packed.
        let (name, rest) = file.split_once('-').unwrap_or((file, ""));
        match file_kind(name) {
            Some(FileKind::Segment) => {
                let Some(segment) = Segment::parse(name, size) else { continue };
                let plain = !rest.contains('.');
                segments.push(Kept {
                    segment,
                    plain_size: plain.then_some(entry.size),
                    at: Timestamp::from_second(entry.time).ok(),
                });
            }
            Some(FileKind::History) if rest.is_empty() => histories.push(file.to_owned()),
            _ => {}
        }
    }
    // An encrypted segment is somewhat longer than a plain one: of those nothing can be said.
    let encrypted = |kept: &Kept| kept.plain_size.is_some_and(|stored| stored > size && stored <= size + 64);
    if segments.iter().any(encrypted) {
        segments.iter_mut().for_each(|kept| kept.plain_size = None);
    }
    Ok((segments, histories))
}

fn major(version: &str) -> Option<u16> {
    version.split('.').next()?.parse().ok()
}

/// The target in pgBackRest's words.
fn goal_options(target: &RecoveryTarget) -> Vec<String> {
    let kind = |name: &str, value: Option<String>| {
        let mut all = vec![format!("--type={name}")];
        all.extend(value.map(|value| format!("--target={value}")));
        if name != "default" {
            all.push("--target-action=promote".into());
        }
        all
    };
    let mut all = match &target.goal {
        Goal::Latest => kind("default", None),
        Goal::Immediate => kind("immediate", None),
        Goal::Time(time) => kind("time", Some(time.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string())),
        Goal::Lsn(lsn) => kind("lsn", Some(lsn.to_string())),
        Goal::Xid(xid) => kind("xid", Some(xid.to_string())),
        Goal::Name(name) => kind("name", Some(name.clone())),
    };
    if target.exclusive && matches!(target.goal, Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_)) {
        all.push("--target-exclusive".into());
    }
    match target.timeline {
        TimelineChoice::Latest => {}
        TimelineChoice::Current => all.push("--target-timeline=current".into()),
        TimelineChoice::Number(number) => all.push(format!("--target-timeline={number}")),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000005",
        "min":"000000010000000000000002"}],"backup":[{"archive":{"start":"000000010000000000000002",
        "stop":"000000010000000000000003"},"backrest":{"format":5,"version":"2.45"},"database":{"id":1,"repo-key":1},
        "error":true,"info":{"delta":25,"repository":{"delta":3,"size":3},"size":25000000},"label":"20260131-120000F",
        "lsn":{"start":"0/2000028","stop":"0/3000050"},"prior":null,"reference":null,
        "timestamp":{"start":1769860800,"stop":1769860805},"type":"full"},{"archive":{"start":"000000010000000000000005",
        "stop":"000000010000000000000005"},"backrest":{"format":5,"version":"2.45"},"database":{"id":1,"repo-key":1},
        "error":false,"info":{"delta":25,"repository":{"delta":3,"size":3},"size":25000000},
        "label":"20260131-110000F_20260131-130000I","lsn":{"start":"0/5000028","stop":"0/5000100"},
        "prior":"20260131-110000F","reference":["20260131-110000F"],"timestamp":{"start":1769864400,"stop":1769864405},
        "type":"incr"}],"cipher":"none","db":[{"id":1,"repo-key":1,"system-id":7123456789012345678,"version":"15"}],
        "name":"main","repo":[{"cipher":"none","key":1,"status":{"code":0,"message":"ok"}}],
        "status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;

    #[test]
    fn info_is_understood() {
        let looked = looked("main", INFO).unwrap();
        let labels: Vec<&str> = looked.backups.iter().map(|one| one.label.as_str()).collect();
        let all: Vec<Held> = looked.backups.iter().map(|one| held(one, &labels)).collect();
        assert_eq!(all[1].stop_lsn, Some(Lsn(0x0300_0050)));
        assert_eq!(all[1].stopped_at.unwrap().to_string(), "2026-01-31T12:00:05Z");
        assert!(all[1].full && all[1].trouble.is_none() && !all[0].full);
        assert_eq!(all[0].trouble.as_deref(), Some("builds on 20260131-110000F, which is not there"));
        assert_eq!((looked.db.system_id, major("9.6"), major("15")), (7_123_456_789_012_345_678, Some(9), Some(15)));
    }

    #[test]
    fn a_listing_gives_segments_and_histories() {
        let sha = "a".repeat(40);
        let text = format!(
            r#"{{".":{{"type":"path"}},"0000000100000000":{{"type":"path"}},"00000002.history":{{"size":40,"time":7,"type":"file"}},
            "0000000100000000/000000010000000000000002-{sha}":{{"size":99,"time":1769860800,"type":"file"}},
            "0000000100000000/000000010000000000000003-{sha}.gz":{{"size":99,"time":1769860800,"type":"file"}},
            "0000000100000000/000000010000000000000002.00000028.backup":{{"size":300,"time":7,"type":"file"}}}}"#
        );
        let (segments, histories) = listed(&text, 16 << 20).unwrap();
        assert_eq!(histories, ["00000002.history"]);
        let sizes: Vec<_> = segments.iter().map(|kept| (kept.segment.number, kept.plain_size)).collect();
        assert_eq!(sizes, [(2, Some(99)), (3, None)]);
    }

    #[test]
    fn targets_are_told() {
        let goal = Goal::Time("2026-01-31T12:00:00.5Z".parse().unwrap());
        let target =
            RecoveryTarget { goal, exclusive: true, timeline: TimelineChoice::Number(2), ..RecoveryTarget::default() };
        let expected = [
            "--type=time",
            "--target=2026-01-31 12:00:00.500000+00",
            "--target-action=promote",
            "--target-exclusive",
            "--target-timeline=2",
        ];
        assert_eq!(goal_options(&target), expected);
        assert_eq!(goal_options(&RecoveryTarget::default()), ["--type=default"]);
    }
}
