use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Trouble, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::{finding::Finding, plan::Plan, size::human_count};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.rls_perf",
    title: "policies make every query on a table slower than they need to",
    inspects: "pg_policy expressions as stored, pg_proc.provolatile, estimated rows",
    why: "A function in a policy is called again for every row, although its answer is the same for the whole query. Several \
          permissive policies for one command are all tried, too.",
    remedy: "Write the call as a scalar subselect, (SELECT f()), so that it runs once a query; merge policies with OR.",
    source: "splinter 0003 auth_rls_initplan, 0006 multiple_permissive_policies; small tables do not matter",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("rows", "rows", 10_000.0)],
    look: Look::Custom(look),
};

const POLICIES: &str = "SELECT c.oid::regclass::text AS name, c.reltuples AS rows, p.polname AS policy, p.polcmd AS cmd, \
    p.polpermissive AS permissive, p.polqual::text AS condition, p.polwithcheck::text AS check_condition, \
    (SELECT array_agg(coalesce(r.rolname::text, 'public')) FROM unnest(p.polroles) o LEFT JOIN pg_roles r ON r.oid = o) AS roles \
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relrowsecurity ORDER BY 1, 3";

/// A policy of a table that is large enough to matter.
struct Policy {
    table: String,
    name: String,
    rows: f64,
    commands: &'static str,
    permissive: bool,
    roles: Vec<String>,
    calls: BTreeSet<u32>,
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let policies = large(scene, &access.session.ask(POLICIES).await?)?;
        let calls: BTreeSet<String> = policies.iter().flat_map(|one| &one.calls).map(u32::to_string).collect();
        let mut stable = BTreeMap::new();
        if !calls.is_empty() {
            let list = calls.into_iter().collect::<Vec<_>>().join(", ");
            let sql = format!("SELECT oid, proname AS name FROM pg_proc WHERE provolatile = 's' AND oid IN ({list})");
            for row in access.session.ask(&sql).await?.iter() {
                stable.insert(row.i64("oid")?, row.text("name")?);
            }
        }
        let mut findings = called_per_row(&policies, &stable);
        findings.extend(tried_together(&policies));
        Ok(Verdict::of(findings))
    })
}

fn large(scene: &Scene<'_>, rows: &Rows) -> Result<Vec<Policy>, Trouble> {
    let mut policies = Vec::new();
    for row in rows.iter() {
        let count = row.f64("rows")?;
        if scene.grade("rows", count).is_none() {
            continue;
        }
        let trees = [row.opt_str("condition")?, row.opt_str("check_condition")?];
        policies.push(Policy {
            table: row.text("name")?,
            name: quote::ident(row.str("policy")?),
            rows: count,
            commands: match row.str("cmd")? {
                "r" => "r",
                "a" => "a",
                "w" => "w",
                "d" => "d",
                _ => "rawd",
            },
            permissive: row.bool("permissive")?,
            roles: row.list("roles")?,
            calls: trees.into_iter().flatten().flat_map(constant_calls).collect(),
        });
    }
    Ok(policies)
}

fn called_per_row(policies: &[Policy], stable: &BTreeMap<i64, String>) -> Vec<Finding> {
    let one = |policy: &Policy| {
        let names: Vec<&str> =
            policy.calls.iter().filter_map(|oid| stable.get(&i64::from(*oid)).map(String::as_str)).collect();
        let (table, name, first) = (&policy.table, &policy.name, *names.first()?);
        Some(
            Finding::warn(
                format!("{table}/{name}"),
                format!("policy {name} of {table} calls {} for every row", names.join(", ")),
            )
            .detail("The answer is the same for the whole query; on large tables the calls cost more than the rows.")
            .measured("estimated rows", policy.rows, "rows")
            .saw("functions", names.join(", "))
            .fix(Plan::advice(format!(
                "ALTER POLICY {name} ON {table} USING (…) with (SELECT {first}(…)) in place of {first}(…)"
            ))),
        )
    };
    policies.iter().filter_map(one).collect()
}

fn tried_together(policies: &[Policy]) -> Vec<Finding> {
    let mut together: BTreeMap<&str, BTreeMap<(char, &str), Vec<&Policy>>> = BTreeMap::new();
    for policy in policies.iter().filter(|policy| policy.permissive) {
        for (command, role) in
            policy.commands.chars().flat_map(|c| policy.roles.iter().map(move |role| (c, role.as_str())))
        {
            together.entry(&policy.table).or_default().entry((command, role)).or_default().push(policy);
        }
    }
    let mut findings = Vec::new();
    for (table, sets) in together {
        let Some(((_, role), most)) =
            sets.into_iter().max_by_key(|(_, set)| set.len()).filter(|(_, set)| set.len() > 1)
        else {
            continue;
        };
        let names = most.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>().join(", ");
        let rows = most[0].rows;
        findings.push(
            Finding::warn(
                table,
                format!("{} permissive policies of {table} are tried for one command of {role}", most.len()),
            )
            .detail(format!("Each of about {} rows may be tested by all of them.", human_count(rows as i64)))
            .saw("policies", names.as_str())
            .measured("estimated rows", rows, "rows")
            .fix(Plan::advice(format!("merge {names} into one policy whose condition joins theirs with OR"))),
        );
    }
    findings
}

/// The functions that an expression calls outside a subselect with no column among their arguments, from the text form
/// of a stored expression (PostgreSQL's outfuncs.c: `{TAG :field value …}`, backslash escapes).
fn constant_calls(tree: &str) -> Vec<u32> {
    struct Node {
        call: Option<u32>,
        has_column: bool,
        in_subselect: bool,
    }
    let mut open: Vec<Node> = Vec::new();
    let mut calls = Vec::new();
    let mut rest = tree;
    while let Some(at) = rest.find(['{', '}', '\\']) {
        let (mark, tail) = (rest.as_bytes()[at], &rest[at + 1..]);
        rest = tail;
        match mark {
            b'\\' => rest = tail.get(tail.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default(),
            b'{' => {
                let mut words = tail.split_ascii_whitespace();
                let (tag, _, value) = (words.next(), words.next(), words.next());
                let inside = open.last().is_some_and(|node| node.in_subselect);
                if tag == Some("VAR") && !inside {
                    open.iter_mut().for_each(|node| node.has_column = true);
                }
                let call = value.filter(|_| tag == Some("FUNCEXPR")).and_then(|oid| oid.parse().ok());
                open.push(Node { call, has_column: false, in_subselect: inside || tag == Some("SUBLINK") });
            }
            _ => {
                if let Some(Node { call: Some(oid), has_column: false, in_subselect: false }) = open.pop() {
                    calls.push(oid);
                }
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::{CHECK, constant_calls};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn finds_calls_without_columns_outside_subselects() {
        let tree = "{OPEXPR :opno 98 :args ({VAR :varno 1} {FUNCEXPR :funcid 2077 :args ({CONST :x \\{})})}";
        assert_eq!(constant_calls(tree), [2077]);
        assert!(constant_calls("{SUBLINK :a 4 :subselect {QUERY :t {FUNCEXPR :funcid 2077 :args <>}}}").is_empty());
        assert!(
            constant_calls("{FUNCEXPR :funcid 16400 :args ({FUNCEXPR :funcid 5 :args ({VAR :varno 1})})}").is_empty()
        );
    }

    #[test]
    fn sees_calls_per_row_and_many_policies() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE slow(t text, id int); ALTER TABLE slow ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY per_row ON slow USING (t = current_setting('app.tenant')); \
                 CREATE TABLE quick(t text); ALTER TABLE quick ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY once ON quick USING (t = (SELECT current_setting('app.tenant'))); \
                 CREATE TABLE many(t text); ALTER TABLE many ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY a ON many FOR SELECT USING (t = 'a'); CREATE POLICY b ON many USING (t = 'b'); \
                 CREATE POLICY c ON many FOR DELETE USING (lower(t) = 'c'); \
                 CREATE TABLE small(t text); ALTER TABLE small ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY per_row ON small USING (t = current_setting('app.tenant')); \
                 UPDATE pg_class SET reltuples = 50000 WHERE relname IN ('slow', 'quick', 'many')",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| f.object.as_str()).collect();
            assert_eq!(seen, ["public.many", "public.slow/per_row"], "{found:?}");
        });
    }
}
