//! Reading everything: threads that share the files among them.

use super::{
    TakeOptions,
    base::Known,
    bundle::{Bundler, Bundles},
    read::read_file,
    scan::{Found, Tree, first_page, full_path, scan},
};
use crate::{
    block::BLOCK,
    control::{self, Control},
    error::{BackupError, Result},
    manifest::{BadPage, ChunkEntry, FileEntry, Run},
    repo::Cluster,
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use surus_core::{clock::Stopwatch, code, monitor::Monitor};

/// What is to be read, and how.
pub struct Work {
    pub cluster: Cluster,
    pub label: String,
    pub data: PathBuf,
    pub options: TakeOptions,
    pub verify_pages: bool,
    pub monitor: Arc<dyn Monitor>,
}

/// Everything that was read, as the manifest will have it.
pub struct Read {
    pub directories: Vec<(String, u32)>,
    pub manifest_files: Vec<FileEntry>,
    pub chunks: Vec<ChunkEntry>,
    pub bundles: u32,
    pub bad_pages: Vec<BadPage>,
    pub own: u64,
    pub stored: u64,
    pub taken_over: u64,
}

/// A run that still counts in its thread's chunks, or in those of a backup that was broken off.
#[derive(Clone, Copy)]
enum Counted {
    Own(Run),
    Leftover(Run),
}

/// A file as one thread read it.
struct Done {
    entry: FileEntry,
    runs: Vec<Counted>,
    bad_pages: Vec<u64>,
}

/// What one thread has.
struct Share {
    files: Vec<Done>,
    chunks: Vec<ChunkEntry>,
    own: u64,
    taken_over: u64,
}

/// What the threads share.
struct Shared<'a> {
    work: &'a Work,
    bundles: &'a Bundles,
    files: &'a [Found],
    next: AtomicUsize,
    done_bytes: AtomicU64,
    watch: Stopwatch,
    /// One thread failed: the others need not go on.
    failed: AtomicBool,
    base: Option<&'a Known>,
    leftovers: &'a Known,
}

impl Work {
    /// Reads every file and stores what is not in the repository yet.
    ///
    /// # Errors
    /// When a file cannot be read, or the repository cannot be written.
    pub fn read_all(&self, base: Option<&Known>) -> Result<Read> {
        let (leftovers, old_chunks) = Known::of_leftovers(&self.cluster, &self.label)?;
        let Tree { mut files, directories } = scan(&self.data)?;
        // The largest first: what begins last should be short.
        files.sort_unstable_by(|one, other| other.size.cmp(&one.size).then_with(|| one.path.cmp(&other.path)));
        let total = files.iter().map(|file| file.size).sum();
        self.monitor.begin("bytes", Some(total));
        let bundles = Bundles {
            cluster: self.cluster.clone(),
            label: self.label.clone(),
            codec: self.options.codec,
            next: AtomicU32::new(self.first_free_bundle()?),
            stored: AtomicU64::new(0),
        };
        let shared = Shared {
            work: self,
            bundles: &bundles,
            files: &files,
            next: AtomicUsize::new(0),
            done_bytes: AtomicU64::new(0),
            watch: Stopwatch::start(),
            failed: AtomicBool::new(false),
            base,
            leftovers: &leftovers,
        };
        let mut shares = shared.run(self.options.workers.clamp(1, 64))?;
        shares.push(self.read_control(&bundles)?);
        self.monitor.end("bytes", "");
        Ok(merged(shares, old_chunks, directories, &bundles))
    }

    /// Bundles of a backup that was broken off keep their numbers, also those without an index.
    fn first_free_bundle(&self) -> Result<u32> {
        let folder = self.cluster.names.data_folder(Some(&self.label));
        let there = self.cluster.repo.place().list(&folder)?;
        let numbers = there.iter().filter_map(|entry| entry.name.rsplit_once("/b")?.1.parse::<u32>().ok());
        Ok(numbers.max().map_or(0, |last| last + 1))
    }

    /// Reads the control file, last of all: it says how far the files before have come. It is read again until its
    /// checksum
    /// is right.
    fn read_control(&self, bundles: &Bundles) -> Result<Share> {
        let path = self.data.join(control::PATH);
        let mut tries = 0;
        let bytes = loop {
            let bytes = fs::read(&path).map_err(BackupError::file("cannot read", &path))?;
            if Control::parse(&bytes).is_ok() {
                break bytes;
            }
            tries += 1;
            if tries == 100 {
                let text = format!("{} has no valid checksum, also when it is read again", path.display());
                return Err(BackupError::refused(code::BACKUP_REFUSED, text));
            }
            thread::sleep(Duration::from_millis(20));
        };
        let about = fs::metadata(&path).map_err(BackupError::file("cannot read", &path))?;
        let mut bundler = Bundler::new(bundles);
        bundler.begin_file(control::PATH);
        for (number, block) in (0..).zip(bytes.chunks(BLOCK)) {
            bundler.put(number, block, &blake3::hash(block))?;
        }
        let runs = bundler.end_file().into_iter().map(Counted::Own).collect();
        let (chunks, own) = bundler.finish()?;
        let entry = FileEntry {
            path: control::PATH.into(),
            size: bytes.len() as u64,
            mode: about.permissions().mode() & 0o7777,
            modified_ms: about.mtime() * 1000,
            crc32c: crc32c::crc32c(&bytes),
            runs: Vec::new(),
        };
        Ok(Share { files: vec![Done { entry, runs, bad_pages: Vec::new() }], chunks, own, taken_over: 0 })
    }
}

impl Shared<'_> {
    fn run(&self, workers: usize) -> Result<Vec<Share>> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| self.share())).collect();
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            let ended = || BackupError::refused(code::BUG, "a thread that reads files ended without a result");
            results.into_iter().map(|result| result.unwrap_or_else(|_| Err(ended()))).collect()
        })
    }

    fn share(&self) -> Result<Share> {
        let result = self.read_share();
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn read_share(&self) -> Result<Share> {
        let mut bundler = Bundler::new(self.bundles);
        let (mut files, mut taken_over, mut buffer) = (Vec::new(), 0, Vec::new());
        while !self.failed.load(Ordering::Relaxed) {
            let Some(found) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            files.extend(self.read_one(found, &mut bundler, &mut buffer, &mut taken_over)?);
        }
        let (chunks, own) = bundler.finish()?;
        Ok(Share { files, chunks, own, taken_over })
    }

    fn read_one(
        &self,
        found: &Found,
        bundler: &mut Bundler,
        buffer: &mut Vec<u8>,
        taken_over: &mut u64,
    ) -> Result<Option<Done>> {
        let base = self.base.map_or_else(|| Ok(Vec::new()), |base| base.blocks(&found.path))?;
        let leftover = self.leftovers.blocks(&found.path)?;
        let first = self.work.verify_pages.then(|| first_page(&found.path)).flatten();
        let path = full_path(&self.work.data, &found.path);
        let mut old: Vec<Run> = Vec::new();
        bundler.begin_file(&found.path);
        let read = read_file(&path, found.size, first, buffer, |number, block| {
            self.advance(block.len());
            let hash = blake3::hash(block);
            let is = |known: &[Option<super::base::KnownBlock>]| {
                let known = known.get(number as usize).copied().flatten();
                known.filter(|known| known.hash == hash.as_bytes()[..16])
            };
            if is(&base).is_some() {
                return Ok(());
            }
            let Some(known) = is(&leftover) else { return bundler.put(number, block, &hash) };
            *taken_over += block.len() as u64;
            match old.last_mut() {
                Some(run)
                    if run.chunk == known.chunk
                        && run.block + run.count == number
                        && run.at + run.count == known.at =>
                {
                    run.count += 1;
                }
                _ => old.push(Run { block: number, count: 1, chunk: known.chunk, at: known.at }),
            }
            Ok(())
        })?;
        let runs = bundler.end_file();
        let Some(read) = read else { return Ok(None) };
        let mut runs: Vec<_> =
            runs.into_iter().map(Counted::Own).chain(old.into_iter().map(Counted::Leftover)).collect();
        runs.sort_unstable_by_key(|run| match run {
            Counted::Own(run) | Counted::Leftover(run) => run.block,
        });
        let entry = FileEntry {
            path: found.path.clone(),
            size: read.size,
            mode: found.mode,
            modified_ms: found.modified_ms,
            crc32c: read.crc32c,
            runs: Vec::new(),
        };
        Ok(Some(Done { entry, runs, bad_pages: read.bad_pages }))
    }

    /// Counts bytes, shows how far it is, and waits where the user wants it slower.
    fn advance(&self, bytes: usize) {
        let done = self.done_bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if done >> 23 != (done - bytes as u64) >> 23 {
            self.work.monitor.advance("bytes", done);
        }
        if let Some(limit) = self.work.options.throttle.filter(|limit| *limit > 0) {
            let due = Duration::from_secs_f64(done as f64 / limit as f64);
            let ahead = due.saturating_sub(self.watch.elapsed());
            if ahead > Duration::from_millis(20) {
                thread::sleep(ahead);
            }
        }
    }
}

/// Puts the threads' shares together: one table of chunks, files in order.
fn merged(shares: Vec<Share>, old_chunks: Vec<ChunkEntry>, directories: Vec<(String, u32)>, bundles: &Bundles) -> Read {
    let old_bytes: u64 = old_chunks.iter().map(|chunk| u64::from(chunk.stored_len)).sum();
    let mut read = Read {
        directories,
        manifest_files: Vec::new(),
        chunks: old_chunks,
        bundles: bundles.next.load(Ordering::Relaxed),
        bad_pages: Vec::new(),
        own: 0,
        stored: bundles.stored.load(Ordering::Relaxed) + old_bytes,
        taken_over: 0,
    };
    for share in shares {
        let before = read.chunks.len() as u32;
        read.chunks.extend(share.chunks);
        read.own += share.own;
        read.taken_over += share.taken_over;
        for done in share.files {
            let placed = done.runs.into_iter().map(|run| match run {
                Counted::Own(run) => Run { chunk: run.chunk + before, ..run },
                Counted::Leftover(run) => run,
            });
            let path = done.entry.path.clone();
            read.bad_pages.extend(done.bad_pages.into_iter().map(|block| BadPage { path: path.clone(), block }));
            read.manifest_files.push(FileEntry { runs: placed.collect(), ..done.entry });
        }
    }
    read.manifest_files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    read
}
