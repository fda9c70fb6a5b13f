//! A restored copy is started: disarmed, and as a small guest of the machine.
//!
//! It must never do what the original does: no archiving into the original's archive, no replication from or to
//! anybody, no subscriptions, no jobs. All of that is given on the command line, where it wins over every file of the
//! copy. Only the account that it runs as reaches its socket.

use crate::{
    engine::Landed,
    error::{ProveError, Result},
    foreign,
    scratch::{Place, Purpose},
    superuser,
};
use std::{fs, path::Path, sync::OnceLock, time::Duration};
use surus_backup::{
    restore::{
        settings::{self, restore_command},
        start::{Arrival, come_up},
        target::Action,
    },
    wal::spaces::made_in,
};
use surus_core::{code, monitor::Monitor};
use surus_pg::{Programs, server::LocalServer};

/// Libraries that run jobs or replicate by themselves.
const BUSY_LIBRARIES: &[&str] =
    &["pg_cron", "pg_partman_bgw", "pglogical", "bdr", "spock", "pg_background", "pg_failover_slots", "pg_prewarm"];

/// The command that looks at a segment of WAL before the copy replays it; the segment's path is added.
static GUARD: OnceLock<Vec<String>> = OnceLock::new();

/// Says once how surus itself is called to look at WAL ([`look_at_wal`]). Where nobody says it, only the WAL that is
/// restored with the files is looked at.
pub fn guard_with(words: Vec<String>) {
    // Who comes second says the same.
    let _ = GUARD.set(words);
}

/// A copy that runs.
#[derive(Debug)]
pub struct Started {
    /// Dropping it stops the server; [`LocalServer::detach`] leaves it running.
    pub server: LocalServer,
    /// How far recovery came.
    pub arrival: Arrival,
    /// What was taken from it so that it starts and stays quiet.
    pub notes: Vec<String>,
}

/// How a copy is to run.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What it does when it has come to its target.
    pub action: Action,
    /// How long recovery may take.
    pub within: Duration,
    /// The port on 127.0.0.1; none: only the socket.
    pub port: Option<u16>,
    /// Further settings; they win.
    pub settings: Vec<(String, String)>,
}

/// Starts what was restored and waits until it has come to its target.
///
/// # Errors
/// When no programs of its major are there, or it does not come up; it does not run then.
pub fn start(landed: &Landed, place: &Place, wish: &Wish, monitor: &dyn Monitor) -> Result<Started> {
    let programs = Programs::find(Some(landed.major))?;
    let superuser = superuser::of_files(&landed.data).unwrap_or_else(|| "postgres".to_owned());
    let mut server = LocalServer::in_place(&programs, &landed.data, &superuser, wish.port)?;
    let (preload, mut notes) = preload(&programs, &landed.data, place)?;
    let mut settings = disarmed(landed.major, place, &preload);
    settings.extend(files(place, &landed.data, wish.port.is_some())?);
    if wish.port.is_none() {
        settings.push(("listen_addresses".into(), String::new()));
    }
    if wish.action == Action::Pause {
        // A standby that answers needs at least as many as its primary had.
        settings.retain(|(name, _)| name != "max_worker_processes");
        settings.push(("hot_standby".into(), "on".into()));
    }
    if landed.recovers {
        settings.extend(guarded(&programs, &landed.data, place)?);
    }
    settings.extend(wish.settings.iter().cloned());
    server.argue(&settings);
    let (server, arrival) = come_up(server, wish.action, wish.within, monitor)?;
    if wish.action == Action::Promote {
        match foreign::cut_off(&server) {
            Ok(dropped) => notes.extend(dropped),
            // A drill looks by itself at databases that let nobody in.
            Err(error) if place.mark.purpose == Purpose::Drill => {
                notes.push(format!("user mappings of foreign servers may be left: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Started { server, arrival, notes })
}

/// Does this WAL write outside of the copy? Replaying `CREATE TABLESPACE` links to the place that it names, which on
/// the original's machine is the original's own, and goes on in its files.
///
/// # Errors
/// With the path, when it does.
pub fn look_at_wal(path: &Path) -> Result<()> {
    let bytes = fs::read(path).map_err(ProveError::file("cannot read", path))?;
    let Some(space) = made_in(&bytes).into_iter().next() else { return Ok(()) };
    let text = format!(
        "after the backup a tablespace was made in {space}: a copy that replays this would write there. A new backup \
         knows the tablespace, and its copies have it in their own place"
    );
    Err(ProveError::refused(code::COPY_TABLESPACE, text))
}

/// The restore command, with the look at what it brought; what lies in pg_wal already is looked at here.
fn guarded(programs: &Programs, data: &Path, place: &Place) -> Result<Option<(String, String)>> {
    for entry in fs::read_dir(data.join("pg_wal")).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            look_at_wal(&entry.path())?;
        }
    }
    let Some(words) = GUARD.get() else { return Ok(None) };
    let command = configured(programs, data, place, "restore_command")?;
    if command.is_empty() {
        return Ok(None);
    }
    if let Some(folder) = words.first().and_then(|program| Path::new(program).parent()) {
        surus_pg::account::Account::unprivileged()?.can_enter(folder)?;
    }
    let words = restore_command(words);
    // restore_command() adds the name and the path; here only the path is meant.
    let words = words.trim_end_matches("\"%f\" \"%p\"");
    Ok(Some(("restore_command".into(), format!("{command} && {words}\"%p\""))))
}

/// What a setting has in the copy's files.
fn configured(programs: &Programs, data: &Path, place: &Place, name: &str) -> Result<String> {
    if !data.join("postgresql.conf").exists() {
        // Nothing can be asked then; what a restore wrote stands in the other file.
        let auto = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap_or_default();
        return Ok(settings::value_in(&auto, name).unwrap_or_default());
    }
    let account = surus_pg::account::Account::unprivileged()?;
    let mut command = account.command(&programs.bin("postgres")?, place.dir());
    command.arg("-D").arg(data).arg("-c").arg(format!("data_directory={}", data.display())).args(["-C", name]);
    let output = command.output().map_err(ProveError::file("cannot run", Path::new("postgres")))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Settings that keep a copy quiet. Source: PostgreSQL's documentation, "Server Configuration", 13 to 18.
fn disarmed(major: u16, place: &Place, preload: &str) -> Vec<(String, String)> {
    let mut settings = vec![
        ("archive_mode", "off"),
        // A standby's restartpoints run these too: they would clean up the original's archive.
        ("archive_cleanup_command", ""),
        ("recovery_end_command", ""),
        ("recovery_min_apply_delay", "0"),
        ("primary_conninfo", ""),
        ("primary_slot_name", ""),
        ("synchronous_standby_names", ""),
        ("max_logical_replication_workers", "0"),
        // Without it, it need not have the original's limits while it recovers.
        ("hot_standby", "off"),
        // Extensions' own workers reach out: to other nodes, to addresses that are queued, into schedules.
        ("max_worker_processes", "0"),
        // What helps in an emergency hides damage, and writes it anew with a checksum that fits.
        ("ignore_checksum_failure", "off"),
        ("ignore_invalid_pages", "off"),
        ("zero_damaged_pages", "off"),
        ("ignore_system_indexes", "off"),
        ("shared_preload_libraries", preload),
        ("session_preload_libraries", ""),
        ("local_preload_libraries", ""),
        // Its certificates may lie outside of what was backed up.
        ("ssl", "off"),
        ("shared_buffers", "128MB"),
        ("huge_pages", "off"),
        // Never the original's, and it cannot be emptied: in the data directory it disturbs nobody.
        ("external_pid_file", "surus-copy.pid"),
        ("unix_socket_permissions", "0700"),
        ("unix_socket_group", ""),
        ("bonjour", "off"),
        ("cluster_name", "surus copy"),
    ];
    if major < 15 {
        settings.push(("stats_temp_directory", "pg_stat_tmp"));
    }
    if major >= 15 {
        settings.push(("archive_library", ""));
    }
    if major >= 17 {
        settings.extend([("event_triggers", "off"), ("summarize_wal", "off"), ("sync_replication_slots", "off")]);
    }
    if place.mark.purpose != Purpose::Clone {
        // It is thrown away: what it writes need not survive a crash, and nothing should change by itself.
        settings.extend([("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")]);
        settings.push(("autovacuum", "off"));
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The libraries to preload: those of the original that are installed here and do nothing by themselves.
fn preload(programs: &Programs, data: &Path, place: &Place) -> Result<(String, Vec<String>)> {
    let account = surus_pg::account::Account::unprivileged()?;
    let run = |program: &str, arguments: &[&str]| -> Result<String> {
        let mut command = account.command(&programs.bin(program)?, place.dir());
        let output = command.args(arguments).output().map_err(ProveError::file("cannot run", Path::new(program)))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Where the configuration is not in the data directory there is nothing to ask.
    if !data.join("postgresql.conf").exists() {
        return Ok((String::new(), Vec::new()));
    }
    let wanted = configured(programs, data, place, "shared_preload_libraries")?;
    let libraries = run("pg_config", &["--pkglibdir"]).unwrap_or_default();
    let mut notes = Vec::new();
    let mut kept = Vec::new();
    for name in wanted.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty()) {
        let file = name.trim_start_matches("$libdir/");
        if BUSY_LIBRARIES.contains(&file) {
            notes.push(format!("{file} was not loaded: a copy runs no jobs"));
        } else if !libraries.is_empty() && !Path::new(&libraries).join(format!("{file}.so")).exists() {
            notes.push(format!("{file} was not loaded: it is not installed on this machine"));
        } else {
            kept.push(name.to_owned());
        }
    }
    Ok((kept.join(","), notes))
}

/// Writes the files that say who may connect, and a configuration where the copy has none.
fn files(place: &Place, data: &Path, listens: bool) -> Result<Vec<(String, String)>> {
    let account = surus_pg::account::Account::unprivileged()?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = place.dir().join(name);
        fs::write(&path, text).map_err(ProveError::file("cannot write", &path))?;
        account.own(&path)?;
        Ok(path.display().to_string())
    };
    let mut hba = "local all all trust\n".to_owned();
    if listens {
        hba += "host all all 127.0.0.1/32 scram-sha-256\n";
    }
    let mut settings = vec![
        ("hba_file".to_owned(), write("pg_hba.conf", &hba)?),
        ("ident_file".to_owned(), write("pg_ident.conf", "")?),
    ];
    if !data.join("postgresql.conf").exists() {
        let path = write("postgresql.conf", "# The server's own configuration was not in its backup.\n")?;
        settings.push(("config_file".into(), path));
    }
    Ok(settings)
}
