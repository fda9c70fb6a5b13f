//! Which backup is drilled, up to which moment, and whether there is room for it. Pure but for looking at the disk.

use crate::{
    engine::{Held, Survey},
    error::{ProveError, Result},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{fmt, path::Path};
use surus_backup::restore::{
    directory::nearest,
    target::{Goal, RecoveryTarget},
};
use surus_core::{code, size::Bytes};
use surus_pg::host::{self, Room};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Up to where a drill recovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// A moment between the end of the backup and the newest archived WAL.
    Random,
    /// The end of the archived WAL.
    Latest,
    Time(Timestamp),
}

/// What is drilled.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub backup: Held,
    /// The backup was named, or is the only one meant; else the newest that leads to the target is taken.
    pub target: RecoveryTarget,
    /// The moment was left to chance.
    pub by_chance: bool,
    pub notes: Vec<String>,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backup {} up to {}", self.backup.label, self.target.goal)?;
        if self.by_chance { f.write_str(", by chance") } else { Ok(()) }
    }
}

/// Chooses.
///
/// # Errors
/// When no backup can be restored, or none is old enough for the moment.
pub fn choose(survey: &Survey, aim: Aim, label: Option<&str>, seed: u64) -> Result<Chosen> {
    let none = |text: String| Err(ProveError::refused(code::PROVE_NO_BACKUP, format!("nothing was restored: {text}")));
    if survey.backups.is_empty() {
        return none("there is no backup".into());
    }
    let wanted = |held: &&Held| label.is_none_or(|label| held.label == label);
    let early = |held: &&Held| match (aim, held.stopped_at) {
        (Aim::Time(time), Some(stopped)) => stopped <= time,
        _ => true,
    };
    // Also one with a known trouble: an older one may do, but then nobody would hear of the newest.
    let Some(backup) = survey.backups.iter().filter(wanted).rfind(early) else {
        let text = match (label, aim) {
            (Some(label), _) if !survey.backups.iter().any(|held| held.label == label) => {
                format!("there is no backup {label}")
            }
            (_, Aim::Time(time)) => format!("no backup ended before {time}"),
            _ => "there is no such backup".into(),
        };
        return none(text);
    };
    let (goal, by_chance, note) = goal(survey, backup, aim, seed);
    let trouble = backup.trouble.iter().map(|why| format!("something is known to be wrong with it: {why}"));
    let notes = trouble.chain(note).chain(survey.notes.iter().cloned()).collect();
    let target = RecoveryTarget { goal, ..RecoveryTarget::default() };
    Ok(Chosen { backup: backup.clone(), target, by_chance, notes })
}

/// Where to go, whether chance decided, and what is to be said of it.
fn goal(survey: &Survey, backup: &Held, aim: Aim, seed: u64) -> (Goal, bool, Option<String>) {
    let window = (backup.stopped_at, survey.newest_segment_at);
    match (aim, window) {
        (Aim::Latest, _) => (Goal::Latest, false, None),
        (Aim::Time(time), _) => (Goal::Time(time), false, None),
        (Aim::Random, (Some(from), Some(to))) if from < to => {
            let span = (to.as_microsecond() - from.as_microsecond()).unsigned_abs();
            let offset = mixed(seed) % span.max(1);
            let micros = from.as_microsecond().saturating_add(i64::try_from(offset).unwrap_or(0));
            match Timestamp::from_microsecond(micros) {
                Ok(time) => (Goal::Time(time), true, Some(format!("again the same: --seed {seed}"))),
                Err(_) => (Goal::Latest, false, None),
            }
        }
        (Aim::Random, _) => {
            let why = "no moment could be chosen by chance: no archived WAL is newer than the backup".to_owned();
            (Goal::Latest, false, Some(why))
        }
    }
}

/// A number that looks like chance. Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What stays free without anybody's wish: a tenth of the filesystem, but not more than 10 GiB.
pub fn reserve(total: u64) -> u64 {
    (total / 10).min(10 * GIB)
}

/// What replaying WAL may need beside the files: as much as they are, from 64 MiB to 2 GiB (twice the default of
/// `max_wal_size`).
fn wal(size: u64) -> u64 {
    size.clamp(64 * MIB, 2 * GIB)
}

/// Says how much room there is; refuses when it is not enough.
///
/// # Errors
/// With the numbers, when the copy would not fit.
pub fn room(root: &Path, size: Option<u64>, wanted: Option<u64>) -> Result<String> {
    let free = host::room(&nearest(root));
    judge_room(root, free, size, wanted)
}

fn judge_room(root: &Path, room: Option<Room>, size: Option<u64>, wanted: Option<u64>) -> Result<String> {
    let Some(room) = room else { return Ok(format!("{} does not say how much is free", root.display())) };
    let Some(size) = size else {
        return Ok(format!("{} are free; how large the copy will be is not known", Bytes(room.free_bytes)));
    };
    let reserve = wanted.unwrap_or_else(|| reserve(room.total_bytes));
    let needed = size.saturating_add(wal(size)).saturating_add(reserve);
    let parts =
        format!("{} for the files, up to {} for WAL, {} that stay free", Bytes(size), Bytes(wal(size)), Bytes(reserve));
    if room.free_bytes < needed {
        let text = format!(
            "nothing was restored: {} has {} free, and a drill needs {}: {parts}",
            root.display(),
            Bytes(room.free_bytes),
            Bytes(needed)
        );
        return Err(ProveError::refused(code::PROVE_ROOM, text));
    }
    Ok(format!("{} of {} free are needed: {parts}", Bytes(needed), Bytes(room.free_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(format!("2026-01-01T{text}Z").parse().unwrap())
    }

    fn held(label: &str, stopped: &str, trouble: Option<&str>) -> Held {
        Held {
            label: label.into(),
            full: true,
            timeline: Some(1),
            started_at: at(stopped),
            stopped_at: at(stopped),
            start_lsn: None,
            stop_lsn: None,
            size: Some(100 * MIB),
            trouble: trouble.map(str::to_owned),
        }
    }

    fn survey() -> Survey {
        Survey {
            backups: vec![
                held("old", "10:00:00", None),
                held("new", "12:00:00", None),
                held("bad", "13:00:00", Some("a file is missing")),
            ],
            newest_segment_at: at("14:00:00"),
            ..Survey::default()
        }
    }

    #[test]
    fn chance_stays_between_the_backup_and_the_newest_wal_and_can_be_repeated() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let chosen = choose(&survey(), Aim::Random, Some("new"), seed).unwrap();
            let Goal::Time(time) = chosen.target.goal else { panic!("{chosen:?}") };
            assert!(chosen.backup.label == "new" && Some(time) >= at("12:00:00") && Some(time) < at("14:00:00"));
            assert_eq!(choose(&survey(), Aim::Random, Some("new"), seed).unwrap(), chosen);
            seen.insert(time);
        }
        assert!(seen.len() > 190);
        let without = Survey { newest_segment_at: None, ..survey() };
        assert_eq!(choose(&without, Aim::Random, None, 1).unwrap().target.goal, Goal::Latest);
    }

    #[test]
    fn a_backup_that_leads_there_is_chosen_or_the_reason_is_said() {
        let label = |aim, label| choose(&survey(), aim, label, 0).map(|chosen| chosen.backup.label);
        assert_eq!(label(Aim::Latest, Some("new")).unwrap(), "new");
        assert_eq!(label(Aim::Latest, None).unwrap(), "bad", "its trouble is for the restore to say");
        assert_eq!(label(Aim::Time(at("11:00:00").unwrap()), None).unwrap(), "old");
        let early = label(Aim::Time(at("09:00:00").unwrap()), None).unwrap_err();
        assert!(early.code().id == code::PROVE_NO_BACKUP.id && early.to_string().contains("ended before"), "{early}");
        assert!(label(Aim::Latest, Some("x")).unwrap_err().to_string().contains("no backup x"));
        let notes = choose(&survey(), Aim::Latest, None, 0).unwrap().notes;
        assert!(notes[0].contains("a file is missing"), "{notes:?}");
    }

    #[test]
    fn too_little_room_is_refused_with_numbers() {
        let room = |free| Some(Room { total_bytes: 40 * GIB, free_bytes: free, total_inodes: 0, free_inodes: 0 });
        let judge = |free, size| judge_room(Path::new("/s"), room(free), Some(size), None);
        assert!(judge(5 * GIB, 100 * MIB).unwrap().contains("4096 MB that stay free"));
        let error = judge(5 * GIB, GIB).unwrap_err();
        assert_eq!(error.code().id, code::PROVE_ROOM.id);
        assert!(error.to_string().contains("has 5120 MB free, and a drill needs 6144 MB"), "{error}");
        assert!(judge_room(Path::new("/s"), room(GIB), Some(64 * MIB), Some(0)).is_ok());
    }
}
