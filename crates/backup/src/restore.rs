//! A backup comes back as a data directory, up to the moment that the user names.
//!
//! [`Plan::make`] says what would be done and refuses what cannot be, before anything is touched;
//! [`Plan::carry_out`] does it. Until its very last step the directory is marked and no server can be started there;
//! the same command takes up what was broken off.

mod crc;
mod delta;
pub mod directory;
mod flush;
pub mod pg_manifest;
pub mod pieces;
pub mod plan;
pub mod settings;
pub mod start;
pub mod target;
mod tree;
mod write;

use crate::{
    catalogue,
    chain::Chain,
    control::{self, Control},
    error::{BackupError, Result},
    manifest::{About, FileEntry},
    pace::Pace,
    repo::{
        Cluster,
        container::{Kind, OBJECT_HEADER, ObjectReader},
    },
    take::base::Hashes,
    wal::{name::Segment, survey},
};
use directory::{Claim, Space, SpaceMap, Way};
use pieces::{Pieces, chunk_of};
use plan::{Choice, Known};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    fs,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
use surus_core::{
    clock::{self, Stopwatch},
    code,
    monitor::Monitor,
    size::Bytes,
};
use surus_pg::{account::Account, host};
use target::RecoveryTarget;
use tree::Tree;
use write::Writer;

/// How a restore is to be done.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The data directory.
    pub to: PathBuf,
    /// A backup's label; without it the newest one that leads to the target.
    pub backup: Option<String>,
    pub target: RecoveryTarget,
    /// Make a directory that holds the cluster already what the backup is.
    pub delta: bool,
    pub spaces: SpaceMap,
    /// Threads that read, unpack and write.
    pub workers: usize,
    /// The command that fetches WAL; the file's name and its place are added.
    pub fetch: Vec<String>,
    /// Leave the settings for archiving as they are.
    pub keep_archiving: bool,
    /// Wait until everything is on the disk. What is thrown away soon need not be, and whoever else writes to that
    /// filesystem waits as well.
    pub durable: bool,
}

/// What a restore would do, for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct Outline {
    #[serde(flatten)]
    pub choice: Choice,
    /// The backup and those that it builds on, the full one first.
    pub chain: Vec<String>,
    pub target: RecoveryTarget,
    pub to: PathBuf,
    pub way: Way,
    pub tablespaces: Vec<Space>,
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that the files need beyond what is there already.
    pub bytes_needed: u64,
    /// What is free where the data directory goes.
    pub bytes_free: Option<u64>,
    /// How long writing the files may take; replaying WAL comes on top.
    pub seconds: Option<f64>,
    /// Why the server could not fetch its WAL, as far as that is known.
    pub fetch_trouble: Option<String>,
}

/// A restore that was found possible.
#[derive(Debug)]
pub struct Plan {
    cluster: Cluster,
    options: RestoreOptions,
    chain: Chain,
    tree: Tree,
    pub outline: Outline,
}

/// A restore that was done.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    pub label: String,
    pub timeline: u32,
    pub files: u64,
    pub bytes: u64,
    /// Bytes that were written; less than all where files were compared.
    pub bytes_written: u64,
    pub files_removed: u64,
    pub seconds: f64,
}

impl Plan {
    /// Finds out how the target can be reached.
    ///
    /// # Errors
    /// When it cannot, or the directory is not one to restore into, or has no room.
    pub fn make(cluster: &Cluster, options: &RestoreOptions) -> Result<Self> {
        let choice = choose(cluster, options)?;
        let to = std::path::absolute(&options.to).map_err(BackupError::file("cannot find", &options.to))?;
        let to = fs::canonicalize(&to).unwrap_or(to);
        let mut chain = Chain::read(cluster, &choice.backup)?;
        // Of the backups below only the chunks are needed from here on.
        if let Some((_, below)) = chain.backups.split_last_mut() {
            below.iter_mut().for_each(|backup| backup.files = Vec::new());
        }
        let about = &chain.newest().about;
        let found = directory::look(&to)?;
        let way = directory::judge(&found, &to, about, options.delta)?;
        if way == Way::Delta {
            directory::nothing_waits(&to, cluster)?;
        }
        let spaces = options.spaces.spaces(about, &to)?;
        spaces.iter().try_for_each(|space| directory::judge_space(space, &found, &to))?;
        let tree = Tree::new(&to, spaces.clone())?;
        let needed = room(&chain, &tree, way)?;
        let files = &chain.newest().files;
        let mut outline = Outline {
            chain: chain.backups.iter().map(|backup| backup.about.label.clone()).collect(),
            target: options.target.clone(),
            way,
            tablespaces: spaces,
            files: files.len() as u64,
            bytes: about.size,
            bytes_needed: needed,
            bytes_free: host::room(&directory::nearest(&to)).map(|room| room.free_bytes),
            seconds: rate(cluster, &chain).map(|rate| about.size as f64 / (rate * options.workers as f64).min(1e9)),
            fetch_trouble: fetch_trouble(cluster, &options.fetch),
            choice,
            to,
        };
        if !files.iter().any(|file| file.path == "postgresql.conf") {
            outline.choice.notes.push(
                "the backup has no postgresql.conf (it lies elsewhere on the server): a small one is written".into(),
            );
        }
        if !options.keep_archiving {
            outline.choice.notes.push("archiving is off on the restored server; --keep-archiving leaves it on".into());
        }
        Ok(Self { cluster: cluster.clone(), options: options.clone(), chain, tree, outline })
    }

    /// Does it.
    ///
    /// # Errors
    /// When it was not done; the directory stays marked as unfinished, and no server can be started in it.
    pub fn carry_out(&self, monitor: &dyn Monitor) -> Result<Restored> {
        self.carry_out_at(None, monitor)
    }

    /// As [`Self::carry_out`], and gives way to others.
    ///
    /// # Errors
    /// As [`Self::carry_out`].
    pub fn carry_out_at(&self, pace: Option<&Pace<'_>>, monitor: &dyn Monitor) -> Result<Restored> {
        let watch = Stopwatch::start();
        let manifest = self.chain.newest();
        let (about, files) = (&manifest.about, &manifest.files);
        let group_may_read = files.iter().any(|file| file.path == "PG_VERSION" && file.mode & 0o040 != 0);
        self.tree.make_roots(if group_may_read { 0o750 } else { 0o700 })?;
        let disks = if self.options.durable { self.disks()? } else { Vec::new() };
        let claim = Claim::take(&self.tree.data, about, &self.tree.spaces)?;
        let compare = self.outline.way != Way::Fresh;
        let files_removed = if compare { self.tree.remove_others(manifest)? } else { 0 };
        self.tree.make_directories(manifest)?;
        let mut pieces = if compare {
            let hashes = Hashes::of_backups(&self.cluster, &self.chain.backups)?;
            monitor.note("comparing what is there");
            delta::compare(&self.chain, &self.tree, &hashes, control::PATH, self.options.workers)?
        } else {
            self.all_pieces()
        };
        let groups = pieces.groups(&self.chain);
        let made_late = if compare { HashSet::new() } else { self.make_files(&pieces)? };
        let bytes_written = pieces.bytes(files);
        monitor.begin("bytes", Some(bytes_written));
        let writer = Writer {
            cluster: &self.cluster,
            chain: &self.chain,
            tree: &self.tree,
            pieces: &pieces,
            groups: &groups,
            made_late: &made_late,
            pace,
            monitor,
            next: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        flush::while_at(&disks, || writer.run(self.options.workers))?;
        monitor.end("bytes", "");
        let summed = self.verify(&pieces)?;
        drop(pieces);
        let control = self.control()?;
        self.write_small_files(&control, &summed)?;
        if self.options.durable {
            monitor.note("flushing to disk");
        }
        disks.iter().try_for_each(flush::Disk::flush)?;
        let mode = files.iter().find(|file| file.path == control::PATH).map_or(0o600, |file| file.mode);
        claim.finish(&control, mode, |file| self.tree.own(file))?;
        Ok(Restored {
            label: about.label.clone(),
            timeline: self.outline.choice.timeline,
            files: files.len() as u64,
            bytes: about.size,
            bytes_written,
            files_removed,
            seconds: watch.elapsed().as_secs_f64(),
        })
    }

    /// The filesystems that are written to.
    fn disks(&self) -> Result<Vec<flush::Disk>> {
        let mut disks = BTreeMap::new();
        let mut roots = vec![self.tree.data.clone()];
        roots.extend(self.tree.spaces.iter().map(|space| space.to.clone()));
        // pg_wal may be a link to another disk that was kept.
        roots.extend(Some(self.tree.data.join("pg_wal")).filter(|wal| wal.is_dir()));
        for root in roots {
            if let Entry::Vacant(free) = disks.entry(directory::device(&root)) {
                free.insert(flush::Disk::open(root)?);
            }
        }
        Ok(disks.into_values().collect())
    }

    fn all_pieces(&self) -> Pieces {
        let mut pieces = Pieces::default();
        for (number, file) in self.chain.newest().files.iter().enumerate() {
            let sources = if file.path == control::PATH { &[][..] } else { &self.chain.sources[number] };
            sources.iter().for_each(|source| pieces.add(number as u32, *source, None));
        }
        pieces
    }

    /// Makes the files that are empty or come from several chunks; gives the others, which are made when they come.
    fn make_files(&self, pieces: &Pieces) -> Result<HashSet<u32>> {
        let files = &self.chain.newest().files;
        let mut late = HashSet::new();
        for of_file in pieces.all.chunk_by(|one, other| one.file == other.file) {
            let chunk = |piece: &pieces::Piece| (piece.source.backup, piece.source.chunk);
            if of_file.iter().all(|piece| chunk(piece) == chunk(&of_file[0])) {
                late.insert(of_file[0].file);
            }
        }
        for (number, file) in (0..).zip(files) {
            if file.path != control::PATH && !late.contains(&number) {
                let made = self.tree.open(&file.path, file.mode, true)?;
                made.set_len(file.size).map_err(BackupError::file("cannot write", &self.tree.path(&file.path)))?;
            }
        }
        Ok(late)
    }

    /// Every file is what was backed up, by the checksum that the backup took of it as a whole. Gives those of files
    /// of which the backup read only what changed.
    fn verify(&self, pieces: &Pieces) -> Result<HashMap<&str, u32>> {
        let manifest = self.chain.newest();
        let mut summed = HashMap::new();
        for (file, crc) in pieces.checksums(&manifest.files) {
            match file.crc32c {
                Some(wanted) if wanted != crc => {
                    let text = format!(
                        "{} as it was restored is not what backup {} saw; the restore is not finished",
                        file.path, manifest.about.label
                    );
                    return Err(BackupError::refused(code::REPO_DAMAGED, text));
                }
                Some(_) => {}
                None => drop(summed.insert(file.path.as_str(), crc)),
            }
        }
        Ok(summed)
    }

    /// The control file as it is to be: one that no server can be started with but by its backup label.
    fn control(&self) -> Result<Vec<u8>> {
        let bytes = read_file(&self.cluster, &self.chain, control::PATH)?;
        match Control::parse(&bytes) {
            Ok(control) => Ok(control.disarmed(&bytes)),
            Err(error) => Err(BackupError::refused(code::REPO_DAMAGED, format!("in the backup, {error}"))),
        }
    }

    /// What is not in the backup as it is to be: label, recovery settings, and PostgreSQL's own manifest.
    fn write_small_files(&self, control: &[u8], summed: &HashMap<&str, u32>) -> Result<()> {
        let manifest = self.chain.newest();
        let about = &manifest.about;
        let now = clock::now_ms();
        let mut extra: Vec<(&str, String)> = vec![("backup_label", about.backup_label.clone())];
        if let Some(map) =
            about.tablespace_map.as_ref().filter(|_| self.tree.spaces.iter().all(|one| one.was == one.to))
        {
            extra.push(("tablespace_map", map.clone()));
        }
        extra.push(("recovery.signal", String::new()));
        let auto = self.tree.path("postgresql.auto.conf");
        let there = fs::read_to_string(&auto).unwrap_or_default();
        let mut fetch = self.options.fetch.clone();
        fetch.extend(self.outline.choice.partial.then(|| "--partial".to_owned()));
        let mut told =
            settings::all(&fetch, &self.options.target, self.outline.choice.timeline, self.options.keep_archiving);
        if self.outline.choice.without_history {
            // By its number PostgreSQL does not find a timeline that has no history; the backup's own it knows.
            let timeline = told.iter_mut().filter(|(name, _)| *name == "recovery_target_timeline");
            timeline.for_each(|(_, value)| *value = "current".into());
        }
        extra.push(("postgresql.auto.conf", settings::auto_conf(&there, &told)));
        for (name, text) in OWN_CONFIGURATION {
            if !manifest.files.iter().any(|file| file.path == *name) {
                extra.push((name, (*text).to_owned()));
            }
        }
        for (name, text) in &extra {
            self.write_small(name, text.as_bytes())?;
        }
        let replaced = |path: &str| path == control::PATH || extra.iter().any(|(name, _)| *name == path);
        let kept = manifest.files.iter().filter(|file| !replaced(&file.path));
        let sum = |file: &FileEntry| file.crc32c.or_else(|| summed.get(file.path.as_str()).copied());
        let entry = |file: &'_ FileEntry| (file.path.clone(), file.size, file.modified_ms, sum(file));
        let mut entries: Vec<_> = kept.map(entry).collect();
        let own = extra.iter().map(|(name, text)| (*name, text.as_bytes())).chain([(control::PATH, control)]);
        entries.extend(own.map(|(name, text)| (name.to_owned(), text.len() as u64, now, Some(crc32c::crc32c(text)))));
        let path = self.tree.path(pg_manifest::NAME);
        let mut out = BufWriter::new(self.tree.open(pg_manifest::NAME, 0o600, true)?);
        let entries = entries.iter().map(|(path, size, modified_ms, crc)| pg_manifest::Entry {
            path,
            size: *size,
            modified_ms: *modified_ms,
            crc32c: *crc,
        });
        let written = pg_manifest::write(&mut out, about, entries).and_then(|()| out.flush());
        written.map_err(BackupError::file("cannot write", &path))
    }

    fn write_small(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = self.tree.open(name, 0o600, true)?;
        let written = file.set_len(0).and_then(|()| file.write_all(content));
        written.map_err(BackupError::file("cannot write", &self.tree.path(name)))
    }

    /// The backup that is restored.
    pub fn about(&self) -> &About {
        &self.chain.newest().about
    }
}

/// Configuration for a server whose own lies outside of its data directory, as Debian has it. Without hot standby it
/// need not have the original's limits while it recovers.
const OWN_CONFIGURATION: &[(&str, &str)] = &[
    (
        "postgresql.conf",
        "# Written by surus restore: the server's own configuration was not in its data directory.\nhot_standby = off\n",
    ),
    (
        "pg_hba.conf",
        "# Written by surus restore: the server's own was not in its data directory.\nlocal all all peer\n",
    ),
    ("pg_ident.conf", ""),
];

/// What cannot be read of what a plan should know, and why.
struct Damaged {
    /// By label.
    backups: Vec<catalogue::Unreadable>,
    /// By timeline.
    histories: Vec<(u32, BackupError)>,
}

/// Chooses the backup and the way. What is damaged and not on the way is named and left out.
fn choose(cluster: &Cluster, options: &RestoreOptions) -> Result<Choice> {
    let (known, mut damaged) = read_known(cluster)?;
    let asked_for = damaged.backups.iter().position(|(label, _)| Some(label) == options.backup.as_ref());
    if let Some(at) = asked_for {
        return Err(damaged.backups.swap_remove(at).1);
    }
    let chosen = plan::choose(&known, &options.target, options.backup.as_deref(), clock::now());
    // A server looks for the histories of all later timelines before it begins one of its own.
    let from = chosen.as_ref().map_or(0, |choice| choice.timeline);
    if let Some(at) = damaged.histories.iter().position(|(timeline, _)| *timeline >= from) {
        return Err(damaged.histories.swap_remove(at).1);
    }
    let mut notes = damaged.backups.iter().map(|(label, error)| format!("backup {label} was left out: {error}"));
    match chosen {
        Ok(mut choice) => {
            choice.notes.extend(notes);
            choice.notes.extend(damaged.histories.iter().map(|(_, error)| error.to_string()));
            Ok(choice)
        }
        Err(error) => {
            let text = notes.next().map_or_else(|| error.text.clone(), |note| format!("{}; {note}", error.text));
            Err(BackupError::refused(error.code, text))
        }
    }
}

/// Reads what a plan needs to know.
fn read_known(cluster: &Cluster) -> Result<(Known, Damaged)> {
    let (backups, damaged) = catalogue::readable(cluster)?;
    let mut known = Known { backups, ..Known::default() };
    let mut damaged = Damaged { backups: damaged, histories: Vec::new() };
    let size = cluster.mark()?.map_or(16 << 20, |mark| mark.segment_size);
    for entry in cluster.repo.place().list(&cluster.names.wal_folder(None))? {
        let file = entry.name.rsplit_once('/').map_or("", |(_, file)| file);
        if let Some(segment) = Segment::parse(file, size) {
            known.segments.insert(segment, entry.modified_ms);
        } else if let Some(segment) = file.strip_suffix(".partial").and_then(|name| Segment::parse(name, size)) {
            known.partials.insert(segment, entry.modified_ms);
        } else if let Some(timeline) = file.strip_suffix(".history").and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
            match survey::history(cluster, timeline) {
                Err(error @ BackupError::Damaged { .. }) => damaged.histories.push((timeline, error)),
                other => drop(known.histories.insert(timeline, other?)),
            }
        }
    }
    Ok((known, damaged))
}

/// May the account that the server runs as run the command that fetches WAL, enter a repository of this machine, and
/// read the files that the command names?
fn fetch_trouble(cluster: &Cluster, fetch: &[String]) -> Option<String> {
    let account = Account::unprivileged().ok()?;
    let program = fetch.first().map(PathBuf::from).filter(|program| program.is_absolute());
    let folders = [program.as_deref().and_then(Path::parent), cluster.repo.place().local_folder()];
    let entering = folders.into_iter().flatten().find_map(|folder| account.can_enter(folder).err());
    let trouble = match entering {
        Some(error) => error.to_string(),
        None => fetch.windows(2).find_map(|pair| word_trouble(&account, &pair[0], &pair[1]))?,
    };
    Some(format!("the server could not fetch its WAL: {trouble}"))
}

/// What keeps the account from using a flag's value: a file that is shut to it, or a variable that it has not.
fn word_trouble(account: &Account, flag: &str, value: &str) -> Option<String> {
    let file = match flag {
        "--config" => value,
        "--repo-key" => match value.strip_prefix("env:") {
            // A server that surus starts has an environment of its own.
            Some(name) => {
                return Some(format!(
                    "the key is in the variable {name}, which a server that surus starts does not have; \
                                               give it as file:/PATH"
                ));
            }
            None => value.strip_prefix("file:")?,
        },
        _ => return None,
    };
    account.can_read(Path::new(file)).err().map(|error| error.to_string())
}

/// Bytes that the files need beyond what is there; refused when a filesystem has less.
fn room(chain: &Chain, tree: &Tree, way: Way) -> Result<u64> {
    let mut by_device: BTreeMap<Option<u64>, (PathBuf, u64)> = BTreeMap::new();
    let mut device_of: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for file in &chain.newest().files {
        let mut parts = file.path.splitn(3, '/');
        let root = match (parts.next(), parts.next()) {
            (Some("pg_tblspc"), Some(oid)) => format!("pg_tblspc/{oid}"),
            _ => String::new(),
        };
        let place = || if root.is_empty() { tree.data.clone() } else { tree.path(&root) };
        let device = *device_of.entry(root.clone()).or_insert_with(|| directory::device(&place()));
        let there =
            if way == Way::Fresh { 0 } else { fs::metadata(tree.path(&file.path)).map_or(0, |about| about.len()) };
        by_device.entry(device).or_insert_with(|| (place(), 0)).1 += file.size.saturating_sub(there);
    }
    for (place, needed) in by_device.values() {
        let Some(room) = host::room(&directory::nearest(place)) else { continue };
        if room.free_bytes < *needed {
            let text = format!(
                "{} has room for {}, and the files need {}",
                place.display(),
                Bytes(room.free_bytes),
                Bytes(*needed)
            );
            return Err(BackupError::refused(code::RESTORE_ROOM, text));
        }
    }
    Ok(by_device.values().map(|(_, needed)| needed).sum())
}

/// How fast one thread reads and unpacks, measured with one chunk; bytes a second.
fn rate(cluster: &Cluster, chain: &Chain) -> Option<f64> {
    let (backup, chunk) = chain
        .backups
        .iter()
        .filter_map(|backup| Some((backup, backup.chunks.iter().max_by_key(|chunk| chunk.raw_len)?)))
        .max_by_key(|(_, chunk)| chunk.raw_len)?;
    let name = cluster.names.bundle(&backup.about.label, chunk.bundle);
    let watch = Stopwatch::start();
    let header = cluster.repo.place().read_range(&name, 0..OBJECT_HEADER as u64).ok()??;
    let reader = ObjectReader::new(Kind::Bundle, &name, &header, cluster.repo.keys()).ok()?;
    let range = chunk.offset..chunk.offset + u64::from(chunk.stored_len);
    let body = cluster.repo.place().read_range(&name, range).ok()??;
    reader.chunk(chunk.index, &body).ok()?;
    Some(f64::from(chunk.raw_len) / watch.elapsed().as_secs_f64().max(1e-6))
}

/// A small file of the backup, verified.
fn read_file(cluster: &Cluster, chain: &Chain, path: &str) -> Result<Vec<u8>> {
    let absent = || BackupError::refused(code::REPO_DAMAGED, format!("the backup has no {path}"));
    let number = chain.newest().files.iter().position(|file| file.path == path).ok_or_else(absent)?;
    let file = &chain.newest().files[number];
    let mut content = Vec::new();
    for source in &chain.sources[number] {
        let chunk = chunk_of(chain, source).ok_or_else(absent)?;
        let name = cluster.names.bundle(&chain.backups[usize::from(source.backup)].about.label, chunk.bundle);
        let read = |range| match cluster.repo.place().read_range(&name, range)? {
            Some(bytes) => Ok(bytes),
            None => Err(cluster.repo.missing(&name, "the backup")),
        };
        let damaged = |damage| cluster.repo.damaged(&name, damage);
        let header = read(0..OBJECT_HEADER as u64)?;
        let reader = ObjectReader::new(Kind::Bundle, &name, &header, cluster.repo.keys()).map_err(damaged)?;
        let stored = read(chunk.offset..chunk.offset + u64::from(chunk.stored_len))?;
        let (raw, hash) = reader.chunk(chunk.index, &stored).map_err(damaged)?;
        let from = source.at as usize * crate::block::BLOCK;
        let bytes = pieces::Piece { file: number as u32, source: *source }.bytes(file.size);
        let part = raw.get(from..from + bytes).filter(|_| hash == chunk.hash);
        content.extend_from_slice(part.ok_or_else(|| damaged(crate::repo::container::Damage::Content))?);
    }
    if file.crc32c.is_none_or(|crc| crc32c::crc32c(&content) == crc) { Ok(content) } else { Err(absent()) }
}

/// Is this where an unfinished restore stands?
pub fn is_unfinished(data: &Path) -> bool {
    data.join(directory::JOURNAL).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest::tests::example, repo::Repo, wal::push};
    use surus_core::lsn::Lsn;

    #[test]
    fn what_is_damaged_and_not_on_the_way_does_not_stand_in_it() {
        const SIZE: u64 = 16 << 20;
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::in_folder(&dir.path().join("repo")).unwrap();
        let cluster = repo.cluster(7);
        cluster.register(SIZE, None).unwrap();
        for (label, segment) in [("a", 3), ("b", 6)] {
            let mut manifest = example(label);
            let about = &mut manifest.about;
            (about.timeline, about.segment_size) = (1, SIZE);
            (about.start_lsn, about.stop_lsn) = (Lsn(segment * SIZE + 40), Lsn(segment * SIZE + 99));
            catalogue::write_manifest(&cluster, &manifest).unwrap();
        }
        for number in 3..9 {
            let name = Segment { timeline: 1, number, size: SIZE }.to_string();
            repo.place().create(&cluster.names.wal(&name), b"only its name is looked at").unwrap();
        }
        let options = |backup: Option<&str>| RestoreOptions {
            to: dir.path().join("data"),
            backup: backup.map(str::to_owned),
            target: RecoveryTarget::default(),
            delta: false,
            spaces: SpaceMap::default(),
            workers: 1,
            fetch: Vec::new(),
            keep_archiving: false,
            durable: true,
        };
        let choose = |backup| choose(&cluster, &options(backup));
        assert_eq!(choose(None).unwrap().backup, "b");
        repo.place().replace(&cluster.names.manifest("b"), b"nonsense").unwrap();
        repo.place().replace(&cluster.names.keep("a"), b"nonsense").unwrap();
        let choice = choose(None).unwrap();
        assert_eq!((choice.backup.as_str(), choice.notes.len()), ("a", 1), "{:?}", choice.notes);
        assert_eq!(choose(Some("a")).unwrap().backup, "a");
        assert_eq!(choose(Some("b")).unwrap_err().code(), code::REPO_DAMAGED);
        for number in 5..7 {
            let name = Segment { timeline: 2, number, size: SIZE }.to_string();
            repo.place().create(&cluster.names.wal(&name), b"as above").unwrap();
        }
        // A later timeline, of which it is not known where it came from, may be the one that is wanted.
        push::push(&repo, "00000002.history", b"1\t0/5000060\tx\n", Some(7), crate::repo::codec::Codec::None).unwrap();
        assert_eq!(choose(None).unwrap().timeline, 2);
        repo.place().replace(&cluster.names.wal("00000002.history"), b"nonsense").unwrap();
        assert_eq!(choose(None).unwrap_err().code(), code::REPO_DAMAGED);
    }
}
