//! Backups of a target: what each repository holds, which moments can be restored, and which cannot and why.

use super::{
    Asking,
    plot::{Plot, Unit},
    quoted,
};
use crate::{
    api::answer::ApiError,
    drills::{self, Drilling},
    range,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use surus_core::protection::{Moments, ProtectedBackup, Protection, Stretch};
use surus_observe::{TargetNow, own::Protected};

/// Backups of a target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Backups {
    /// As the configuration calls them.
    pub repositories: Vec<Repository>,
    /// Why there is none.
    pub empty: Option<String>,
    /// What was asked for with `at`.
    pub asked: Option<Moment>,
    /// A drill that runs, or the last one.
    pub drill: Option<Drilling>,
    /// The command of a drill, or why none can be run.
    pub command: Option<String>,
    pub no_drill: Option<String>,
    pub plots: Vec<Plot>,
}

/// One repository.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Repository {
    pub name: String,
    /// Why nothing is known of it.
    pub why: Option<String>,
    pub holds: Option<Holds>,
}

/// What it holds for the target's cluster.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Holds {
    pub address: String,
    pub off_site: bool,
    pub encrypted: bool,
    pub looked_ms: i64,
    pub free_bytes: Option<u64>,
    /// Of the archived WAL.
    pub wal_bytes: u64,
    pub newest_segment: Option<String>,
    pub newest_segment_ms: Option<i64>,
    /// Of all backups together.
    pub stored_bytes: u64,
    /// A backup that is being taken.
    pub in_progress: Option<String>,
    /// Oldest first.
    pub backups: Vec<Backup>,
    /// Backups of which nothing can be said, by label, and why.
    pub unreadable: BTreeMap<String, String>,
    /// The oldest first.
    pub timelines: Vec<Timeline>,
    pub gaps: Vec<Gap>,
}

/// One backup.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Backup {
    pub label: String,
    pub full: bool,
    pub parent: Option<String>,
    pub timeline: u32,
    pub start_lsn: String,
    pub stop_lsn: String,
    pub started_ms: i64,
    pub stopped_ms: i64,
    /// Of all its files, when restored.
    pub size_bytes: u64,
    /// In the repository.
    pub stored_bytes: u64,
    /// Of the blocks that it holds itself, a second, while it was taken.
    pub bytes_per_second: Option<f64>,
    pub verified_ms: Option<i64>,
    pub trouble: Option<String>,
    pub damaged_pages: u64,
}

/// The moments of one timeline of PostgreSQL.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Timeline {
    pub timeline: u32,
    pub parent: Option<u32>,
    pub stretches: Vec<Part>,
}

/// Moments that can be restored, or cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part {
    pub from_ms: i64,
    pub to_ms: i64,
    pub from_lsn: Option<String>,
    pub to_lsn: Option<String>,
    /// The backups that lead into it.
    pub backups: Vec<String>,
    /// Why it cannot be restored.
    pub why: Option<String>,
}

/// Missing WAL.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Gap {
    pub first: String,
    pub last: String,
    pub segments: u64,
}

/// Can a moment be restored?
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Moment {
    pub at_ms: i64,
    pub can: bool,
    /// With what command, or why not.
    pub said: String,
}

/// Looks at what was seen last; no repository is asked.
pub fn look(asking: &Asking<'_>) -> Result<Backups, ApiError> {
    let target = asking.target()?;
    let scene = &asking.scene;
    let protected = asking.site.observatory.protected(&target.name);
    let repositories: Vec<Repository> = protected.iter().map(repository).collect();
    let at = scene.form.get("at").map(str::trim).filter(|text| !text.is_empty());
    let read = |text: &str| {
        let why = "is no time; write 2026-09-21 14:13:20 (UTC), now-10m, or seconds since 1970";
        range::moment_ms(text, scene.now_ms).ok_or_else(|| ApiError::parameter("at", why))
    };
    let asked = at.map(read).transpose()?.map(|at_ms| moment(&repositories, at_ms, scene.now_ms));
    let (command, no_drill) = match drills::command(asking.site, &target.name) {
        Ok(command) => (Some(command), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Backups {
        empty: repositories.is_empty().then(|| why_empty(asking, target)),
        asked,
        drill: asking.site.drills.as_ref().and_then(|drills| drills.last(&target.name)),
        command,
        no_drill,
        plots: if repositories.is_empty() { Vec::new() } else { plots(&target.name) },
        repositories,
    })
}

fn why_empty(asking: &Asking<'_>, target: &TargetNow) -> String {
    let known = asking.site.drills.as_ref().map_or_else(Vec::new, |drills| drills.repositories());
    if known.is_empty() {
        return "No repository is configured, so surus knows of no backup. Name one as [[repository]] in surus.toml, add \
                a [[backup]] for this target, and let the server archive into it: archive_command = 'surus wal push \
                --repo /srv/surus %p'."
            .to_owned();
    }
    let names = known.join(", ");
    match &target.system_identifier {
        None => format!(
            "Which cluster this is, is not known yet, so nothing can be looked up in {names}. It is asked for when the \
             target is up; the role needs EXECUTE on pg_control_system(), which pg_monitor has."
        ),
        Some(_) => format!("{names} was not looked at yet; that happens within a few seconds."),
    }
}

fn repository(protected: &Protected) -> Repository {
    Repository {
        name: protected.repository.clone(),
        why: protected.why.clone(),
        holds: protected.holds.as_ref().map(|holds| held(holds, &protected.moments)),
    }
}

fn held(holds: &Protection, moments: &[Moments]) -> Holds {
    let looked_ms = holds.looked_at.as_millisecond();
    Holds {
        address: holds.repository.clone(),
        off_site: holds.off_site,
        encrypted: holds.encrypted,
        looked_ms,
        free_bytes: holds.free,
        wal_bytes: holds.wal_stored,
        newest_segment: holds.newest_segment.clone(),
        newest_segment_ms: holds.newest_segment_at.map(Timestamp::as_millisecond),
        stored_bytes: holds.backups.iter().map(|backup| backup.stored).sum(),
        in_progress: holds.in_progress.clone(),
        backups: holds.backups.iter().map(backup).collect(),
        unreadable: holds.unreadable.clone(),
        timelines: moments.iter().map(|line| timeline(line, holds)).collect(),
        gaps: holds
            .gaps
            .iter()
            .map(|gap| Gap { first: gap.first.clone(), last: gap.last.clone(), segments: gap.segments })
            .collect(),
    }
}

fn backup(one: &ProtectedBackup) -> Backup {
    let (started_ms, stopped_ms) = (one.started_at.as_millisecond(), one.stopped_at.as_millisecond());
    let seconds = (stopped_ms - started_ms) as f64 / 1000.0;
    Backup {
        label: one.label.clone(),
        full: one.full,
        parent: one.parent.clone(),
        timeline: one.timeline,
        start_lsn: one.start_lsn.to_string(),
        stop_lsn: one.stop_lsn.to_string(),
        started_ms,
        stopped_ms,
        size_bytes: one.size,
        stored_bytes: one.stored,
        bytes_per_second: (seconds > 0.0).then(|| one.own as f64 / seconds),
        verified_ms: one.verified_at.map(Timestamp::as_millisecond),
        trouble: one.trouble.clone(),
        damaged_pages: one.damaged_pages,
    }
}

/// Times that nobody knows become those of the neighbours: a stretch begins where the one before it ended.
fn timeline(line: &Moments, holds: &Protection) -> Timeline {
    let first = holds.backups.iter().filter(|backup| backup.timeline == line.timeline).map(|backup| backup.stopped_at);
    let mut last = first.min().unwrap_or(holds.looked_at).as_millisecond();
    let part = |one: &Stretch| {
        let from_ms = one.from_time.map_or(last, Timestamp::as_millisecond);
        let to_ms = one.to_time.map_or(from_ms, Timestamp::as_millisecond).max(from_ms);
        last = to_ms;
        let said = |lsn: Option<surus_core::lsn::Lsn>| lsn.map(|lsn| lsn.to_string());
        Part {
            from_ms,
            to_ms,
            from_lsn: said(one.from),
            to_lsn: said(one.to),
            backups: one.backups.clone(),
            why: one.why.clone(),
        }
    };
    Timeline { timeline: line.timeline, parent: line.parent, stretches: line.stretches.iter().map(part).collect() }
}

/// Judges a moment: the newest timeline of the first repository that leads there decides.
fn moment(repositories: &[Repository], at_ms: i64, now_ms: i64) -> Moment {
    let holding = repositories.iter().filter_map(|one| Some((one, one.holds.as_ref()?)));
    let parts = holding.flat_map(|(one, holds)| {
        let lines = holds.timelines.iter().rev();
        lines.flat_map(move |line| line.stretches.iter().map(move |part| (one, holds, part)))
    });
    let parts: Vec<_> = parts.collect();
    let inside = parts.iter().filter(|(_, _, part)| part.from_ms <= at_ms && at_ms <= part.to_ms);
    let found: Vec<_> = inside.collect();
    if let Some((one, _, part)) = found.iter().find(|(_, _, part)| part.why.is_none()) {
        let time = Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string());
        let said = format!(
            "from backup {}: surus restore --repo {} --to DIRECTORY --time '{time}'",
            part.backups.last().map_or("?", String::as_str),
            one.name
        );
        return Moment { at_ms, can: true, said };
    }
    let no = |said: String| Moment { at_ms, can: false, said };
    if let Some((one, _, part)) = found.first() {
        return no(format!("{} (in {})", part.why.as_deref().unwrap_or("the reason is not known"), one.name));
    }
    if at_ms > now_ms {
        return no("it lies in the future".to_owned());
    }
    let begin = parts.iter().map(|(_, _, part)| part.from_ms).min();
    let end = parts.iter().map(|(_, _, part)| part.to_ms).max();
    no(match (begin, end) {
        (Some(begin), _) if at_ms < begin => "it lies before the first backup ended".to_owned(),
        (_, Some(end)) if at_ms > end => {
            "the WAL of that moment is not in the archive yet: until it is, only the server \
                                          itself has it. SELECT pg_switch_wal() sends it there now"
                .to_owned()
        }
        (Some(_), _) => "no backup of any repository leads there".to_owned(),
        (None, _) => "there is no backup".to_owned(),
    })
}

fn plots(target: &str) -> Vec<Plot> {
    let i = format!("instance={}", quoted(target));
    let backup = format!("surus_backup_last_timestamp_seconds{{{i}}}");
    let wal = format!("surus_wal_archive_last_timestamp_seconds{{{i}}}");
    vec![
        Plot::lines("age", "Age of the newest backup", Unit::Seconds)
            .about("Of those that can be restored.")
            .query(format!("time() - {backup}"), "{{repository}} {{kind}}"),
        Plot::lines("wal-age", "Age of the newest archived WAL", Unit::Seconds)
            .about("When the server is lost, this is what is lost with it, unless a standby has it.")
            .query(format!("time() - {wal}"), "{{repository}}"),
        Plot::lines("stored", "Stored", Unit::Bytes)
            .about("WAL in the repository, and the newest backup.")
            .query(format!("surus_wal_archive_stored_bytes{{{i}}}"), "{{repository}} WAL")
            .query(format!("surus_backup_last_stored_bytes{{{i}}}"), "{{repository}} newest backup"),
        Plot::lines("count", "Backups", Unit::Count)
            .about("That can be restored, and that cannot; and missing WAL segments.")
            .query(format!("surus_backup_count{{{i}}}"), "{{repository}} {{state}}")
            .query(format!("surus_wal_archive_missing_segments{{{i}}}"), "{{repository}} missing segments"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(from_ms: i64, to_ms: i64, why: Option<&str>) -> Part {
        let backups = if why.is_none() { vec!["b1".to_owned()] } else { Vec::new() };
        Part { from_ms, to_ms, from_lsn: None, to_lsn: None, backups, why: why.map(str::to_owned) }
    }

    fn holding(stretches: Vec<Part>) -> Repository {
        let holds = Holds {
            address: "/srv/surus".into(),
            off_site: false,
            encrypted: false,
            looked_ms: 0,
            free_bytes: None,
            wal_bytes: 0,
            newest_segment: None,
            newest_segment_ms: None,
            stored_bytes: 0,
            in_progress: None,
            backups: Vec::new(),
            unreadable: BTreeMap::new(),
            timelines: vec![Timeline { timeline: 1, parent: None, stretches }],
            gaps: Vec::new(),
        };
        Repository { name: "main".into(), why: None, holds: Some(holds) }
    }

    #[test]
    fn a_moment_in_a_hole_says_why_unless_another_repository_leads_there() {
        let holed = holding(vec![part(100, 200, None), part(200, 300, Some("WAL segment 9 is missing"))]);
        let say = |at_ms| moment(std::slice::from_ref(&holed), at_ms, 1000);
        assert!(say(150).can && say(150).said.contains("surus restore --repo main"), "{:?}", say(150));
        assert!(!say(250).can && say(250).said.contains("segment 9 is missing"), "{:?}", say(250));
        assert!(say(50).said.contains("before the first backup"), "{:?}", say(50));
        assert!(say(350).said.contains("not in the archive yet") && say(2000).said.contains("future"));
        let whole = holding(vec![part(0, 400, None)]);
        assert!(moment(&[holed, whole], 250, 1000).can);
        assert!(!moment(&[], 250, 1000).can);
    }
}
