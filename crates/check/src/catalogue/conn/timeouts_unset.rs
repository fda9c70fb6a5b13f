use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Lock, Plan, Step},
};
use surus_pg::{RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "conn.timeouts_unset",
    title: "an application's role may wait or hang without any limit",
    inspects: "statement_timeout, lock_timeout and idle_in_transaction_session_timeout of the server, of databases and of \
               roles that log in (pg_settings, pg_roles, pg_db_role_setting)",
    why: "A client that hangs inside a transaction keeps its locks and holds back VACUUM for as long as it likes; a \
          statement without a limit can run for days, and one that waits for a lock makes everybody behind it wait too.",
    remedy: "Give each application's role a limit with ALTER ROLE … SET. A role that really needs none can say so with an \
             explicit 0, which this check accepts.",
    source: "pgEdge pg-healthcheck timeouts; superusers, replication and monitoring roles are left out",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT 'server' AS kind, NULL::name AS role, NULL::name AS database, name, reset_val AS value FROM pg_settings \
             WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout') \
             UNION ALL \
             SELECT 'role', rolname, NULL, NULL, NULL FROM pg_roles \
             WHERE rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolconnlimit <> 0 \
             AND rolname <> current_user AND rolname !~ '^(pg_|rds|cloudsql|azure_|supabase_)' \
             AND coalesce(rolvaliduntil > now(), true) AND NOT pg_has_role(oid, 'pg_monitor', 'MEMBER') \
             UNION ALL \
             SELECT 'entry', r.rolname, d.datname, split_part(e.text, '=', 1), substr(e.text, strpos(e.text, '=') + 1) \
             FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS e(text) \
             LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase \
             WHERE split_part(e.text, '=', 1) LIKE '%\\_timeout' ORDER BY 1, 2, 3, 4",
        )],
        judge,
    ),
};

/// The limits, with values that only stop what has gone wrong.
const LIMITS: [(&str, &str, &str); 3] = [
    ("idle_in_transaction_session_timeout", "10min", "a transaction that its client forgot ends after ten minutes"),
    ("lock_timeout", "1min", "waiting for a lock ends after a minute"),
    ("statement_timeout", "1h", "a statement ends after an hour"),
];

/// An `ALTER ROLE … SET` or `ALTER DATABASE … SET`; an absent role or database means all of them.
struct Entry<'a> {
    role: Option<&'a str>,
    database: Option<&'a str>,
    name: &'a str,
}

/// Where limits come from.
struct Limits<'a> {
    server: Vec<(&'a str, &'a str)>,
    entries: Vec<Entry<'a>>,
    databases: Vec<&'a str>,
}

impl Limits<'_> {
    /// Does somebody say what holds for this role, wherever it logs in?
    fn decided(&self, role: &str, name: &str) -> bool {
        let of_server = self.server.iter().any(|(setting, value)| *setting == name && *value != "0");
        let of_role = |entry: &&Entry<'_>| entry.name == name && entry.role.is_none_or(|one| one == role);
        let entries: Vec<_> = self.entries.iter().filter(of_role).collect();
        let everywhere = entries.iter().any(|entry| entry.role.is_some() || entry.database.is_none());
        let in_each = || self.databases.iter().all(|database| entries.iter().any(|e| e.database == Some(database)));
        of_server || everywhere || (!entries.is_empty() && in_each())
    }

    /// As [`Limits::decided`]; a limit for whole transactions (17 and newer) covers statements and idling too.
    fn covered(&self, role: &str, name: &str) -> bool {
        self.decided(role, name) || (name != "lock_timeout" && self.decided(role, "transaction_timeout"))
    }

    /// Does our own login hide the server's value?
    fn hidden(&self, scene: &Scene<'_>, name: &str) -> bool {
        let ours = |entry: &Entry<'_>| {
            entry.role.is_none_or(|role| role == scene.facts.role.name)
                && entry.database.is_none_or(|database| database == scene.facts.database)
        };
        self.entries.iter().any(|entry| entry.name == name && ours(entry))
    }
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let (mut limits, roles) = read(rows)?;
    limits.databases = scene
        .facts
        .databases
        .iter()
        .filter(|db| db.allows_connections && !db.is_template)
        .map(|db| db.name.as_str())
        .collect();
    let mut verdict = Verdict::ok();
    let mut names = Vec::new();
    for limit in LIMITS {
        if limits.hidden(scene, limit.0) {
            let text =
                format!("the role or the database that surus uses has its own {}, which hides the server's", limit.0);
            verdict = verdict.but_unknown(limit.0, Reason::Undeclared(text));
        } else {
            names.push(limit);
        }
    }
    for role in roles {
        let missing: Vec<_> = names.iter().filter(|(name, ..)| !limits.covered(role, name)).collect();
        if missing.is_empty() {
            continue;
        }
        let role = quote::ident(role);
        let list = missing.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
        let steps = missing.iter().map(|(name, value, effect)| {
            Step::sql(
                format!("ALTER ROLE {role} SET {name} = '{value}'"),
                Lock::None,
                format!("in new sessions of {role}, {effect}"),
            )
            .undo_sql(format!("ALTER ROLE {role} RESET {name}"))
            .takes(0.1)
        });
        verdict.findings.push(
            Finding::warn(role.as_str(), format!("role {role} has no {list}"))
                .detail("One hanging client of this role can hold locks, and hold back VACUUM, without an end.")
                .saw("without limit", list)
                .fix(Plan::new(format!("limit what sessions of {role} may wait for"), steps.collect())),
        );
    }
    Ok(verdict)
}

fn read(rows: &Rows) -> Result<(Limits<'_>, Vec<&str>), RowError> {
    let mut limits = Limits { server: Vec::new(), entries: Vec::new(), databases: Vec::new() };
    let mut roles = Vec::new();
    for row in rows.iter() {
        match row.str("kind")? {
            "server" => limits.server.push((row.str("name")?, row.str("value")?)),
            "role" => roles.push(row.str("role")?),
            _ => limits.entries.push(Entry {
                role: row.opt_str("role")?,
                database: row.opt_str("database")?,
                name: row.str("name")?,
            }),
        }
    }
    Ok((limits, roles))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_role_without_limits_and_accepts_decisions() {
        seeded(&CHECK, |on| {
            on.sql("CREATE ROLE app LOGIN; CREATE ROLE people; CREATE ROLE watcher LOGIN IN ROLE pg_monitor");
            on.sql("CREATE ROLE half LOGIN; ALTER ROLE half SET statement_timeout = 0; ALTER ROLE half SET lock_timeout = '1s'");
            on.sql("CREATE ROLE kept LOGIN; ALTER ROLE kept SET statement_timeout = 0; ALTER ROLE kept SET lock_timeout = '1s'");
            on.sql("ALTER ROLE kept SET idle_in_transaction_session_timeout = '1min'");
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.fix.as_ref().unwrap().steps.len())).collect();
            assert_eq!(seen, [("conn.timeouts_unset:app", 3), ("conn.timeouts_unset:half", 1)]);
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.sql("ALTER DATABASE postgres SET lock_timeout = '1min'");
            let report = on.report();
            assert_eq!(report.unknown.len(), 1, "our own database hides the server's value: {:?}", report.unknown);
        });
    }
}
