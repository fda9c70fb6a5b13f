//! Opening a session. (First cut: replaced by full libpq behaviour.)

use crate::session::{Manners, Session};
use surus_core::{
    code::{self, Code},
    version::Version,
};

/// Where to connect, fully resolved: connection string, environment, service file and password file merged.
#[derive(Debug, Clone)]
pub struct Target {
    config: tokio_postgres::Config,
}

/// A session could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    pub code: Code,
    pub message: String,
}

impl Target {
    /// Resolves a connection string as libpq does.
    ///
    /// # Errors
    /// When the string, the service file or an option is not valid.
    pub fn parse(dsn: &str) -> Result<Self, ConnectError> {
        let config = dsn
            .parse()
            .map_err(|e: tokio_postgres::Error| ConnectError { code: code::CONNECT_STRING, message: e.to_string() })?;
        Ok(Self { config })
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        let mut config = self.config.clone();
        config.dbname(database);
        Self { config }
    }

    /// How to name it to people: `user@host:port/database`, never a password.
    pub fn label(&self) -> String {
        format!("{}@{:?}", self.config.get_user().unwrap_or(""), self.config.get_hosts())
    }

    /// Opens a session.
    ///
    /// # Errors
    /// Each cause has its own code; see [`surus_core::code`].
    pub async fn connect(&self, manners: &Manners) -> Result<Session, ConnectError> {
        let other = |e: tokio_postgres::Error| ConnectError { code: code::CONNECT_OTHER, message: e.to_string() };
        let (client, connection) = self.config.connect(tokio_postgres::NoTls).await.map_err(other)?;
        let version =
            connection.parameter("server_version").and_then(Version::from_text).unwrap_or(Version::from_num(0));
        tokio::spawn(connection);
        let session = Session::new(client, version, false, None);
        session
            .behave(manners)
            .await
            .map_err(|e| ConnectError { code: code::CONNECT_OTHER, message: e.to_string() })?;
        Ok(session)
    }
}
