//! The primary and its standby: made, configured as a careful operator would, started, stopped.

use super::{
    certificates::Certificates,
    link::{self, APPLICATION, MONITOR, SUPERUSER},
    repository::Repository,
    site::Site,
};
use crate::failure::Failure;
use std::{path::Path, time::Duration};
use surus_pg::{
    LocalError, LocalServer, Programs, Session, Target,
    connect::environment::Environment,
    server::{BaseBackup, InitOptions, Mode},
};

/// The standby's role, name and slot.
const REPLICATION: &str = "surus_replication";
const STANDBY: &str = "standby1";
const START_WITHIN: Duration = Duration::from_secs(60);

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Runs what blocks where it holds nobody up.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::bug(error.to_string())),
    }
}

/// Both servers, as far as they are there.
#[derive(Debug, Default)]
pub struct Servers {
    primary: Option<LocalServer>,
    standby: Option<LocalServer>,
    repository: Option<Repository>,
}

impl Servers {
    /// The primary; there is one once [`Servers::start_primary`] has succeeded.
    pub fn primary(&self) -> Result<&LocalServer, Failure> {
        self.primary.as_ref().ok_or_else(|| Failure::bug("the demo has no primary"))
    }

    /// The standby; there is one once [`Servers::start_standby`] has succeeded.
    pub fn standby(&self) -> Result<&LocalServer, Failure> {
        self.standby.as_ref().ok_or_else(|| Failure::bug("the demo has no standby"))
    }

    /// Where the primary archives to; there is one as soon as there is a primary.
    pub fn repository(&self) -> Result<&Repository, Failure> {
        self.repository.as_ref().ok_or_else(|| Failure::bug("the demo has no repository"))
    }

    /// A session of the superuser over the primary's socket.
    pub async fn superuser(&self, database: &str) -> Result<Session, Failure> {
        let target = Target::parse(&self.primary()?.dsn(SUPERUSER, database))?;
        link::ordinary(&target, "surus demo").await
    }

    /// Makes and starts the primary.
    pub async fn start_primary(
        &mut self,
        programs: &Programs,
        site: &Site,
        certificates: Certificates,
        port: Option<u16>,
    ) -> Result<(), Failure> {
        let (programs, dir, site) = (programs.clone(), site.join("primary"), site.path().to_owned());
        let started = aside(move || {
            let options =
                InitOptions { superuser: SUPERUSER.into(), wal_segment_mib: 1, sync: false, ..Default::default() };
            let mut server = LocalServer::init(&programs, &dir, &options)?;
            let repository = Repository::of(&site, server.account())?;
            server.write_private(&server.data_dir().join("server.key"), &certificates.server_key)?;
            server.write_private(&server.data_dir().join("server.crt"), &certificates.server)?;
            server.write_hba(HBA)?;
            server.write_private(&server.data_dir().join("pg_ident.conf"), &ident_map(&server)?)?;
            server.write_settings(SETTINGS)?;
            if programs.major() >= 14 {
                server.write_settings(&[("compute_query_id", "on")])?;
            }
            server.write_settings(&[("archive_command", repository.archive_command())])?;
            listen(&mut server, port)?;
            server.start(START_WITHIN)?;
            Ok((server, repository))
        });
        let (server, repository) = started.await?;
        (self.primary, self.repository) = (Some(server), Some(repository));
        Ok(())
    }

    /// Copies the primary and starts the copy as its standby.
    pub async fn start_standby(&mut self, site: &Site) -> Result<(), Failure> {
        let primary = self.primary()?;
        let dsn = format!("{} application_name={STANDBY}", primary.dsn(REPLICATION, "replication"));
        let (programs, dir) = (primary.programs().clone(), site.join("standby"));
        let started = aside(move || {
            let slot = Some(STANDBY.to_owned());
            let backup = BaseBackup { dsn, slot, create_slot: true, standby: true, sync: false };
            let mut server = LocalServer::from_base_backup(&programs, &dir, SUPERUSER, &backup)?;
            server.write_settings(&[("cluster_name", STANDBY)])?;
            listen(&mut server, None)?;
            server.start(START_WITHIN)?;
            Ok(server)
        });
        self.standby = Some(started.await?);
        Ok(())
    }

    /// Starts the servers of a kept demo again.
    pub async fn resume(&mut self, programs: &[Programs], site: &Site, port: Option<u16>) -> Result<(), Failure> {
        for (node, port) in [("primary", port), ("standby", None)] {
            let (dir, site) = (site.join(node), site.path().to_owned());
            let programs = of_data_directory(programs, &dir.join("data"))?.clone();
            let started = aside(move || {
                let mut server = LocalServer::adopt(&programs, &dir, SUPERUSER)?;
                // This program need not be where the one was that made the demo.
                let repository = Repository::of(&site, server.account())?;
                server.write_settings(&[("archive_command", repository.archive_command())])?;
                listen(&mut server, port)?;
                server.start(START_WITHIN)?;
                Ok((server, repository))
            });
            let slot = if node == "primary" { &mut self.primary } else { &mut self.standby };
            let (server, repository) = started.await?;
            (*slot, self.repository) = (Some(server), Some(repository));
        }
        Ok(())
    }

    /// Lets the standby replay what it has received only after a while, or at once again.
    pub async fn hold_replay(&self, hold: bool) -> Result<(), Failure> {
        let target = Target::parse(&self.standby()?.dsn(SUPERUSER, "postgres"))?;
        let session = link::ordinary(&target, "surus demo").await?;
        let change = if hold { "SET recovery_min_apply_delay = '5min'" } else { "RESET recovery_min_apply_delay" };
        session.run(&format!("ALTER SYSTEM {change}")).await.map_err(link::asked)?;
        session.run("SELECT pg_reload_conf()").await.map_err(link::asked)?;
        session.close().await;
        Ok(())
    }

    /// Stops both, the standby first.
    pub async fn stop(&mut self, mode: Mode) -> Result<(), Failure> {
        for server in [self.standby.take(), self.primary.take()].into_iter().flatten() {
            let mut server = server;
            aside(move || Ok(server.stop(mode)?)).await?;
        }
        Ok(())
    }
}

/// The programs of the major that made the directory.
fn of_data_directory<'a>(programs: &'a [Programs], data: &Path) -> Result<&'a Programs, Failure> {
    let text = std::fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
    let major = text.trim().parse().ok();
    let found = programs.iter().find(|one| Some(one.major()) == major);
    found.ok_or_else(|| LocalError::Programs { wanted: major, looked: "this machine".into() }.into())
}

fn listen(server: &mut LocalServer, port: Option<u16>) -> Result<(), LocalError> {
    match port {
        Some(port) => server.listen_on_port(port),
        None => server.listen_on_loopback(),
    }
}

/// Peer on the socket for whoever runs the demo; TLS and SCRAM on the network. The last line is a planted trouble.
const HBA: &str = "\
# the account that runs the demo (pg_ident.conf), on this machine
local    all          postgres,labuser  peer map=demo
local    replication  surus_replication peer map=demo
# everybody else: TLS and a password
hostssl  all          all               0.0.0.0/0  scram-sha-256
";

/// Which accounts of this machine may be which roles over the socket.
fn ident_map(server: &LocalServer) -> Result<String, Failure> {
    let environment = Environment::read();
    let accounts = [environment.user(), server.account().name()];
    let mut lines = Vec::new();
    for account in accounts.into_iter().flatten() {
        let account = account.replace('"', "\"\"");
        lines.extend([SUPERUSER, APPLICATION, REPLICATION].map(|role| format!("demo \"{account}\" {role}\n")));
    }
    lines.dedup();
    Ok(lines.concat())
}

/// For both servers. `full_page_writes` is a planted trouble; small sizes keep a demo that runs for days small.
const SETTINGS: &[(&str, &str)] = &[
    ("max_connections", "60"),
    ("password_encryption", "scram-sha-256"),
    ("ssl", "on"),
    ("ssl_cert_file", "server.crt"),
    ("ssl_key_file", "server.key"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    ("unix_socket_permissions", "0770"),
    ("wal_level", "replica"),
    ("wal_buffers", "16MB"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "256MB"),
    ("checkpoint_timeout", "5min"),
    ("archive_mode", "on"),
    ("archive_timeout", "60"),
    ("max_slot_wal_keep_size", "512MB"),
    ("hot_standby", "on"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("track_io_timing", "on"),
    ("track_activity_query_size", "4096"),
    ("logging_collector", "on"),
    ("log_directory", "log"),
    ("log_filename", "postgresql-%a.log"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
    ("log_truncate_on_rotation", "on"),
    ("log_line_prefix", "%m [%p] %q%u@%d %a %h "),
    ("log_connections", "on"),
    ("log_disconnections", "on"),
    ("log_replication_commands", "on"),
    ("log_statement", "ddl"),
    ("log_min_duration_statement", "1s"),
    ("log_lock_waits", "on"),
    ("log_checkpoints", "on"),
    ("log_temp_files", "1MB"),
    ("log_autovacuum_min_duration", "0"),
    ("full_page_writes", "off"),
];

/// Creates the roles and the databases. What carries a password stays out of the log and of the statement statistics.
pub async fn create_roles(session: &Session, passwords: &link::Passwords) -> Result<(), Failure> {
    let mut sql = String::from(
        "SET log_statement = none; SET log_min_duration_statement = -1; SET pg_stat_statements.track_utility = off;",
    );
    for (role, secret) in passwords.iter() {
        let verb = if role == SUPERUSER { "ALTER" } else { "CREATE" };
        let password = surus_pg::quote::literal(secret.reveal());
        sql.push_str(&format!("{verb} ROLE {role} LOGIN PASSWORD {password};"));
    }
    sql.push_str(&format!(
        "GRANT pg_monitor TO {MONITOR}; CREATE ROLE {REPLICATION} LOGIN REPLICATION; \
         CREATE ROLE reporting LOGIN PASSWORD 'password';"
    ));
    session.run(&sql).await.map_err(link::asked)?;
    for database in [link::LAB, link::BILLING] {
        session.run(&format!("CREATE DATABASE {database} OWNER {APPLICATION}")).await.map_err(link::asked)?;
    }
    session.run("CREATE EXTENSION pg_stat_statements").await.map_err(link::asked)
}
