//! A PostgreSQL server of our own on this machine: made, configured, started, stopped, promoted, copied.
//!
//! One directory holds all of it: `data` (the data directory), `postgresql.log`, and the Unix socket where its path is
//! short enough. The calls block; from async code use `spawn_blocking`. Dropping a [`LocalServer`] that started its
//! server stops that server at once; [`LocalServer::detach`] leaves it running.

use crate::{account::Account, local::LocalError, programs::Programs};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::{clock::Deadline, secret::Secret};

/// The longest path of a Unix socket that the kernel takes, in bytes (`sun_path` less its end mark).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The port of a server that only listens on its own socket.
const SOCKET_PORT: u16 = 5432;
/// How often another free TCP port is tried when somebody was faster.
const PORT_TRIES: u32 = 5;
const POLL: Duration = Duration::from_millis(10);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How much of the log an error carries.
const LOG_TAIL_LINES: usize = 20;

/// How a server is stopped; the words of `pg_ctl stop -m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Waits until the clients have gone.
    Smart,
    /// Ends the sessions, writes a checkpoint.
    Fast,
    /// Ends at once, as if it had crashed; the next start recovers.
    Immediate,
}

/// How local and loopback clients prove who they are, as `initdb --auth` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Everybody who reaches the socket may be anybody.
    Trust,
    /// SCRAM, with this password for the superuser.
    Scram(Secret),
}

/// What initdb needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitOptions {
    /// Name of the bootstrap superuser.
    pub superuser: String,
    pub auth: Auth,
    /// Data checksums, whatever the major's own default is.
    pub checksums: bool,
    /// Size of a WAL segment in MiB, a power of two from 1 to 1024; PostgreSQL's default is 16.
    pub wal_segment_mib: u32,
    /// Wait until everything is on disk. Only tests can do without.
    pub sync: bool,
    /// Further arguments for initdb.
    pub extra_args: Vec<String>,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            superuser: "postgres".into(),
            auth: Auth::Trust,
            checksums: true,
            wal_segment_mib: 16,
            sync: true,
            extra_args: Vec::new(),
        }
    }
}

impl InitOptions {
    /// initdb's arguments, without data directory and password file.
    pub fn arguments(&self, major: u16) -> Vec<String> {
        let auth = if self.auth == Auth::Trust { "trust" } else { "scram-sha-256" };
        let mut arguments = vec![
            format!("--username={}", self.superuser),
            format!("--auth={auth}"),
            format!("--wal-segsize={}", self.wal_segment_mib),
            "--encoding=UTF8".into(),
            "--locale=C.UTF-8".into(),
        ];
        // Checksums are the default from 18 on, which also brought the switch to turn them off.
        match (self.checksums, major) {
            (true, ..18) => arguments.push("--data-checksums".into()),
            (false, 18..) => arguments.push("--no-data-checksums".into()),
            _ => {}
        }
        if !self.sync {
            arguments.push("--no-sync".into());
        }
        arguments.extend(self.extra_args.iter().cloned());
        arguments
    }
}

/// A copy of a running server, taken with pg_basebackup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackup {
    /// The server to copy, as a libpq connection string. `application_name` in it becomes the standby's name.
    pub dsn: String,
    /// The physical slot that a standby streams through; it is created if `create_slot`.
    pub slot: Option<String>,
    pub create_slot: bool,
    /// Make it a standby that follows the copied server; otherwise it starts as a server of its own.
    pub standby: bool,
    /// Wait until everything is on disk.
    pub sync: bool,
}

/// A server on this machine that belongs to us.
#[derive(Debug)]
pub struct LocalServer {
    programs: Programs,
    account: Account,
    dir: PathBuf,
    data: PathBuf,
    socket_dir: PathBuf,
    /// The socket directory was made for us outside `dir`, and goes when we go.
    socket_dir_is_ours: bool,
    superuser: String,
    port: u16,
    loopback: bool,
    /// Somebody chose the port: when it is taken, no other is tried.
    port_is_fixed: bool,
    child: Option<Child>,
    log_start: u64,
    /// Further arguments of the server program.
    arguments: Vec<String>,
}

impl LocalServer {
    /// Makes a new database cluster in `dir`, which must be empty or absent.
    ///
    /// # Errors
    /// The directory is not usable, we are root without anybody to step down to, or initdb failed.
    pub fn init(programs: &Programs, dir: &Path, options: &InitOptions) -> Result<Self, LocalError> {
        let mut server = Self::at(programs, dir, &options.superuser)?;
        let mut command = server.program("initdb")?;
        command.arg("--pgdata").arg(&server.data).args(options.arguments(programs.major()));
        if let Auth::Scram(password) = &options.auth {
            let file = server.dir.join("initdb.password");
            server.write_private(&file, &format!("{}\n", password.reveal()))?;
            let outcome = finish("initdb", command.arg("--pwfile").arg(&file));
            fs::remove_file(&file).map_err(|error| LocalError::directory(&file, &error))?;
            outcome?;
        } else {
            finish("initdb", &mut command)?;
        }
        server.write_own_settings()?;
        Ok(server)
    }

    /// Takes over a data directory that is already in `dir/data`: a copied template or a restored backup.
    ///
    /// # Errors
    /// The directory is not usable, or its settings cannot be written.
    pub fn adopt(programs: &Programs, dir: &Path, superuser: &str) -> Result<Self, LocalError> {
        let mut server = Self::at(programs, dir, superuser)?;
        if !server.data.join("PG_VERSION").is_file() {
            return Err(LocalError::Directory { path: server.data.clone(), problem: "is no data directory".into() });
        }
        server.write_own_settings()?;
        Ok(server)
    }

    /// A server in a data directory that is somebody's, e.g. a restored one: none of its files is written. Port, socket
    /// directory (the data directory, where its path is short enough) and log are given on the command line; it
    /// listens on 127.0.0.1, on this port or a free one.
    ///
    /// # Errors
    /// The directory is not usable, or does not belong to the account that the server would run as.
    pub fn in_place(programs: &Programs, data: &Path, superuser: &str, port: Option<u16>) -> Result<Self, LocalError> {
        let unusable = |problem: String| LocalError::Directory { path: data.to_owned(), problem };
        let owner = fs::metadata(data).map_err(|error| LocalError::directory(data, &error))?.uid();
        if !data.join("PG_VERSION").is_file() {
            return Err(unusable("is no data directory".into()));
        }
        let account = Account::unprivileged()?;
        if owner != account.uid() {
            let problem = format!("belongs to uid {owner}, and the server would run as uid {}", account.uid());
            return Err(unusable(problem));
        }
        let mut server = Self::at(programs, data, superuser)?;
        server.data.clone_from(&server.dir);
        (server.loopback, server.port_is_fixed) = (true, true);
        server.port = port.map_or_else(free_port, Ok)?;
        let settings = [
            // A configuration that came from elsewhere may name another one, and the server would start that.
            ("data_directory", server.data.display().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", server.port.to_string()),
            ("unix_socket_directories", server.socket_dir.display().to_string()),
            ("logging_collector", "off".into()),
            ("log_destination", "stderr".into()),
            ("lc_messages", "C".into()),
        ];
        server.arguments =
            settings.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect();
        Ok(server)
    }

    /// Gives it settings on the command line: they win over every file, and of two values the later one.
    pub fn argue<N: AsRef<str>, V: AsRef<str>>(&mut self, settings: &[(N, V)]) {
        for (name, value) in settings {
            self.arguments.extend(["-c".to_owned(), format!("{}={}", name.as_ref(), value.as_ref())]);
        }
    }

    /// Copies a running server into `dir` with pg_basebackup.
    ///
    /// # Errors
    /// The directory is not usable, or pg_basebackup failed.
    pub fn from_base_backup(
        programs: &Programs,
        dir: &Path,
        superuser: &str,
        backup: &BaseBackup,
    ) -> Result<Self, LocalError> {
        let mut server = Self::at(programs, dir, superuser)?;
        let client = programs.with_client("pg_basebackup")?;
        let mut command = command_of(&client, &server.account, "pg_basebackup", &server.dir)?;
        command.arg("--pgdata").arg(&server.data).args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]);
        command.arg("--dbname").arg(&backup.dsn);
        if let Some(slot) = &backup.slot {
            command.arg("--slot").arg(slot);
            if backup.create_slot {
                command.arg("--create-slot");
            }
        }
        if !backup.sync {
            command.arg("--no-sync");
        }
        finish("pg_basebackup", &mut command)?;
        if backup.standby {
            server.follow(backup)?;
        }
        server.write_own_settings()?;
        Ok(server)
    }

    /// What `pg_basebackup -R` does, except that a client program newer than the server would write connection options
    /// there which the server's own library does not know.
    fn follow(&self, backup: &BaseBackup) -> Result<(), LocalError> {
        let mut settings = vec![("primary_conninfo", backup.dsn.as_str())];
        settings.extend(backup.slot.as_deref().map(|slot| ("primary_slot_name", slot)));
        self.append_settings("postgresql.auto.conf", &settings)?;
        self.write_private(&self.data.join("standby.signal"), "")
    }

    /// A streaming standby of another local server, through a physical slot of the standby's name, created there.
    ///
    /// # Errors
    /// As [`LocalServer::from_base_backup`].
    pub fn standby_of(primary: &Self, dir: &Path, name: &str) -> Result<Self, LocalError> {
        let dsn = format!("{} application_name={name}", primary.replication_dsn());
        let backup = BaseBackup { dsn, slot: Some(name.to_owned()), create_slot: true, standby: true, sync: false };
        Self::from_base_backup(&primary.programs, dir, &primary.superuser, &backup)
    }

    fn at(programs: &Programs, dir: &Path, superuser: &str) -> Result<Self, LocalError> {
        let account = Account::unprivileged()?;
        fs::create_dir_all(dir).map_err(|error| LocalError::directory(dir, &error))?;
        let dir = fs::canonicalize(dir).map_err(|error| LocalError::directory(dir, &error))?;
        account.own(&dir)?;
        account.can_enter(&dir)?;
        let (socket_dir, socket_dir_is_ours) = socket_dir(&dir, &account)?;
        Ok(Self {
            programs: programs.clone(),
            account,
            data: dir.join("data"),
            dir,
            socket_dir,
            socket_dir_is_ours,
            superuser: superuser.to_owned(),
            port: SOCKET_PORT,
            loopback: false,
            port_is_fixed: false,
            child: None,
            log_start: 0,
            arguments: Vec::new(),
        })
    }
}

/// What it is and where.
impl LocalServer {
    /// The programs that it runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The account that it runs as.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Where the server's standard error goes; with `logging_collector` only its first and last words.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("postgresql.log")
    }

    /// The directory of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Its port, on the socket and, if it listens there, on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Does it listen on the loopback address too?
    pub fn listens_on_loopback(&self) -> bool {
        self.loopback
    }

    /// The bootstrap superuser's name.
    pub fn superuser(&self) -> &str {
        &self.superuser
    }

    /// A libpq connection string for the Unix socket.
    pub fn dsn(&self, user: &str, database: &str) -> String {
        let host = conninfo_value(&self.socket_dir.display().to_string());
        let (user, database) = (conninfo_value(user), conninfo_value(database));
        format!("host={host} port={} user={user} dbname={database}", self.port)
    }

    /// A libpq connection string for the loopback address.
    pub fn loopback_dsn(&self, user: &str, database: &str) -> String {
        let (user, database) = (conninfo_value(user), conninfo_value(database));
        format!("host=127.0.0.1 port={} user={user} dbname={database}", self.port)
    }

    fn replication_dsn(&self) -> String {
        let host = conninfo_value(&self.socket_dir.display().to_string());
        format!("host={host} port={} user={}", self.port, conninfo_value(&self.superuser))
    }

    /// The process id of the postmaster, if it runs.
    pub fn pid(&self) -> Option<u32> {
        running_pid(&self.data)
    }

    /// Does it run?
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// The log of all its starts; with a logging collector also the collector's current file.
    pub fn log(&self) -> String {
        self.log_from(0)
    }

    fn log_from(&self, start: u64) -> String {
        let mut text = read_from(&self.log_file(), start);
        let current = fs::read_to_string(self.data.join("current_logfiles")).unwrap_or_default();
        let named = current.lines().find_map(|line| line.strip_prefix("stderr ")).map(|path| self.data.join(path));
        // A server that has ended has taken the list with it.
        if let Some(path) = named.or_else(|| newest_file(&self.data.join("log"))) {
            text.push_str(&read_from(&path, 0));
        }
        text
    }

    /// The log's last lines, of the latest start only.
    pub fn log_tail(&self) -> String {
        let text = self.log_from(self.log_start);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// Settings.
impl LocalServer {
    /// Adds settings to postgresql.conf; of two lines the later one counts. In force after a reload or restart.
    ///
    /// # Errors
    /// [`LocalError::Directory`] when the file cannot be written.
    pub fn write_settings<N: AsRef<str>, V: AsRef<str>>(&self, settings: &[(N, V)]) -> Result<(), LocalError> {
        self.append_settings("postgresql.conf", settings)
    }

    fn append_settings<N: AsRef<str>, V: AsRef<str>>(&self, file: &str, settings: &[(N, V)]) -> Result<(), LocalError> {
        let lines: String =
            settings.iter().map(|(name, value)| format!("{} = {}\n", name.as_ref(), conf(value.as_ref()))).collect();
        let path = self.data.join(file);
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| file.write_all(lines.as_bytes())).map_err(|error| LocalError::directory(&path, &error))
    }

    /// Replaces pg_hba.conf. In force after a reload.
    ///
    /// # Errors
    /// [`LocalError::Directory`] when the file cannot be written.
    pub fn write_hba(&self, text: &str) -> Result<(), LocalError> {
        let path = self.data.join("pg_hba.conf");
        fs::write(&path, text).map_err(|error| LocalError::directory(&path, &error))
    }

    /// Writes a file that only the server's account may read: a key, a password file.
    ///
    /// # Errors
    /// [`LocalError::Directory`] when the file cannot be written.
    pub fn write_private(&self, path: &Path, text: &str) -> Result<(), LocalError> {
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())
        };
        write().map_err(|error| LocalError::directory(path, &error))?;
        self.account.own(path)
    }

    /// Makes it listen on 127.0.0.1 too. The port is chosen at each start that finds the last one taken.
    ///
    /// # Errors
    /// As [`LocalServer::write_settings`].
    pub fn listen_on_loopback(&mut self) -> Result<(), LocalError> {
        self.loopback = true;
        self.port = free_port()?;
        self.write_own_settings()
    }

    /// Makes it listen on 127.0.0.1 too, on this port and no other.
    ///
    /// # Errors
    /// As [`LocalServer::write_settings`].
    pub fn listen_on_port(&mut self, port: u16) -> Result<(), LocalError> {
        (self.loopback, self.port, self.port_is_fixed) = (true, port, true);
        self.write_own_settings()
    }

    fn write_own_settings(&mut self) -> Result<(), LocalError> {
        let port = self.port.to_string();
        let socket_dir = self.socket_dir.display().to_string();
        self.write_settings(&[
            ("listen_addresses", if self.loopback { "127.0.0.1" } else { "" }),
            ("port", &port),
            ("unix_socket_directories", &socket_dir),
        ])
    }
}

/// Running.
impl LocalServer {
    /// Starts it and waits until it takes connections (a standby: until it has reached consistency, if `hot_standby`).
    ///
    /// # Errors
    /// [`LocalError::Start`] with the log's last lines when it ended or was not ready in time; it does not run then.
    pub fn start(&mut self, within: Duration) -> Result<(), LocalError> {
        let mut tries = if self.loopback && !self.port_is_fixed { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match self.start_once(within) {
                Err(LocalError::Start { log_tail, .. }) if tries > 0 && log_tail.contains("ddress already in use") => {
                    self.forget_this_start();
                    self.port = free_port()?;
                    self.write_own_settings()?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes a start that another one follows at once out of the log: nobody should read it as a failure.
    fn forget_this_start(&self) {
        if let Ok(log) = fs::OpenOptions::new().write(true).open(self.log_file()) {
            // If it stays, the log says more than needed, and nothing is wrong with that.
            let _ = log.set_len(self.log_start);
        }
    }

    fn start_once(&mut self, within: Duration) -> Result<(), LocalError> {
        let failed = |server: &Self, reason: String| {
            Err(LocalError::Start { dir: server.dir.clone(), reason, log_tail: server.log_tail() })
        };
        if let Some(pid) = self.pid() {
            return failed(self, format!("it already runs (pid {pid})"));
        }
        let log_path = self.log_file();
        // It may show values, as PostgreSQL's own log, which has the same mode.
        let log = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path);
        let log = log.map_err(|error| LocalError::directory(&log_path, &error))?;
        self.account.own(&log_path)?;
        self.log_start = log.metadata().map_or(0, |meta| meta.len());
        let also_log = log.try_clone().map_err(|error| LocalError::directory(&log_path, &error))?;
        let mut command = self.program("postgres")?;
        command.arg("-D").arg(&self.data).args(&self.arguments).stdin(Stdio::null()).stdout(also_log).stderr(log);
        // A group of its own: an interrupt at the terminal is for us, who then stop it in good order.
        command.process_group(0);
        match command.spawn() {
            Ok(child) => self.child = Some(child),
            Err(error) => return failed(self, error.to_string()),
        }
        let deadline = Deadline::after(within);
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                self.child = None;
                return failed(self, format!("it ended with {status}"));
            }
            if is_ready(&self.data) {
                return Ok(());
            }
            if deadline.passed() {
                let outcome = failed(self, format!("it was not ready within {} s", within.as_secs()));
                self.stop(Mode::Immediate)?;
                return outcome;
            }
            thread::sleep(POLL);
        }
    }

    /// Stops it and waits until it has ended; at most 60 s. Nothing happens if it does not run.
    ///
    /// # Errors
    /// [`LocalError::Stop`] when it is still there after that time.
    pub fn stop(&mut self, mode: Mode) -> Result<(), LocalError> {
        let signal = match mode {
            Mode::Smart => Signal::TERM,
            Mode::Fast => Signal::INT,
            Mode::Immediate => Signal::QUIT,
        };
        // Until the postmaster has written its pid file only our child handle knows it.
        let Some(pid) = self.child.as_ref().map(Child::id).or_else(|| self.pid()) else { return Ok(()) };
        send(pid, signal);
        let deadline = Deadline::after(STOP_WITHIN);
        loop {
            let gone = match &mut self.child {
                Some(child) => child.try_wait().ok().flatten().is_some(),
                None => !is_alive(pid),
            };
            if gone {
                self.child = None;
                return Ok(());
            }
            if deadline.passed() {
                return Err(LocalError::Stop { dir: self.dir.clone(), pid, seconds: STOP_WITHIN.as_secs() });
            }
            thread::sleep(POLL);
        }
    }

    /// Stops (fast) and starts.
    ///
    /// # Errors
    /// As [`LocalServer::stop`] and [`LocalServer::start`].
    pub fn restart(&mut self, within: Duration) -> Result<(), LocalError> {
        self.stop(Mode::Fast)?;
        self.start(within)
    }

    /// Makes it read its configuration files again. It does so soon, not at once.
    pub fn reload(&self) {
        if let Some(pid) = self.pid() {
            send(pid, Signal::HUP);
        }
    }

    /// Makes a standby a primary and waits until it is one.
    ///
    /// # Errors
    /// [`LocalError::ProgramFailed`] with pg_ctl's words, e.g. when it is no standby.
    pub fn promote(&self, within: Duration) -> Result<(), LocalError> {
        let mut command = self.program("pg_ctl")?;
        command.args(["promote", "--wait"]).arg(format!("--timeout={}", within.as_secs().max(1)));
        finish("pg_ctl", command.arg("--pgdata").arg(&self.data)).map(|_| ())
    }

    /// Leaves the server running when this value goes.
    pub fn detach(mut self) {
        self.child = None;
        self.socket_dir_is_ours = false;
    }

    /// Runs one of PostgreSQL's client programs as the server's account and returns what it printed.
    ///
    /// # Errors
    /// [`LocalError::ProgramFailed`] when it ends with an error.
    pub fn run_client(&self, program: &str, arguments: &[&str]) -> Result<String, LocalError> {
        finish(program, self.client(program)?.args(arguments))
    }

    /// A command for one of PostgreSQL's client programs, as the server's account.
    ///
    /// # Errors
    /// [`LocalError::ProgramMissing`] when no installation has it.
    pub fn client(&self, program: &str) -> Result<Command, LocalError> {
        command_of(&self.programs.with_client(program)?, &self.account, program, &self.dir)
    }

    /// A command for a program of exactly this server's installation, as the server's account.
    ///
    /// # Errors
    /// [`LocalError::ProgramMissing`] when this installation lacks it.
    pub fn program(&self, program: &str) -> Result<Command, LocalError> {
        command_of(&self.programs, &self.account, program, &self.dir)
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            // Nobody is left to tell; the next start of the directory would recover.
            let _ = self.stop(Mode::Immediate);
        }
        if self.socket_dir_is_ours {
            let _ = fs::remove_dir_all(&self.socket_dir);
        }
    }
}

fn command_of(programs: &Programs, account: &Account, program: &str, dir: &Path) -> Result<Command, LocalError> {
    let mut command = account.command(&programs.bin(program)?, dir);
    if let Some(libraries) = programs.library_path() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    Ok(command)
}

/// Runs a program to its end and returns what it printed.
fn finish(program: &str, command: &mut Command) -> Result<String, LocalError> {
    let failed =
        |status: String, output: String| Err(LocalError::ProgramFailed { program: program.to_owned(), status, output });
    match command.stdin(Stdio::null()).output() {
        Err(error) => failed("could not be run".into(), error.to_string()),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            failed(output.status.to_string(), String::from_utf8_lossy(&text).trim().to_owned())
        }
    }
}

/// The postmaster that this data directory's pid file names, if that process is alive and works in that directory; a
/// left-over file may name a process that is somebody else's by now.
/// Source of the file's lines: PostgreSQL, `src/include/utils/pidfile.h`.
pub fn running_pid(data: &Path) -> Option<u32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok().filter(|pid| is_alive(*pid))?;
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (works_in == fs::canonicalize(data).ok()?).then_some(pid)
}

/// Stops, at once, the server that a killed process left running in this data directory.
pub fn kill_leftover(data: &Path) {
    let Some(pid) = running_pid(data) else { return };
    send(pid, Signal::QUIT);
    let deadline = Deadline::after(STOP_WITHIN);
    while is_alive(pid) && !deadline.passed() {
        thread::sleep(POLL);
    }
}

/// Line 8 of the pid file is the state: `starting`, `stopping`, `ready` or `standby` (waits without hot standby).
fn is_ready(data: &Path) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    matches!(text.lines().nth(7).map(str::trim), Some("ready" | "standby"))
}

/// A process that exists and is no zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile, which is what the caller waits for.
        let _ = kill_process(pid, signal);
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, LocalError> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| LocalError::directory(Path::new("127.0.0.1"), &error))
}

/// The server's own directory for its socket if that path is short enough, else a new one below /tmp.
fn socket_dir(dir: &Path, account: &Account) -> Result<(PathBuf, bool), LocalError> {
    let longest = format!("{}/.s.PGSQL.65535.lock", dir.display());
    if longest.len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((dir.to_owned(), false));
    }
    for number in 0..1000 {
        let short = PathBuf::from(format!("/tmp/surus-{}-{number}", std::process::id()));
        if fs::create_dir(&short).is_ok() {
            account.own(&short)?;
            return Ok((short, true));
        }
    }
    Err(LocalError::Directory { path: "/tmp".into(), problem: "no directory for a socket can be made".into() })
}

/// A value in postgresql.conf.
fn conf(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A value in a key=value connection string.
fn conninfo_value(value: &str) -> String {
    let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '\'' || c == '\\');
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")) }
}

/// The file in a directory that was written to last.
fn newest_file(dir: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(dir).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let newest = files.max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok());
    newest.map(|entry| entry.path())
}

fn read_from(path: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = fs::File::open(path)
        && file.seek(SeekFrom::Start(start)).is_ok()
    {
        // A log that cannot be read to its end is shown as far as it goes.
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
