//! Which rows were on a page, or refer to it: told by a copy of the cluster from its backup.

use super::{
    Found, Page,
    page::{self, State, Wrong},
    patient::{Patient, read_at},
    place::{self, Fork, Geometry, Spot},
    relation::{Kind, RELATIONS, Relation},
};
use crate::{
    error::{ProveError, Result},
    moment::Moment,
};
use serde::Serialize;
use std::path::Path;
use surus_core::lsn::Lsn;
use surus_pg::{Manners, Rows as Answer, Session, quote::ident};

/// Bytes of the copy's tables that are read at a time.
const AT_ONCE: usize = 1 << 20;
/// Values of a TOAST table that are looked for, at most.
const VALUES: usize = 2000;
/// Rows that are named in a question.
const TIDS: usize = 1000;

/// The rows of a damaged page.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Rows {
    /// It holds none.
    None {
        why: String,
    },
    Unknown {
        why: String,
    },
    Known(Known),
}

/// Rows by their keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Known {
    /// The table, as SQL writes it.
    pub table: String,
    /// The columns that tell rows apart; all of them where there is no key.
    pub key: Vec<String>,
    pub has_key: bool,
    /// Does the page hold them, or do they have values on it (TOAST)?
    pub refer: bool,
    /// Values of the key, as text; the first column is where the row is in the copy.
    pub rows: Vec<(String, Vec<Option<String>>)>,
    /// The page in the copy, compared with the damaged one.
    pub version: Version,
}

/// How the page in the copy and the damaged one belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "version", rename_all = "kebab-case")]
pub enum Version {
    /// Both were last changed at this position: these are exactly the rows.
    Same { lsn: Lsn },
    /// The damaged one was changed later; that many versions of rows on it are of later transactions, as far as it can
    /// be read.
    Later { copy: Lsn, damaged: Lsn, rows: Option<usize> },
    /// The damaged page does not tell.
    Unknown { why: String },
}

/// What can be said before a copy was looked at.
pub fn of_kind(relation: Option<&Relation>, fork: Fork) -> Rows {
    let none = |why: &str| Rows::None { why: why.into() };
    let unknown = |why: &str| Rows::Unknown { why: why.into() };
    match (relation, fork) {
        (_, Fork::Fsm | Fork::Vm) => none("a map holds no rows"),
        (_, Fork::Init) => none("it is what an unlogged relation looks like when it is empty"),
        (Some(relation), _) if relation.kind == Kind::Index => {
            none("an index holds no rows: it is built from its table")
        }
        (Some(relation), _) if relation.unlogged => unknown("an unlogged table is in no backup"),
        (Some(relation), _) if relation.kind == Kind::Sequence => none("a sequence is one number"),
        (None, _) => unknown("it is not known whose page it is"),
        _ => unknown("no backup was given: --repo PLACE"),
    }
}

/// Does a copy know more of that page?
pub fn wants_copy(page: &Page) -> bool {
    let zero = page.wrong.contains(&Wrong::Zero);
    let rows = matches!(&page.rows, Rows::Unknown { .. }) && page.relation.as_ref().is_some_and(|one| !one.unlogged);
    page.block.is_some() && page.database.is_some() && (rows || (zero && page.relation.is_some()))
}

/// Tells the rows of all pages from a copy.
///
/// # Errors
/// When the copy is of another cluster. What it does not know is unknown in its page.
pub async fn fill(found: &mut Found, patient: &Patient, moment: &Moment, user: &str) -> Result<()> {
    let data = moment.place.data();
    let control = std::fs::read(data.join(surus_backup::control::PATH));
    let control = control.ok().and_then(|bytes| surus_backup::control::Control::parse(&bytes).ok());
    if let Some(control) = control
        && control.system_identifier != patient.cluster
    {
        let text = format!(
            "the backup is of cluster {}, and the damaged server is {}: its rows would be other ones",
            control.system_identifier, patient.cluster
        );
        return Err(ProveError::refused(surus_core::code::PAGE_COPY, text));
    }
    // What its server holds in memory is written, so that its files can be read.
    let written = match moment.session(user, "template1", &Manners::changing()).await {
        Ok(session) => {
            let written = session.run("CHECKPOINT").await.map_err(|error| error.message);
            session.close().await;
            written
        }
        Err(error) => Err(error.message),
    };
    for page in found.pages.iter_mut().filter(|page| wants_copy(page)) {
        let told = match &written {
            Ok(()) => tell(page, patient, moment, user, &data).await,
            Err(why) => Err(format!("the copy could not be asked: {why}")),
        };
        match told {
            Ok(rows) => page.rows = rows,
            Err(why) => page.rows = Rows::Unknown { why },
        }
    }
    Ok(())
}

async fn tell(page: &Page, patient: &Patient, moment: &Moment, user: &str, data: &Path) -> Result<Rows, String> {
    let (Some(database), Some(relation), Some(block)) = (&page.database, &page.relation, page.block) else {
        return Err("it is not known whose page it is".into());
    };
    let manners = Manners { application_name: "surus prove page".into(), read_only: true, ..Manners::changing() };
    let session = moment.session(user, database, &manners).await;
    let session = session.map_err(|error| format!("the copy's database could not be asked: {}", error.message))?;
    let copy = Copy { session, data, geometry: patient.geometry, checksums: patient.checksums };
    let told = copy.tell(page, relation, block).await;
    copy.session.close().await;
    told
}

/// A database of the copy.
struct Copy<'a> {
    session: Session,
    data: &'a Path,
    geometry: Geometry,
    checksums: bool,
}

impl Copy<'_> {
    async fn ask(&self, sql: &str) -> Result<Answer, String> {
        let rows = self.session.ask(sql).await.map_err(|error| format!("the copy: {}", error.message));
        self.session.take_asked();
        rows
    }

    async fn tell(&self, page: &Page, relation: &Relation, block: u32) -> Result<Rows, String> {
        let rows = self.ask(&format!("{RELATIONS}{}", relation.condition())).await?;
        let there = rows.first().ok().and_then(|row| Relation::of(&row).ok());
        let there = there.ok_or("the relation is not in the backup yet")?;
        if there.path != relation.path {
            return Err(format!(
                "the relation was rewritten since (VACUUM FULL, CLUSTER, TRUNCATE, …): its file was {} at the backup's moment",
                there.path
            ));
        }
        // Before anything reads it over SQL: that may change hints on it, and with them its position in the WAL.
        let spot = Spot { relation: relation.path.clone(), fork: page.fork, block };
        let state = self.page(&spot);
        let bytes = match state {
            Ok((State::New, _)) | Err(None) => {
                return Ok(Rows::None { why: "the page has never been used at the backup's moment".into() });
            }
            Ok((State::Wrong(wrong), _)) => {
                return Err(format!(
                    "the page is damaged in the backup, too ({}): an older one may have it right (--backup LABEL, --at TIME)",
                    wrong.text()
                ));
            }
            Ok((State::Sound, bytes)) => bytes,
            Err(Some(why)) => return Err(format!("the copy's page cannot be read: {why}")),
        };
        if page.fork != Fork::Main || relation.kind == Kind::Index {
            return Ok(of_kind(Some(relation), page.fork));
        }
        let version = self.compared(page, &bytes).await;
        let known = match relation.kind {
            Kind::Toast => self.referring(relation, block).await?,
            _ => self.on_page(relation, block).await?,
        };
        Ok(Rows::Known(Known { version, ..known }))
    }

    /// The page in the copy's files; an error without words when the file ends before it.
    fn page(&self, spot: &Spot) -> Result<(State, Vec<u8>), Option<String>> {
        let size = self.geometry.page_size;
        let path = self.data.join(spot.file(self.geometry));
        match read_at(&path, spot.offset(self.geometry), size) {
            Ok(bytes) if bytes.len() == size => Ok((page::judge(&bytes, spot.block, self.checksums), bytes)),
            Ok(_) => Err(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(None),
            Err(error) => Err(Some(error.to_string())),
        }
    }

    async fn compared(&self, page: &Page, bytes: &[u8]) -> Version {
        let copy = page::lsn(bytes);
        match page.lsn {
            None => Version::Unknown { why: "the damaged page's header cannot be believed".into() },
            Some(lsn) if lsn == copy => Version::Same { lsn },
            Some(lsn) if lsn > copy => {
                let next = self.ask("SELECT next_xid FROM pg_control_checkpoint()").await.ok();
                let next = next.and_then(|rows| rows.first().ok()?.text("next_xid").ok());
                // With its epoch: EPOCH:XID.
                let next = next.and_then(|text| text.rsplit(':').next()?.parse().ok());
                let rows = next.map(|next| page::changed_since(&page.bytes, next));
                Version::Later { copy, damaged: lsn, rows }
            }
            Some(lsn) => Version::Unknown {
                why: format!(
                    "the damaged page says that it was last changed at {lsn}, and the copy's at {copy}: the damaged one is \
                     older than it should be, that number is damaged, too, or looking at the copy before has changed hints \
                     on its page"
                ),
            },
        }
    }

    /// The columns that tell a table's rows apart: the primary key's, else a unique index's without NULLs, else all.
    async fn key(&self, oid: u32) -> Result<(Vec<String>, bool), String> {
        let sql = format!(
            "SELECT array_agg(a.attname::text ORDER BY k.at) AS columns FROM pg_index i \
             CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(number, at) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
             WHERE i.indrelid = {oid} AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
             AND k.at <= i.indnkeyatts GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts HAVING bool_and(a.attnotnull) \
             ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1"
        );
        let rows = self.ask(&sql).await?;
        if let Ok(row) = rows.first() {
            return Ok((row.list("columns").map_err(|error| error.to_string())?, true));
        }
        let sql = format!(
            "SELECT coalesce(array_agg(attname::text ORDER BY attnum), '{{}}') AS columns FROM pg_attribute \
             WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped"
        );
        let rows = self.ask(&sql).await?;
        let all = rows.first().and_then(|row| row.list("columns")).map_err(|error| error.to_string())?;
        Ok((all, false))
    }

    /// The rows at these places.
    async fn at(&self, oid: u32, table: &str, tids: &[String], refer: bool) -> Result<Known, String> {
        let (key, has_key) = self.key(oid).await?;
        let columns: String = key.iter().map(|column| format!(", {}::text", ident(column))).collect();
        let mut all = Vec::new();
        for some in tids.chunks(TIDS) {
            let list = some.iter().map(|tid| format!("\"{tid}\"")).collect::<Vec<_>>().join(",");
            let sql = format!("SELECT ctid::text{columns} FROM ONLY {table} WHERE ctid = ANY ('{{{list}}}'::tid[])");
            let rows = self.ask(&sql).await?;
            all.extend(rows.iter().map(|row| {
                let (place, values) = row.values().split_at(1);
                (place[0].clone().unwrap_or_default(), values.to_vec())
            }));
        }
        let version = Version::Unknown { why: "the pages were not compared".into() };
        Ok(Known { table: table.to_owned(), key, has_key, refer, rows: all, version })
    }

    fn tids(&self, block: u32) -> Vec<String> {
        (1..=page::rows_at_most(self.geometry.page_size)).map(|item| format!("({block},{item})")).collect()
    }

    async fn on_page(&self, relation: &Relation, block: u32) -> Result<Known, String> {
        self.at(relation.oid, &relation.sql(), &self.tids(block), false).await
    }

    /// The rows of the table that have a part of a value on a page of its TOAST table.
    async fn referring(&self, relation: &Relation, block: u32) -> Result<Known, String> {
        let owner = relation.of.as_ref().ok_or("the table that it belongs to is not known")?;
        let list = self.tids(block).iter().map(|tid| format!("\"{tid}\"")).collect::<Vec<_>>().join(",");
        let sql = format!(
            "SELECT DISTINCT chunk_id::int8 AS value FROM {} WHERE ctid = ANY ('{{{list}}}'::tid[]) LIMIT {VALUES}",
            relation.sql()
        );
        let rows = self.ask(&sql).await?;
        let value = |row: surus_pg::Row<'_>| row.i64("value").ok().and_then(|value| u32::try_from(value).ok());
        let values: Vec<u32> = rows.iter().filter_map(value).collect();
        let sql = format!("SELECT pg_relation_filepath({}) AS path", owner.oid);
        let rows = self.ask(&sql).await?;
        let path = rows.first().and_then(|row| row.text("path")).map_err(|error| error.to_string())?;
        let tids = self.search(&path, relation.oid, &values)?;
        self.at(owner.oid, &owner.sql(), &tids, true).await
    }

    /// Reads a table's files for pointers to these values: PostgreSQL has a function for it only since 17.
    fn search(&self, path: &str, toast: u32, values: &[u32]) -> Result<Vec<String>, String> {
        let size = self.geometry.page_size;
        let mut tids = Vec::new();
        for segment in 0.. {
            let file = self.data.join(place::file(path, Fork::Main, segment));
            let mut block = segment * self.geometry.segment_pages;
            let mut offset = 0;
            loop {
                let bytes = match read_at(&file, offset, (AT_ONCE / size).max(1) * size) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(tids),
                    Err(error) => return Err(format!("{}: {error}", file.display())),
                };
                if bytes.is_empty() {
                    break;
                }
                for page in bytes.chunks_exact(size) {
                    let rows = page::refer_to(page, toast, values);
                    tids.extend(rows.into_iter().map(|item| format!("({block},{item})")));
                    block += 1;
                }
                offset += bytes.len() as u64;
            }
        }
        Ok(tids)
    }
}

impl Found {
    /// Pages of zeros are damage only where the backup has something: what a copy has shown, or has not, is settled.
    pub fn settle(&mut self) {
        let (zero, rest): (Vec<Page>, Vec<Page>) =
            std::mem::take(&mut self.pages).into_iter().partition(|page| page.wrong.contains(&Wrong::Zero));
        self.pages = rest;
        for page in zero {
            let place = format!("{}, block {}", page.what, page.block.unwrap_or(0));
            match &page.rows {
                Rows::None { why } if why.starts_with("the page has never") => {
                    self.looked.notes.push(format!("{place} is all zeros, and was at the backup's moment: never used"));
                }
                Rows::Unknown { why } => self.looked.unknown.push(format!(
                    "{place} is all zeros, as PostgreSQL leaves a page that was never used; whether there was something on \
                     it only a backup tells: {why}"
                )),
                _ => self.pages.push(page),
            }
        }
    }
}
