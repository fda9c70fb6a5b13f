//! Incremental backups as PostgreSQL makes them from version 17 on: the server is given a manifest of the parent, knows
//! from its WAL summaries which blocks changed since, and sends only these.
//!
//! Source: PostgreSQL's documentation, "Streaming Replication Protocol" (`UPLOAD_MANIFEST`, `BASE_BACKUP`) and "Backup
//! Manifest Format"; the form of incremental files in `basebackup_incremental.h` and pg_combinebackup.

use super::{
    base::Known,
    scan::{SEGMENT_PAGES, first_page},
    server::ServerFacts,
    stream::PART,
};
use crate::{
    block::BLOCK,
    error::Result,
    manifest::About,
    restore::pg_manifest::{self, Entry},
};
use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Seek, Write},
    ops::Range,
};
use surus_core::lsn::Lsn;
use surus_pg::{Session, replication::base_backup::BackupPoint};

/// What the names of files begin with of which only blocks come.
const PREFIX: &str = "INCREMENTAL.";
/// What such a file begins with, in the server's byte order.
const MAGIC: u32 = 0xD3AE_1F0D;
/// Bytes of its head before the numbers of the blocks.
const FIXED: usize = 12;

/// The backup that this one builds on.
pub struct Base {
    pub about: About,
    pub known: Known,
}

impl Base {
    /// Can the server say what changed since? Otherwise why not; the reason is empty where nobody would expect it to.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn natively(&self, session: &Session, facts: &ServerFacts) -> Result<std::result::Result<(), String>> {
        if facts.version < 170_000 {
            return Ok(Err(String::new()));
        }
        if self.about.checksums != facts.checksums {
            // Switching page checksums on writes every page without a trace in WAL.
            return Ok(Err(format!("page checksums were switched on or off after backup {}", self.about.label)));
        }
        if facts.page_size as usize != BLOCK || facts.segment_pages != SEGMENT_PAGES {
            return Ok(Err("the server was built with another size of pages or files".into()));
        }
        let sql = "SELECT current_setting('summarize_wal')::bool AS summarized, \
                   has_function_privilege('pg_available_wal_summaries()', 'EXECUTE') AND \
                   has_function_privilege('pg_wal_summary_contents(bigint,pg_lsn,pg_lsn)', 'EXECUTE') AS may";
        let rows = session.ask(sql).await?;
        let row = rows.first()?;
        if !row.bool("summarized")? {
            return Ok(Err("the server keeps no WAL summaries (summarize_wal is off)".into()));
        }
        if !row.bool("may")? {
            let text = "the role may not execute pg_available_wal_summaries and pg_wal_summary_contents";
            return Ok(Err(text.into()));
        }
        Ok(Ok(()))
    }

    /// Is the server on the backup's timeline? What it is told of an earlier one it does not compare with where its own
    /// began: a backup from beyond that point would be taken for one of its past.
    ///
    /// # Errors
    /// Why what changed is not asked for.
    pub fn on_timeline(&self, timeline: u32) -> std::result::Result<(), String> {
        let About { label, timeline: own, .. } = &self.about;
        match *own == timeline {
            true => Ok(()),
            false => Err(format!("backup {label} is of timeline {own}, and the server is on {timeline}")),
        }
    }

    /// PostgreSQL's manifest of the backup, for the server: a file without a name, at its beginning.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn manifest(&self) -> std::io::Result<File> {
        let mut out = BufWriter::new(tempfile::tempfile()?);
        let entry =
            |(path, file): (_, &super::base::KnownFile)| Entry { path, size: file.size, modified_ms: 0, crc32c: None };
        pg_manifest::write(&mut out, &self.about, self.known.files().map(entry))?;
        out.flush()?;
        let mut file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }
}

/// A fork of a relation: tablespace, database, relfilenode, fork.
type Fork = (u32, u32, u32, u8);

/// To how few blocks forks of relations were truncated since the parent began.
#[derive(Debug, Default)]
pub struct Limits(HashMap<Fork, u32>);

impl Limits {
    /// Reads the summaries of WAL between the parent's start and this backup's. Otherwise why they do not do.
    ///
    /// The server itself does not tell which blocks of a file are newer than a truncation: where a relation was
    /// extended again without writing to all of its new pages, those are empty, and neither sent nor the parent's.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn read(session: &Session, base: &Base, start: BackupPoint) -> Result<std::result::Result<Self, String>> {
        let (timeline, from, to) = (start.timeline, base.about.start_lsn, start.lsn);
        if let Err(why) = base.on_timeline(timeline) {
            return Ok(Err(why));
        }
        if !summarized(session, timeline, from, to).await? {
            return Ok(Err(format!("not all WAL from {from} to {to} is summarized")));
        }
        let sql = format!(
            "SELECT c.reltablespace::int8 AS space, c.reldatabase::int8 AS database, c.relfilenode::int8 AS number, \
             c.relforknumber::int8 AS fork, min(c.relblocknumber)::int8 AS block FROM pg_available_wal_summaries() s, \
             pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c WHERE s.tli = {timeline} AND s.end_lsn > '{from}' \
             AND s.start_lsn < '{to}' AND c.is_limit_block GROUP BY 1, 2, 3, 4"
        );
        let rows = session.ask(&sql).await?;
        let mut limits = HashMap::new();
        for row in rows.iter() {
            let number = |name| Ok::<_, crate::BackupError>(u32::try_from(row.i64(name)?).unwrap_or(0));
            let fork = (number("space")?, number("database")?, number("number")?, number("fork")? as u8);
            limits.insert(fork, number("block")?);
        }
        // Once more: a summary that was too old may have been removed while they were read.
        match summarized(session, timeline, from, to).await? {
            true => Ok(Ok(Self(limits))),
            false => Ok(Err("WAL summaries were removed while they were read".into())),
        }
    }

    /// The first block of a file that, when it is not sent, is not the parent's.
    fn of(&self, path: &str) -> u32 {
        let limit = fork(path).and_then(|fork| self.0.get(&fork));
        limit.map_or(u32::MAX, |limit| limit.saturating_sub(first_page(path).unwrap_or(0)))
    }
}

/// Is all WAL between two positions summarized?
async fn summarized(session: &Session, timeline: u32, from: Lsn, to: Lsn) -> Result<bool> {
    let sql = format!(
        "SELECT coalesce(sum(least(end_lsn, '{to}') - greatest(start_lsn, '{from}')), 0) >= '{to}'::pg_lsn - \
         '{from}'::pg_lsn AS whole FROM pg_available_wal_summaries() WHERE tli = {timeline} AND end_lsn > '{from}' AND \
         start_lsn < '{to}'"
    );
    Ok(session.ask(&sql).await?.first()?.bool("whole")?)
}

/// The fork of a relation that a file is of.
fn fork(path: &str) -> Option<Fork> {
    let parts: Vec<_> = path.split('/').collect();
    // The oids of pg_default and pg_global.
    let (space, database, name) = match parts.as_slice() {
        ["global", name] => (1664, 0, *name),
        ["base", database, name] => (1663, database.parse().ok()?, *name),
        ["pg_tblspc", space, _, database, name] => (space.parse().ok()?, database.parse().ok()?, *name),
        _ => return None,
    };
    let name = name.split_once('.').map_or(name, |(name, _)| name);
    let (relation, fork) = name.split_once('_').unwrap_or((name, ""));
    let fork = ["", "fsm", "vm", "init"].iter().position(|known| *known == fork)?;
    Some((space, database, relation.parse().ok()?, fork as u8))
}

/// The path of a file of which only blocks come; `None` for one that comes whole.
pub fn changed_path(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let real = format!("{folder}/{}", name.strip_prefix(PREFIX)?);
    first_page(&real).is_some().then_some(real)
}

/// The label without what makes a server refuse to start from it: what it would start from is whole by then.
pub fn whole_label(label: &str) -> String {
    label.lines().filter(|line| !line.starts_with("INCREMENTAL FROM ")).map(|line| format!("{line}\n")).collect()
}

/// What has come of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// How long it is, and its checksum where all of it is the parent's. Comes first.
    Length { size: u64, crc32c: Option<u32> },
    /// Pages that were never written to.
    Zeros(Range<u32>),
    /// Blocks with these numbers, one after the other.
    Blocks { numbers: Vec<u32>, bytes: Vec<u8> },
}

/// What differs between a file and its parent's, while it comes.
#[derive(Debug)]
pub struct Changed {
    below: Below,
    /// As long as it is not whole.
    head: Vec<u8>,
    numbers: Vec<u32>,
    /// Blocks of which pieces were made.
    done: usize,
    body: Vec<u8>,
    has_head: bool,
}

/// What is known of the parent's file.
#[derive(Debug, Clone)]
pub struct Below {
    size: u64,
    crc32c: Option<u32>,
    /// See [`Limits`].
    limit: u32,
    /// Pages that do not fit their checksums.
    bad: Vec<u64>,
}

impl Below {
    /// Of a file; `None` where the parent has none.
    pub fn of(base: &Base, limits: &Limits, path: &str) -> Option<Self> {
        let file = base.known.file(path)?;
        let bad = base.about.bad_pages.iter().filter(|page| page.path == path).map(|page| page.block).collect();
        Some(Self { size: file.size, crc32c: file.crc32c, limit: limits.of(path), bad })
    }
}

impl Changed {
    /// Before its first byte.
    pub fn new(below: Below) -> Self {
        Self { below, head: Vec::new(), numbers: Vec::new(), done: 0, body: Vec::new(), has_head: false }
    }

    /// Takes in what comes; `each` gets the pieces.
    ///
    /// # Errors
    /// When it is not of the form that is expected.
    pub fn take(&mut self, mut data: &[u8], mut each: impl FnMut(Piece)) -> std::result::Result<(), String> {
        while !self.has_head {
            let wanted = self.head_length();
            let (now, rest) = data.split_at(data.len().min(wanted - self.head.len()));
            self.head.extend_from_slice(now);
            data = rest;
            if self.head.len() < wanted {
                return Ok(());
            }
            if wanted == self.head_length() {
                self.read_head(&mut each)?;
            }
        }
        self.body.extend_from_slice(data);
        while self.body.len() >= PART {
            let rest = self.body.split_off(PART);
            let bytes = std::mem::replace(&mut self.body, rest);
            each(self.blocks(bytes)?);
        }
        Ok(())
    }

    /// The file is whole. Gives the parent's pages that do not fit their checksums and are part of this file, too.
    ///
    /// # Errors
    /// When it is not.
    pub fn end(mut self, mut each: impl FnMut(Piece)) -> std::result::Result<Vec<u64>, String> {
        if !self.body.is_empty() {
            let bytes = std::mem::take(&mut self.body);
            each(self.blocks(bytes)?);
        }
        match self.has_head && self.done == self.numbers.len() {
            true => Ok(self.below.bad),
            false => Err("not all blocks came that were announced".into()),
        }
    }

    /// Bytes of the head, as far as they are known yet.
    fn head_length(&self) -> usize {
        if self.head.len() < FIXED {
            return FIXED;
        }
        match self.word(1) as usize {
            0 => FIXED,
            // Too many are noticed before they are waited for.
            blocks if blocks > SEGMENT_PAGES as usize => FIXED,
            blocks => (FIXED + 4 * blocks).next_multiple_of(BLOCK),
        }
    }

    /// A number of the head. The server's byte order is little-endian on every machine that surus knows.
    fn word(&self, at: usize) -> u32 {
        let bytes = self.head.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    fn read_head(&mut self, each: &mut impl FnMut(Piece)) -> std::result::Result<(), String> {
        let (magic, blocks, truncated) = (self.word(0), self.word(1), self.word(2));
        if magic != MAGIC || blocks > SEGMENT_PAGES {
            return Err(format!("a head of a form that is not known: {magic:08x}, {blocks} blocks"));
        }
        self.numbers = (0..blocks as usize).map(|at| self.word(3 + at)).collect();
        let ascending = self.numbers.windows(2).all(|two| two[0] < two[1]);
        let last = self.numbers.last().copied();
        if !ascending || last.is_some_and(|last| last >= SEGMENT_PAGES) {
            return Err("the numbers of its blocks are not in order".into());
        }
        // Servers up to 18 may name the length of the whole relation for one of its files.
        let length = truncated.min(SEGMENT_PAGES).max(last.map_or(0, |last| last + 1));
        // A page of which half was there has its other half from a later write, which was sent then, or is empty.
        let below = &mut self.below;
        let from_below = u32::try_from(below.size / BLOCK as u64).unwrap_or(u32::MAX).min(below.limit);
        let size = u64::from(length) * BLOCK as u64;
        let zeros = gaps(&self.numbers, from_below.min(length)..length);
        let same = self.numbers.is_empty() && zeros.is_empty() && size == below.size;
        let kept = |page: u64| {
            let page = u32::try_from(page).unwrap_or(u32::MAX);
            page < from_below.min(length) && self.numbers.binary_search(&page).is_err()
        };
        below.bad.retain(|page| kept(*page));
        each(Piece::Length { size, crc32c: below.crc32c.filter(|_| same) });
        zeros.into_iter().for_each(|range| each(Piece::Zeros(range)));
        self.has_head = true;
        self.head = Vec::new();
        Ok(())
    }

    /// The next blocks.
    fn blocks(&mut self, bytes: Vec<u8>) -> std::result::Result<Piece, String> {
        let count = bytes.len() / BLOCK;
        let numbers = self.numbers.get(self.done..self.done + count).filter(|_| bytes.len().is_multiple_of(BLOCK));
        let numbers = numbers.ok_or("other blocks came than were announced")?.to_vec();
        self.done += count;
        Ok(Piece::Blocks { numbers, bytes })
    }
}

/// The parts of a range in which none of the numbers, which ascend, lies.
fn gaps(numbers: &[u32], range: Range<u32>) -> Vec<Range<u32>> {
    let mut gaps = Vec::new();
    let mut next = range.start;
    let inside = numbers.iter().filter(|number| range.contains(number)).map(|number| (*number, number + 1));
    for (gap_end, after) in inside.chain([(range.end, range.end)]) {
        if next < gap_end {
            gaps.push(next..gap_end);
        }
        next = after;
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(truncated: u32, blocks: &[u32]) -> Vec<u8> {
        let words = [MAGIC, blocks.len() as u32, truncated];
        let mut bytes: Vec<u8> = words.iter().chain(blocks).flat_map(|word| word.to_le_bytes()).collect();
        if !blocks.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        blocks.iter().for_each(|block| bytes.extend([*block as u8; BLOCK]));
        bytes
    }

    fn read(bytes: &[u8], step: usize, below: Below) -> std::result::Result<(Vec<Piece>, Vec<u64>), String> {
        let (mut changed, mut pieces) = (Changed::new(below), Vec::new());
        for part in bytes.chunks(step) {
            changed.take(part, |piece| pieces.push(piece))?;
        }
        let bad = changed.end(|piece| pieces.push(piece))?;
        Ok((pieces, bad))
    }

    fn below(blocks: u64, limit: u32) -> Below {
        Below { size: blocks * BLOCK as u64, crc32c: Some(7), limit, bad: (0..20).collect() }
    }

    /// Each block of the file: sent, of the parent, or zeros.
    fn origins(pieces: &[Piece]) -> String {
        let Piece::Length { size, .. } = pieces[0] else { panic!("the length comes first") };
        let mut origins = vec!['p'; (size / BLOCK as u64) as usize];
        for piece in &pieces[1..] {
            match piece {
                Piece::Zeros(range) => range.clone().for_each(|block| origins[block as usize] = '0'),
                Piece::Blocks { numbers, bytes } => {
                    for (number, block) in numbers.iter().zip(bytes.chunks(BLOCK)) {
                        assert!(block.iter().all(|byte| *byte == *number as u8));
                        origins[*number as usize] = 's';
                    }
                }
                Piece::Length { .. } => panic!("it comes once"),
            }
        }
        origins.into_iter().collect()
    }

    proptest! {
        #[test]
        fn every_block_has_one_origin(
            blocks in proptest::collection::btree_set(0u32..300, 0..200), truncated in 0u32..300, parent in 0u64..300,
            limit in 1u32..400, step in 1usize..200_000,
        ) {
            let blocks: Vec<_> = blocks.into_iter().collect();
            let (pieces, _) = read(&file(truncated, &blocks), step, below(parent, limit)).unwrap();
            let length = truncated.max(blocks.last().map_or(0, |last| last + 1));
            let expected: String = (0..length).map(|block| match blocks.binary_search(&block) {
                Ok(_) => 's',
                Err(_) if u64::from(block) < parent && block < limit => 'p',
                Err(_) => '0',
            }).collect();
            prop_assert_eq!(origins(&pieces), expected);
        }
    }

    #[test]
    fn what_did_not_change_keeps_its_checksum() {
        let unchanged = read(&file(9, &[]), 5, below(9, u32::MAX)).unwrap();
        assert_eq!(unchanged.0, [Piece::Length { size: 9 * 8192, crc32c: Some(7) }]);
        assert_eq!(unchanged.1, (0..9).collect::<Vec<_>>());
        // Shorter, longer, and as long with one that changed.
        for (bytes, origin) in [(file(8, &[]), "pppppppp"), (file(10, &[]), "ppppppppp0"), (file(9, &[3]), "pppsppppp")]
        {
            let (pieces, bad) = read(&bytes, 9000, below(9, u32::MAX)).unwrap();
            assert!(matches!(pieces[0], Piece::Length { crc32c: None, .. }));
            assert_eq!(origins(&pieces), origin);
            assert_eq!(bad.len(), origin.matches('p').count());
        }
    }

    #[test]
    fn a_length_beyond_the_file_is_the_files() {
        let (pieces, _) = read(&file(SEGMENT_PAGES + 5, &[]), 12, below(u64::from(SEGMENT_PAGES), u32::MAX)).unwrap();
        assert_eq!(pieces.len(), 1);
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        let good = file(9, &[3, 5]);
        let mut other = good.clone();
        other[0] ^= 1;
        assert!(read(&other, 100, below(9, 9)).is_err());
        assert!(read(&good[..good.len() - 1], 100, below(9, 9)).is_err());
        assert!(read(&good[..good.len() - BLOCK], 100, below(9, 9)).is_err());
        assert!(read(&[good.clone(), vec![0; BLOCK]].concat(), 100, below(9, 9)).is_err());
        assert!(read(&good[..8], 100, below(9, 9)).is_err());
        assert!(read(&file(9, &[5, 3]), 100, below(9, 9)).is_err());
        assert!(read(&file(9, &[SEGMENT_PAGES]), 100, below(9, 9)).is_err());
    }

    #[test]
    fn files_are_known_by_their_paths() {
        assert_eq!(changed_path("base/5/INCREMENTAL.16384.1").as_deref(), Some("base/5/16384.1"));
        assert_eq!(changed_path("base/5/16384"), None);
        assert_eq!(changed_path("pg_xact/INCREMENTAL.0000"), None);
        assert_eq!(fork("base/5/16384_vm.1"), Some((1663, 5, 16384, 2)));
        assert_eq!(fork("global/1262"), Some((1664, 0, 1262, 0)));
        assert_eq!(fork("pg_tblspc/16999/PG_17_202406281/5/16384_init"), Some((16999, 5, 16384, 3)));
        assert_eq!(fork("base/5/pg_filenode.map"), None);
        let limits = Limits(HashMap::from([((1663, 5, 16384, 0), SEGMENT_PAGES + 7)]));
        assert_eq!(
            ["base/5/16384", "base/5/16384.1", "base/5/16385"].map(|path| limits.of(path)),
            [SEGMENT_PAGES + 7, 7, u32::MAX]
        );
    }

    #[test]
    fn a_label_of_a_whole_backup_is_no_incremental_one() {
        let label =
            "START WAL LOCATION: 0/2000028\nINCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\nLABEL: x\n";
        assert_eq!(whole_label(label), "START WAL LOCATION: 0/2000028\nLABEL: x\n");
    }
}
