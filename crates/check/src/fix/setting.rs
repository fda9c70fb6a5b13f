//! Server settings: their entry in postgresql.auto.conf, changing it, and whether the server took it.

use super::{act::Effect, error::Stop};
use std::time::Duration;
use surus_core::clock::Deadline;
use surus_pg::{Row, RowError, Session, quote};

/// How long a reload may take to be seen, and how long between two looks.
const RELOAD_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Settings that PostgreSQL writes as lists of quoted names (GUC_LIST_QUOTE in guc_tables.c, 13 to 18).
const LISTS: &[&str] = &[
    "local_preload_libraries",
    "oauth_validator_libraries",
    "output_plugin_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// A setting as the server has it.
#[derive(Debug, Clone, PartialEq)]
struct Standing {
    /// `postmaster` settings need a restart, all others a reload.
    context: String,
    /// Where the value in force comes from.
    source: String,
    /// Its lines in the configuration files.
    lines: Vec<Line>,
}

/// One line of a configuration file, as `pg_file_settings` judges it.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    value: String,
    /// It is in postgresql.auto.conf.
    auto: bool,
    /// It is, or with a reload will be, the value in force.
    applied: bool,
    error: Option<String>,
}

impl Standing {
    /// The entry in postgresql.auto.conf.
    fn entry(&self) -> Option<&Line> {
        self.lines.iter().rev().find(|line| line.auto)
    }

    /// What decides in place of the configuration files, in our database and for our role.
    fn overridden_by(&self) -> Option<&'static str> {
        match self.source.as_str() {
            "command line" => Some("the command line that the server was started with"),
            "global" => Some("ALTER ROLE ALL SET"),
            "database" => Some("ALTER DATABASE SET"),
            "user" => Some("ALTER ROLE SET"),
            "database user" => Some("ALTER ROLE IN DATABASE SET"),
            _ => None,
        }
    }

    /// What came of writing `wanted` (`None`: of removing the entry) once the server has read its files again.
    fn effect_of(&self, wanted: Option<&str>) -> Result<Effect, String> {
        let after_restart = self.context == "postmaster";
        match (wanted, self.entry()) {
            (Some(_), None) => Err("the entry is not in postgresql.auto.conf".into()),
            (None, Some(_)) => Err("the entry is still in postgresql.auto.conf".into()),
            (Some(_), Some(line)) => match &line.error {
                None => Ok(Effect::InForce),
                Some(_) if after_restart => Ok(Effect::AfterRestart),
                Some(error) => Err(format!("the server does not take the value: {error}")),
            },
            // What is left in the files differs from what runs, or nothing is left and what runs came from a file.
            (None, None) => {
                let other = self.lines.iter().any(|line| line.error.is_some());
                let gone = self.lines.is_empty() && self.source == "configuration file";
                Ok(if after_restart && (other || gone) { Effect::AfterRestart } else { Effect::InForce })
            }
        }
    }
}

/// Makes sure that a change would take effect; returns the entry in postgresql.auto.conf, which takes it back.
pub(super) async fn ready(session: &Session, name: &str) -> Result<Option<String>, Stop> {
    let now = look(session, name).await?;
    if let Some(who) = now.overridden_by() {
        return Err(Stop::Surprise(format!(
            "{name} is decided by {who}; a change of the server's configuration would have no effect"
        )));
    }
    if let Some(why) = broken_file(session).await? {
        return Err(Stop::Surprise(format!("{why}; the server takes no new settings until that is mended")));
    }
    let entry = entry_of(&now);
    if entry.as_deref().is_some_and(|value| is_list(name) && value.trim().is_empty()) {
        let text = format!("postgresql.auto.conf has an empty list for {name}, which ALTER SYSTEM could not put back");
        return Err(Stop::Surprise(text));
    }
    Ok(entry)
}

/// Writes the setting (`None`: removes its entry), reloads, and sees whether the server took it. Whatever goes wrong,
/// `earlier`, the entry before, is put back.
pub(super) async fn write(
    session: &Session,
    name: &str,
    value: Option<&str>,
    earlier: Option<&str>,
) -> Result<Effect, Stop> {
    session.run(&alter_system(name, value)).await?;
    let trouble = match take_effect(session, name, value).await {
        Ok(effect) => return Ok(effect),
        Err(trouble) => trouble,
    };
    let back = session.run(&alter_system(name, earlier)).await.map_err(Stop::from);
    let back = if back.is_ok() { reload(session).await } else { back };
    Err(match back {
        Ok(()) => trouble.and("the earlier entry is back"),
        Err(error) => {
            Stop::Unsure(format!("{}; putting the earlier entry back failed: {}", trouble.text(), error.text()))
        }
    })
}

/// Puts the entry `previous` back, if the entry is still the one that surus wrote.
pub(super) async fn put_back(
    session: &Session,
    name: &str,
    previous: Option<&str>,
    written: Option<&str>,
) -> Result<Effect, Stop> {
    let now = entry_of(&look(session, name).await?);
    let now = now.as_deref();
    if !same(name, now, written) && !same(name, now, previous) {
        let shown = |entry: Option<&str>| entry.map_or_else(|| "no entry".to_owned(), |value| format!("\"{value}\""));
        let text = format!(
            "postgresql.auto.conf now has {} for {name} and not {}, as surus left it; somebody else changed it since",
            shown(now),
            shown(written)
        );
        return Err(Stop::Surprise(text));
    }
    write(session, name, previous, now).await
}

async fn take_effect(session: &Session, name: &str, value: Option<&str>) -> Result<Effect, Stop> {
    reload(session).await?;
    look(session, name).await?.effect_of(value).map_err(|why| Stop::Surprise(format!("{name}: {why}")))
}

/// Tells the server to read its configuration and waits until it has.
///
/// The postmaster reads it before it tells its children; so when our own backend has, the postmaster has too.
pub(super) async fn reload(session: &Session) -> Result<(), Stop> {
    const READ_AT: &str = "SELECT pg_catalog.pg_conf_load_time() AS at";
    let before = session.ask(READ_AT).await?.first()?.text("at")?;
    session.run("SELECT pg_catalog.pg_reload_conf()").await?;
    let deadline = Deadline::after(RELOAD_WITHIN);
    while session.ask(READ_AT).await?.first()?.text("at")? == before {
        if deadline.passed() {
            let why = format!("the server did not read its configuration within {} s", RELOAD_WITHIN.as_secs());
            return Err(Stop::Surprise(why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The setting now. What our session set for itself is reset first: it would hide what the server's sessions get.
async fn look(session: &Session, name: &str) -> Result<Standing, Stop> {
    let now = look_once(session, name).await?;
    if now.source != "session" {
        return Ok(now);
    }
    session.run(&format!("RESET {}", name_sql(name))).await?;
    look_once(session, name).await
}

async fn look_once(session: &Session, name: &str) -> Result<Standing, Stop> {
    let sql = format!(
        "SELECT s.context, s.source, f.setting, f.applied, f.error, \
           f.sourcefile = pg_catalog.current_setting('data_directory') || '/postgresql.auto.conf' AS auto \
         FROM pg_catalog.pg_settings s \
         LEFT JOIN pg_catalog.pg_file_settings f ON pg_catalog.lower(f.name) = pg_catalog.lower(s.name) \
         WHERE pg_catalog.lower(s.name) = pg_catalog.lower({}) ORDER BY f.seqno",
        quote::literal(name)
    );
    let rows = session.ask(&sql).await?;
    let Some(first) = rows.iter().next() else {
        return Err(Stop::Surprise(format!("the server has no setting {name}")));
    };
    let lines = rows.iter().filter_map(|row| line_of(row).transpose()).collect::<Result<_, _>>()?;
    Ok(Standing { context: first.text("context")?, source: first.text("source")?, lines })
}

/// `None` where no file mentions the setting.
fn line_of(row: Row<'_>) -> Result<Option<Line>, RowError> {
    let Some(auto) = row.opt_bool("auto")? else { return Ok(None) };
    Ok(Some(Line {
        value: row.text("setting")?,
        auto,
        applied: row.bool("applied")?,
        error: row.opt_str("error")?.map(str::to_owned),
    }))
}

fn entry_of(standing: &Standing) -> Option<String> {
    standing.entry().map(|line| line.value.clone())
}

/// A mistake in a configuration file for which the server refuses to read any of them again. A value that merely waits
/// for a restart, or that is out of range, is not one; nor is an entry that was removed and waits for a restart, which
/// is shown without a file.
async fn broken_file(session: &Session) -> Result<Option<String>, Stop> {
    let sql = "SELECT sourcefile, sourceline, error FROM pg_catalog.pg_file_settings \
               WHERE sourcefile IS NOT NULL AND error IS NOT NULL AND error <> 'setting could not be applied' ORDER BY seqno LIMIT 1";
    let rows = session.ask(sql).await?;
    let Some(row) = rows.iter().next() else { return Ok(None) };
    Ok(Some(format!("{} line {}: {}", row.text("sourcefile")?, row.text("sourceline")?, row.text("error")?)))
}

/// The statement that puts a value (or with `None` no entry) into postgresql.auto.conf.
pub(super) fn alter_system(name: &str, value: Option<&str>) -> String {
    let name_sql = name_sql(name);
    let Some(value) = value else { return format!("ALTER SYSTEM RESET {name_sql}") };
    // A list given as one literal would be taken as one long name.
    let text = match is_list(name) && !value.trim().is_empty() {
        true => items(value).iter().map(|item| quote::literal(item)).collect::<Vec<_>>().join(", "),
        false => quote::literal(value),
    };
    format!("ALTER SYSTEM SET {name_sql} = {text}")
}

fn name_sql(name: &str) -> String {
    name.split('.').map(quote::ident).collect::<Vec<_>>().join(".")
}

fn is_list(name: &str) -> bool {
    LISTS.iter().any(|list| list.eq_ignore_ascii_case(name))
}

/// The items of a list of names: separated by commas, in double quotes where they hold anything special.
fn items(value: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut quoted = false;
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(item) = items.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => item.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => items.push(String::new()),
            c if c.is_whitespace() && !quoted => {}
            c => item.push(c),
        }
    }
    items
}

/// Do two entries say the same? PostgreSQL writes a list in its own way.
fn same(name: &str, one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) if is_list(name) => items(one) == items(other),
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_settings_are_quoted_item_by_item() {
        let set = |name, value| alter_system(name, Some(value));
        assert_eq!(set("work_mem", "8MB"), "ALTER SYSTEM SET work_mem = '8MB'");
        assert_eq!(
            set("shared_preload_libraries", "auto_explain, pg_stat_statements"),
            "ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_stat_statements'"
        );
        assert_eq!(
            set("search_path", r#""$user", public, "a,""b""#),
            "ALTER SYSTEM SET search_path = '$user', 'public', 'a,\"b'"
        );
        assert_eq!(set("search_path", r#""""#), "ALTER SYSTEM SET search_path = ''");
        assert_eq!(set("synchronous_standby_names", "a, b"), "ALTER SYSTEM SET synchronous_standby_names = 'a, b'");
        assert_eq!(set("pg_stat_statements.max", "1"), "ALTER SYSTEM SET pg_stat_statements.max = '1'");
        assert_eq!(alter_system("jit", None), "ALTER SYSTEM RESET jit");
    }

    #[test]
    fn entries_are_the_same_whatever_their_quotes() {
        assert!(same("search_path", Some(r#""a", b"#), Some("a,b")));
        assert!(!same("search_path", Some("a"), None) && same("search_path", None, None));
        assert!(!same("listen_addresses", Some("a, b"), Some("a,b")));
    }

    fn line(auto: bool, error: Option<&str>) -> Line {
        Line { value: "1".into(), auto, applied: error.is_none(), error: error.map(str::to_owned) }
    }

    fn standing(context: &str, source: &str, lines: Vec<Line>) -> Standing {
        Standing { context: context.into(), source: source.into(), lines }
    }

    #[test]
    fn an_entry_is_in_force_or_waits_for_a_restart() {
        let fails = Some("setting could not be applied");
        let of = |context, lines| standing(context, "configuration file", lines).effect_of(Some("1"));
        assert_eq!(of("user", vec![line(false, None), line(true, None)]), Ok(Effect::InForce));
        assert_eq!(of("postmaster", vec![line(true, None)]), Ok(Effect::InForce));
        assert_eq!(of("postmaster", vec![line(true, fails)]), Ok(Effect::AfterRestart));
        assert!(of("sighup", vec![line(true, fails)]).unwrap_err().contains("does not take"));
        assert!(of("sighup", vec![line(false, None)]).unwrap_err().contains("not in postgresql.auto.conf"));
    }

    #[test]
    fn a_removed_entry_waits_for_a_restart_when_something_else_will_then_hold() {
        let fails = Some("setting could not be applied");
        let of = |context, source, lines| standing(context, source, lines).effect_of(None);
        assert_eq!(of("sighup", "default", vec![]), Ok(Effect::InForce));
        assert_eq!(of("postmaster", "default", vec![]), Ok(Effect::InForce));
        assert_eq!(of("postmaster", "configuration file", vec![]), Ok(Effect::AfterRestart));
        assert_eq!(of("postmaster", "configuration file", vec![line(false, fails)]), Ok(Effect::AfterRestart));
        assert_eq!(of("postmaster", "configuration file", vec![line(false, None)]), Ok(Effect::InForce));
        assert!(of("user", "default", vec![line(true, None)]).unwrap_err().contains("still"));
    }
}
