use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Interruption, Lock, Plan, Step},
};
use surus_pg::{RowError, Rows, quote, rows::Row};

pub static CHECK: Check = Check {
    id: "cfg.corruption_knobs",
    title: "a setting for disaster recovery is on in daily use",
    inspects: "zero_damaged_pages, ignore_checksum_failure, ignore_system_indexes and ignore_invalid_pages of the server, \
               of roles and of databases",
    why: "These settings exist to save what can be saved from damaged files. In daily use they hide damage, spread it into \
          backups and standbys, or throw away pages that could still have been repaired.",
    remedy: "Turn it off, take a backup of what is there, and find out what was damaged (pg_amcheck, pg_checksums).",
    source: "CIS benchmark 6.x (developer options); PostgreSQL documentation, chapter Developer Options",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT r.rolname AS role, d.datname AS database, split_part(e.text, '=', 1) AS name, \
             substr(e.text, strpos(e.text, '=') + 1) AS value \
             FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS e(text) \
             LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase \
             WHERE split_part(e.text, '=', 1) IN \
             ('zero_damaged_pages', 'ignore_checksum_failure', 'ignore_system_indexes', 'ignore_invalid_pages') \
             AND lower(substr(e.text, strpos(e.text, '=') + 1)) IN ('on', 'true', 'yes', '1') ORDER BY 1, 2, 3",
        )],
        judge,
    ),
};

const KNOBS: [(&str, &str); 4] = [
    (
        "zero_damaged_pages",
        "A page whose header is damaged is replaced by zeroes when it is read: its rows are gone for good.",
    ),
    ("ignore_checksum_failure", "A page with a wrong checksum is used as if it were right: damage spreads unseen."),
    (
        "ignore_system_indexes",
        "System catalogs are read without their indexes: slow, and it hides that one is damaged.",
    ),
    (
        "ignore_invalid_pages",
        "Recovery goes on over pages that are missing: the cluster may be inconsistent afterwards.",
    ),
];

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for (name, meaning) in KNOBS {
        let Some(setting) = scene.settings().get(name) else { continue };
        if scene.settings().on(name) != Some(true) || !setting.is_server_wide() {
            continue;
        }
        let mut step = Step::setting(name, "off", "damage is reported again instead of hidden");
        if setting.needs_restart() {
            step = step.interrupts(Interruption::Restart);
        }
        findings.push(
            Finding::crit(name, format!("{name} is on for the whole server"))
                .detail(meaning)
                .saw(format!("setting {name}"), "on")
                .saw("source", setting.source.as_str())
                .fix(Plan::one(format!("turn {name} off"), step)),
        );
    }
    for row in rows.iter() {
        findings.push(for_some(&row)?);
    }
    Ok(Verdict::of(findings))
}

/// The finding about an ALTER ROLE … SET or ALTER DATABASE … SET.
fn for_some(row: &Row<'_>) -> Result<Finding, RowError> {
    let (name, value) = (row.str("name")?, row.str("value")?);
    let database = row.opt_str("database")?.map(quote::ident);
    let (who, alter) = match (row.opt_str("role")?.map(quote::ident), database) {
        (Some(role), Some(database)) => {
            (format!("role {role} in database {database}"), format!("ALTER ROLE {role} IN DATABASE {database}"))
        }
        (Some(role), None) => (format!("role {role}"), format!("ALTER ROLE {role}")),
        (None, Some(database)) => (format!("database {database}"), format!("ALTER DATABASE {database}")),
        (None, None) => ("all roles".to_owned(), "ALTER ROLE ALL".to_owned()),
    };
    let meaning = KNOBS.iter().find(|(knob, _)| *knob == name).map_or("", |(_, meaning)| meaning);
    let step =
        Step::sql(format!("{alter} RESET {name}"), Lock::None, "new sessions report damage again instead of hiding it")
            .undo_sql(format!("{alter} SET {name} = {}", quote::literal(value)))
            .takes(0.1);
    Ok(Finding::crit(format!("{name} for {who}"), format!("{name} is on for {who}"))
        .detail(meaning)
        .saw("value", value)
        .fix(Plan::one(format!("turn {name} off for {who}"), step)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_knobs_of_the_server_and_of_a_role() {
        seeded(&CHECK, |on| {
            on.sql("CREATE ROLE app LOGIN; ALTER ROLE app SET ignore_checksum_failure = on");
            on.sql("CREATE ROLE fine LOGIN; ALTER ROLE fine SET ignore_checksum_failure = off");
            on.reload(&[("zero_damaged_pages", "on")]);
            let found = on.findings();
            let keys: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect();
            let expected = ["ignore_checksum_failure for role app", "zero_damaged_pages"];
            assert_eq!(
                keys,
                expected
                    .map(|object| (format!("cfg.corruption_knobs:{object}"), "crit"))
                    .each_ref()
                    .map(|(k, s)| (k.as_str(), *s))
            );
            assert!(found.iter().all(|f| f.fix.as_ref().is_some_and(|plan| plan.is_applicable())));
        });
    }
}
