//! WAL-G: asked with `backup-list` and `wal-show`, brought back with `backup-fetch`, its WAL with `wal-fetch`.
//!
//! Source: WAL-G's documentation, "PostgreSQL"; exit status 74 of `wal-fetch` says that the storage has no such file.

use super::{
    Archive, Engine, Held, Kept, Kind, Landed, Order, Survey, Wish, choose, detect, land,
    tool::{self, Tool, quoted},
};
use crate::error::{ProveError, Result};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};
use surus_backup::wal::{
    name::Segment,
    timeline::{History, Switch},
};
use surus_core::{code, lsn::Lsn, version::Version};
use surus_pg::account::Account;

/// Variables that its options may come from.
const VARIABLES: &[&str] = &["WALG_", "AWS_", "GOOGLE_", "AZURE_", "OS_", "SSH_", "SWIFT_", "GPG_"];

/// Bytes of a segment, in MiB.
const SEGMENT_SIZE: &str = "WALG_PG_WAL_SIZE";

/// How often it tries again what it could not unpack, once its jobs are down to one: each time that it fails it halves
/// them, and waits for a minute or more. By itself 15 times: a damaged part would keep a drill for more than an hour.
const RETRIES: &str = "WALG_DOWNLOAD_FILE_RETRIES";

/// Said of a backup without a list of files.
const NO_LIST: &str = "the backup was taken without its list of files (WALG_WITHOUT_FILES_METADATA): a file that is \
                       missing is found only when something reads it";

/// A storage of WAL-G.
#[derive(Debug, Clone)]
pub struct WalG {
    config: Option<PathBuf>,
    tool: Tool,
    account: Account,
}

/// An entry of `backup-list --detail --json`.
#[derive(Debug, Deserialize)]
struct Backup {
    #[serde(alias = "name")]
    backup_name: String,
    #[serde(default)]
    start_time: Option<Timestamp>,
    #[serde(default)]
    finish_time: Option<Timestamp>,
    #[serde(default)]
    pg_version: Option<u32>,
    #[serde(default, deserialize_with = "lsn")]
    start_lsn: Option<Lsn>,
    #[serde(default, deserialize_with = "lsn")]
    finish_lsn: Option<Lsn>,
    #[serde(default)]
    system_identifier: Option<u64>,
    #[serde(default)]
    uncompressed_size: Option<u64>,
}

/// An entry of `wal-show --detailed-json`.
#[derive(Debug, Deserialize)]
struct Timeline {
    id: u32,
    #[serde(default)]
    parent_id: u32,
    #[serde(default, deserialize_with = "lsn")]
    switch_point_lsn: Option<Lsn>,
    start_segment: String,
    end_segment: String,
    #[serde(default)]
    missing_segments: Option<Vec<String>>,
}

/// A position as a number, as it is written, or as text.
fn lsn<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lsn>, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::Number(number) => Ok(number.as_u64().map(Lsn)),
        serde_json::Value::String(text) => text.parse().map(Some).map_err(|_| D::Error::custom("no LSN")),
        _ => Err(D::Error::custom("no LSN")),
    }
}

impl WalG {
    /// From `--engine-config`, or from the environment.
    ///
    /// # Errors
    /// When WAL-G is not installed.
    pub fn open(wish: &Wish) -> Result<Self> {
        let account = Account::unprivileged()?;
        let program = tool::find("wal-g")?;
        if let Some(config) = &wish.config {
            fs::metadata(config).map_err(ProveError::named("cannot open", config))?;
        }
        let named = std::env::var_os("WALG_CONFIG_PATH").map(PathBuf::from);
        let config = wish.config.clone().or(named).or_else(|| detect::Machine::here().wal_g_config());
        let mut environment = tool::environment(VARIABLES);
        if let Some(dir) = config.as_deref().filter(|path| path.is_dir()) {
            environment.extend(variables(dir)?);
        }
        let tool = Tool { name: "WAL-G", program, account: Some(account.clone()), environment };
        Ok(Self { config, tool, account })
    }

    fn options(&self, words: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        if let Some(file) = self.config.as_deref().filter(|path| path.is_file()) {
            all.extend(["--config".into(), file.display().to_string()]);
        }
        all
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        self.tool.run(Path::new("/"), &self.options(words))
    }

    fn backups(&self) -> Result<Vec<Backup>> {
        let text = self.ask(&["backup-list", "--detail", "--json"])?;
        serde_json::from_str(&text).map_err(|error| unreadable("backup-list", &error))
    }

    fn archive_of(&self) -> Result<Archive> {
        let text = self.ask(&["wal-show", "--detailed-json", "--without-backups"])?;
        let timelines: Vec<Timeline> = serde_json::from_str(&text).map_err(|error| unreadable("wal-show", &error))?;
        Ok(archive(&timelines, self.segment_size()?))
    }

    /// One of its settings: the environment comes before the file.
    fn setting(&self, name: &str) -> Option<String> {
        let own = self.tool.environment.iter().rev().find(|(own, _)| own.to_string_lossy() == name);
        let own = own.map(|(_, value)| value.to_string_lossy().into_owned());
        own.or_else(|| written(&fs::read_to_string(self.config.as_deref()?).ok()?, name))
    }

    /// Bytes of a segment: WAL-G is told, in MiB, where they are not the usual ones.
    fn segment_size(&self) -> Result<u64> {
        let Some(text) = self.setting(SEGMENT_SIZE) else { return Ok(16 << 20) };
        let size = text.trim().parse::<u64>().ok().filter(|mib| mib.is_power_of_two() && *mib <= 1024);
        let wrong = || format!("{SEGMENT_SIZE} is {text:?}: segments have 1, 2, 4 … or 1024 MiB");
        size.map(|mib| mib << 20).ok_or_else(|| ProveError::refused(code::PROVE_TOOL, wrong()))
    }

    /// An object of a backup, which is JSON.
    fn about(&self, object: &str) -> Result<serde_json::Value> {
        let text = self.ask(&["st", "cat", &format!("basebackups_005/{object}")])?;
        serde_json::from_str(&text).map_err(|error| unreadable("st cat", &error))
    }

    /// The names that a backup's list of files has, from the data directory on; none when it was taken without one.
    fn files(&self, label: &str, sentinel: &serde_json::Value) -> Result<Option<Vec<String>>> {
        let list = match sentinel.get("Files").filter(|files| files.is_object()) {
            Some(_) => sentinel.clone(),
            None if sentinel["FilesMetadataDisabled"] == true => return Ok(None),
            None => self.about(&format!("{label}/files_metadata.json"))?,
        };
        Ok(list["Files"].as_object().map(|files| files.keys().cloned().collect()))
    }

    /// A file that tells where tablespaces go; without it they would go where the original's are.
    fn restore_spec(&self, order: &Order<'_>, sentinel: &serde_json::Value) -> Result<Option<PathBuf>> {
        let root = land::room(order.place, "tablespaces", &self.account)?;
        let Some(spec) = respecified(sentinel, &order.place.data(), &root) else { return Ok(None) };
        let path = land::room(order.place, "wal-g", &self.account)?.join("restore-spec.json");
        fs::write(&path, spec.to_string()).map_err(ProveError::file("cannot write", &path))?;
        self.account.own(&path)?;
        Ok(Some(path))
    }

    fn fetch(&self, order: &Order<'_>) -> Result<Vec<String>> {
        let exports =
            self.tool.environment.iter().map(|(name, value)| {
                format!("export {}={}\n", name.to_string_lossy(), quoted(&value.to_string_lossy()))
            });
        let config = self.options(&[]).iter().map(|word| format!(" {}", quoted(word))).collect::<String>();
        // It prefetches in a process that outlives the command, into a directory that may be the original's, from which
        // it also takes segments: neither is for a copy.
        let prefetched = order.place.dir().join("prefetched");
        let body = format!(
            "{}export WALG_DOWNLOAD_CONCURRENCY=1 WALG_PREFETCH_DIR={}\n{} wal-fetch \"$1\" \"$2\"{config}\nstatus=$?\n[ $status -eq 74 ] && return 1\n\
             [ $status -eq 1 ] && return 255\nreturn $status\n",
            exports.collect::<String>(),
            quoted(&prefetched.display().to_string()),
            quoted(&self.tool.program.display().to_string())
        );
        land::fetcher(order.place, &self.account, &body)
    }
}

impl Engine for WalG {
    fn kind(&self) -> Kind {
        Kind::WalG
    }

    fn address(&self) -> String {
        match &self.config {
            Some(path) => format!("the storage of {}", path.display()),
            None => "the storage of WALG_*".into(),
        }
    }

    fn off_site(&self) -> Option<bool> {
        let unread = |path: &Path| path.is_file() && fs::read_to_string(path).is_err();
        match self.setting("WALG_FILE_PREFIX") {
            Some(_) => Some(false),
            None if self.config.as_deref().is_some_and(unread) => None,
            None => Some(true),
        }
    }

    fn survey(&self) -> Result<Survey> {
        Ok(survey(&self.backups()?, &self.archive_of()?))
    }

    fn archive(&self) -> Result<Archive> {
        self.archive_of()
    }

    fn restore(&self, order: &Order<'_>) -> Result<Landed> {
        let archive = self.archive_of()?;
        let survey = survey(&self.backups()?, &archive);
        let held = choose(&survey, order)?;
        let way = archive.demand(held, order.target)?;
        let data = land::room(order.place, "data", &self.account)?;
        let mut words = vec!["backup-fetch".to_owned(), data.display().to_string(), held.label.clone()];
        let sentinel = self.about(&format!("{}_backup_stop_sentinel.json", held.label))?;
        if let Some(spec) = self.restore_spec(order, &sentinel)? {
            words.extend(["--restore-spec".into(), spec.display().to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let options = self.options(&words);
        let mut tool = self.tool.clone();
        let limits = [("WALG_DOWNLOAD_CONCURRENCY", order.jobs.max(1)), (RETRIES, 1)];
        tool.environment.extend(limits.map(|(name, value)| (name.into(), value.to_string().into())));
        tool.run(order.place.dir(), &options)?;
        land::own_all(&data, &self.account)?;
        // A part that is not in the storage is not missed by WAL-G.
        let notes = match self.files(&held.label, &sentinel)? {
            Some(files) => all_there(&files, &data).map(|()| Vec::new())?,
            None => vec![NO_LIST.to_owned()],
        };
        let seen = land::inspect(&data)?;
        let fetch = self.fetch(order)?;
        land::arm(&data, &self.account, &fetch, order.target, way.timeline)?;
        let commands = vec![self.tool.words(&options), land::fetch_words(&fetch)];
        Ok(land::landed(order, &held.label, seen, way.newest, commands, notes))
    }
}

fn unreadable(command: &str, error: &serde_json::Error) -> ProveError {
    let output = format!("its answer is not understood: {error}");
    ProveError::Tool { program: format!("wal-g {command}"), status: "0".into(), output }
}

/// A directory with one file for each variable, as envdir reads it.
fn variables(dir: &Path) -> Result<Vec<(OsString, OsString)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(ProveError::named("cannot read", dir))?.flatten() {
        if entry.path().is_file() {
            let text = fs::read_to_string(entry.path()).map_err(ProveError::named("cannot read", &entry.path()))?;
            let value = text.lines().next().unwrap_or_default().trim_end().to_owned();
            all.push((entry.file_name(), value.into()));
        }
    }
    Ok(all)
}

fn survey(backups: &[Backup], archive: &Archive) -> Survey {
    let held = |backup: &Backup| Held {
        label: backup.backup_name.clone(),
        // base_SEGMENT, and _D_SEGMENT after it for what builds on another.
        full: !backup.backup_name.contains("_D_"),
        timeline: backup
            .backup_name
            .strip_prefix("base_")
            .and_then(|rest| u32::from_str_radix(rest.get(..8)?, 16).ok()),
        started_at: backup.start_time,
        stopped_at: backup.finish_time,
        start_lsn: backup.start_lsn,
        stop_lsn: backup.finish_lsn,
        size: backup.uncompressed_size.filter(|size| *size > 0),
        trouble: None,
    };
    let mut all: Vec<Held> = backups.iter().map(held).collect();
    all.sort_by_key(|held| (held.timeline, held.stop_lsn, held.started_at));
    for held in &mut all {
        let lost = archive.timelines(std::slice::from_ref(held)).into_iter().flat_map(|one| one.gaps);
        let breaks = lost.into_iter().find(|gap| gap.breaks.contains(&held.label));
        held.trouble = breaks.map(|gap| format!("lacks WAL segment {}", gap.range.first));
    }
    let newest = backups.iter().max_by_key(|backup| backup.finish_time);
    Survey {
        system_identifier: newest.and_then(|backup| backup.system_identifier),
        major: newest.and_then(|backup| backup.pg_version).map(|num| Version::from_num(num).major()),
        gaps: archive.gaps(&all),
        newest_segment: archive.newest().map(|kept| kept.segment.to_string()),
        newest_segment_at: None,
        backups: all,
        notes: Vec::new(),
    }
}

fn archive(timelines: &[Timeline], size: u64) -> Archive {
    let (mut segments, mut histories) = (Vec::new(), Vec::<History>::new());
    for timeline in timelines {
        let (Some(first), Some(last)) =
            (Segment::parse(&timeline.start_segment, size), Segment::parse(&timeline.end_segment, size))
        else {
            continue;
        };
        let lost =
            |segment: &Segment| timeline.missing_segments.iter().flatten().any(|name| *name == segment.to_string());
        let numbers = (first.number..=last.number).map(|number| Segment { number, ..first });
        let there = numbers.filter(|segment| !lost(segment));
        segments.extend(there.map(|segment| Kept { segment, plain_size: None, at: None }));
        if let Some(at) = timeline.switch_point_lsn.filter(|at| at.0 > 0 && timeline.parent_id > 0) {
            let before = histories.iter().find(|history| history.timeline == timeline.parent_id);
            let mut entries = before.map(|history| history.entries.clone()).unwrap_or_default();
            entries.push(Switch { timeline: timeline.parent_id, at, reason: String::new() });
            histories.push(History { timeline: timeline.id, entries });
        }
    }
    Archive::new(segments, histories, size)
}

/// The value of a setting in its configuration, which may be JSON, YAML or TOML.
fn written(text: &str, name: &str) -> Option<String> {
    let plain = |text: &str| text.trim().trim_end_matches(',').trim_matches(['"', '\'']).to_owned();
    if let Ok(serde_json::Value::Object(all)) = serde_json::from_str(text) {
        let value = all.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        return value.map(|value| plain(&value.to_string()));
    }
    let pair = |line: &str| {
        let (own, value) = line.split_once([':', '='])?;
        plain(own).eq_ignore_ascii_case(name).then(|| plain(value.split(" #").next().unwrap_or(value)))
    };
    text.lines().find_map(pair)
}

/// Is every file there that the backup's list has?
fn all_there(files: &[String], data: &Path) -> Result<()> {
    let missing = |name: &&String| fs::symlink_metadata(data.join(name.trim_start_matches('/'))).is_err();
    let mut gone: Vec<_> = files.iter().filter(missing).map(|name| name.trim_start_matches('/')).collect();
    gone.sort_unstable();
    let Some(first) = gone.first() else { return Ok(()) };
    let more = match gone.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let text = format!("{first} is missing{more}: the backup's list of files has it, and what came back has not");
    Err(ProveError::refused(code::ENGINE_DAMAGED, text))
}

/// A sentinel's tablespaces with places of ours; none when it has no tablespaces.
fn respecified(sentinel: &serde_json::Value, data: &Path, root: &Path) -> Option<serde_json::Value> {
    let mut spec = sentinel.get("Spec")?.as_object()?.clone();
    spec.insert("base_prefix".into(), data.display().to_string().into());
    let mut any = false;
    for (name, one) in &mut spec {
        if name.parse::<u32>().is_ok()
            && let Some(one) = one.as_object_mut()
        {
            one.insert("loc".into(), root.join(name).display().to_string().into());
            any = true;
        }
    }
    any.then(|| spec.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[{"backup_name":"base_000000010000000000000002","time":"2026-01-31T12:00:05Z",
        "wal_file_name":"000000010000000000000002","storage_name":"default","start_time":"2026-01-31T12:00:00.5Z",
        "finish_time":"2026-01-31T12:00:05Z","date_fmt":"%Y-%m-%dT%H:%M:%S.%fZ","hostname":"db","data_dir":"/d",
        "pg_version":150004,"start_lsn":33554472,"finish_lsn":33554688,"is_permanent":false,
        "system_identifier":7123456789012345678,"uncompressed_size":25000000,"compressed_size":3000000},
        {"backup_name":"base_000000010000000000000006_D_000000010000000000000002","time":"2026-01-31T13:00:05Z",
        "wal_file_name":"000000010000000000000006","start_time":"2026-01-31T13:00:00Z",
        "finish_time":"2026-01-31T13:00:05Z","pg_version":150004,"start_lsn":"0/6000028","finish_lsn":"0/6000100"}]"#;
    const SHOW: &str = r#"[{"id":1,"parent_id":0,"switch_point_lsn":0,"start_segment":"000000010000000000000002",
        "end_segment":"000000010000000000000007","segments_count":5,"missing_segments":["000000010000000000000006"],
        "segment_range_size":6,"status":"LOST_SEGMENTS"},{"id":2,"parent_id":1,"switch_point_lsn":133169152,
        "start_segment":"000000020000000000000007","end_segment":"000000020000000000000008","segments_count":2,
        "missing_segments":[],"segment_range_size":2,"status":"OK"}]"#;

    #[test]
    fn answers_in_the_documented_form_are_understood() {
        let backups: Vec<Backup> = serde_json::from_str(LIST).unwrap();
        let timelines: Vec<Timeline> = serde_json::from_str(SHOW).unwrap();
        let archive = archive(&timelines, 16 << 20);
        let survey = survey(&backups, &archive);
        assert_eq!((survey.major, survey.system_identifier), (Some(15), None));
        let [full, delta] = survey.backups.as_slice() else { panic!("{survey:?}") };
        assert!(full.full && full.trouble.is_none() && full.start_lsn == Some(Lsn(0x0200_0028)));
        assert!(!delta.full && delta.trouble.as_deref() == Some("lacks WAL segment 000000010000000000000006"));
        assert_eq!(archive.history(2).entries[0].at, Lsn(133_169_152));
        assert_eq!(survey.newest_segment.as_deref(), Some("000000020000000000000008"));
    }

    #[test]
    fn settings_are_found_in_every_form_of_its_configuration() {
        for text in [
            r#"{"WALG_FILE_PREFIX": "/b", "walg_pg_wal_size": "64"}"#,
            r#"{"WALG_PG_WAL_SIZE": 64}"#,
            "WALG_FILE_PREFIX: /b\nWALG_PG_WAL_SIZE: '64' # MiB\n",
            "WALG_PG_WAL_SIZE = \"64\"\n",
        ] {
            assert_eq!(written(text, SEGMENT_SIZE).as_deref(), Some("64"), "{text}");
        }
        assert_eq!(written("WALG_FILE_PREFIX: /b", SEGMENT_SIZE), None);
    }

    #[test]
    fn a_file_that_did_not_come_back_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("PG_VERSION"), "15").unwrap();
        let files = ["/", "/PG_VERSION", "/base/5/2"].map(str::to_owned);
        all_there(&files[..2], dir.path()).unwrap();
        let said = all_there(&files, dir.path()).unwrap_err().to_string();
        assert!(said.starts_with("base/5/2 is missing: "), "{said}");
    }

    #[test]
    fn tablespaces_get_places_of_ours() {
        let text = r#"{"LSN":1,"Spec":{"base_prefix":"/d","tablespaces":["16385"],"16385":{"loc":"/srv/a","link":"pg_tblspc/16385"}}}"#;
        let sentinel = serde_json::from_str(text).unwrap();
        let spec = respecified(&sentinel, Path::new("/p/data"), Path::new("/p/tablespaces")).unwrap();
        assert_eq!(
            (spec["16385"]["loc"].as_str(), spec["base_prefix"].as_str()),
            (Some("/p/tablespaces/16385"), Some("/p/data"))
        );
        assert_eq!(respecified(&serde_json::json!({ "Spec": null }), Path::new("/p"), Path::new("/q")), None);
    }
}
