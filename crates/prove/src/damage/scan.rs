//! Looking for damage: every page of every file that the catalog knows, then amcheck where it is there.

use super::{
    Found, Looked, Page, made,
    page::{self, State, Wrong},
    patient::{Database, Patient, Source},
    place::{self, Fork, RelationFile, Spot},
    read,
    relation::{Kind, RELATIONS, Relation, in_database},
};
use crate::error::Result;
use surus_core::monitor::Monitor;
use surus_pg::{AskError, quote::ident};

/// Bytes read at a time, about.
const AT_ONCE: usize = 1 << 20;
/// Damaged pages that are told of one fork.
const PAGES_EACH: usize = 64;
/// Pages of zeros that are named.
const ZEROS: usize = 20;
/// What amcheck says of one table, at most.
const WORDS_EACH: usize = 16;

/// All databases.
pub async fn all(patient: &mut Patient, amcheck: bool, found: &mut Found, monitor: &dyn Monitor) -> Result<()> {
    failures(patient, &mut found.looked).await;
    if let Source::None(why) = &patient.source {
        found.looked.unknown.push(format!("page checksums: {why}"));
    }
    let mut shared = true;
    for database in patient.databases.clone() {
        if !database.open {
            found.looked.unknown.push(format!("{}: it lets nobody in", ident(&database.name)));
            continue;
        }
        let relations = match relations(patient, &database).await {
            Ok(relations) => relations,
            Err(error) => {
                unreadable(patient, &database, &error, found).await;
                continue;
            }
        };
        let relations: Vec<Relation> = relations.into_iter().filter(|one| shared || !one.shared).collect();
        shared = false;
        monitor.begin(&database.name, Some(relations.len() as u64));
        for (number, relation) in relations.iter().enumerate() {
            if !matches!(patient.source, Source::None(_)) {
                files(patient, &database.name, relation, found).await;
            }
            monitor.advance(&database.name, number as u64 + 1);
        }
        monitor.end(&database.name, "");
        if amcheck {
            let wanted: Vec<&Relation> = relations.iter().collect();
            inside(patient, &database.name, &wanted, found, monitor).await;
        }
    }
    Ok(())
}

/// One relation with all its forks.
pub async fn relation(
    patient: &mut Patient,
    database: &str,
    relation: &Relation,
    amcheck: bool,
    found: &mut Found,
    monitor: &dyn Monitor,
) -> Result<()> {
    monitor.begin(&relation.name, None);
    files(patient, database, relation, found).await;
    monitor.end(&relation.name, "");
    if amcheck {
        inside(patient, database, &[relation], found, monitor).await;
    }
    Ok(())
}

/// One fork of a file that was named.
pub async fn fork(
    patient: &mut Patient,
    path: &str,
    fork: Fork,
    whose: Option<(&str, &Relation)>,
    found: &mut Found,
    monitor: &dyn Monitor,
) -> Result<()> {
    monitor.begin(path, None);
    pages(patient, path, fork, whose, found).await;
    monitor.end(path, "");
    Ok(())
}

/// What the server has counted is a hint.
async fn failures(patient: &mut Patient, looked: &mut Looked) {
    let sql = "SELECT sum(checksum_failures)::int8 AS failures FROM pg_stat_database";
    let own = patient.own_database();
    let asked = patient.ask(&own, sql).await;
    looked.counted_failures =
        asked.ok().and_then(|rows| rows.first().ok().and_then(|row| row.opt_i64("failures").ok().flatten()));
}

async fn relations(patient: &mut Patient, database: &Database) -> Result<Vec<Relation>, AskError> {
    let rows = patient.ask(&database.name, &format!("{RELATIONS} ORDER BY c.oid")).await?;
    let odd = |error: surus_pg::RowError| AskError {
        kind: surus_pg::AskErrorKind::Server,
        sqlstate: None,
        message: error.to_string(),
        detail: None,
        hint: None,
    };
    rows.iter().map(|row| Relation::of(&row).map_err(odd)).collect()
}

/// A catalog that cannot be read is damage itself, when the server names the page.
async fn unreadable(patient: &mut Patient, database: &Database, error: &AskError, found: &mut Found) {
    let name = ident(&database.name);
    match place::of_line(&error.message, patient.geometry) {
        Ok(spot) => {
            let (state, bytes) = read(patient, &spot).await;
            let wrong = match state {
                State::Wrong(wrong) => wrong,
                _ => Wrong::Said { words: error.message.clone() },
            };
            found.pages.push(made(patient, &spot, Some(database.name.clone()), None, vec![wrong], bytes));
            found.looked.unknown.push(format!("{name}: what else is damaged in it; its catalog cannot be read"));
        }
        Err(_) => found.looked.unknown.push(format!("{name}: its catalog cannot be read: {}", error.message)),
    }
}

/// All forks.
async fn files(patient: &mut Patient, database: &str, relation: &Relation, found: &mut Found) {
    for fork in Fork::ALL {
        if fork == Fork::Init && !relation.unlogged {
            continue;
        }
        pages(patient, &relation.path, fork, Some((database, relation)), found).await;
    }
}

async fn pages(patient: &mut Patient, path: &str, fork: Fork, whose: Option<(&str, &Relation)>, found: &mut Found) {
    let geometry = patient.geometry;
    let (mut damaged, mut more) = (Vec::new(), 0usize);
    for segment in 0.. {
        let file = place::file(path, fork, segment);
        let size = match patient.size(&file).await {
            Ok(Some(size)) => size,
            // It has no such fork, or was dropped meanwhile.
            Ok(None) => break,
            Err(why) => {
                found.looked.unknown.push(format!("{file}: {why}"));
                break;
            }
        };
        found.looked.files += 1;
        let pages = u32::try_from(size.div_ceil(geometry.page_size as u64)).unwrap_or(u32::MAX);
        let first = segment.saturating_mul(geometry.segment_pages);
        let table = fork == Fork::Main && whose.is_none_or(|(_, relation)| relation.kind != Kind::Index);
        let suspects = suspects(patient, &file, first, pages, table, &mut found.looked).await;
        for block in suspects {
            let spot = Spot { relation: path.to_owned(), fork, block };
            let (State::Wrong(wrong), bytes) = read(patient, &spot).await else { continue };
            // What was dropped or cut off while it was read is no damage.
            let there = patient.size(&file).await.ok().flatten().unwrap_or(0);
            if there <= spot.offset(geometry) {
                continue;
            }
            if damaged.len() < PAGES_EACH {
                damaged.push((spot, wrong, bytes));
            } else {
                more += 1;
            }
        }
        if pages < geometry.segment_pages {
            break;
        }
    }
    let whose = match whose {
        Some((database, relation)) => (Some(database.to_owned()), Some(relation.clone())),
        None if damaged.is_empty() => (None, None),
        None => (RelationFile::parse(path).and_then(|file| patient.database_of(&file)).map(|one| one.name), None),
    };
    for (spot, wrong, bytes) in damaged {
        found.pages.push(made(patient, &spot, whose.0.clone(), whose.1.clone(), vec![wrong], bytes));
    }
    if more > 0 {
        found.looked.notes.push(format!("{path}{}: {more} more pages are damaged than are told here", fork.suffix()));
    }
}

/// The blocks of a file that do not look right at a first reading.
async fn suspects(
    patient: &mut Patient,
    file: &str,
    first: u32,
    pages: u32,
    table: bool,
    looked: &mut Looked,
) -> Vec<u32> {
    let size = patient.geometry.page_size;
    let at_once = u32::try_from((AT_ONCE / size).max(1)).unwrap_or(1);
    let (mut bad, mut zeros, mut at) = (Vec::new(), Vec::new(), 0);
    while at < pages {
        let count = at_once.min(pages - at);
        match patient.read(file, u64::from(at) * size as u64, count as usize * size).await {
            Ok(bytes) => {
                let chunks = (first + at..).zip(bytes.chunks(size));
                for (block, one) in chunks {
                    looked.pages += 1;
                    let whole = one.len() == size;
                    let short = State::Wrong(Wrong::Short { bytes: one.len() });
                    match if whole { page::judge(one, block, patient.checksums) } else { short } {
                        State::Sound => {
                            looked.zeros(file, &mut zeros);
                        }
                        // At the end of a file they are room for rows to come.
                        State::New if table => zeros.push(block),
                        State::New => {}
                        State::Wrong(_) => bad.push(block),
                    }
                }
            }
            // Which of them it is, is found out one by one.
            Err(_) => bad.extend((first + at)..(first + at + count)),
        }
        at += count;
    }
    bad
}

impl Looked {
    /// Remembers pages of zeros, and forgets them.
    fn zeros(&mut self, file: &str, blocks: &mut Vec<u32>) {
        self.zero_pages += blocks.len() as u64;
        let room = ZEROS.saturating_sub(self.zeros.len());
        self.zeros.extend(blocks.drain(..).take(room).map(|block| format!("{file}, block {block}")));
    }
}

/// The schema of amcheck in a database, and whether the role may call both functions.
async fn extension(patient: &mut Patient, database: &str) -> Result<(String, bool, bool), String> {
    let sql = "SELECT n.nspname AS schema, \
         coalesce(bool_or(has_function_privilege(p.oid, 'EXECUTE')) FILTER (WHERE p.proname = 'verify_heapam'), false) AS heap, \
         coalesce(bool_or(has_function_privilege(p.oid, 'EXECUTE')) FILTER (WHERE p.proname = 'bt_index_check'), false) AS btree \
         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
         JOIN pg_depend d ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass \
          AND d.classid = 'pg_proc'::regclass JOIN pg_proc p ON p.oid = d.objid WHERE e.extname = 'amcheck' GROUP BY 1";
    let rows = patient.ask(database, sql).await.map_err(|error| error.message)?;
    let row = rows.first().map_err(|_| "amcheck is not installed there (CREATE EXTENSION amcheck)".to_owned())?;
    let odd = |error: surus_pg::RowError| error.to_string();
    let (heap, btree) = (row.bool("heap").map_err(odd)?, row.bool("btree").map_err(odd)?);
    if !heap && !btree {
        return Err("the role may not call amcheck's functions".into());
    }
    Ok((ident(row.str("schema").map_err(odd)?), heap, btree))
}

/// amcheck over relations whose pages looked right.
async fn inside(
    patient: &mut Patient,
    database: &str,
    relations: &[&Relation],
    found: &mut Found,
    monitor: &dyn Monitor,
) {
    let (schema, heap, btree) = match extension(patient, database).await {
        Ok(there) => there,
        Err(why) => {
            found.looked.unknown.push(format!("{}: amcheck did not look: {why}", ident(database)));
            return;
        }
    };
    let task = format!("{database}, amcheck");
    monitor.begin(&task, Some(relations.len() as u64));
    for (number, relation) in relations.iter().enumerate() {
        monitor.advance(&task, number as u64 + 1);
        // A standby has no unlogged rows; a page that the server refuses to read is told already.
        let known = found.pages.iter().any(|page| page.relation.as_ref().is_some_and(|one| one.path == relation.path));
        if known || (relation.unlogged && patient.standby) {
            continue;
        }
        match (relation.kind, relation.method.as_str()) {
            (Kind::Table | Kind::Toast | Kind::MaterializedView, "heap") if heap => {
                table(patient, database, &schema, relation, found).await;
            }
            (Kind::Index, "btree") if btree => index(patient, database, &schema, relation, found).await,
            _ => {}
        }
    }
    monitor.end(&task, "");
}

/// What amcheck says of some blocks of a table: block and words.
async fn verify(
    patient: &mut Patient,
    database: &str,
    schema: &str,
    relation: &Relation,
    blocks: Option<u32>,
) -> Result<Vec<(Option<u32>, String)>, AskError> {
    let only = blocks.map(|block| format!(", startblock => {block}, endblock => {block}")).unwrap_or_default();
    let sql = format!(
        "SELECT blkno::int8, offnum::int8, msg FROM {schema}.verify_heapam({}::oid::regclass, check_toast => true{only}) \
         LIMIT 200",
        relation.oid
    );
    let rows = patient.ask(database, &sql).await?;
    let told = |row: surus_pg::Row<'_>| {
        let block = row.opt_i64("blkno").ok().flatten().and_then(|block| u32::try_from(block).ok());
        let item = row.opt_i64("offnum").ok().flatten().map(|item| format!("row {item}: ")).unwrap_or_default();
        (block, format!("{item}{}", row.text("msg").unwrap_or_default()))
    };
    Ok(rows.iter().map(told).collect())
}

async fn table(patient: &mut Patient, database: &str, schema: &str, relation: &Relation, found: &mut Found) {
    let told = match verify(patient, database, schema, relation, None).await {
        Ok(told) => told,
        Err(error) => return refused(patient, database, relation, &error, found).await,
    };
    found.looked.amcheck += 1;
    let mut pages: Vec<(u32, Vec<Wrong>)> = Vec::new();
    for (block, words) in told {
        let block = block.unwrap_or(0);
        let wrong = Wrong::Amcheck { words };
        match pages.iter_mut().find(|(known, _)| *known == block) {
            Some((_, all)) if all.len() < WORDS_EACH => all.push(wrong),
            Some(_) => {}
            None => pages.push((block, vec![wrong])),
        }
    }
    for (block, wrong) in pages {
        let spot = Spot { relation: relation.path.clone(), fork: Fork::Main, block };
        let (_, bytes) = read(patient, &spot).await;
        let (database, relation) = (Some(database.to_owned()), Some(relation.clone()));
        found.pages.push(made(patient, &spot, database, relation, wrong, bytes));
    }
}

async fn index(patient: &mut Patient, database: &str, schema: &str, relation: &Relation, found: &mut Found) {
    match check_index(patient, database, schema, relation).await {
        Ok(()) => found.looked.amcheck += 1,
        Err(error) => refused(patient, database, relation, &error, found).await,
    }
}

async fn check_index(patient: &mut Patient, database: &str, schema: &str, relation: &Relation) -> Result<(), AskError> {
    // An index that is being made, or whose making failed, is not for queries.
    let sql = format!(
        "SELECT {schema}.bt_index_check(i.indexrelid::regclass) FROM pg_index i WHERE i.indexrelid = {} \
         AND i.indisvalid AND i.indisready",
        relation.oid
    );
    patient.ask(database, &sql).await.map(drop)
}

/// Is it damage, or could amcheck not look?
async fn refused(patient: &mut Patient, database: &str, relation: &Relation, error: &AskError, found: &mut Found) {
    let damage = matches!(error.sqlstate.as_deref(), Some("XX001" | "XX002"));
    if !damage {
        let name = in_database(database, &relation.text(Fork::Main));
        found.looked.unknown.push(format!("{name}: amcheck could not look: {}", error.message));
        return;
    }
    let detail = error.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let wrong = vec![Wrong::Amcheck { words: format!("{}{detail}", error.message) }];
    // The message may name a page: that of another file than the relation's, too.
    let spot = place::of_line(&error.message, patient.geometry).ok().or_else(|| {
        let block = block_of(error)?;
        Some(Spot { relation: relation.path.clone(), fork: Fork::Main, block })
    });
    let (name, mut own) = (Some(database.to_owned()), Some(relation.clone()));
    match spot {
        Some(spot) => {
            let file = spot.file(patient.geometry);
            if found.pages.iter().any(|page| page.file == file && page.block == Some(spot.block)) {
                return;
            }
            let (_, bytes) = read(patient, &spot).await;
            if spot.relation != relation.path {
                own = patient.owner(database, &spot.relation).await.ok().flatten();
            }
            found.pages.push(made(patient, &spot, name, own, wrong, bytes));
        }
        None => found.pages.push(Page {
            block: None,
            offset: None,
            ..made(
                patient,
                &Spot { relation: relation.path.clone(), fork: Fork::Main, block: 0 },
                name,
                own,
                wrong,
                Vec::new(),
            )
        }),
    }
}

/// The block of an index that amcheck names: "Lower index tid=(1,2) …", or "block 7".
fn block_of(error: &AskError) -> Option<u32> {
    let text = format!("{} {}", error.message, error.detail.as_deref().unwrap_or_default());
    ["ndex tid=(", "block "].iter().find_map(|mark| {
        let rest = &text[text.find(mark)? + mark.len()..];
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    })
}

/// What amcheck says of one page whose bytes look right.
pub async fn amcheck_page(
    patient: &mut Patient,
    database: &str,
    relation: &Relation,
    block: u32,
    looked: &mut Looked,
) -> Vec<Wrong> {
    let (schema, heap, btree) = match extension(patient, database).await {
        Ok(there) => there,
        Err(why) => {
            looked.unknown.push(format!("what is on the page: amcheck did not look: {why}"));
            return Vec::new();
        }
    };
    let wrong = |words| Wrong::Amcheck { words };
    match (relation.kind, relation.method.as_str()) {
        (Kind::Table | Kind::Toast | Kind::MaterializedView, "heap") if heap => {
            match verify(patient, database, &schema, relation, Some(block)).await {
                Ok(told) => {
                    looked.amcheck += 1;
                    told.into_iter().take(WORDS_EACH).map(|(_, words)| wrong(words)).collect()
                }
                Err(error) => could_not(looked, &error),
            }
        }
        (Kind::Index, "btree") if btree => match check_index(patient, database, &schema, relation).await {
            Ok(()) => {
                looked.amcheck += 1;
                Vec::new()
            }
            Err(error) if block_of(&error).is_none_or(|named| named == block) => could_not(looked, &error),
            Err(error) => {
                looked.notes.push(format!("another page of it is damaged: {}", error.message));
                could_not(looked, &error)
            }
        },
        _ => Vec::new(),
    }
}

fn could_not(looked: &mut Looked, error: &AskError) -> Vec<Wrong> {
    if matches!(error.sqlstate.as_deref(), Some("XX001" | "XX002")) {
        return vec![Wrong::Amcheck { words: error.message.clone() }];
    }
    looked.unknown.push(format!("what is on the page: amcheck could not look: {}", error.message));
    Vec::new()
}
