//! The single acts: set a setting, run SQL, change a line of pg_hba.conf; each with what takes it back.

use super::error::Stop;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use surus_pg::{AskErrorKind, Manners, Session, Target, hba_file, quote};

/// How often a step that meets a lock is tried, and how long surus waits before it tries again.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// Waiting for a lock in a transaction makes others queue behind us, so it is short.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// CREATE INDEX CONCURRENTLY and VACUUM take SHARE UPDATE EXCLUSIVE: nobody who reads or writes queues behind them.
const LOCK_WAIT_ALONE: Duration = Duration::from_secs(60);
/// How long a reload may take to be seen.
const RELOAD_WITHIN: Duration = Duration::from_secs(5);

/// What takes an act back; recorded before it happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Previous {
    /// The setting's entry in postgresql.auto.conf; `None` when it had none.
    Setting { name: String, previous: Option<String> },
    /// SQL that takes it back.
    Sql { database: Option<String>, sql: String },
    /// pg_hba.conf as it was, and as surus wrote it.
    Hba { file: String, previous: String, written: String },
    /// Nothing takes it back.
    Nothing { why: String },
}

/// Opens a session for changes in a database (the target's own when `None`).
pub(super) async fn session(target: &Target, database: Option<&str>) -> Result<Session, surus_pg::ConnectError> {
    let manners = Manners { application_name: "surus fix".into(), lock_timeout: LOCK_WAIT, ..Manners::changing() };
    match database {
        Some(database) => target.with_database(database).connect(&manners).await,
        None => target.connect(&manners).await,
    }
}

/// What postgresql.auto.conf says about a setting now.
pub(super) async fn setting_entry(session: &Session, name: &str) -> Result<Option<String>, Stop> {
    let sql = format!(
        "SELECT setting FROM pg_catalog.pg_file_settings WHERE lower(name) = lower({}) \
         AND sourcefile ~ 'postgresql[.]auto[.]conf$' ORDER BY seqno DESC LIMIT 1",
        quote::literal(name)
    );
    let rows = session.ask(&sql).await?;
    let entry = rows.iter().next().map(|row| row.text("setting"));
    entry.transpose().map_err(|error| Stop::Surprise(error.to_string()))
}

/// The statement that puts a value (or with `None` no entry) into postgresql.auto.conf.
pub(super) fn alter_system(name: &str, value: Option<&str>) -> String {
    let name_sql = name.split('.').map(quote::ident).collect::<Vec<_>>().join(".");
    let Some(value) = value else { return format!("ALTER SYSTEM RESET {name_sql}") };
    // A list setting given as one literal would be taken as one long name.
    let listed = LISTS.contains(&name) && !value.trim().is_empty();
    let text = match listed {
        true => {
            value.split(',').map(|item| quote::literal(item.trim().trim_matches('"'))).collect::<Vec<_>>().join(", ")
        }
        false => quote::literal(value),
    };
    format!("ALTER SYSTEM SET {name_sql} = {text}")
}

/// Settings that PostgreSQL treats as lists of quoted names (GUC_LIST_QUOTE in guc_tables.c).
const LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    InForce,
    AfterRestart,
}

/// Writes a setting, reloads, and waits until the server says that it is in force or waits for a restart.
pub(super) async fn set(session: &Session, name: &str, value: Option<&str>) -> Result<Effect, Stop> {
    let shown = format!(
        "SELECT setting || COALESCE(unit, '') AS now, context, pending_restart FROM pg_catalog.pg_settings WHERE name = {}",
        quote::literal(name)
    );
    let rows = session.ask(&shown).await?;
    let unknown = || Stop::Surprise(format!("the server has no setting {name}"));
    let context = rows.iter().next().ok_or_else(unknown)?.text("context").unwrap_or_default();
    session.run(&alter_system(name, value)).await?;
    let errors = session
        .ask(
            "SELECT name, error FROM pg_catalog.pg_file_settings WHERE error IS NOT NULL \
                              AND error <> 'setting could not be applied' LIMIT 1",
        )
        .await?;
    if let Some(row) = errors.iter().next() {
        return Err(Stop::Surprise(format!("the configuration now has an error: {row:?}")));
    }
    session.run("SELECT pg_catalog.pg_reload_conf()").await?;
    if context == "postmaster" {
        return Ok(Effect::AfterRestart);
    }
    let want = format!(
        "SELECT applied OR error IS NOT NULL AS applied FROM pg_catalog.pg_file_settings WHERE name = {} \
         AND sourcefile ~ 'postgresql[.]auto[.]conf$'",
        quote::literal(name)
    );
    let deadline = surus_core::clock::Deadline::after(RELOAD_WITHIN);
    while !deadline.passed() {
        let seen = session
            .ask(&format!(
                "SELECT source <> 'configuration file' OR sourcefile ~ 'postgresql[.]auto[.]conf$' AS ours \
             FROM pg_catalog.pg_settings WHERE name = {}",
                quote::literal(name)
            ))
            .await?;
        let ours = seen.iter().next().and_then(|row| row.bool("ours").ok()).unwrap_or(false);
        let applied = session.ask(&want).await?.iter().next().and_then(|row| row.bool("applied").ok());
        if value.is_none() || (ours && applied == Some(true)) {
            return Ok(Effect::InForce);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Stop::Surprise(format!("{name} was written and the server was told to reload, but it does not use the value")))
}

/// Runs SQL, in a transaction or alone, again and again while others hold locks.
pub(super) async fn run(session: &Session, sql: &str, transaction: bool) -> Result<(), Stop> {
    let wait = if transaction { LOCK_WAIT } else { LOCK_WAIT_ALONE };
    session.run(&format!("SET lock_timeout = {}", wait.as_millis())).await?;
    let mut pause = PAUSE;
    for attempt in 1..=TRIES {
        let outcome = if transaction { in_transaction(session, sql).await } else { session.run(sql).await };
        let Err(error) = outcome else { return Ok(()) };
        sweep(session, sql).await;
        let again = error.kind == AskErrorKind::Locked && transaction && attempt < TRIES;
        if !again {
            let tries = if attempt > 1 { format!(" (tried {attempt} times)") } else { String::new() };
            let Stop::Failed(why) = Stop::from(error) else { return Err(Stop::Failed("the step failed".into())) };
            return Err(Stop::Failed(format!("{why}{tries}")));
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

async fn in_transaction(session: &Session, sql: &str) -> Result<(), surus_pg::AskError> {
    session.run("BEGIN").await?;
    let outcome = session.run(sql).await;
    match outcome {
        Ok(()) => session.run("COMMIT").await,
        Err(error) => {
            // The first error is the one that matters.
            let _ = session.run("ROLLBACK").await;
            Err(error)
        }
    }
}

/// A concurrent build that failed leaves an invalid index behind; it is dropped again.
async fn sweep(session: &Session, sql: &str) {
    let Some(name) = index_being_built(sql) else { return };
    let invalid = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({}) AND NOT indisvalid) AS left_over",
        quote::literal(&name)
    );
    let left_over = session.ask(&invalid).await.ok().and_then(|rows| rows.first().ok()?.bool("left_over").ok());
    if left_over == Some(true) {
        // When this fails too, the next check reports the index as invalid.
        let _ = session.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await;
    }
}

/// The schema-qualified name of the index that a `CREATE INDEX CONCURRENTLY name ON schema.table` builds.
fn index_being_built(sql: &str) -> Option<String> {
    let upper = sql.to_ascii_uppercase();
    let at = upper.find("INDEX CONCURRENTLY ")?;
    if !upper.trim_start().starts_with("CREATE") {
        return None;
    }
    let rest = sql[at + "INDEX CONCURRENTLY ".len()..].trim_start();
    let rest = rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest);
    let (name, rest) = word(rest)?;
    let (on, rest) = word(rest)?;
    let (table, _) = on.eq_ignore_ascii_case("on").then(|| word(rest)).flatten()?;
    match table.rsplit_once('.') {
        Some((schema, _)) => Some(format!("{schema}.{name}")),
        None => Some(name.to_owned()),
    }
}

/// The next word, a quoted identifier counted as part of one.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        !quoted && (c.is_whitespace() || c == '(')
    });
    let end = end.unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Writes pg_hba.conf, lets the server judge it, and reloads; an error puts the earlier text back.
pub(super) async fn write_hba(session: &Session, file: &str, previous: &str, written: &str) -> Result<(), Stop> {
    hba_file::replace(file, previous, written).map_err(Stop::Failed)?;
    let judged = session
        .ask("SELECT line_number, error FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1")
        .await;
    let bad = match judged {
        Ok(rows) => rows.iter().next().map(|row| {
            format!("line {}: {}", row.text("line_number").unwrap_or_default(), row.text("error").unwrap_or_default())
        }),
        Err(error) => Some(error.message),
    };
    if let Some(why) = bad {
        hba_file::replace(file, written, previous).map_err(Stop::Failed)?;
        return Err(Stop::Surprise(format!(
            "the server would not accept the new {file} ({why}); the earlier one is back"
        )));
    }
    Ok(session.run("SELECT pg_catalog.pg_reload_conf()").await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_settings_are_quoted_item_by_item() {
        assert_eq!(alter_system("work_mem", Some("8MB")), "ALTER SYSTEM SET work_mem = '8MB'");
        assert_eq!(
            alter_system("shared_preload_libraries", Some("auto_explain, pg_stat_statements")),
            "ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_stat_statements'"
        );
        assert_eq!(alter_system("pg_stat_statements.max", Some("1")), "ALTER SYSTEM SET pg_stat_statements.max = '1'");
        assert_eq!(
            alter_system("shared_preload_libraries", Some("")),
            "ALTER SYSTEM SET shared_preload_libraries = ''"
        );
        assert_eq!(alter_system("jit", None), "ALTER SYSTEM RESET jit");
    }

    #[test]
    fn knows_which_index_a_statement_builds() {
        let name = |sql| index_being_built(sql);
        assert_eq!(name("CREATE INDEX CONCURRENTLY a_idx ON public.t (x)").unwrap(), "public.a_idx");
        assert_eq!(
            name("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"A b\" ON \"S\".t(x)").unwrap(),
            "\"S\".\"A b\""
        );
        assert_eq!(name("DROP INDEX CONCURRENTLY a"), None);
        assert_eq!(name("VACUUM t"), None);
    }
}
