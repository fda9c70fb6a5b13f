//! SQL: in a transaction that is tried again while others hold locks, or alone; nothing half-built stays behind.

use super::{
    act::{self, Patience, Place},
    error::Stop,
};
use surus_pg::{AskError, AskErrorKind, Session, Warning, quote};

/// Privileges that were asked for and that the server, with no more than a warning, did not grant or revoke.
const NO_PRIVILEGE_CHANGED: &[&str] = &["01006", "01007"];

/// Does the statement refuse to run in a transaction?
pub(super) fn runs_alone(sql: &str) -> bool {
    let mut words = Words(sql).map(str::to_ascii_uppercase);
    match words.next().as_deref() {
        Some("VACUUM") => true,
        // CREATE UNIQUE INDEX CONCURRENTLY is the longest beginning.
        Some("CREATE" | "DROP" | "REINDEX") => words.take(3).any(|word| word == "CONCURRENTLY"),
        _ => false,
    }
}

/// Runs SQL and returns what the server warned of.
pub(super) async fn run(
    place: Place<'_>,
    sql: &str,
    transaction: bool,
    patience: Patience,
) -> Result<Vec<String>, Stop> {
    let session = place.session;
    // Warnings of the connection's own beginning are not about this statement.
    session.take_warnings();
    let wait = if transaction { patience.lock_wait } else { patience.lock_wait_alone };
    session
        .run(&format!("SET lock_timeout = {}", wait.as_millis()))
        .await
        .map_err(|error| Stop::from(error).before_acting())?;
    if sql.trim_start().to_ascii_uppercase().starts_with("CREATE EXTENSION") {
        // All else that surus writes is qualified; an extension goes where the database's own search_path says.
        session.run("RESET search_path").await.map_err(|error| Stop::from(error).before_acting())?;
    }
    if transaction {
        return in_transaction_again_and_again(session, sql, patience).await;
    }
    alone(place, sql).await?;
    Ok(texts(session.take_warnings()))
}

fn texts(warnings: Vec<Warning>) -> Vec<String> {
    warnings.into_iter().map(|warning| warning.message).collect()
}

async fn in_transaction_again_and_again(session: &Session, sql: &str, patience: Patience) -> Result<Vec<String>, Stop> {
    let mut pause = patience.pause;
    let mut attempt = 1;
    loop {
        match in_transaction(session, sql).await {
            Err(Refused { locked: true, .. }) if attempt < patience.tries => {}
            Err(Refused { stop, .. }) if attempt > 1 => return Err(stop.and(&format!("it was tried {attempt} times"))),
            Err(Refused { stop, .. }) => return Err(stop),
            Ok(warnings) => return Ok(warnings),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}

/// A transaction that did not happen.
struct Refused {
    stop: Stop,
    /// Somebody else's lock was in the way.
    locked: bool,
}

impl From<AskError> for Refused {
    fn from(error: AskError) -> Self {
        Self { locked: error.kind == AskErrorKind::Locked, stop: error.into() }
    }
}

async fn in_transaction(session: &Session, sql: &str) -> Result<Vec<String>, Refused> {
    let done = async {
        session.run("BEGIN").await?;
        session.run(sql).await
    };
    let refused = match done.await.map(|()| session.take_warnings()) {
        // Whatever ends the connection before COMMIT is sent, the server rolls back.
        Err(error) => {
            let refused = Refused::from(error);
            Refused { stop: refused.stop.before_acting(), ..refused }
        }
        Ok(warnings) => match warnings.iter().find(|one| NO_PRIVILEGE_CHANGED.contains(&one.sqlstate.as_str())) {
            Some(warning) => Refused { stop: Stop::Failed(warning.message.clone()), locked: false },
            None => {
                session.run("COMMIT").await?;
                return Ok(texts(warnings));
            }
        },
    };
    // The first error is the one that matters.
    let _ = session.run("ROLLBACK").await;
    Err(refused)
}

async fn alone(place: Place<'_>, sql: &str) -> Result<(), Stop> {
    let session = place.session;
    let build = Build::of(sql);
    let before = match &build {
        Some(build) => build.left_over(session).await.map_err(|error| Stop::from(error).before_acting())?,
        None => Vec::new(),
    };
    let Err(error) = session.run(sql).await else { return Ok(()) };
    let lost = error.kind == AskErrorKind::Closed;
    let stop = Stop::from(error);
    let Some(build) = build else { return Err(stop) };
    match build.sweep(place, lost, &before).await {
        Ok(swept) if swept.is_empty() => Err(stop),
        Ok(swept) => Err(stop.and(&format!("what it left half-built was dropped: {}", swept.join(", ")))),
        Err(why) => Err(Stop::Unsure(format!("{}; an invalid index may be left: {why}", stop.text()))),
    }
}

/// A concurrent build of an index, which leaves an invalid one behind when it fails.
#[derive(Debug, Clone, PartialEq)]
enum Build {
    /// CREATE INDEX CONCURRENTLY of this index.
    New(String),
    /// REINDEX INDEX CONCURRENTLY of this index.
    Again(String),
}

impl Build {
    fn of(sql: &str) -> Option<Self> {
        let mut words = Words(sql);
        let mut word = words.next()?.to_ascii_uppercase();
        let again = word == "REINDEX";
        if !again && word != "CREATE" {
            return None;
        }
        while word != "CONCURRENTLY" {
            word = words.next()?.to_ascii_uppercase();
        }
        let mut name = words.next()?;
        if again {
            return Some(Build::Again(name.to_owned()));
        }
        if name.eq_ignore_ascii_case("IF") {
            name = words.nth(2)?;
        }
        let on = words.next()?;
        let mut table = on.eq_ignore_ascii_case("ON").then(|| words.next()).flatten()?;
        if table.eq_ignore_ascii_case("ONLY") {
            table = words.next()?;
        }
        // An index is made in the schema of its table.
        let schema = schema_of(table);
        Some(Build::New(format!("{schema}{name}")))
    }

    /// The invalid indexes that such a build leaves, as they are now.
    async fn left_over(&self, session: &Session) -> Result<Vec<String>, AskError> {
        let which = match self {
            Build::New(name) => format!("i.indexrelid = pg_catalog.to_regclass({})", quote::literal(name)),
            Build::Again(name) => format!(
                "c.relname ~ '_cc(new|old)[0-9]*$' AND i.indrelid = \
                 (SELECT indrelid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({}))",
                quote::literal(name)
            ),
        };
        let sql = format!(
            "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name \
             FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND {which}"
        );
        let rows = session.ask(&sql).await?;
        Ok(rows.iter().filter_map(|row| row.text("name").ok()).collect())
    }

    /// Drops what the failed build left and what was not there `before`; over a new session when the first is lost.
    async fn sweep(&self, place: Place<'_>, lost: bool, before: &[String]) -> Result<Vec<String>, String> {
        let fresh = match lost {
            true => Some(act::session(place.target, place.database).await.map_err(|error| error.to_string())?),
            false => None,
        };
        let session = fresh.as_ref().unwrap_or(place.session);
        let now = self.left_over(session).await.map_err(|error| error.to_string())?;
        let ours: Vec<_> = now.into_iter().filter(|name| !before.contains(name)).collect();
        for name in &ours {
            let dropped = session.run(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await;
            dropped.map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(ours)
    }
}

/// The schema of a name with the point after it; empty when the name has none.
fn schema_of(name: &str) -> &str {
    let mut quoted = false;
    let point = name.rfind(|c: char| {
        quoted ^= c == '"';
        !quoted && c == '.'
    });
    point.map_or("", |at| &name[..=at])
}

/// The words of a statement; a quoted identifier counts as part of one, and a parenthesis ends one.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let mut quoted = false;
        let end = text.find(|c: char| {
            quoted ^= c == '"';
            !quoted && (c.is_whitespace() || c == '(')
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_index_a_statement_builds() {
        let new = |name: &str| Some(Build::New(name.to_owned()));
        assert_eq!(Build::of("CREATE INDEX CONCURRENTLY a_idx ON public.t (x)"), new("public.a_idx"));
        assert_eq!(Build::of("create index concurrently a_idx on only t(x)"), new("a_idx"));
        assert_eq!(
            Build::of("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"A b\" ON \"S.x\".t(x)"),
            new("\"S.x\".\"A b\"")
        );
        assert_eq!(Build::of("REINDEX INDEX CONCURRENTLY public.a"), Some(Build::Again("public.a".to_owned())));
        assert_eq!(Build::of("DROP INDEX CONCURRENTLY a"), None);
        assert_eq!(Build::of("CREATE INDEX a ON t (x)"), None);
        assert_eq!(Build::of("VACUUM t"), None);
    }

    #[test]
    fn knows_what_refuses_a_transaction() {
        assert!(runs_alone("CREATE INDEX CONCURRENTLY a ON t (x)") && runs_alone("VACUUM (FREEZE) t"));
        assert!(!runs_alone("ALTER TABLE concurrently ADD x int") && !runs_alone("GRANT SELECT ON t TO PUBLIC"));
    }
}
