//! How much would have been lost: from the newest heartbeat in the copy to the moment at which the original is taken
//! to have gone.

use super::{Options, aim::Chosen, bench::Bench, step::Found};
use jiff::Timestamp;
use serde::Serialize;
use surus_backup::restore::{start::Arrival, target::Goal};
use surus_core::size::human_seconds;

/// A heartbeat that is older than the last transaction by this many of its intervals is not being written any more.
const STALE_INTERVALS: f64 = 3.0;

/// What tells how new the copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A row that `surus serve` writes again and again.
    Heartbeat,
    /// The last transaction that was replayed: on an idle server nothing may be lost at all.
    LastTransaction,
    /// When the backup ended: nothing was replayed after it.
    BackupEnd,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loss {
    pub rpo_seconds: f64,
    pub source: Source,
    /// When the original is taken to have gone.
    pub lost_at: Timestamp,
    /// The newest moment that the copy knows of.
    pub newest: Timestamp,
}

/// The moment that the copy is of.
pub fn recovered_to(chosen: &Chosen, arrival: &Arrival) -> Option<Timestamp> {
    match chosen.target.goal {
        Goal::Time(time) => Some(time),
        _ => last_transaction(arrival).or(chosen.backup.stopped_at),
    }
}

fn last_transaction(arrival: &Arrival) -> Option<Timestamp> {
    arrival.time.as_deref()?.parse().ok()
}

/// Measures it.
pub fn look(bench: &Bench, options: &Options<'_>, chosen: &Chosen, arrival: &Arrival) -> (Found, Option<Loss>) {
    let heartbeat = newest_heartbeat(bench);
    let (heartbeat, mut notes) = match heartbeat {
        Ok(heartbeat) => (heartbeat, Vec::new()),
        Err(why) => (None, vec![why]),
    };
    // Without a known crash, the original is taken to go when the drill begins, or at the moment that was wished for.
    let lost_at = match (options.lost_at, &chosen.target.goal) {
        (Some(time), _) => time,
        (None, Goal::Time(time)) => *time,
        _ => surus_core::clock::now(),
    };
    let candidates = Candidates {
        heartbeat,
        transaction: last_transaction(arrival),
        backup_end: chosen.backup.stopped_at,
        interval: options.heartbeat.map(|every| every.as_secs_f64()),
    };
    let Some((source, newest)) = candidates.best(&mut notes) else {
        let text = "neither a heartbeat nor the time of a transaction is known";
        return (Found::unknown(text).with(notes), None);
    };
    let rpo_seconds = seconds_between(newest, lost_at);
    let loss = Loss { rpo_seconds, source, lost_at, newest };
    (Found::good(said(&loss, options)).with(notes), Some(loss))
}

struct Candidates {
    heartbeat: Option<Timestamp>,
    transaction: Option<Timestamp>,
    backup_end: Option<Timestamp>,
    /// Seconds.
    interval: Option<f64>,
}

impl Candidates {
    fn best(&self, notes: &mut Vec<String>) -> Option<(Source, Timestamp)> {
        let transaction = self.transaction.map(|time| (Source::LastTransaction, time));
        let Some(heartbeat) = self.heartbeat else {
            notes.push("exact only with a heartbeat: [[target]] heartbeat = \"10s\", written by surus serve".into());
            return transaction.or(self.backup_end.map(|time| (Source::BackupEnd, time)));
        };
        let behind = self.transaction.map_or(0.0, |time| seconds_between(heartbeat, time));
        if behind > self.interval.unwrap_or(60.0) * STALE_INTERVALS {
            let text = format!(
                "the newest heartbeat is {} older than the last transaction: is surus serve running?",
                human_seconds(behind)
            );
            notes.push(text);
            return transaction;
        }
        Some((Source::Heartbeat, heartbeat))
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    ((to.as_microsecond() - from.as_microsecond()) as f64 / 1e6).max(0.0)
}

fn said(loss: &Loss, options: &Options<'_>) -> String {
    let lost = human_seconds(loss.rpo_seconds);
    match (loss.source, options.heartbeat) {
        (Source::Heartbeat, Some(every)) => {
            format!("{lost}, by the heartbeat of every {}", human_seconds(every.as_secs_f64()))
        }
        (Source::Heartbeat, None) => format!("{lost}, by the newest heartbeat"),
        (Source::LastTransaction, _) => format!("at most {lost}: the last transaction that came back is that old"),
        (Source::BackupEnd, _) => format!("at most {lost}: that long ago the backup ended; nothing came after it"),
    }
}

/// The newest heartbeat of all databases.
fn newest_heartbeat(bench: &Bench) -> Result<Option<Timestamp>, String> {
    let mut newest = None;
    for database in &bench.databases {
        let mut line = bench.line(&database.name);
        let there = line.ask("SELECT to_regclass('surus.heartbeat') IS NOT NULL AS v");
        let there = there.is_ok_and(|rows| rows.first().and_then(|row| row.bool("v")).unwrap_or(false));
        if there {
            let sql = "SELECT (extract(epoch FROM max(at)) * 1000000)::int8 AS v FROM surus.heartbeat";
            let rows = line.ask(sql).map_err(|error| format!("the heartbeat cannot be read: {error}"))?;
            let micros = rows.first().and_then(|row| row.opt_i64("v")).map_err(|error| error.to_string())?;
            newest = newest.max(micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()));
        }
        line.close();
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(heartbeat: Option<i64>, transaction: Option<i64>) -> (Option<(Source, i64)>, usize) {
        let at = |seconds: Option<i64>| seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let (heartbeat, transaction) = (at(heartbeat), at(transaction));
        let all = Candidates { heartbeat, transaction, backup_end: at(Some(5)), interval: Some(10.0) };
        let mut notes = Vec::new();
        let best = all.best(&mut notes).map(|(source, time)| (source, time.as_second()));
        (best, notes.len())
    }

    #[test]
    fn the_heartbeat_is_believed_as_long_as_it_is_written() {
        assert_eq!(best(Some(100), Some(101)), (Some((Source::Heartbeat, 100)), 0));
        assert_eq!(best(Some(100), Some(200)), (Some((Source::LastTransaction, 200)), 1));
        assert_eq!(best(None, Some(200)), (Some((Source::LastTransaction, 200)), 1));
        assert_eq!(best(None, None), (Some((Source::BackupEnd, 5)), 1));
    }
}
