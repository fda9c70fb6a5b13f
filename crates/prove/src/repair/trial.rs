//! The repair is run on a copy before anybody sees it, and the copy is compared with the past again.

use super::Repair;
use crate::{
    diff::{Change, Side, TableName, by_key, compare},
    error::{ProveError, Result},
    moment::Moment,
};
use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};
use surus_core::{clock::Stopwatch, code};
use surus_pg::{Manners, Programs};

/// What the trial showed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Tried {
    pub seconds: f64,
    /// Rows that are back as they were.
    pub rows: u64,
}

/// A client program of the copy's major, else of a newer one.
fn client(copy: &Moment, program: &str) -> Result<Command> {
    let programs = Programs::find(Some(copy.warm.major))?.with_client(program)?;
    let mut command = Command::new(programs.bin(program)?);
    for name in [
        "PGHOSTADDR",
        "PGSERVICE",
        "PGSSLMODE",
        "PGREQUIRESSL",
        "PGTARGETSESSIONATTRS",
        "PGOPTIONS",
        "PGCLIENTENCODING",
    ] {
        command.env_remove(name);
    }
    if let Some(libraries) = programs.library_path() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

fn refused(text: String) -> ProveError {
    ProveError::refused(code::REPAIR_TEST, text)
}

/// Writes tables of a copy with pg_dump: what comes before and with the rows, or what comes after them.
///
/// # Errors
/// When pg_dump is not here or fails.
pub fn dump(copy: &Moment, user: &str, database: &str, tables: &[&TableName], after: bool, to: File) -> Result<()> {
    let mut command = client(copy, "pg_dump")?;
    let sections: &[&str] = if after { &["--section=post-data"] } else { &["--section=pre-data", "--section=data"] };
    command.args(sections).arg("--encoding=UTF8").arg("--dbname").arg(copy.dsn(user, database));
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for table in tables {
        command.arg("--table").arg(format!("{}.{}", quoted(&table.schema), quoted(&table.name)));
    }
    let output = command.stdout(to).stderr(Stdio::piped()).output();
    let output = output.map_err(ProveError::file("cannot run", Path::new("pg_dump")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ProveError::Tool { program: "pg_dump".into(), status: output.status.to_string(), output: text });
    }
    Ok(())
}

/// Runs the file on a copy of now, and looks whether every row is as it was, and every other as it is.
///
/// # Errors
/// When it fails there, or a row is not as it should be.
pub async fn try_on(
    copy: &Moment,
    user: &str,
    database: &str,
    file: &Path,
    repair: &Repair,
    past: &Side,
) -> Result<Tried> {
    let watch = Stopwatch::start();
    let mut psql = client(copy, "psql")?;
    psql.args(["-X", "-q", "-f"]).arg(file).arg("--dbname").arg(copy.dsn(user, database));
    let output = tokio::task::block_in_place(|| psql.output());
    let output = output.map_err(ProveError::file("cannot run", Path::new("psql")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let said = text.lines().filter(|line| !line.trim().is_empty()).take(6).collect::<Vec<_>>().join("\n  ");
        return Err(refused(format!("the repair failed on a copy of the present:\n  {said}")));
    }
    let seconds = watch.elapsed().as_secs_f64();
    let manners = Manners { read_only: true, ..Manners::changing() };
    let side = Side::open(copy.session(user, database, &manners).await?).await?;
    let rows = look(&side, repair, past).await;
    side.close().await;
    Ok(Tried { seconds, rows: rows? })
}

async fn look(copy: &Side, repair: &Repair, past: &Side) -> Result<u64> {
    let mut rows = 0;
    for (name, plan) in &repair.tables {
        let layout = &plan.layout;
        copy.look_in(name).await?;
        past.look_in(name).await?;
        let there = by_key(Some(copy), layout, &plan.back).await?;
        if let Some(row) = plan.back.iter().find(|row| there.get(&row.key).is_none_or(|is| is.values != row.values)) {
            return Err(refused(format!("on a copy, {name} did not get back {}", layout.key_text(&row.key))));
        }
        let wanted: Vec<_> = plan.set.iter().map(|set| set.was.clone()).collect();
        let there = by_key(Some(copy), layout, &wanted).await?;
        for set in &plan.set {
            let is = there.get(&set.was.key);
            let same = |is: &&crate::diff::Row| set.columns.iter().all(|at| is.values[at.0] == set.was.values[at.0]);
            if is.filter(same).is_none() {
                let text = format!("on a copy, {name} was not set back: {}", layout.key_text(&set.was.key));
                return Err(refused(text));
            }
        }
        rows += (plan.back.len() + plan.set.len()) as u64;
        if plan.dropped && !layout.key.is_empty() {
            let counts = compare(past, Some(copy), layout, None, &mut |_: Change| Ok(())).await?;
            if !counts.is_same() {
                return Err(refused(format!("on a copy, {name} did not come back as it was: {counts:?}")));
            }
            rows += counts.same;
        }
    }
    Ok(rows)
}
