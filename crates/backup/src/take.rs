//! Taking a backup.
//!
//! The server is told, every file is read, what is not in the repository yet is stored, the server is told that it is
//! over, the WAL in between is waited for, and only then the manifest is written. Whatever breaks off before leaves
//! bundles that the next backup takes over, and no backup.

pub mod base;
pub mod bundle;
mod history;
pub mod mark;
mod native;
pub mod read;
pub mod scan;
pub mod server;
mod spaces;
mod stream;
pub mod tar;
mod work;

use crate::{
    blocking, catalogue,
    chain::{self, Chain},
    error::{BackupError, Result},
    manifest::{About, BackupKind, Changes, FORMAT, FORMAT_WITH_ALL_SUMS, Manifest, Method, Origin},
    repo::{Cluster, Repo, codec::Codec},
    wal::{hole, name::Segment, push},
};
use base::Known;
use jiff::Timestamp;
use mark::BeginMark;
use native::Base;
use server::{Begun, Ended, ServerFacts};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use surus_core::{clock::Deadline, code, lsn::Lsn, monitor::Monitor};
use surus_pg::{Session, Target};
use work::{Read, Work};

/// How a backup is to be taken.
#[derive(Debug, Clone)]
pub struct TakeOptions {
    /// Full or incremental; `None` is incremental when there is something to build on.
    pub kind: Option<BackupKind>,
    pub codec: Codec,
    /// Threads that read and compress.
    pub workers: usize,
    /// Bytes a second that are read at most.
    pub throttle: Option<u64>,
    /// Ask for an immediate checkpoint instead of one that is spread over time.
    pub fast: bool,
    /// How long to wait at the end for WAL to come into the archive.
    pub wal_within: Duration,
    /// Incremental backups after a full one, at most, when `kind` is left open.
    pub incrementals: usize,
    /// How the files are read; `None` is from the data directory where it is on this machine, else over the network.
    pub method: Option<Method>,
}

impl Default for TakeOptions {
    fn default() -> Self {
        Self {
            kind: None,
            codec: Codec::Zstd(3),
            workers: 2,
            throttle: None,
            fast: true,
            wal_within: Duration::from_secs(60),
            incrementals: 6,
            method: None,
        }
    }
}

/// A backup that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    pub about: About,
    pub files: u64,
    /// Bytes that did not have to be stored because a backup that was broken off had stored them.
    pub taken_over: u64,
    /// WAL that was put into the archive because nobody else had.
    pub segments_pushed: u64,
    /// Bytes of files that came over the network.
    pub received: u64,
}

/// Takes a backup of the cluster that `target` is a node of.
///
/// # Errors
/// When it was not taken. What was stored stays for the next one.
pub async fn take(repo: &Repo, target: &Target, options: &TakeOptions, monitor: &Arc<dyn Monitor>) -> Result<Taken> {
    let (session, facts) = server::connect(target).await?;
    let data = data_directory(target, &session, &facts, options, monitor)?;
    let cluster = repo.cluster(facts.system_identifier);
    let major = surus_core::version::Version::from_num(facts.version).major();
    let parent = {
        let (cluster, options, size) = (cluster.clone(), options.clone(), facts.segment_size);
        let monitor = monitor.clone();
        blocking(move || {
            cluster.register(size, Some(major))?;
            choose_parent(&cluster, &options, &monitor)
        })
        .await?
    };
    let (there, wanted) = (cluster.clone(), parent.clone());
    let mark = blocking(move || BeginMark::claim(&there, wanted.is_none(), wanted)).await?;
    monitor.note(&format!("backup {} begins", mark.label()));
    let work = Work {
        cluster: cluster.clone(),
        label: mark.label().to_owned(),
        data: data.clone().unwrap_or_default(),
        options: options.clone(),
        verify_pages: facts.checksums
            && facts.page_size as usize == crate::block::BLOCK
            && facts.segment_pages == scan::SEGMENT_PAGES,
        monitor: monitor.clone(),
    };
    let parent_label = parent.clone();
    let there = cluster.clone();
    let base = blocking(move || {
        let Some(chain) = parent.map(|label| Chain::read(&there, &label)).transpose()? else { return Ok(None) };
        let about = chain.newest().about.clone();
        Ok::<_, BackupError>(Some(Base { about, known: Known::of_chain(&there, chain)? }))
    })
    .await?;
    let Gathered { mut read, ended, start_lsn, started_at, brought, changes, received } = match data {
        Some(_) => gather_here(work, base, session, &facts).await?,
        None => stream::gather(work, base, target, session, &facts).await?,
    };
    spaces::leave_out_others(&mut read, &ended.tablespaces);
    let about = describe(mark.label(), parent_label, &facts, &ended, (start_lsn, started_at), &read, options.codec);
    let method = if data.is_some() { Method::Local } else { Method::Stream };
    let about = About { method, changes: about.parent.as_ref().map(|_| changes), ..about };
    let manifest = Manifest { about, directories: read.directories, files: read.manifest_files, chunks: read.chunks };
    let (within, codec, monitor) = (options.wal_within, options.codec, monitor.clone());
    blocking(move || {
        if let Some(data) = &data {
            // Marks of WAL that was given up while the repository could not be reached.
            hole::carry_over(&cluster, &data.join("pg_wal"))?;
            history::bring(&cluster, &data.join("pg_wal"), ended.timeline, codec, &monitor)?;
        }
        let wal = WalWanted::of(&facts, &ended, start_lsn);
        let segments_pushed = brought + wal.await_in(&cluster, data.as_deref(), codec, within, &monitor)?;
        history::require(&cluster, ended.timeline)?;
        parents_are_there(&cluster, manifest.about.parent.clone())?;
        bundles_are_there(&cluster, &manifest)?;
        catalogue::write_manifest(&cluster, &manifest)?;
        mark.done()?;
        let files = manifest.files.len() as u64;
        Ok(Taken { about: manifest.about, files, taken_over: read.taken_over, segments_pushed, received })
    })
    .await
}

/// Where the files can be read here; `None` when they are to come over the network.
fn data_directory(
    target: &Target,
    session: &Session,
    facts: &ServerFacts,
    options: &TakeOptions,
    monitor: &Arc<dyn Monitor>,
) -> Result<Option<PathBuf>> {
    if options.method == Some(Method::Stream) {
        return Ok(None);
    }
    match server::local_data_directory(session, facts) {
        Ok(data) => Ok(Some(data)),
        Err(why) if options.method.is_none() => {
            monitor.note(&format!("over the network, for the files cannot be read from here: {why}"));
            Ok(None)
        }
        Err(why) => {
            let text = format!("the files of {} cannot be read from here: {why}", target.label());
            Err(BackupError::refused(code::BACKUP_REFUSED, text))
        }
    }
}

/// All files, and what the server said at the beginning and at the end.
struct Gathered {
    read: Read,
    ended: Ended,
    start_lsn: Lsn,
    started_at: Timestamp,
    /// WAL segments that were archived on the way.
    brought: u64,
    changes: Changes,
    /// Bytes of files that came over the network.
    received: u64,
}

/// From the data directory on this machine.
async fn gather_here(work: Work, base: Option<Base>, session: Session, facts: &ServerFacts) -> Result<Gathered> {
    let begun = Begun::begin(session, facts.clone(), &work.label, work.options.fast).await?;
    let (start_lsn, started_at) = (begun.start_lsn, begun.started_at);
    let read = blocking(move || work.read_all(base.as_ref().map(|base| &base.known))).await?;
    let (ended, changes) = (begun.end().await?, Changes::Compared);
    Ok(Gathered { read, ended, start_lsn, started_at, brought: 0, changes, received: 0 })
}

/// What the backup is, for its manifest.
fn describe(
    label: &str,
    parent: Option<String>,
    facts: &ServerFacts,
    ended: &Ended,
    (start_lsn, started_at): (Lsn, Timestamp),
    read: &Read,
    codec: Codec,
) -> About {
    let all_sums = read.manifest_files.iter().all(|file| file.crc32c.is_some());
    About {
        format: if all_sums { FORMAT_WITH_ALL_SUMS } else { FORMAT },
        label: label.to_owned(),
        kind: if parent.is_some() { BackupKind::Incremental } else { BackupKind::Full },
        parent,
        system_identifier: facts.system_identifier,
        server_version: facts.version,
        timeline: ended.timeline,
        start_lsn,
        stop_lsn: ended.stop_lsn,
        started_at,
        stopped_at: ended.stopped_at,
        origin: facts.origin,
        method: Method::Local,
        segment_size: facts.segment_size,
        page_size: facts.page_size,
        checksums: facts.checksums,
        codec,
        backup_label: ended.backup_label.clone(),
        tablespace_map: ended.tablespace_map.clone(),
        tablespaces: ended.tablespaces.clone(),
        size: read.manifest_files.iter().map(|file| file.size).sum(),
        stored: read.stored,
        own: read.own,
        bad_pages: read.bad_pages.clone(),
        bundles: read.bundles,
        surus: env!("CARGO_PKG_VERSION").to_owned(),
        next_xid: ended.next_xid,
        changes: None,
    }
}

/// The backup to build on: the newest one that is whole, unless a full one is wanted or due.
fn choose_parent(cluster: &Cluster, options: &TakeOptions, monitor: &Arc<dyn Monitor>) -> Result<Option<String>> {
    if options.kind == Some(BackupKind::Full) {
        return Ok(None);
    }
    let (backups, damaged) = catalogue::readable(cluster)?;
    for (label, error) in &damaged {
        monitor.note(&format!("backup {label} cannot be read: {error}"));
    }
    if backups.is_empty() && damaged.is_empty() {
        if options.kind.is_none() {
            return Ok(None);
        }
        let text = format!("{} holds no backup of this cluster to build on", cluster.repo.address());
        return Err(BackupError::refused(code::BACKUP_REFUSED, text));
    }
    let longest = if options.kind.is_none() { options.incrementals.saturating_add(1) } else { chain::LONGEST };
    for newest in backups.into_iter().rev() {
        match Chain::read(cluster, &newest.label) {
            Ok(chain) => return Ok((chain.backups.len() < longest.min(chain::LONGEST)).then_some(newest.label)),
            Err(error) if error.code() == code::REPO_DAMAGED => {
                monitor.note(&format!("nothing is built on backup {}: {error}", newest.label));
            }
            Err(error) => return Err(error),
        }
    }
    // Of those that are there none is whole: a full one needs none.
    Ok(None)
}

/// What the backup builds on must be there still: expiry may have run meanwhile.
fn parents_are_there(cluster: &Cluster, parent: Option<String>) -> Result<()> {
    let mut next = parent;
    while let Some(label) = next {
        let Some(about) = catalogue::read_about(cluster, &label)? else {
            return Err(cluster.repo.missing(&cluster.names.manifest(&label), "the backup that was being taken"));
        };
        next = about.parent;
    }
    Ok(())
}

/// What the manifest is about to name must be there, also what was taken over from a backup that was broken off: an
/// expiry that took that for forgotten may have removed it.
fn bundles_are_there(cluster: &Cluster, manifest: &Manifest) -> Result<()> {
    let label = &manifest.about.label;
    let there = cluster.repo.place().list(&cluster.names.data_folder(Some(label)))?;
    let there: BTreeSet<_> = there.into_iter().map(|entry| entry.name).collect();
    let wanted: BTreeSet<_> = manifest.chunks.iter().map(|chunk| chunk.bundle).collect();
    match wanted.into_iter().map(|bundle| cluster.names.bundle(label, bundle)).find(|name| !there.contains(name)) {
        Some(name) => Err(cluster.repo.missing(&name, "the backup that was being taken")),
        None => Ok(()),
    }
}

/// The WAL without which a backup is none.
#[derive(Debug, Clone, Copy)]
pub struct WalWanted {
    first: Segment,
    last: Segment,
    /// The last one that no more is written to.
    finished: u64,
}

impl WalWanted {
    fn of(facts: &ServerFacts, ended: &Ended, start_lsn: Lsn) -> Self {
        let first = Segment::at(ended.timeline, start_lsn, facts.segment_size);
        let last = Segment::ending_at(ended.timeline, ended.stop_lsn, facts.segment_size);
        // At the end of a backup a primary begins a new segment; a standby cannot.
        let finished = last.number - u64::from(facts.origin == Origin::Standby);
        Self { first, last, finished }
    }

    /// The segments that are not in the archive.
    fn missing(self, cluster: &Cluster) -> Result<Vec<Segment>> {
        let there: BTreeSet<_> = cluster
            .repo
            .place()
            .list(&cluster.names.wal_folder(Some(self.first.timeline)))?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let all = (self.first.number..=self.last.number).map(|number| Segment { number, ..self.first });
        Ok(all.filter(|segment| !there.contains(&cluster.names.wal(&segment.to_string()))).collect())
    }

    /// Waits until all is in the archive. What the server has not brought there, and still has in pg_wal, is brought
    /// from there: a backup need not fail because archiving is not set up yet.
    fn await_in(
        self,
        cluster: &Cluster,
        data: Option<&Path>,
        codec: Codec,
        within: Duration,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<u64> {
        let deadline = Deadline::after(within);
        let mut pushed = 0;
        monitor.begin("waiting for WAL", None);
        loop {
            let missing = self.missing(cluster)?;
            let Some(example) = missing.first() else {
                monitor.end("waiting for WAL", "");
                return Ok(pushed);
            };
            if let Some(data) = data {
                for segment in missing.iter().filter(|segment| segment.number <= self.finished) {
                    pushed += u64::from(bring(cluster, &data.join("pg_wal"), *segment, codec)?);
                }
            }
            if deadline.passed() && !self.missing(cluster)?.is_empty() {
                let text = format!(
                    "the backup is not complete: {} of the WAL segments {} to {} did not come into the archive within \
                     {} s, {example} first",
                    missing.len(),
                    self.first,
                    self.last,
                    within.as_secs()
                );
                return Err(BackupError::refused(code::BACKUP_NO_WAL, text));
            }
            std::thread::sleep(Duration::from_millis(200).min(deadline.remaining() + Duration::from_millis(1)));
        }
    }
}

/// Archives a finished segment from pg_wal, when it is still there. A recycled one is refused by its header.
fn bring(cluster: &Cluster, wal: &Path, segment: Segment, codec: Codec) -> Result<bool> {
    let path: PathBuf = wal.join(segment.to_string());
    if !begins(&path, segment) {
        return Ok(false);
    }
    match push::push_file(&cluster.repo, &path, Some(cluster.names.system_identifier), codec) {
        Ok(_) => Ok(true),
        // Recycled or removed since the look: then the server archived it, or it is lost, and the wait will tell.
        Err(error) if error.code() == code::WAL_REFUSED || error.code() == code::BACKUP_FILE => Ok(false),
        Err(error) => Err(error),
    }
}

/// Does the file's first page say that it is this segment?
fn begins(path: &Path, segment: Segment) -> bool {
    use std::io::Read;
    let mut start = [0; crate::wal::segment::HEADER];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok()
        && crate::wal::segment::SegmentHeader::parse(&start).is_some_and(|header| header.address == segment.start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::example;
    use surus_core::monitor::Silent;

    #[test]
    fn nothing_is_built_on_a_backup_that_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Repo::in_folder(&dir.path().join("repo")).unwrap().cluster(7);
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let parent = |options: &TakeOptions| choose_parent(&cluster, options, &monitor).unwrap();
        let options = TakeOptions::default();
        assert_eq!(parent(&options), None);
        for (label, stop) in [("a", 100), ("b", 200)] {
            let mut manifest = example(label);
            manifest.about.stop_lsn = Lsn(stop);
            catalogue::write_manifest(&cluster, &manifest).unwrap();
        }
        assert_eq!(parent(&options).as_deref(), Some("b"));
        let damage = |label| cluster.repo.place().replace(&cluster.names.manifest(label), b"nonsense").unwrap();
        damage("b");
        assert_eq!(parent(&options).as_deref(), Some("a"));
        damage("a");
        assert_eq!(parent(&options), None, "a full one");
    }
}
