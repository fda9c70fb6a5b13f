//! Where pg_stat_statements is: its schema is the operator's choice, and its columns follow the installed version
//! of the extension, which may be older than the server.

use crate::verdict::Trouble;
use surus_core::finding::Reason;
use surus_pg::{AskErrorKind, Rows, Session, quote};

/// pg_stat_statements as it is installed in the session's database.
pub(crate) struct Statements {
    schema: String,
    /// The extension's version, e.g. (1, 10).
    version: (u32, u32),
}

impl Statements {
    /// Looks for it.
    ///
    /// # Errors
    /// Unknown: it is not installed in this database.
    pub(crate) async fn find(session: &Session) -> Result<Self, Trouble> {
        let sql = "SELECT n.nspname AS schema, e.extversion AS version FROM pg_extension e \
                   JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'";
        let rows = session.ask(sql).await?;
        let Some(row) = rows.iter().next() else {
            let text = "pg_stat_statements is not installed in this database: CREATE EXTENSION pg_stat_statements";
            return Err(Reason::Extension(text.into()).into());
        };
        Ok(Self { schema: quote::ident(row.str("schema")?), version: version(row.str("version")?) })
    }

    /// Is the installed extension this version or newer?
    pub(crate) fn since(&self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    /// The call that gives all entries without reading the file of query texts.
    pub(crate) fn without_texts(&self) -> String {
        format!("{}.pg_stat_statements(false)", self.schema)
    }

    /// The view with evictions and the time of the last reset (1.9, PostgreSQL 14).
    pub(crate) fn info(&self) -> String {
        format!("{}.pg_stat_statements_info", self.schema)
    }

    /// Asks a query over it.
    ///
    /// # Errors
    /// Unknown: the library is not loaded; or what the server refused.
    pub(crate) async fn ask(&self, session: &Session, sql: &str) -> Result<Rows, Trouble> {
        session.ask(sql).await.map_err(|error| match error.kind {
            AskErrorKind::ObjectState => Reason::Extension(
                "pg_stat_statements is installed but not loaded: add it to shared_preload_libraries and restart".into(),
            )
            .into(),
            _ => error.into(),
        })
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(super::version("1.10") > super::version("1.9"));
    }
}
