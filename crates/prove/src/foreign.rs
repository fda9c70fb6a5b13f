//! A copy reaches no other server: its user mappings go, without which postgres_fdw and its like connect to nobody.
//!
//! Else a foreign partition would be masked, or repaired, at the original's remote server, and read from there as if
//! it were the past.

use crate::error::{ProveError, Result};
use std::{thread, time::Duration};
use surus_core::clock::Deadline;
use surus_pg::LocalServer;

/// How long a server that was just promoted may take until it lets anybody in.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Databases that let somebody in. One whose making or dropping was broken off (-2) lets nobody in.
const DATABASES: &str =
    "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY 1";
const COUNT: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_user_mappings";
const DROP: &str = "DO $$ DECLARE one record; BEGIN FOR one IN SELECT * FROM pg_catalog.pg_user_mappings LOOP \
     EXECUTE pg_catalog.format('DROP USER MAPPING FOR %s SERVER %I', CASE WHEN one.umuser = 0 THEN 'PUBLIC' \
     ELSE pg_catalog.quote_ident(one.usename) END, one.srvname); END LOOP; END $$";
/// What the original's settings and event triggers must not stand in the way of.
const FREELY: &[&str] = &["SET default_transaction_read_only = off", "SET session_replication_role = replica"];

/// Drops all user mappings of a copy that was promoted, and says where there were any.
///
/// # Errors
/// When a database lets nobody in, or a mapping stays.
pub fn cut_off(server: &LocalServer) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for database in databases(server)? {
        let mut words = FREELY.to_vec();
        words.extend([COUNT, DROP]);
        let count = ask(server, &database, &words)?;
        if count.trim() != "0" {
            notes.push(format!(
                "{database}: user mappings of foreign servers were dropped ({}): a copy reaches nobody",
                count.trim()
            ));
        }
    }
    Ok(notes)
}

fn databases(server: &LocalServer) -> Result<Vec<String>> {
    let deadline = Deadline::after(OPEN_WITHIN);
    loop {
        // template1 is there in every cluster.
        match ask(server, "template1", &[DATABASES]) {
            Ok(text) => return Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if deadline.passed() || !server.is_running() => return Err(error),
            Err(_) => thread::sleep(POLL),
        }
    }
}

fn ask(server: &LocalServer, database: &str, statements: &[&str]) -> Result<String> {
    let dsn = server.dsn(server.superuser(), database);
    let mut arguments = vec!["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &dsn];
    arguments.extend(statements.iter().flat_map(|sql| ["-c", sql]));
    server.run_client("psql", &arguments).map_err(ProveError::from)
}
