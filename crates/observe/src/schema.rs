//! What tables, columns and indexes a database has, and what became of them between two looks. Pure.
//!
//! The catalog is read only after the server has counted rows that were inserted, changed or deleted in it, so that a
//! database whose schema stays as it is costs one tiny query per look.

use crate::changes::Change;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use surus_pg::{Row, RowError, Rows};

/// Relations of one database that are looked at; a database with more is left alone.
pub const RELATIONS_AT_MOST: usize = 20_000;
/// Changes that become an event each; of more, one event tells all.
const EVENTS_AT_MOST: usize = 3;
/// Changes that one event lists; more are counted.
const SHOWN_AT_MOST: usize = 50;
/// A session tells the server what it counted at the latest this long after its commit (`PGSTAT_MAX_INTERVAL`).
const COUNTED_WITHIN_MS: i64 = 60_000;

/// How many rows of the catalog were written so far, as the server counted: while that stays, so does the schema.
pub const COUNT: &str = "SELECT sum(pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c) + \
    pg_stat_get_tuples_deleted(c))::bigint AS written FROM unnest(ARRAY['pg_catalog.pg_class', \
    'pg_catalog.pg_attribute', 'pg_catalog.pg_index', 'pg_catalog.pg_constraint']::regclass[]) AS c";

/// Between the parts of a column, and between columns.
const PART: char = '\u{1}';
const ITEM: char = '\u{2}';

/// The query. Oids from 16384 on are those of users (`FirstNormalObjectId`); 99 is `pg_toast`.
pub fn sql() -> String {
    format!(
        "WITH rel AS MATERIALIZED (SELECT oid, relnamespace, relname, relkind FROM pg_catalog.pg_class \
           WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'i', 'I') AND relpersistence <> 't' \
             AND relnamespace <> 99 LIMIT {limit}), \
         att AS (SELECT a.attrelid, string_agg(concat_ws(chr(1), a.attnum, a.attname, t.typname, a.atttypmod, \
             CASE WHEN a.attnotnull THEN 'n' ELSE '' END || CASE WHEN a.atthasdef THEN 'd' ELSE '' END), chr(2) \
             ORDER BY a.attnum) AS columns \
           FROM pg_catalog.pg_attribute a JOIN rel ON rel.oid = a.attrelid AND rel.relkind NOT IN ('i', 'I') \
           LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY 1), \
         con AS (SELECT conrelid, string_agg(conname, chr(2) ORDER BY conname) AS constraints \
           FROM pg_catalog.pg_constraint WHERE contype IN ('c', 'f') AND conrelid >= 16384 GROUP BY 1) \
         SELECT rel.oid::bigint AS oid, n.nspname, rel.relname, rel.relkind, i.indrelid::bigint AS of_table, \
           att.columns, con.constraints FROM rel JOIN pg_catalog.pg_namespace n ON n.oid = rel.relnamespace \
         LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = rel.oid LEFT JOIN att ON att.attrelid = rel.oid \
         LEFT JOIN con ON con.conrelid = rel.oid",
        limit = RELATIONS_AT_MOST + 1,
    )
}

/// A table, a view or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    schema: Box<str>,
    name: Box<str>,
    kind: char,
    of_table: Option<i64>,
    columns: Box<str>,
    constraints: Box<str>,
}

/// All of them, by oid.
pub type Relations = BTreeMap<i64, Relation>;

/// Reads the answer; none when there are too many.
///
/// # Errors
/// When it has another shape.
pub fn read(rows: &Rows) -> Result<Option<Relations>, RowError> {
    if rows.len() > RELATIONS_AT_MOST {
        return Ok(None);
    }
    let relation = |row: Row<'_>| {
        let relation = Relation {
            schema: row.str("nspname")?.into(),
            name: row.str("relname")?.into(),
            kind: row.str("relkind")?.chars().next().unwrap_or('?'),
            of_table: row.opt_i64("of_table")?,
            columns: row.opt_str("columns")?.unwrap_or_default().into(),
            constraints: row.opt_str("constraints")?.unwrap_or_default().into(),
        };
        Ok((row.i64("oid")?, relation))
    };
    rows.iter().map(relation).collect::<Result<_, _>>().map(Some)
}

impl Relation {
    fn what(&self) -> &'static str {
        match self.kind {
            'v' => "View",
            'm' => "Materialized view",
            'f' => "Foreign table",
            'i' | 'I' => "Index",
            _ => "Table",
        }
    }

    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn is_index(&self) -> bool {
        matches!(self.kind, 'i' | 'I')
    }

    /// Those that `REINDEX CONCURRENTLY` makes for a while.
    fn passes(&self) -> bool {
        let stem = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
        self.is_index() && (stem.ends_with("_ccnew") || stem.ends_with("_ccold"))
    }

    /// Columns by number: name, and all the rest.
    fn columns(&self) -> BTreeMap<&str, (&str, &str)> {
        let column = |text| {
            let mut parts = str::splitn(text, 3, PART);
            Some((parts.next()?, (parts.next()?, parts.next().unwrap_or_default())))
        };
        self.columns.split(ITEM).filter_map(column).collect()
    }

    fn constraints(&self) -> BTreeSet<&str> {
        self.constraints.split(ITEM).filter(|name| !name.is_empty()).collect()
    }
}

/// What happened to one object.
struct Step {
    /// `create`, `drop`, `rename` or `alter`.
    action: &'static str,
    title: String,
    object: String,
}

/// What changed in a database between two looks, as events.
pub fn of_relations(database: &str, before: &Relations, now: &Relations, span: (i64, i64)) -> Vec<Change> {
    let steps = steps(before, now);
    let shown = |step: &Step| json!({ "action": step.action, "object": step.object, "title": step.title });
    let detail = |steps: &[Step]| -> Value {
        let changes: Vec<Value> = steps.iter().take(SHOWN_AT_MOST).map(shown).collect();
        json!({ "database": database, "not_before_ms": span.0, "not_after_ms": span.1, "changed": steps.len(),
                "changes": changes })
    };
    if steps.len() > EVENTS_AT_MOST {
        let first: Vec<&str> = steps.iter().take(2).map(|step| step.title.as_str()).collect();
        let title = format!("{} changes of the schema in {database}: {}, …", steps.len(), first.join(", "));
        return vec![Change::new("ddl", title, detail(&steps))];
    }
    let change = |step| Change::new("ddl", step_title(&step, database), detail(&[step]));
    steps.into_iter().map(change).collect()
}

fn step_title(step: &Step, database: &str) -> String {
    format!("{} (database {database})", step.title)
}

fn steps(before: &Relations, now: &Relations) -> Vec<Step> {
    let mut steps = Vec::new();
    let born = |relation: &Relation| (relation.kind, relation.full_name());
    let gone: BTreeSet<_> = before.iter().filter(|(oid, _)| !now.contains_key(oid)).map(|(_, one)| born(one)).collect();
    let new: BTreeSet<_> = now.iter().filter(|(oid, _)| !before.contains_key(oid)).map(|(_, one)| born(one)).collect();
    let mut step = |action, relation: &Relation, title: String| {
        steps.push(Step { action, title, object: relation.full_name() });
    };
    // What belongs to a table that comes or goes comes and goes with it.
    let with_table = |one: &Relation, other: &Relations| one.of_table.is_some_and(|table| !other.contains_key(&table));
    let about = |one: &Relation, all: &Relations| {
        let table = one.of_table.and_then(|table| all.get(&table)).map(|table| format!(" on {}", table.full_name()));
        format!("{} {}{}", one.what(), one.full_name(), table.unwrap_or_default())
    };
    for (oid, one) in before {
        if !now.contains_key(oid) && !one.passes() && !with_table(one, now) && !new.contains(&born(one)) {
            step("drop", one, format!("{} was dropped", about(one, before)));
        }
    }
    for (oid, one) in now {
        let Some(was) = before.get(oid) else {
            if !one.passes() && !with_table(one, before) {
                let anew = if gone.contains(&born(one)) { " anew" } else { "" };
                step("create", one, format!("{} was created{anew}", about(one, now)));
            }
            continue;
        };
        if was.full_name() != one.full_name() && !one.passes() && !was.passes() {
            let title = format!("{} {} was renamed to {}", was.what(), was.full_name(), one.full_name());
            step("rename", one, title);
        }
        for title in altered(was, one) {
            step("alter", one, title);
        }
    }
    steps
}

/// Columns and constraints of one relation.
fn altered(was: &Relation, is: &Relation) -> Vec<String> {
    let name = is.full_name();
    let mut titles = Vec::new();
    if was.columns != is.columns {
        let (from, to) = (was.columns(), is.columns());
        for (number, (column, _)) in &from {
            if !to.contains_key(number) {
                titles.push(format!("Column {column} of {name} was dropped"));
            }
        }
        for (number, (column, rest)) in &to {
            match from.get(number) {
                None => titles.push(format!("Column {column} was added to {name}")),
                Some((old, _)) if old != column => {
                    titles.push(format!("Column {old} of {name} was renamed to {column}"));
                }
                Some((_, old)) if old != rest => titles.push(format!("Column {column} of {name} was altered")),
                Some(_) => {}
            }
        }
    }
    let (from, to) = (was.constraints(), is.constraints());
    titles.extend(from.difference(&to).map(|one| format!("Constraint {one} of {name} was dropped")));
    titles.extend(to.difference(&from).map(|one| format!("Constraint {one} was added to {name}")));
    titles
}

/// What is known of a database.
#[derive(Debug, Default)]
pub struct Book {
    /// How much was written to the catalog when it was read last.
    written: Option<i64>,
    relations: Option<Relations>,
    /// When it was read, and when it was last known not to have changed.
    read_ms: i64,
    seen_ms: i64,
}

impl Book {
    /// What [`COUNT`] said when the catalog was read last.
    pub fn written(&self) -> Option<i64> {
        self.written
    }

    /// The catalog has not changed.
    pub fn still(&mut self, at_ms: i64) {
        self.seen_ms = at_ms;
    }

    /// The catalog was read: what is different?
    pub fn enter(&mut self, database: &str, written: i64, now: Relations, at_ms: i64) -> Vec<Change> {
        let not_before = self.read_ms.max(self.seen_ms.saturating_sub(COUNTED_WITHIN_MS));
        let before = self.relations.as_ref();
        let changes = before.map(|before| of_relations(database, before, &now, (not_before, at_ms)));
        *self = Self { written: Some(written), relations: Some(now), read_ms: at_ms, seen_ms: at_ms };
        changes.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(name: &str, kind: char, columns: &str) -> Relation {
        let columns = columns.replace(',', &ITEM.to_string()).replace(':', &PART.to_string());
        let (schema, name) = name.split_once('.').unwrap_or(("public", name));
        Relation {
            schema: schema.into(),
            name: name.into(),
            kind,
            of_table: None,
            columns: columns.into(),
            constraints: "".into(),
        }
    }

    fn index(name: &str, of: i64) -> Relation {
        Relation { of_table: Some(of), ..relation(name, 'i', "") }
    }

    fn titles(before: &[(i64, Relation)], now: &[(i64, Relation)]) -> Vec<String> {
        let all = |some: &[(i64, Relation)]| some.iter().cloned().collect();
        steps(&all(before), &all(now)).into_iter().map(|step| step.title).collect()
    }

    #[test]
    fn tables_come_with_their_indexes_and_go_with_them() {
        let table = || (1, relation("orders", 'r', "1:id:int4"));
        assert_eq!(titles(&[], &[table(), (2, index("orders_pkey", 1))]), ["Table public.orders was created"]);
        assert_eq!(titles(&[table(), (2, index("orders_pkey", 1))], &[]), ["Table public.orders was dropped"]);
        let two = [table(), (3, index("orders_id", 1))];
        assert_eq!(titles(&[table()], &two), ["Index public.orders_id on public.orders was created"]);
        assert_eq!(titles(&two, &[table()]), ["Index public.orders_id on public.orders was dropped"]);
        assert!(titles(&two, &two).is_empty());
    }

    #[test]
    fn columns_are_followed_by_their_number() {
        let table = |columns: &str| [(1, relation("shop.t", 'r', columns))];
        let all = titles(&table("1:id:int4,2:a:text,3:b:text"), &table("1:id:int8,3:c:text,4:note:text"));
        assert_eq!(
            all,
            [
                "Column a of shop.t was dropped",
                "Column id of shop.t was altered",
                "Column b of shop.t was renamed to c",
                "Column note was added to shop.t"
            ]
        );
    }

    #[test]
    fn a_rename_a_rebuilt_index_and_a_constraint() {
        let renamed = titles(&[(1, relation("a", 'r', ""))], &[(1, relation("s.b", 'r', ""))]);
        assert_eq!(renamed, ["Table public.a was renamed to s.b"]);
        let table = (1, relation("t", 'r', ""));
        let rebuilt = titles(&[table.clone(), (2, index("i", 1))], &[table.clone(), (3, index("i", 1))]);
        assert_eq!(rebuilt, ["Index public.i on public.t was created anew"]);
        assert!(titles(std::slice::from_ref(&table), &[table.clone(), (3, index("i_ccnew1", 1))]).is_empty());
        let with = Relation { constraints: "positive".into(), ..table.1.clone() };
        assert_eq!(titles(&[table], &[(1, with)]), ["Constraint positive was added to public.t"]);
    }

    #[test]
    fn many_changes_are_one_event_and_the_first_look_is_none() {
        let tables = |count: i64| (0..count).map(|oid| (oid, relation(&format!("t{oid}"), 'r', ""))).collect();
        let mut book = Book::default();
        assert!(book.enter("shop", 1, tables(100), 5_000).is_empty());
        book.still(200_000);
        let changes = book.enter("shop", 2, tables(300), 230_000);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].title.starts_with("200 changes of the schema in shop: Table public.t100 was created, "));
        let detail = &changes[0].detail;
        assert_eq!((&detail["not_before_ms"], &detail["not_after_ms"]), (&json!(140_000), &json!(230_000)));
        assert_eq!(detail["changes"].as_array().unwrap().len(), SHOWN_AT_MOST);
        assert_eq!(book.enter("shop", 3, tables(302), 240_000).len(), 2);
    }
}
