//! What a target is and what the role may see: gathered once, in a handful of small queries, before anything else.

use crate::{
    ask::{AskError, AskErrorKind},
    hba::{self, HbaRule},
    host::{self, HostFacts},
    rows::{Row, RowError, Rows},
    session::Session,
    settings::Settings,
};
use std::path::PathBuf;
use surus_core::{
    code::{self, Code},
    version::Version,
};

/// What the connected role may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleFacts {
    pub name: String,
    pub superuser: bool,
    /// Member of pg_read_all_stats (pg_monitor includes it): sees all of pg_stat_activity and friends.
    pub reads_stats: bool,
    /// Member of pg_read_all_settings (pg_monitor includes it).
    pub reads_settings: bool,
    /// Member of pg_monitor: may also call the pg_ls_* functions.
    pub monitors: bool,
    /// Member of pg_read_all_data (14 and newer): sees every table's statistics in pg_stats.
    pub reads_data: bool,
    /// Member of pg_signal_backend.
    pub signals: bool,
}

/// One database of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    pub name: String,
    pub oid: u32,
    pub is_template: bool,
    pub allows_connections: bool,
    /// Has the role the CONNECT privilege?
    pub may_connect: bool,
}

/// A managed service, recognised by what only it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Managed {
    AmazonRds,
    Aurora,
    CloudSql,
    AzureFlexible,
    Supabase,
    Neon,
}

impl Managed {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Managed::AmazonRds => "Amazon RDS",
            Managed::Aurora => "Amazon Aurora",
            Managed::CloudSql => "Google Cloud SQL",
            Managed::AzureFlexible => "Azure Database for PostgreSQL",
            Managed::Supabase => "Supabase",
            Managed::Neon => "Neon",
        }
    }
}

/// Everything that is known about a target before checks run.
#[derive(Debug, Clone)]
pub struct Facts {
    pub version: Version,
    /// The database that the first session is connected to.
    pub database: String,
    /// The cluster's identity, from pg_control.
    pub system_identifier: Option<String>,
    /// A standby, or a server still in recovery?
    pub in_recovery: bool,
    pub timeline: Option<u32>,
    /// How long it took to connect, in milliseconds; the caller measures it.
    pub connect_ms: f64,
    /// Seconds since the postmaster started.
    pub uptime_s: f64,
    pub role: RoleFacts,
    pub settings: Settings,
    pub databases: Vec<DatabaseFacts>,
    /// The server's rules for who may connect, or why they cannot be read.
    pub hba: Result<Vec<HbaRule>, String>,
    /// The machine, when surus is on it; else why not.
    pub host: Result<HostFacts, String>,
    pub managed: Option<Managed>,
    /// Is this session encrypted, and is it through a pooler?
    pub encrypted: bool,
    /// Standbys connected now, by application_name; `None` when the role may not see them.
    pub standbys: Option<Vec<String>>,
}

/// Facts could not be gathered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FactsError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("unexpected answer: {0}")]
    Row(#[from] RowError),
}

impl FactsError {
    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self {
            FactsError::Ask(error) => error.code(),
            FactsError::Row(_) => code::QUERY_UNEXPECTED,
        }
    }
}

impl Facts {
    /// Asks the server.
    ///
    /// # Errors
    /// When one of the queries that every role may run is refused; what needs privileges becomes an `Err` inside.
    pub async fn gather(session: &Session) -> Result<Self, FactsError> {
        let hba = hba::read(session).await?;
        Ok(Self { hba, ..Self::gather_without_hba(session).await? })
    }

    /// As [`Facts::gather`], without the rules for who may connect: few roles may read them, and a refusal is an error
    /// in the server's log, which whoever asks again and again must not fill.
    ///
    /// # Errors
    /// As [`Facts::gather`].
    pub async fn gather_without_hba(session: &Session) -> Result<Self, FactsError> {
        let version = session.version();
        let identity = session.ask(IDENTITY).await?;
        let row = identity.first()?;
        let settings = Settings::from_rows(&session.ask(Settings::SQL).await?)?;
        let databases = databases(&session.ask(DATABASES).await?)?;
        let role = role(row)?;
        let control = match session.ask(CONTROL).await {
            Ok(rows) => Some(rows),
            Err(error) if error.kind == AskErrorKind::Closed => return Err(error.into()),
            Err(_) => None,
        };
        let control = control.as_ref().and_then(|rows| rows.first().ok());
        let backend = (row.opt_i64("pid")?, row.opt_f64("backend_start")?);
        let managed = managed(&databases, &settings, row.bool("rds_role")?);
        let standbys = match role.reads_stats || role.superuser {
            true => Some(names(&session.ask("SELECT application_name AS name FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup'").await?)?),
            false => None,
        };
        Ok(Self {
            version,
            connect_ms: 0.0,
            database: row.text("database")?,
            system_identifier: control.and_then(|row| row.opt_str("system_identifier").ok()?.map(str::to_owned)),
            in_recovery: row.bool("in_recovery")?,
            timeline: control.and_then(|row| row.opt_i64("timeline").ok()??.try_into().ok()),
            uptime_s: row.f64("uptime_s")?,
            hba: Err("they were not asked for".into()),
            host: host_of(backend, managed),
            role,
            settings,
            databases,
            managed,
            encrypted: session.encrypted(),
            standbys,
        })
    }

    /// What changes without a restart or a reload, asked again: the role's privileges and the databases.
    ///
    /// # Errors
    /// When a query that every role may run is refused.
    pub async fn seen_again(&self, session: &Session) -> Result<(RoleFacts, Vec<DatabaseFacts>), FactsError> {
        let identity = session.ask(IDENTITY).await?;
        Ok((role(identity.first()?)?, databases(&session.ask(DATABASES).await?)?))
    }

    /// Where the data directory is, when the role may see it and surus is on the host.
    pub fn data_directory(&self) -> Option<PathBuf> {
        self.host.as_ref().ok()?;
        self.settings.text("data_directory").map(PathBuf::from)
    }

    /// `primary` or `standby`.
    pub fn replication_role(&self) -> &'static str {
        if self.in_recovery { "standby" } else { "primary" }
    }
}

fn role(row: Row<'_>) -> Result<RoleFacts, RowError> {
    Ok(RoleFacts {
        name: row.text("role")?,
        superuser: row.bool("superuser")?,
        reads_stats: row.opt_bool("reads_stats")?.unwrap_or(false),
        reads_settings: row.opt_bool("reads_settings")?.unwrap_or(false),
        monitors: row.opt_bool("monitors")?.unwrap_or(false),
        reads_data: row.opt_bool("reads_data")?.unwrap_or(false),
        signals: row.opt_bool("signals")?.unwrap_or(false),
    })
}

fn databases(rows: &Rows) -> Result<Vec<DatabaseFacts>, RowError> {
    let read = |row: Row<'_>| {
        Ok(DatabaseFacts {
            name: row.text("name")?,
            oid: row.i64("oid")?.try_into().unwrap_or_default(),
            is_template: row.bool("is_template")?,
            allows_connections: row.bool("allows")?,
            may_connect: row.bool("may")?,
        })
    };
    rows.iter().map(read).collect()
}

fn names(rows: &Rows) -> Result<Vec<String>, RowError> {
    rows.iter().map(|row| row.text("name")).collect()
}

fn host_of(backend: (Option<i64>, Option<f64>), managed: Option<Managed>) -> Result<HostFacts, String> {
    if let Some(service) = managed {
        return Err(format!("{} does not give access to its host", service.name()));
    }
    let (Some(pid), Some(start)) = backend else {
        return Err("the server does not say which process serves us".into());
    };
    let ours = u32::try_from(pid).is_ok_and(|pid| host::is_our_backend(pid, start));
    if !ours {
        return Err("surus does not run on the server's host".into());
    }
    HostFacts::read().ok_or_else(|| "this machine has no /proc".into())
}

fn managed(databases: &[DatabaseFacts], settings: &Settings, rds_role: bool) -> Option<Managed> {
    let has_database = |name: &str| databases.iter().any(|db| db.name == name);
    let has_setting = |prefix: &str| settings.iter().any(|setting| setting.name.starts_with(prefix));
    match () {
        () if has_setting("aurora") => Some(Managed::Aurora),
        () if rds_role || has_database("rdsadmin") => Some(Managed::AmazonRds),
        () if has_database("cloudsqladmin") => Some(Managed::CloudSql),
        () if has_database("azure_maintenance") || has_setting("azure.") => Some(Managed::AzureFlexible),
        () if has_setting("neon.") => Some(Managed::Neon),
        () if has_setting("supautils.") => Some(Managed::Supabase),
        () => None,
    }
}

/// Membership is looked up by name so that a role that a major does not have gives NULL and not an error.
const IDENTITY: &str = "SELECT current_user AS role, current_database() AS database, pg_is_in_recovery() AS in_recovery, \
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser, \
    (SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_stats') AS reads_stats, \
    (SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_settings') AS reads_settings, \
    (SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_monitor') AS monitors, \
    (SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_data') AS reads_data, \
    (SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_signal_backend') AS signals, \
    EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser') AS rds_role, \
    extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) AS uptime_s, \
    pg_backend_pid() AS pid, \
    (SELECT extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS backend_start";

const CONTROL: &str = "SELECT s.system_identifier, c.timeline_id AS timeline \
    FROM pg_control_system() s, pg_control_checkpoint() c";

const DATABASES: &str = "SELECT datname AS name, oid, datistemplate AS is_template, datallowconn AS allows, \
    has_database_privilege(oid, 'CONNECT') AS may FROM pg_database ORDER BY datname";
