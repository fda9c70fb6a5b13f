//! Reading everything: threads that share the files among them.

use super::{
    TakeOptions,
    base::{Known, KnownBlock},
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
pub(super) enum Counted {
    Own(Run),
    Leftover(Run),
}

/// A file, or a part of one, as one thread read it.
pub(super) struct Done {
    /// Size and checksum are the part's; where single blocks were sent, one part has the size of the file and the
    /// others have none.
    pub entry: FileEntry,
    /// Where the part begins in the file.
    pub first_block: u32,
    pub runs: Vec<Counted>,
    pub bad_pages: Vec<u64>,
}

/// What one thread has.
pub(super) struct Share {
    pub files: Vec<Done>,
    pub chunks: Vec<ChunkEntry>,
    pub own: u64,
    pub taken_over: u64,
}

/// A file's blocks beside those that are known: what is known need not be stored.
pub(super) struct Blocks<'a> {
    /// Of the backup that this one builds on.
    base: &'a [Option<KnownBlock>],
    /// Of the backup that was broken off.
    leftover: &'a [Option<KnownBlock>],
    old: Vec<Run>,
    pub taken_over: u64,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(base: &'a [Option<KnownBlock>], leftover: &'a [Option<KnownBlock>]) -> Self {
        Self { base, leftover, old: Vec::new(), taken_over: 0 }
    }

    /// Takes in the next block.
    pub(super) fn take(&mut self, number: u32, block: &[u8], bundler: &mut Bundler) -> Result<()> {
        let hash = blake3::hash(block);
        let is = |known: &[Option<KnownBlock>]| {
            let known = known.get(number as usize).copied().flatten();
            known.filter(|known| known.hash == hash.as_bytes()[..16])
        };
        if is(self.base).is_some() {
            return Ok(());
        }
        let Some(known) = is(self.leftover) else { return bundler.put(number, block, &hash) };
        self.taken_over += block.len() as u64;
        match self.old.last_mut() {
            Some(run)
                if run.chunk == known.chunk && run.block + run.count == number && run.at + run.count == known.at =>
            {
                run.count += 1;
            }
            _ => self.old.push(Run { block: number, count: 1, chunk: known.chunk, at: known.at }),
        }
        Ok(())
    }

    /// The file's runs, in order.
    pub(super) fn end(self, bundler: &mut Bundler) -> Vec<Counted> {
        let own = bundler.end_file().into_iter().map(Counted::Own);
        let mut runs: Vec<_> = own.chain(self.old.into_iter().map(Counted::Leftover)).collect();
        runs.sort_unstable_by_key(|run| match run {
            Counted::Own(run) | Counted::Leftover(run) => run.block,
        });
        runs
    }
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
        let bundles = self.bundles()?;
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

    /// Where bundles go.
    pub(super) fn bundles(&self) -> Result<Bundles> {
        Ok(Bundles {
            cluster: self.cluster.clone(),
            label: self.label.clone(),
            codec: self.options.codec,
            next: AtomicU32::new(self.first_free_bundle()?),
            stored: AtomicU64::new(0),
        })
    }

    /// Bundles of a backup that was broken off keep their numbers, also those without an index.
    fn first_free_bundle(&self) -> Result<u32> {
        let folder = self.cluster.names.data_folder(Some(&self.label));
        let there = self.cluster.repo.place().list(&folder)?;
        let numbers = there.iter().filter_map(|entry| entry.name.rsplit_once("/b")?.1.parse::<u32>().ok());
        Ok(numbers.max().map_or(0, |last| last + 1))
    }

    /// Reads the control file, last of all: it says how far the files before have come. It is read again until its
    /// checksum is right.
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
            crc32c: Some(crc32c::crc32c(&bytes)),
            runs: Vec::new(),
        };
        Ok(Share {
            files: vec![Done { entry, first_block: 0, runs, bad_pages: Vec::new() }],
            chunks,
            own,
            taken_over: 0,
        })
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
        let mut blocks = Blocks::new(&base, &leftover);
        bundler.begin_file(&found.path);
        let read = read_file(&path, found.size, first, buffer, |number, block| {
            self.advance(block.len());
            blocks.take(number, block, bundler)
        })?;
        *taken_over += blocks.taken_over;
        let runs = blocks.end(bundler);
        let Some(read) = read else { return Ok(None) };
        let entry = FileEntry {
            path: found.path.clone(),
            size: read.size,
            mode: found.mode,
            modified_ms: found.modified_ms,
            crc32c: Some(read.crc32c),
            runs: Vec::new(),
        };
        Ok(Some(Done { entry, first_block: 0, runs, bad_pages: read.bad_pages }))
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
pub(super) fn merged(
    shares: Vec<Share>,
    old_chunks: Vec<ChunkEntry>,
    directories: Vec<(String, u32)>,
    bundles: &Bundles,
) -> Read {
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
    let mut parts = Vec::new();
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
            parts.push((done.first_block, FileEntry { runs: placed.collect(), ..done.entry }));
        }
    }
    parts.sort_unstable_by(|(first, one), (other_first, other)| {
        one.path.cmp(&other.path).then_with(|| first.cmp(other_first))
    });
    for (_, part) in parts {
        match read.manifest_files.last_mut() {
            Some(file) if file.path == part.path => {
                let both = file.crc32c.zip(part.crc32c);
                file.crc32c = both.map(|(one, other)| crc32c::crc32c_combine(one, other, part.size as usize));
                file.size += part.size;
                file.runs.extend(part.runs);
            }
            _ => read.manifest_files.push(part),
        }
    }
    // Parts of a file of which only blocks were sent lie between each other.
    read.manifest_files.iter_mut().for_each(|file| file.runs.sort_unstable_by_key(|run| run.block));
    read
}
