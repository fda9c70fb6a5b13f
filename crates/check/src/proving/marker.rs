//! Item 8: a row written on the primary is read on every standby that was given. Writes, so only when asked for.

use super::Experiment;
use std::time::Duration;
use surus_core::{
    clock::{Deadline, Stopwatch},
    proof::{Outcome, Proof},
};
use surus_pg::{Manners, Session, Target, quote};

/// How long a standby may take to show the row.
const WITHIN: Duration = Duration::from_secs(20);
/// Where the row lives while the experiment runs.
const TABLE: &str = "public.surus_replication_marker";

/// Writes the marker, reads it on each standby, and removes the table again.
pub(crate) async fn prove(primary: &Target, standbys: &[(String, Target)], cluster: &str, subject: &str) -> Proof {
    let mut experiment = Experiment::begin("replication", 8);
    let outcome = match attempt(&mut experiment, primary, standbys).await {
        Ok(()) => Outcome::Passed,
        Err(why) => {
            experiment.step("stopped", why);
            Outcome::Failed
        }
    };
    experiment.end(outcome, cluster, subject)
}

async fn attempt(experiment: &mut Experiment, primary: &Target, standbys: &[(String, Target)]) -> Result<(), String> {
    let manners = Manners { application_name: "surus prove".into(), ..Manners::changing() };
    let writer = primary.connect(&manners).await.map_err(|error| error.message)?;
    let marker = format!("{}", surus_core::clock::now());
    let write = format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} (marker text NOT NULL); INSERT INTO {TABLE} VALUES ({})",
        quote::literal(&marker)
    );
    let outcome = match writer.run(&write).await {
        Ok(()) => {
            experiment.step(format!("write a row into {TABLE} on the primary"), "committed");
            read_everywhere(experiment, standbys, &marker).await
        }
        Err(error) => Err(format!("the row was not written: {}", error.message)),
    };
    // The experiment leaves nothing behind; when it cannot, the proof says so.
    if let Err(error) = writer.run(&format!("DROP TABLE IF EXISTS {TABLE}")).await {
        experiment.step(format!("drop {TABLE}"), format!("not dropped: {}", error.message));
    }
    outcome
}

async fn read_everywhere(
    experiment: &mut Experiment,
    standbys: &[(String, Target)],
    marker: &str,
) -> Result<(), String> {
    let mut worst = 0.0f64;
    for (name, standby) in standbys {
        let session =
            standby.connect(&Manners::looking()).await.map_err(|error| format!("{name}: {}", error.message))?;
        let watch = Stopwatch::start();
        read(&session, marker).await.map_err(|why| format!("{name}: {why}"))?;
        worst = worst.max(watch.elapsed_ms());
        experiment.step(format!("read it on {name}"), format!("there after {:.0} ms", watch.elapsed_ms()));
    }
    experiment.measure("time until readable on the slowest standby", worst, "ms");
    experiment.step(
        "all standbys",
        format!("a row written on the primary was read on {} standby in {worst:.0} ms", standbys.len()),
    );
    Ok(())
}

async fn read(session: &Session, marker: &str) -> Result<(), String> {
    let deadline = Deadline::after(WITHIN);
    let sql = format!("SELECT EXISTS (SELECT FROM {TABLE} WHERE marker = {}) AS there", quote::literal(marker));
    while !deadline.passed() {
        // Until the table has been replayed, the query fails; that is no more than "not yet".
        let there = session.ask(&sql).await.ok().and_then(|rows| rows.first().ok()?.bool("there").ok());
        if there == Some(true) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("the row was not there after {} s", WITHIN.as_secs()))
}
