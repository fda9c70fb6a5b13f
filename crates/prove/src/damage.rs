//! A damaged page: where it is, what is wrong with it, which rows were on it, and the way back.
//!
//! The server is only read: its files where they are here, else through `pg_read_binary_file`, and the catalog. Which
//! rows were on a page that cannot be read is told by a copy restored from the backup. The way back is advice: commands
//! that somebody else runs.

pub mod page;
pub mod patient;
pub mod place;
pub mod relation;
mod rows;
mod scan;
mod way;

pub use rows::{Known, Rows, Version, fill, wants_copy};
pub use way::{Advice, Names, precautions, way};

use crate::error::{ProveError, Result};
use page::{State, Wrong};
use patient::{Patient, Source};
use place::{Fork, Spot};
use relation::{Relation, in_database};
use serde::Serialize;
use std::time::Duration;
use surus_core::{code, monitor::Monitor};

/// How often a page that looks wrong is read again: the server may be writing it.
const AGAIN: usize = 6;
/// How long to wait in between.
const PAUSE: Duration = Duration::from_millis(40);

/// Which pages are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// All of the cluster.
    All,
    /// A relation of a database: one block of a fork, or all of it.
    Relation { name: String, fork: Fork, block: Option<u32> },
    /// A file below the data directory, as PostgreSQL's messages name it: one block, or all of the fork.
    File { path: String, block: Option<u32> },
    /// A line of a log.
    Line(String),
}

/// A damaged page.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// The database; none when it is not known.
    pub database: Option<String>,
    /// None when the catalog does not know the file.
    pub relation: Option<Relation>,
    /// In words.
    pub what: String,
    pub fork: Fork,
    /// The relation's file, without segment; none when only the server's words are known.
    pub file: String,
    pub segment: u32,
    /// In the relation; none when amcheck did not name one.
    pub block: Option<u32>,
    /// Bytes of the file before it.
    pub offset: Option<u64>,
    pub wrong: Vec<Wrong>,
    /// The position in the WAL of its last change, if its header can be believed.
    pub lsn: Option<surus_core::lsn::Lsn>,
    pub rows: Rows,
    pub way: Vec<Advice>,
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    pub files: u64,
    pub pages: u64,
    /// Pages of zeros in tables before the files' ends: some of them may have had rows.
    pub zero_pages: u64,
    /// The first of them: file and block.
    pub zeros: Vec<String>,
    /// Relations that amcheck looked into.
    pub amcheck: u64,
    /// Failed checksums that the server has counted.
    pub counted_failures: Option<i64>,
    /// What could not be seen, and why.
    pub unknown: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Found {
    pub pages: Vec<Page>,
    pub looked: Looked,
}

fn refused(text: impl Into<String>) -> ProveError {
    ProveError::refused(code::PAGE_WHICH, text)
}

/// Looks for damage where the aim says.
///
/// # Errors
/// When it is not clear which pages are meant, or none of them can be read.
pub async fn look(
    patient: &mut Patient,
    aim: &Aim,
    database: &str,
    amcheck: bool,
    monitor: &dyn Monitor,
) -> Result<Found> {
    if let Source::None(why) = &patient.source
        && !(amcheck && *aim == Aim::All)
    {
        return Err(ProveError::refused(code::PAGE_UNREAD, format!("no page was looked at: {why}")));
    }
    let mut found = Found::default();
    match aim {
        Aim::All => scan::all(patient, amcheck, &mut found, monitor).await?,
        Aim::Relation { name, fork, block } => {
            let relation = named(patient, database, name).await?;
            match block {
                Some(block) => {
                    let spot = Spot { relation: relation.path.clone(), fork: *fork, block: *block };
                    single(patient, &spot, Some((database, &relation)), &mut found, amcheck).await?;
                }
                None => scan::relation(patient, database, &relation, amcheck, &mut found, monitor).await?,
            }
        }
        Aim::File { path, block } => file(patient, path, *block, amcheck, &mut found, monitor).await?,
        Aim::Line(line) => {
            let spot = place::of_line(line, patient.geometry);
            let spot = spot.map_err(|why| refused(format!("no page was looked at: {why}")))?;
            single(patient, &spot, None, &mut found, amcheck).await?;
        }
    }
    Ok(found)
}

async fn named(patient: &mut Patient, database: &str, name: &str) -> Result<Relation> {
    let oid = patient.find(database, name).await;
    let oid = oid.map_err(|error| refused(format!("no page was looked at: {name}: {}", error.message)))?;
    let nobody = || refused(format!("no page was looked at: there is no relation {}", in_database(database, name)));
    let condition = format!(" AND c.oid = {}", oid.ok_or_else(nobody)?);
    let relation = patient.one(database, &condition).await?;
    relation.ok_or_else(|| {
        let text = "it has no files of its own that others may read: a view, a partitioned table (name a partition), or a \
                    temporary one";
        refused(format!("no page was looked at: {}: {text}", in_database(database, name)))
    })
}

async fn file(
    patient: &mut Patient,
    path: &str,
    block: Option<u32>,
    amcheck: bool,
    found: &mut Found,
    monitor: &dyn Monitor,
) -> Result<()> {
    let parsed = place::RelationFile::parse(path);
    let parsed = parsed.ok_or_else(|| {
        refused(format!("no page was looked at: {path} is no file of a relation, like base/5/16384 or global/1260"))
    })?;
    let Some(block) = block else {
        let there = patient.size(&place::file(&parsed.relation, parsed.fork, 0)).await;
        if there == Ok(None) {
            return Err(refused(format!("no page was looked at: there is no file {}", parsed.relation)));
        }
        let owner = owner(patient, &parsed.relation).await;
        let (database, relation) = (owner.0, owner.1);
        let whose = database.as_deref().zip(relation.as_ref());
        return scan::fork(patient, &parsed.relation, parsed.fork, whose, found, monitor).await;
    };
    let spot = Spot { relation: parsed.relation, fork: parsed.fork, block };
    let segment = spot.segment(patient.geometry);
    if parsed.segment != 0 && parsed.segment != segment {
        let text = format!(
            "no page was looked at: blocks are counted from the relation's beginning, and block {block} is in segment \
             {segment}, not in {path}; the first block of that file is {}",
            u64::from(parsed.segment) * u64::from(patient.geometry.segment_pages)
        );
        return Err(refused(text));
    }
    single(patient, &spot, None, found, amcheck).await
}

/// The database and the relation of a file, as far as the catalog tells.
async fn owner(patient: &mut Patient, path: &str) -> (Option<String>, Option<Relation>) {
    let file = place::RelationFile::parse(path);
    let Some(database) = file.and_then(|file| patient.database_of(&file)) else { return (None, None) };
    // What cannot be read is not named; its number still tells something.
    let relation = patient.owner(&database.name, path).await.ok().flatten();
    (Some(database.name), relation)
}

/// Looks at one page.
async fn single(
    patient: &mut Patient,
    spot: &Spot,
    whose: Option<(&str, &Relation)>,
    found: &mut Found,
    amcheck: bool,
) -> Result<()> {
    let geometry = patient.geometry;
    let file = spot.file(geometry);
    let size = patient.size(&file).await;
    let pages = size.clone().map(|size| size.unwrap_or(0).div_ceil(geometry.page_size as u64));
    if pages.is_ok_and(|pages| u64::from(spot.block % geometry.segment_pages) >= pages) {
        let text = match size {
            Ok(Some(size)) => format!(
                "no page was looked at: {file} has {} pages, and block {} would be number {} of them",
                size / geometry.page_size as u64,
                spot.block,
                spot.block % geometry.segment_pages
            ),
            _ => format!("no page was looked at: there is no file {file}, where block {} would be", spot.block),
        };
        return Err(refused(text));
    }
    let (database, relation) = match whose {
        Some((database, relation)) => (Some(database.to_owned()), Some(relation.clone())),
        None => owner(patient, &spot.relation).await,
    };
    found.looked.files += 1;
    found.looked.pages += 1;
    let (state, bytes) = read(patient, spot).await;
    let mut wrong = Vec::new();
    match state {
        State::Sound => {}
        // Whether it had rows, only a copy can tell.
        State::New => {
            found.looked.zero_pages += 1;
            if spot.fork == Fork::Main {
                wrong.push(Wrong::Zero);
            }
        }
        State::Wrong(one) => wrong.push(one),
    }
    if wrong.is_empty()
        && amcheck
        && spot.fork == Fork::Main
        && let Some((database, relation)) = database.as_deref().zip(relation.as_ref())
    {
        wrong.extend(scan::amcheck_page(patient, database, relation, spot.block, &mut found.looked).await);
    }
    if !wrong.is_empty() {
        found.pages.push(made(patient, spot, database, relation, wrong, bytes));
    }
    Ok(())
}

/// Reads a page until it looks right, or has looked wrong several times.
async fn read(patient: &mut Patient, spot: &Spot) -> (State, Vec<u8>) {
    let geometry = patient.geometry;
    let mut last = (State::Sound, Vec::new());
    for attempt in 0..AGAIN {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        last = match patient.read(&spot.file(geometry), spot.offset(geometry), geometry.page_size).await {
            Err(wrong) => (State::Wrong(wrong), Vec::new()),
            Ok(bytes) if bytes.len() < geometry.page_size => (State::Wrong(Wrong::Short { bytes: bytes.len() }), bytes),
            Ok(bytes) => (page::judge(&bytes, spot.block, patient.checksums), bytes),
        };
        if !matches!(last.0, State::Wrong(_)) {
            break;
        }
    }
    last
}

/// A page with what is known so far.
fn made(
    patient: &Patient,
    spot: &Spot,
    database: Option<String>,
    relation: Option<Relation>,
    wrong: Vec<Wrong>,
    bytes: Vec<u8>,
) -> Page {
    let geometry = patient.geometry;
    let what = relation.as_ref().map_or_else(|| unnamed(spot), |relation| relation.text(spot.fork));
    // A header that makes no sense says nothing; nor does that of a page of zeros.
    let header = wrong.iter().any(|wrong| match wrong {
        Wrong::Checksum { header, .. } => header.is_some(),
        Wrong::Amcheck { .. } => false,
        _ => true,
    });
    Page {
        lsn: (!header && bytes.len() >= 8).then(|| page::lsn(&bytes)),
        rows: rows::of_kind(relation.as_ref(), spot.fork),
        database,
        relation,
        what,
        fork: spot.fork,
        file: spot.file(geometry),
        segment: spot.segment(geometry),
        block: Some(spot.block),
        offset: Some(spot.offset(geometry)),
        wrong,
        way: Vec::new(),
        bytes,
    }
}

/// The first OID of a user's own relation. Source: `FirstNormalObjectId`.
const FIRST_NORMAL: u32 = 16_384;

fn unnamed(spot: &Spot) -> String {
    let file = place::RelationFile::parse(&spot.relation);
    match file.and_then(|file| file.node()) {
        Some(node) if node < FIRST_NORMAL => {
            format!("a relation of the system catalogue (file {}, by its number)", spot.relation)
        }
        _ => format!("a relation that the catalog does not name (file {})", spot.relation),
    }
}
