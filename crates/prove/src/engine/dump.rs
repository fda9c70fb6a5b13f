//! What pg_dump and pg_dumpall made: loaded into a new cluster in the place.
//!
//! A dump has no WAL: it leads to the moment at which it was made, and nowhere else. Roles that it speaks of and does
//! not make are made without the right to log in. Then it is compared with its own table of contents, and with a server
//! when one is given: that is how a dump that leaves something out is known.

mod compare;
mod form;
mod reader;

use super::{Engine, Held, Kind, Landed, Order, Survey, Wish, basebackup::tar, fault, land, tool::quoted};
use crate::error::{ProveError, Result};
use compare::{Inventory, databases, lacking};
use form::{About, DumpFile, Form, contents, made_space, scan};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader, Read as _, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use surus_backup::restore::target::Goal;
use surus_core::code;
use surus_pg::{
    LocalServer, Programs, Target,
    account::Account,
    quote::{ident, literal},
    server::{InitOptions, Mode},
};

/// How long the new cluster may take to start.
const START: Duration = Duration::from_secs(60);
/// Who makes the cluster when the dump makes the role postgres by itself.
const MAKER: &str = "surus_restore";
/// What makes loading faster in a cluster that is thrown away.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "4GB"),
    ("maintenance_work_mem", "128MB"),
    ("autovacuum", "off"),
    ("archive_mode", "off"),
    // Whoever comes in is superuser.
    ("unix_socket_permissions", "0700"),
];

/// One or several dumps of one cluster.
#[derive(Debug, Clone)]
pub struct Dump {
    files: Vec<DumpFile>,
    compare: Option<String>,
    account: Account,
}

/// A dump whose content is known.
struct Read {
    file: DumpFile,
    about: About,
    /// The database that it is loaded into; none when it enters databases by itself.
    database: Option<String>,
}

impl Dump {
    /// From `--dump`, given once or several times, and `--compare`.
    ///
    /// # Errors
    /// When a file is none of pg_dump's.
    pub fn open(wish: &Wish) -> Result<Self> {
        if wish.dumps.is_empty() {
            let text = "--engine dump needs --dump: a file or directory of pg_dump or pg_dumpall; several may be given";
            return Err(ProveError::refused(code::PROVE_ENGINE, text));
        }
        let mut files = wish.dumps.iter().map(|path| DumpFile::open(path)).collect::<Result<Vec<_>>>()?;
        // Roles and tablespaces come before what needs them.
        files.sort_by_key(|file| file.form != Form::Cluster);
        Ok(Self { files, compare: wish.compare.clone(), account: Account::unprivileged()? })
    }

    fn read(&self) -> Result<Vec<Read>> {
        self.files.iter().map(|file| self.read_one(file)).collect()
    }

    fn read_one(&self, file: &DumpFile) -> Result<Read> {
        owner_may_read(file)?;
        whole(file)?;
        let about = match file.form {
            form if form.is_archive() => {
                let mut about = contents(&self.pg_restore(file, &["--list"])?);
                // Grants and owners of what is no table.
                let sql = self.pg_restore(file, &["--schema-only", "--create", "--file=-"])?;
                let scanned = scan(sql.as_bytes()).map_err(ProveError::input("cannot read", &file.path))?;
                about.names.extend(scanned.names);
                about.uses_spaces = scanned.uses_spaces;
                about
            }
            _ => self.scan(file)?,
        };
        if !about.ended {
            let bytes = file.path.metadata().map_or(0, |meta| meta.len());
            let text = format!(
                "{} ({bytes} bytes) is cut short: it does not end with \"dump complete\" as pg_dump's do",
                file.path.display()
            );
            return Err(ProveError::refused(code::ENGINE_DAMAGED, text));
        }
        let database = match (&about.database, about.connects || file.form == Form::Cluster) {
            (Some(name), _) => Some(name.clone()),
            (None, true) => None,
            (None, false) => Some(file.stem()),
        };
        Ok(Read { file: file.clone(), about, database })
    }

    fn scan(&self, file: &DumpFile) -> Result<About> {
        let failed = || ProveError::input("cannot read", &file.path);
        let Some(packed) = file.packed else {
            return scan(File::open(&file.path).map_err(failed())?).map_err(failed());
        };
        let mut child = packed.unpack(&file.path)?;
        let about = match child.stdout.take() {
            Some(out) => scan(out).map_err(failed())?,
            None => About::default(),
        };
        packed.finish(child, &file.path)?;
        Ok(about)
    }

    /// pg_restore of the newest installation: it reads what older ones wrote.
    fn pg_restore(&self, file: &DumpFile, arguments: &[&str]) -> Result<String> {
        let programs = newest("pg_restore")?;
        let mut command = self.account.command(&programs.bin("pg_restore")?, Path::new("/"));
        if let Some(libraries) = programs.library_path() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.args(arguments);
        feed(&mut command, file)?;
        finish(command.output(), "pg_restore", file)
    }

    /// The major to load into: that of the server it is from or of the pg_dump that wrote it, or the oldest newer one
    /// that is installed.
    fn programs(&self, all: &[Read]) -> Result<Programs> {
        let wanted = all.iter().filter_map(|one| one.about.major.max(one.about.by)).max();
        let mut installed = Programs::find_all();
        installed.sort_by_key(Programs::major);
        let fits = |programs: &&Programs| wanted.is_none_or(|major| programs.major() >= major);
        match wanted {
            Some(_) => installed.iter().find(fits).cloned(),
            None => installed.last().cloned(),
        }
        .ok_or_else(|| {
            let major = wanted.unwrap_or(0);
            let text = format!("the dump is from PostgreSQL {major}, and neither it nor a newer one is installed here");
            ProveError::refused(code::PROVE_TOOL, text)
        })
    }

    /// Gives SQL to psql, unpacked, and with the places of tablespaces changed to ours.
    fn stream(&self, mut psql: Command, one: &Read, spaces: &Path) -> Result<()> {
        let file = &one.file;
        let failed = || ProveError::input("cannot read", &file.path);
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut unpacking = file.packed.map(|packed| packed.unpack(&file.path)).transpose()?;
        let source: Box<dyn std::io::Read + Send> = match unpacking.as_mut().and_then(|child| child.stdout.take()) {
            Some(out) => Box::new(out),
            None => Box::new(File::open(&file.path).map_err(failed())?),
        };
        let mut child = psql.spawn().map_err(ProveError::file("cannot run", Path::new("psql")))?;
        let sink = child.stdin.take();
        let moves = !one.about.makes_spaces.is_empty();
        let (output, passed) = std::thread::scope(|scope| {
            let passing = scope.spawn(move || sink.map_or(Ok(()), |sink| pass(source, sink, moves.then_some(spaces))));
            let output = child.wait_with_output();
            (output, passing.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())))
        });
        // When psql ended early, writing to it failed, and it says why.
        let loaded = finish(output, "psql", file);
        // A file that could not be read to its end ended there for psql.
        let loaded = loaded.and_then(|said| passed.map(|()| said).map_err(failed()));
        match (unpacking, file.packed) {
            (Some(child), Some(packed)) => loaded.and(packed.finish(child, &file.path)),
            _ => loaded.map(drop),
        }
    }

    /// Makes places for tablespaces, and those tablespaces that the dumps use and do not make.
    fn spaces(
        &self,
        order: &Order<'_>,
        server: &LocalServer,
        all: &[Read],
        notes: &mut Vec<String>,
    ) -> Result<PathBuf> {
        let root = land::room(order.place, "tablespaces", &self.account)?;
        let made: BTreeSet<&String> = all.iter().flat_map(|one| &one.about.makes_spaces).collect();
        let used: BTreeSet<&String> = all.iter().flat_map(|one| &one.about.uses_spaces).collect();
        for name in made.union(&used) {
            let dir = root.join(directory_name(name));
            fs::create_dir_all(&dir).map_err(ProveError::file("cannot make", &dir))?;
            self.account.own(&dir)?;
            if !made.contains(name) {
                let at = literal(&dir.display().to_string());
                run_sql(server, "postgres", &[format!("CREATE TABLESPACE {} LOCATION {at}", ident(name))])?;
                notes.push(format!("tablespace {name} was made: the dump uses it and does not make it"));
            }
        }
        Ok(root)
    }

    fn load(&self, server: &LocalServer, one: &Read, spaces: &Path, jobs: usize) -> Result<Vec<String>> {
        let file = &one.file;
        if !file.form.is_archive() {
            let database = one.database.as_deref().unwrap_or("postgres");
            let mut command = server.client("psql")?;
            command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d"]);
            command.arg(server.dsn(server.superuser(), database)).args(["-f", "-"]);
            let words = format!("psql -X -v ON_ERROR_STOP=1 -d {} -f {}", quoted(database), file.path.display());
            self.stream(command, one, spaces)?;
            return Ok(vec![words]);
        }
        let mut command = server.client("pg_restore")?;
        command.args(["--exit-on-error", "-d"]).arg(server.dsn(server.superuser(), "postgres"));
        let there = one.database.as_deref() == Some("postgres");
        if !there {
            command.arg("--create");
        }
        let path_works = file.path.metadata().is_ok_and(|meta| fault::may_read(&meta, &self.account));
        if jobs > 1 && file.form != Form::Tar && path_works {
            command.args(["--jobs", &jobs.to_string()]).arg(&file.path).stdin(Stdio::null());
        } else {
            feed(&mut command, file)?;
        }
        finish(command.output(), "pg_restore", file)?;
        let create = if there { "" } else { " --create" };
        Ok(vec![format!("pg_restore --exit-on-error{create} -d postgres {}", file.path.display())])
    }

    /// Makes the cluster and loads everything; the server still runs.
    fn fill(&self, order: &Order<'_>, all: &[Read], programs: &Programs) -> Result<(LocalServer, Loaded)> {
        let makes_postgres = all.iter().any(|one| one.about.makes.contains("postgres"));
        let superuser = if makes_postgres { MAKER } else { "postgres" };
        let options = InitOptions { superuser: superuser.into(), sync: false, ..InitOptions::default() };
        let mut server = LocalServer::init(programs, order.place.dir(), &options)?;
        server.argue(SETTINGS);
        server.start(START)?;
        let mut loaded = Loaded::default();
        let made: BTreeSet<String> = all.iter().flat_map(|one| one.about.makes.iter().cloned()).collect();
        let lacking: BTreeSet<String> = all.iter().flat_map(|one| one.about.roles()).collect();
        let lacking: Vec<String> =
            lacking.into_iter().filter(|name| !made.contains(name) && name != superuser).collect();
        if !lacking.is_empty() {
            let sql: Vec<String> = lacking.iter().map(|name| format!("CREATE ROLE {} NOLOGIN", ident(name))).collect();
            run_sql(&server, "postgres", &sql)?;
            loaded.notes.push(format!(
                "roles that the dump speaks of and does not make were made without login: {}; pg_dumpall \
                 --globals-only keeps them",
                lacking.join(", ")
            ));
        }
        let spaces = self.spaces(order, &server, all, &mut loaded.notes)?;
        for one in all {
            if let (Some(name), false) = (&one.database, one.file.form.is_archive())
                && name != "postgres"
            {
                run_sql(&server, "postgres", &[format!("CREATE DATABASE {} TEMPLATE template0", ident(name))])?;
            }
            loaded.commands.extend(self.load(&server, one, &spaces, order.jobs)?);
        }
        if makes_postgres {
            // Whoever starts the copy enters as postgres.
            run_sql(&server, "postgres", &["ALTER ROLE postgres SUPERUSER LOGIN".into()])?;
        }
        Ok((server, loaded))
    }

    /// Compares what was loaded with what the dumps say that they hold, and with the server.
    fn judge(&self, server: &LocalServer, all: &[Read]) -> Result<Vec<String>> {
        let own = |database: &str| Target::parse(&server.dsn(server.superuser(), database));
        let mut there = BTreeMap::new();
        for database in databases(&own("postgres")?)? {
            there.insert(database.clone(), Inventory::of(&own(&database)?, self.compare.is_some())?);
        }
        let mut notes = Vec::new();
        for one in all {
            let Some(found) = one.database.as_ref().and_then(|name| there.get(name)) else { continue };
            let lacks: Vec<String> =
                one.about.tables.iter().filter(|name| !found.tables.contains_key(*name)).cloned().collect();
            if !lacks.is_empty() {
                return Err(lacking("its table of contents names what was not loaded:", lacks));
            }
            let bare = found
                .tables
                .keys()
                .filter(|name| one.about.tables.contains(*name) && !one.about.with_rows.contains(*name));
            let bare: Vec<&str> = bare.map(String::as_str).collect();
            if !bare.is_empty() && !one.about.with_rows.is_empty() {
                notes.push(format!("{} holds no rows of {}", one.file.path.display(), bare.join(", ")));
            }
        }
        let Some(compare) = &self.compare else { return Ok(notes) };
        let target = Target::parse(compare)?;
        let all_of_it = all.iter().any(|one| one.file.form == Form::Cluster && one.about.connects);
        for database in databases(&target)? {
            let chosen = database == target.database() || all_of_it;
            match there.get(&database) {
                Some(found) => {
                    let server = Inventory::of(&target.with_database(&database), true)?;
                    notes.extend(found.holds_all_of(&server, &database)?);
                }
                None if chosen && database != "postgres" => {
                    return Err(lacking("the dump lacks", vec![format!("database {database}")]));
                }
                None => notes.push(format!("database {database} of the server is in none of the dumps")),
            }
        }
        Ok(notes)
    }
}

/// What loading did.
#[derive(Debug, Default)]
struct Loaded {
    commands: Vec<String>,
    notes: Vec<String>,
}

impl Engine for Dump {
    fn kind(&self) -> Kind {
        Kind::Dump
    }

    fn address(&self) -> String {
        let all: Vec<String> = self.files.iter().map(|file| file.path.display().to_string()).collect();
        all.join(", ")
    }

    fn off_site(&self) -> Option<bool> {
        None
    }

    fn survey(&self) -> Result<Survey> {
        let all = self.read()?;
        let made_at = all.iter().map(|one| one.about.made_at.or_else(|| written_at(&one.file.path))).max().flatten();
        let size = self.files.iter().map(|file| bytes_of(&file.path)).sum();
        let held = Held { full: true, stopped_at: made_at, size: Some(size), ..Held::named(&self.label()) };
        Ok(Survey {
            // That which it is loaded into.
            major: Some(self.programs(&all)?.major()),
            backups: vec![held],
            notes: vec!["a dump leads to the moment at which it was made, and nowhere else".into()],
            ..Survey::default()
        })
    }

    fn restore(&self, order: &Order<'_>) -> Result<Landed> {
        if !matches!(order.target.goal, Goal::Latest | Goal::Immediate) {
            let text = format!("a dump leads to the moment at which it was made, not to {}", order.target.goal);
            return Err(ProveError::refused(code::ENGINE_WAL, text));
        }
        let all = self.read()?;
        let programs = self.programs(&all)?;
        let (mut server, mut loaded) = self.fill(order, &all, &programs)?;
        let judged = self.judge(&server, &all);
        server.stop(Mode::Fast)?;
        loaded.notes.extend(judged?);
        if let Some(major) =
            all.iter().filter_map(|one| one.about.major).max().filter(|major| *major != programs.major())
        {
            loaded.notes.push(format!("it is from PostgreSQL {major}, and was loaded into {}", programs.major()));
        }
        Ok(Landed {
            data: order.place.data(),
            label: self.label(),
            major: programs.major(),
            bytes: bytes_of(&order.place.data()),
            recovers: false,
            replays_to: None,
            commands: loaded.commands,
            notes: loaded.notes,
        })
    }
}

impl Dump {
    fn label(&self) -> String {
        let names = self.files.iter().filter_map(|file| file.path.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" + ")
    }
}

/// Passes SQL on; where tablespaces are made, each goes into a directory of ours.
fn pass(source: impl std::io::Read, mut sink: impl Write, spaces: Option<&Path>) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 18, source);
    let Some(spaces) = spaces else {
        return std::io::copy(&mut reader, &mut sink).map(drop);
    };
    let mut sink = std::io::BufWriter::with_capacity(1 << 18, sink);
    let mut line = Vec::new();
    let mut in_rows = false;
    while reader.read_until(b'\n', &mut line)? > 0 {
        in_rows = match in_rows {
            true => line.trim_ascii_end() != b"\\.",
            false => line.starts_with(b"COPY ") && line.trim_ascii_end().ends_with(b" FROM stdin;"),
        };
        let made = (!in_rows && line.starts_with(b"CREATE TABLESPACE ")).then(|| String::from_utf8_lossy(&line));
        match made.as_deref().and_then(made_space) {
            Some((name, before)) => {
                let dir = spaces.join(directory_name(&name));
                writeln!(sink, "{before} LOCATION {};", literal(&dir.display().to_string()))?;
            }
            None => sink.write_all(&line)?,
        }
        line.clear();
    }
    sink.flush()
}

/// A tablespace's name as that of a directory.
fn directory_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

fn newest(program: &str) -> Result<Programs> {
    let all = Programs::find_all();
    all.into_iter()
        .find(|programs| programs.bin(program).is_ok())
        .ok_or_else(|| ProveError::refused(code::PROVE_TOOL, format!("{program} is not installed on this machine")))
}

/// Whoever restores it in earnest is its owner: what he may not read is no backup, though we might read it.
fn owner_may_read(file: &DumpFile) -> Result<()> {
    let mut paths = vec![file.path.clone()];
    if file.form == Form::Directory {
        paths.extend(fs::read_dir(&file.path).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    let top = file.path.metadata().map_err(ProveError::input("cannot read", &file.path))?;
    for path in paths {
        let meta = path.metadata().map_err(ProveError::input("cannot read", &path))?;
        let own = if meta.is_dir() { 0o500 } else { 0o400 };
        if meta.mode() & own != own || (meta.uid() != top.uid() && !fault::bits(&meta, top.uid(), top.gid())) {
            let (mode, uid) = (meta.mode() & 0o7777, meta.uid());
            let text = format!("{} cannot be read by its owner: mode {mode:04o}, uid {uid}", path.display());
            return Err(ProveError::refused(code::ENGINE_ACCESS, text));
        }
    }
    Ok(())
}

/// pg_restore takes the end of a file for the end of a table's rows where nothing is packed: rows would be missing, and
/// nobody would say so. A tar file has its end; the rows of a directory's file end with `\.`, or with a statement.
fn whole(file: &DumpFile) -> Result<()> {
    match file.form {
        Form::Tar => return tar::sizes(&file.path).map(drop),
        Form::Directory => {}
        _ => return Ok(()),
    }
    for entry in fs::read_dir(&file.path).map_err(ProveError::input("cannot read", &file.path))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = name.strip_suffix(".dat").filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        let path = entry.path();
        let failed = || ProveError::input("cannot read", &path);
        let mut open = File::open(&path).map_err(failed())?;
        let bytes = open.metadata().map_err(failed())?.len();
        let mut end = Vec::new();
        open.seek(SeekFrom::Start(bytes.saturating_sub(64))).map_err(failed())?;
        open.read_to_end(&mut end).map_err(failed())?;
        if !end.trim_ascii_end().ends_with(b"\\.") && !end.trim_ascii_end().ends_with(b";") {
            let text =
                format!("{} ({bytes} bytes) is cut short: entry {number} does not end as pg_dump's do", path.display());
            return Err(ProveError::refused(code::ENGINE_DAMAGED, text));
        }
    }
    Ok(())
}

/// Gives a dump to a program: a file by its standard input, which was opened with our rights; a directory by its name.
fn feed(command: &mut Command, file: &DumpFile) -> Result<()> {
    if file.form == Form::Directory {
        command.arg(&file.path).stdin(Stdio::null());
        return Ok(());
    }
    let input = File::open(&file.path).map_err(ProveError::input("cannot open", &file.path))?;
    command.stdin(Stdio::from(input));
    Ok(())
}

fn finish(output: std::io::Result<std::process::Output>, program: &'static str, file: &DumpFile) -> Result<String> {
    let output = output.map_err(ProveError::file("cannot run", Path::new(program)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let bytes = bytes_of(&file.path);
    let name = file.path.display();
    let damaged = [
        "end of file",
        "could not read",
        "uncompress",
        "corrupt",
        "did not find magic",
        "could not find block",
        "unexpected section",
        "could not open",
        "No such file",
        "missing data for column",
        "unexpected EOF",
        "invalid",
    ];
    let (code, what) = match () {
        () if said.contains("does not exist")
            || said.contains("already exists")
            || said.contains("is not available") =>
        {
            (code::ENGINE_LACKS, "cannot be loaded whole")
        }
        () if damaged.iter().any(|text| said.contains(text)) => (code::ENGINE_DAMAGED, "is cut short or damaged"),
        () => (code::ENGINE_DAMAGED, "cannot be loaded"),
    };
    let shown: Vec<&str> = said.lines().take(6).collect();
    let text = format!("{name} ({bytes} bytes) {what}; {program} says: {}", shown.join("\n"));
    Err(ProveError::refused(code, text))
}

/// Runs statements, each in a transaction of its own.
fn run_sql(server: &LocalServer, database: &str, statements: &[String]) -> Result<()> {
    let dsn = server.dsn(server.superuser(), database);
    for sql in statements {
        server.run_client("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &dsn, "-c", sql])?;
    }
    Ok(())
}

/// Bytes of a file, or of all files of a directory.
fn bytes_of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| bytes_of(&entry.path())).sum()
        }
        Ok(meta) => meta.len(),
        Err(_) => 0,
    }
}

fn written_at(path: &Path) -> Option<jiff::Timestamp> {
    jiff::Timestamp::try_from(path.metadata().ok()?.modified().ok()?).ok()
}
