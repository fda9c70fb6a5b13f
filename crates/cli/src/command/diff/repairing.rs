//! `surus diff --repair`: the file, and its trial on a copy of the present.

use super::{
    super::at::role,
    DiffArgs, Scene, Seen,
    shown::{self, Repaired},
};
use crate::{
    failure::Failure,
    output::{NewFile, print},
    progress,
};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Seek, Write},
    path::Path,
    time::Duration,
};
use surus_backup::protection;
use surus_core::{clock, clock::Deadline, code};
use surus_pg::Manners;
use surus_prove::{
    diff::{Side, TableName},
    moment::Moment,
    repair::{Heading, Named, Repair, Sides, Tried, dump, try_on, write},
};

/// How long the WAL of now may take until it is in the archive.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);

/// Where the file goes.
pub enum Output {
    Standard,
    File(NewFile),
}

/// The file that was asked for; it must not be there already.
pub fn file(args: &DiffArgs) -> Result<Option<Output>, Failure> {
    Ok(match args.repair.as_deref() {
        None => None,
        Some(path) if path == Path::new("-") => Some(Output::Standard),
        Some(path) => Some(Output::File(NewFile::at(path, args.force)?)),
    })
}

/// Works the repair out, tries it, and writes it. Rows come back from the first moment; at the second the accident was
/// over.
pub async fn run(
    scene: &Scene<'_>,
    then: &Side,
    now: Side,
    (past, until): (&Moment, Option<Moment>),
    seen: &[Seen],
    file: Output,
) -> Result<u8, Failure> {
    let args = scene.args;
    let after = match &until {
        Some(moment) => Some(scene.side(moment).await?),
        None => None,
    };
    let key = Some(args.key.as_slice()).filter(|key| !key.is_empty());
    let condition = args.condition.as_deref();
    let named: Vec<Named<'_>> = seen.iter().map(|one| Named { table: &one.table, key, condition }).collect();
    let sides = Sides { past: then, now: &now, until: after.as_ref() };
    let repair = Repair::of(sides, &named, args.vanished_only).await;
    now.close().await;
    if let Some(side) = after {
        side.close().await;
    }
    if let Some(moment) = until {
        let _ = moment.release(args.warm.0);
    }
    let repair = repair?;
    let mut repaired = Repaired { repair: &repair, tried: None, notes: Vec::new(), file: String::new() };
    if repair.is_empty() {
        print(&shown::written(seen, Some(&repaired), args)?)?;
        return Ok(0);
    }
    let draft = draft(scene, &repair, past)?;
    if args.untried {
        repaired.notes.push("it was not tried on a copy, as asked".into());
    } else {
        let (tried, note) = tried(scene, &repair, then, draft.path()).await?;
        repaired.tried = Some(tried);
        repaired.notes.push(note);
    }
    let failed = |error: io::Error| Failure::output(draft.path(), &error);
    match file {
        Output::Standard => {
            let text = fs::read_to_string(draft.path()).map_err(failed)?;
            print(&text)?;
        }
        Output::File(file) => {
            repaired.file = file.path().display().to_string();
            let to = file.path().to_owned();
            let text = fs::read_to_string(draft.path()).map_err(failed)?;
            file.write(&text)?;
            print(&shown::written(seen, Some(&repaired), args)?)?;
            scene.say(&format!("next: psql -X DSN -f {}\n", to.display()));
        }
    }
    Ok(0)
}

/// The file as it will be, in a place that goes by itself.
fn draft(scene: &Scene<'_>, repair: &Repair, past: &Moment) -> Result<tempfile::NamedTempFile, Failure> {
    let bad = |error: io::Error| Failure::output(Path::new("a temporary file"), &error);
    let draft = tempfile::Builder::new().prefix("surus-repair-").tempfile().map_err(bad)?;
    let heading = Heading {
        database: scene.target.database().to_owned(),
        moment: past.place.mark.what.clone(),
        seen: clock::now().to_string(),
        until: scene.args.until.clone(),
    };
    let dropped: Vec<&TableName> =
        repair.tables.iter().filter(|(_, plan)| plan.dropped).map(|(name, _)| name).collect();
    let (user, database) = (&role(scene.args.user.as_deref(), past), scene.target.database());
    let dumped = |out: &mut BufWriter<File>, after: bool| -> io::Result<()> {
        out.flush()?;
        let file = out.get_ref().try_clone()?;
        dump(past, user, database, &dropped, after, file).map_err(|error| io::Error::other(error.to_string()))?;
        out.seek(io::SeekFrom::End(0)).map(drop)
    };
    let mut out = BufWriter::new(draft.reopen().map_err(bad)?);
    tokio::task::block_in_place(|| {
        write(repair, &heading, &mut out, &mut |out| dumped(out, false), &mut |out| dumped(out, true))?;
        out.flush()
    })
    .map_err(|error| Failure::new(code::REPAIR_TEST, format!("no repair was written: {error}")))?;
    Ok(draft)
}

/// Runs it on a copy of the newest that is archived; gives what is to be said of that copy.
async fn tried(scene: &Scene<'_>, repair: &Repair, then: &Side, file: &Path) -> Result<(Tried, String), Failure> {
    let note = archived(scene).await?;
    let wanted = surus_prove::moment::Wanted { writable: true, backup: None, ..scene.wanted("latest")? };
    let monitor = progress::monitor(scene.global.quiet);
    let copy = tokio::task::block_in_place(|| Moment::alone(&scene.scratch, &wanted, monitor.as_ref()))?;
    let last = copy.warm.last_transaction.clone();
    let tried =
        try_on(&copy, &role(scene.args.user.as_deref(), &copy), scene.target.database(), file, repair, then).await;
    // Were it to stay, its keeper ends it.
    let _ = copy.release(Duration::ZERO);
    let up_to = last.map_or_else(String::new, |at| format!("; its last transaction is of {at}"));
    match (tried, note) {
        (Ok(tried), None) => Ok((tried, format!("the copy held everything that was committed{up_to}"))),
        (Ok(tried), Some(note)) => Ok((tried, format!("the copy may be older than the server: {note}{up_to}"))),
        (Err(error), None) => Err(error.into()),
        (Err(error), Some(note)) => {
            let text = format!("{error}\n  the copy may be older than the server: {note}{up_to}");
            Err(Failure::new(error.code(), text))
        }
    }
}

/// Sees to it that what was committed is in the archive, where surus may; else says why not.
async fn archived(scene: &Scene<'_>) -> Result<Option<String>, Failure> {
    let session = scene.target.connect(&Manners { read_only: false, ..Manners::looking() }).await?;
    let told = async {
        let may = "SELECT has_function_privilege('pg_switch_wal()', 'EXECUTE') AND NOT pg_is_in_recovery() AS may";
        if !session.ask(may).await?.first()?.bool("may")? {
            return Ok(None);
        }
        // At the end of a segment, 17 and later name the next one, which nothing is in yet.
        let back = if session.version().major() >= 14 { " - 1" } else { "" };
        let rows = session.ask(&format!("SELECT pg_walfile_name(pg_switch_wal(){back}) AS segment")).await?;
        Ok::<_, surus_prove::ProveError>(Some(rows.first()?.text("segment")?))
    };
    let segment = told.await;
    session.close().await;
    let Some(segment) = segment? else {
        return Ok(Some("the role may not call pg_switch_wal(), and the newest WAL is not archived yet".into()));
    };
    let deadline = Deadline::after(ARCHIVED_WITHIN);
    loop {
        let newest = tokio::task::block_in_place(|| protection::look(scene.engine.cluster()))?.newest_segment;
        if newest.is_some_and(|newest| newest >= segment) {
            return Ok(None);
        }
        if deadline.passed() {
            let seconds = ARCHIVED_WITHIN.as_secs();
            return Ok(Some(format!("segment {segment} was not archived within {seconds} s")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
