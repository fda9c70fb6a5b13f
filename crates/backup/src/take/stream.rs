//! Reads all files over the network, with BASE_BACKUP of the replication protocol.
//!
//! The archives come one after the other; their files are cut into parts, which threads compare and store. Pages are
//! verified here: the server would give the whole backup up for a bad one. WAL that nobody has archived is brought over
//! the same connection; a temporary slot holds it meanwhile.

use super::{
    Gathered,
    base::{Known, KnownBlock},
    bundle::{Bundler, Bundles},
    history,
    native::{self, Base, Below, Changed, Limits, Piece},
    scan::first_page,
    server::{Ended, ServerFacts},
    spaces,
    tar::{Entry, Tar, TarEvent, What},
    work::{Blocks, Done, Read, Share, Work, merged},
};
use crate::{
    block::{BLOCK, PageState, page_state},
    blocking,
    control::{self, Control},
    error::{BackupError, Result},
    manifest::{BadPage, Changes, FileEntry, Tablespace},
    repo::{Cluster, codec::Codec},
    wal::{name::Segment, push},
};
use jiff::Timestamp;
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use surus_core::{code, lsn::Lsn, monitor::Monitor};
use surus_pg::{
    AskError, Replication, Session, Target,
    replication::{
        base_backup::{Archive, BackupEvent, BackupPoint, BaseBackup, BaseBackupOptions},
        stream::{Started, WalEvent},
    },
};
use tokio::sync::mpsc;

/// Bytes of a part of a file; whole blocks.
pub(super) const PART: usize = 1 << 20;
/// How often a page that does not fit its checksum is looked at again, and the pause before.
const AGAIN: (u32, Duration) = (6, Duration::from_millis(50));
/// More bad pages than this are not looked at again: they are bad.
const SUSPECTS: usize = 1000;
/// Files that are of the running server only and that BASE_BACKUP sends all the same.
const LEFT_OUT: &[&str] = &["recovery.signal", "standby.signal", "current_logfiles"];

/// All files, over the network. What changed since the base is asked of the server where that knows it; else all is
/// read and compared.
pub(super) async fn gather(
    work: Work,
    base: Option<Base>,
    target: &Target,
    session: Session,
    facts: &ServerFacts,
) -> Result<Gathered> {
    let mut native = false;
    if let Some(base) = &base {
        match base.natively(&session, facts).await? {
            Ok(()) => native = true,
            Err(why) if why.is_empty() => {}
            Err(why) => compared(&work, &why),
        }
    }
    let way = Way { work: Arc::new(work), base: base.map(Arc::new), target, session: &session, facts };
    let mut all = match way.read_all(native, 0).await {
        Err(Trouble::Native(why)) => {
            compared(&way.work, &why);
            way.read_all(false, 1).await
        }
        other => other,
    }?;
    all.read.bad_pages = still_bad(&session, std::mem::take(&mut all.read.bad_pages)).await?;
    all.read.bad_pages.append(&mut all.feed.still_bad);
    let ended = Ended {
        stop_lsn: all.end.lsn,
        stopped_at: now_there(&session).await?,
        timeline: all.end.timeline,
        next_xid: super::server::next_xid(&session).await?,
        backup_label: native::whole_label(&all.feed.label),
        tablespaces: spaces::at_start(Some(&all.feed.map), &all.spaces),
        tablespace_map: Some(all.feed.map).filter(|map| !map.is_empty()),
    };
    let (cluster, codec, notes) = (way.work.cluster.clone(), way.work.options.codec, way.work.monitor.clone());
    drop(way);
    session.close().await;
    let wanted = super::WalWanted::of(facts, &ended, all.start.lsn);
    let mut connection = all.connection;
    bring_histories(&mut connection, &cluster, ended.timeline, codec, &notes).await?;
    let brought = bring_wal(&mut connection, all.slot.as_deref(), &cluster, wanted, codec).await?;
    connection.close().await;
    Ok(Gathered {
        read: all.read,
        ended,
        start_lsn: all.start.lsn,
        started_at: all.started_at,
        brought,
        changes: if all.native { Changes::Summaries } else { Changes::Compared },
        received: all.feed.received,
    })
}

fn compared(work: &Work, why: &str) {
    work.monitor.note(&format!("all is read and compared with the backup before, for {why}"));
}

/// Why not all files could be read.
enum Trouble {
    /// The server does not say, or not well, what changed: it can be found out by comparing.
    Native(String),
    Other(BackupError),
}

impl From<BackupError> for Trouble {
    fn from(error: BackupError) -> Self {
        Self::Other(error)
    }
}

impl From<Trouble> for BackupError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Native(why) => Self::refused(code::BACKUP_ABORTED, why),
            Trouble::Other(error) => error,
        }
    }
}

/// What it takes to read all files.
struct Way<'a> {
    work: Arc<Work>,
    base: Option<Arc<Base>>,
    target: &'a Target,
    session: &'a Session,
    facts: &'a ServerFacts,
}

/// All files were read.
struct All {
    connection: Replication,
    /// What holds WAL.
    slot: Option<String>,
    native: bool,
    read: Read,
    feed: Feed,
    started_at: Timestamp,
    start: BackupPoint,
    end: BackupPoint,
    /// Tablespaces that there were when it had begun.
    spaces: Vec<Tablespace>,
}

impl Way<'_> {
    /// On a connection of its own; the number tells its slot from that of an earlier try.
    async fn read_all(&self, native: bool, number: u32) -> std::result::Result<All, Trouble> {
        let mut connection = self.target.at(self.session.endpoint()).replicate().await.map_err(BackupError::from)?;
        // Where there is no free slot the backup may do without: WAL that is gone at the end ends it.
        let name = format!("surus_backup_{}_{number}", std::process::id());
        let held = connection.create_physical_slot(&name, true, true).await;
        if let Err(error) = &held {
            self.work.monitor.note(&format!("without a slot that holds WAL: {error}"));
        }
        let slot = held.is_ok().then_some(name);
        let started_at = now_there(self.session).await?;
        let work = &self.work;
        let options = BaseBackupOptions {
            label: format!("surus {}", work.label),
            fast: work.options.fast,
            max_rate: work.options.throttle.filter(|rate| *rate > 0),
            incremental: native,
        };
        let base = self.base.as_deref().filter(|_| native);
        if let Some(base) = base {
            base.on_timeline(connection.identify().await.map_err(BackupError::from)?.timeline)
                .map_err(Trouble::Native)?;
            let mut manifest = base.manifest().map_err(BackupError::file("cannot write a file in", &temp()))?;
            connection.upload_manifest(&mut manifest).await.map_err(|error| Trouble::Native(said(&error)))?;
        }
        let begun = connection.base_backup(&options).await;
        let refused = |error| if native { Trouble::Native(said(&error)) } else { BackupError::from(error).into() };
        let mut backup = begun.map_err(refused)?;
        let start = backup.start;
        // Again: one may have been made since the first look.
        let spaces = super::server::tablespaces(self.session).await?;
        let limits = match base {
            Some(base) => Limits::read(self.session, base, start).await?.map_err(Trouble::Native)?,
            None => Limits::default(),
        };
        let mut feed = Feed::new(self.facts.system_identifier, self.base.clone().filter(|_| native), limits);
        work.monitor.begin("bytes", Some(backup.bytes()));
        let (parts, queue) = mpsc::channel(work.options.workers.clamp(1, 64) * 2);
        let (at_work, base) = (work.clone(), self.base.clone());
        let storing = blocking(move || store(&at_work, base.as_deref().map(|base| &base.known), queue));
        let (stored, fed) = tokio::join!(storing, feed.all(&mut backup, parts, &work.monitor));
        if let Some(why) = feed.fault.take() {
            return Err(Trouble::Native(why));
        }
        // When storing failed, feeding only says that nobody takes its parts.
        let mut read: Read = stored?;
        let end = fed?;
        work.monitor.end("bytes", "");
        if start.timeline != end.timeline {
            let text = "the server went over to another timeline during the backup";
            return Err(BackupError::refused(code::BACKUP_ABORTED, text).into());
        }
        read.directories = std::mem::take(&mut feed.directories);
        read.directories.sort_unstable();
        read.directories.dedup_by(|one, other| one.0 == other.0);
        Ok(All { connection, slot, native, read, feed, started_at, start, end, spaces })
    }
}

/// What the server said, with what it said besides.
fn said(error: &AskError) -> String {
    let more = [&error.detail, &error.hint].into_iter().flatten().map(|text| format!(" {text}"));
    format!("the server does not say what changed: {}.{}", error.message, more.collect::<String>())
}

fn temp() -> std::path::PathBuf {
    std::env::temp_dir()
}

async fn now_there(session: &Session) -> Result<Timestamp> {
    let rows = session.ask("SELECT extract(epoch FROM clock_timestamp())::float8 AS at").await?;
    super::server::moment(rows.first()?.f64("at")?)
}

/// A file's head; its parts share it.
#[derive(Debug)]
struct Head {
    path: String,
    mode: u32,
    modified_ms: i64,
    known: Mutex<Option<Arc<Beside>>>,
}

/// The known blocks of a file: of the backup that this one builds on, and of one that was broken off.
type Beside = (Vec<Option<KnownBlock>>, Vec<Option<KnownBlock>>);

impl Head {
    fn known(&self, base: Option<&Known>, leftovers: &Known) -> Result<Arc<Beside>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let base = base.map_or_else(|| Ok(Vec::new()), |base| base.blocks(&self.path))?;
        Ok(known.insert(Arc::new((base, leftovers.blocks(&self.path)?))).clone())
    }
}

/// A part of a file.
struct Part {
    head: Arc<Head>,
    content: Content,
}

/// What a part brings.
enum Content {
    /// All bytes from this block on.
    Whole { first_block: u32, bytes: Vec<u8> },
    /// Of a file of which only blocks come.
    Piece(Piece),
}

/// Where the bytes of the current entry go.
enum Goal {
    Nowhere,
    File {
        head: Arc<Head>,
        first_block: u32,
        bytes: Vec<u8>,
    },
    /// Only blocks.
    Changed {
        head: Arc<Head>,
        changed: Box<Changed>,
    },
    /// Kept apart: looked at when it is whole.
    Control {
        head: Arc<Head>,
        bytes: Vec<u8>,
    },
    Label,
    Map,
}

/// Cuts archives into parts of files.
struct Feed {
    system_identifier: u64,
    /// What the paths of the archive begin with.
    prefix: String,
    directories: Vec<(String, u32)>,
    label: String,
    map: String,
    goal: Goal,
    has_control: bool,
    ready: Vec<Part>,
    /// Where the server sends only what changed since this one.
    base: Option<Arc<Base>>,
    limits: Limits,
    /// What cannot be made a backup of, in what the server sent of files that changed.
    fault: Option<String>,
    /// Pages that did not fit their checksums in the parent, and were not sent again.
    still_bad: Vec<BadPage>,
    /// Bytes of the archives.
    received: u64,
}

impl Feed {
    fn new(system_identifier: u64, base: Option<Arc<Base>>, limits: Limits) -> Self {
        Self {
            base,
            limits,
            fault: None,
            still_bad: Vec::new(),
            received: 0,
            system_identifier,
            prefix: String::new(),
            directories: Vec::new(),
            label: String::new(),
            map: String::new(),
            goal: Goal::Nowhere,
            has_control: false,
            ready: Vec::new(),
        }
    }

    /// Reads all archives.
    async fn all(
        &mut self,
        backup: &mut BaseBackup<'_>,
        parts: mpsc::Sender<Part>,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<BackupPoint> {
        let mut tar = Tar::new();
        loop {
            match backup.next().await.map_err(super::server::given_up)? {
                BackupEvent::Archive(Archive { oid, .. }) => {
                    tar.finish()?;
                    tar = Tar::new();
                    self.prefix = oid.map_or_else(String::new, |oid| format!("pg_tblspc/{oid}/"));
                    // Where the archive has a map of tablespaces, it has no links.
                    self.directories.extend(oid.map(|oid| (format!("pg_tblspc/{oid}"), 0o700)));
                }
                BackupEvent::Data(bytes) => {
                    tar.feed(bytes, |event| self.take(event))?;
                    let before = self.received;
                    self.received += bytes.len() as u64;
                    if self.received >> 23 != before >> 23 {
                        monitor.advance("bytes", self.received);
                    }
                }
                BackupEvent::End(end) => {
                    tar.finish()?;
                    if !self.has_control || self.label.is_empty() {
                        let text = "the server's archive has no pg_control, or no backup_label";
                        return Err(BackupError::refused(code::QUERY_UNEXPECTED, text));
                    }
                    return Ok(end);
                }
            }
            for part in self.ready.drain(..) {
                let gone = |_| BackupError::refused(code::BACKUP_ABORTED, "the threads that store have ended");
                parts.send(part).await.map_err(gone)?;
            }
        }
    }

    fn take(&mut self, event: TarEvent<'_>) -> Result<()> {
        match event {
            TarEvent::Begin(entry) => return self.begin(entry),
            TarEvent::Data(data) => match &mut self.goal {
                Goal::Nowhere => {}
                Goal::Label => self.label.push_str(&String::from_utf8_lossy(data)),
                Goal::Map => self.map.push_str(&String::from_utf8_lossy(data)),
                Goal::Control { bytes, .. } => bytes.extend_from_slice(data),
                Goal::File { head, first_block, bytes } => {
                    bytes.extend_from_slice(data);
                    while bytes.len() >= PART {
                        let rest = bytes.split_off(PART);
                        let part = std::mem::replace(bytes, rest);
                        let content = Content::Whole { first_block: *first_block, bytes: part };
                        self.ready.push(Part { head: head.clone(), content });
                        *first_block += (PART / BLOCK) as u32;
                    }
                }
                Goal::Changed { head, changed } => {
                    let ready = &mut self.ready;
                    let put = |piece| ready.push(Part { head: head.clone(), content: Content::Piece(piece) });
                    if let Err(why) = changed.take(data, put) {
                        let why = format!("{}: {why}", head.path);
                        return Err(self.at_fault(why));
                    }
                }
            },
            TarEvent::End => return self.end(),
        }
        Ok(())
    }

    /// What the server sent of a file that changed does not do.
    fn at_fault(&mut self, why: String) -> BackupError {
        let why = self.fault.insert(format!("what the server sent of {why}"));
        BackupError::refused(code::QUERY_UNEXPECTED, why.clone())
    }

    fn begin(&mut self, entry: Entry) -> Result<()> {
        let path = format!("{}{}", self.prefix, entry.path);
        let path = path.trim_end_matches('/').to_owned();
        let (mode, modified_ms) = (entry.mode, entry.modified.saturating_mul(1000));
        if let Some(base) = self.base.clone().filter(|_| entry.what == What::File)
            && let Some(path) = native::changed_path(&path)
        {
            let Some(below) = Below::of(&base, &self.limits, &path) else {
                return Err(self.at_fault(format!("{path} is for a file that backup {} has not", base.about.label)));
            };
            let head = Arc::new(Head { path, mode, modified_ms, known: Mutex::new(None) });
            self.goal = Goal::Changed { head, changed: Box::new(Changed::new(below)) };
            return Ok(());
        }
        self.goal = match entry.what {
            _ if path.is_empty() => Goal::Nowhere,
            What::Directory => {
                self.directories.push((path, entry.mode));
                Goal::Nowhere
            }
            // A tablespace, whose own archive has its content.
            What::Link => Goal::Nowhere,
            What::File => match path.as_str() {
                "backup_label" => Goal::Label,
                "tablespace_map" => Goal::Map,
                left_out if LEFT_OUT.contains(&left_out) => Goal::Nowhere,
                _ => {
                    let is_control = path == control::PATH;
                    let head = Arc::new(Head { path, mode, modified_ms, known: Mutex::new(None) });
                    match is_control {
                        true => Goal::Control { head, bytes: Vec::new() },
                        false => Goal::File { head, first_block: 0, bytes: Vec::new() },
                    }
                }
            },
        };
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.goal, Goal::Nowhere) {
            // The last part; of an empty file the only one.
            Goal::File { head, first_block, bytes } if !bytes.is_empty() || first_block == 0 => {
                self.ready.push(Part { head, content: Content::Whole { first_block, bytes } });
            }
            Goal::Changed { head, changed } => {
                let ready = &mut self.ready;
                let put = |piece| ready.push(Part { head: head.clone(), content: Content::Piece(piece) });
                match changed.end(put) {
                    Ok(bad) => {
                        self.still_bad.extend(bad.into_iter().map(|block| BadPage { path: head.path.clone(), block }))
                    }
                    Err(why) => return Err(self.at_fault(format!("{}: {why}", head.path))),
                }
            }
            Goal::Control { head, bytes } => {
                let control = Control::parse(&bytes).map_err(|bad| {
                    let text = format!("{bad}: it was sent while it was written; run the backup again");
                    BackupError::refused(code::BACKUP_ABORTED, text)
                })?;
                if control.system_identifier != self.system_identifier {
                    let text = "the connection for replication led to another cluster than the session";
                    return Err(BackupError::refused(code::BACKUP_REFUSED, text));
                }
                self.has_control = true;
                self.ready.push(Part { head, content: Content::Whole { first_block: 0, bytes } });
            }
            _ => {}
        }
        Ok(())
    }
}

/// Compares and stores parts on several threads until no more come.
fn store(work: &Work, base: Option<&Known>, queue: mpsc::Receiver<Part>) -> Result<Read> {
    let (leftovers, old_chunks) = Known::of_leftovers(&work.cluster, &work.label)?;
    let bundles = work.bundles()?;
    let queue = Mutex::new(Some(queue));
    let one = || {
        let share = store_share(work, base, &leftovers, &bundles, &queue);
        if share.is_err() {
            // Whoever feeds notices that nobody takes any more.
            drop(queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        share
    };
    let shares: Result<Vec<Share>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..work.options.workers.clamp(1, 64)).map(|_| scope.spawn(one)).collect();
        let ended = || BackupError::refused(code::BUG, "a thread that stores ended without a result");
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        results.into_iter().map(|result| result.unwrap_or_else(|_| Err(ended()))).collect()
    });
    Ok(merged(shares?, old_chunks, Vec::new(), &bundles))
}

fn store_share(
    work: &Work,
    base: Option<&Known>,
    leftovers: &Known,
    bundles: &Bundles,
    queue: &Mutex<Option<mpsc::Receiver<Part>>>,
) -> Result<Share> {
    let mut bundler = Bundler::new(bundles);
    let (mut files, mut taken_over) = (Vec::new(), 0);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.blocking_recv();
    while let Some(Part { head, content }) = next() {
        // For no block none need be known.
        let known = match content {
            Content::Piece(Piece::Length { .. }) => Arc::default(),
            _ => head.known(base, leftovers)?,
        };
        let first_page = work.verify_pages.then(|| first_page(&head.path)).flatten();
        let mut blocks = Blocks::new(&known.0, &known.1);
        let mut bad_pages = Vec::new();
        bundler.begin_file(&head.path);
        let mut put = |number: u32, block: &[u8], bundler: &mut Bundler| {
            let in_relation = first_page.filter(|_| block.len() == BLOCK).map(|first| first.saturating_add(number));
            if in_relation.is_some_and(|page| page_state(block, page) == PageState::Torn) {
                bad_pages.push(u64::from(number));
            }
            blocks.take(number, block, bundler)
        };
        let (first_block, size, crc32c) = match content {
            Content::Whole { first_block, bytes } => {
                let all = (first_block..).zip(bytes.chunks(BLOCK));
                all.into_iter().try_for_each(|(number, block)| put(number, block, &mut bundler))?;
                (first_block, bytes.len() as u64, Some(crc32c::crc32c(&bytes)))
            }
            Content::Piece(Piece::Length { size, crc32c }) => (0, size, crc32c),
            Content::Piece(Piece::Zeros(range)) => {
                range.clone().try_for_each(|number| put(number, &[0; BLOCK], &mut bundler))?;
                (range.start, 0, None)
            }
            Content::Piece(Piece::Blocks { numbers, bytes }) => {
                let mut all = numbers.iter().zip(bytes.chunks(BLOCK));
                all.try_for_each(|(number, block)| put(*number, block, &mut bundler))?;
                (numbers.first().copied().unwrap_or(0), 0, None)
            }
        };
        taken_over += blocks.taken_over;
        let runs = blocks.end(&mut bundler);
        let (path, mode, modified_ms) = (head.path.clone(), head.mode, head.modified_ms);
        let entry = FileEntry { path, size, mode, modified_ms, crc32c, runs: Vec::new() };
        files.push(Done { entry, first_block, runs, bad_pages });
    }
    let (chunks, own) = bundler.finish()?;
    Ok(Share { files, chunks, own, taken_over })
}

/// Pages that do not fit were perhaps read while they were being written, which WAL makes good: they are looked at
/// again in the server's files. Where the role may not, all that did not fit are reported.
async fn still_bad(session: &Session, suspects: Vec<BadPage>) -> Result<Vec<BadPage>> {
    if suspects.is_empty() || suspects.len() > SUSPECTS {
        return Ok(suspects);
    }
    let may = "SELECT has_function_privilege('pg_read_binary_file(text,bigint,bigint,boolean)', 'EXECUTE') AS may";
    if !session.ask(may).await?.first()?.bool("may")? {
        return Ok(suspects);
    }
    let mut bad = Vec::new();
    for page in suspects {
        if !settles(session, &page).await? {
            bad.push(page);
        }
    }
    Ok(bad)
}

async fn settles(session: &Session, page: &BadPage) -> Result<bool> {
    let Some(first) = first_page(&page.path) else { return Ok(true) };
    let sql = format!(
        "SELECT encode(pg_read_binary_file({}, {}, {BLOCK}, true), 'hex') AS page",
        surus_pg::quote::literal(&page.path),
        page.block * BLOCK as u64
    );
    for _ in 0..AGAIN.0 {
        let rows = session.ask(&sql).await?;
        let bytes = rows.first()?.opt_str("page")?.and_then(unhex);
        // Gone or truncated meanwhile: recovery takes the page away again.
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == BLOCK) else { return Ok(true) };
        let in_relation = first.saturating_add(u32::try_from(page.block).unwrap_or(u32::MAX));
        if page_state(&bytes, in_relation) == PageState::Good {
            return Ok(true);
        }
        tokio::time::sleep(AGAIN.1).await;
    }
    Ok(false)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    digits.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Archives the history of the backup's timeline and those of its ancestors, as far as the server has them.
async fn bring_histories(
    connection: &mut Replication,
    cluster: &Cluster,
    timeline: u32,
    codec: Codec,
    monitor: &Arc<dyn Monitor>,
) -> Result<()> {
    let mut todo: Vec<u32> = (timeline > 1).then_some(timeline).into_iter().collect();
    while let Some(next) = todo.pop() {
        let content = match connection.timeline_history(next).await {
            Ok(file) => file.content,
            Err(error) => {
                monitor.note(&format!("the server does not give the history of timeline {next}: {error}"));
                continue;
            }
        };
        if next == timeline {
            todo = history::ancestors(timeline, &content);
        }
        let there = cluster.clone();
        match blocking(move || history::store(&there, next, &content, codec)).await {
            Err(error) if next != timeline => monitor.note(&error.to_string()),
            other => other?,
        }
    }
    Ok(())
}

/// Archives the segments of the backup that nobody has archived yet, as far as no more is written to them.
async fn bring_wal(
    connection: &mut Replication,
    slot: Option<&str>,
    cluster: &Cluster,
    wanted: super::WalWanted,
    codec: Codec,
) -> Result<u64> {
    let there = cluster.clone();
    let missing = blocking(move || wanted.missing(&there)).await?;
    let mut missing: Vec<_> = missing.into_iter().filter(|segment| segment.number <= wanted.finished).collect();
    missing.reverse();
    let Some(&first) = missing.last() else { return Ok(0) };
    let mut stream = match connection.start_physical(slot, first.start(), first.timeline).await? {
        Started::Streaming(stream) => stream,
        Started::Ended(_) => return Ok(0),
    };
    let (mut segment, mut content, mut brought) = (first, Vec::new(), 0);
    while let Some(last) = missing.first().copied() {
        match stream.next().await.map_err(|error| no_wal(segment, &error))? {
            WalEvent::Data { bytes, .. } => content.extend_from_slice(bytes),
            WalEvent::KeepAlive { .. } => {
                let here = Lsn(segment.start().0);
                stream.report(here, here, false).await?;
            }
            WalEvent::Ended(_) => return Ok(brought),
        }
        while content.len() as u64 >= segment.size && segment <= last {
            let rest = content.split_off(segment.size as usize);
            let whole = std::mem::replace(&mut content, rest);
            if missing.last() == Some(&segment) {
                missing.pop();
                brought += 1;
                let repo = cluster.repo.clone();
                let (name, system) = (segment.to_string(), cluster.names.system_identifier);
                blocking(move || push::push(&repo, &name, &whole, Some(system), codec)).await?;
            }
            segment = segment.next();
        }
    }
    stream.end().await?;
    Ok(brought)
}

fn no_wal(segment: Segment, error: &surus_pg::AskError) -> BackupError {
    let text = format!("{segment} is not in the archive, and the server does not give it: {error}");
    BackupError::refused(code::BACKUP_NO_WAL, text)
}
