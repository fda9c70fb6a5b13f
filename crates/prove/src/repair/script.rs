//! The repair as SQL that a person can read: one transaction, which fails as a whole when anything is not as it was
//! seen.

use super::{Repair, SetBack, TablePlan};
use crate::diff::{Layout, Row, TableName, side::SAME_TEXT};
use std::{collections::BTreeMap, io, io::Write};
use surus_pg::quote::{ident, literal};

/// Rows of one statement, except where rows refer to each other.
const ROWS_AT_A_TIME: usize = 500;

/// What stands at the beginning.
#[derive(Debug, Clone, Default)]
pub struct Heading {
    pub database: String,
    /// The moment to which rows are put back, and when the rows of now were read.
    pub moment: String,
    pub seen: String,
    pub until: Option<String>,
}

/// The check of every statement, in a function of the session.
const EXPECT: &str = "\
CREATE FUNCTION pg_temp.surus_expect(what text, done bigint, wanted bigint) RETURNS text LANGUAGE plpgsql AS $surus$
BEGIN
  IF done <> wanted THEN
    RAISE EXCEPTION '%: only % of % rows are as surus diff saw them; nothing was changed', what, done, wanted;
  END IF;
  RETURN what || ': ' || done;
END $surus$;
";

/// In which encoding the file is; else psql takes the terminal's word for it.
const ENCODING: &str = "SET client_encoding = 'UTF8';";

/// Writes it. Tables that were dropped are written by `before` (their definition and rows) and `after` (indexes,
/// constraints, triggers).
///
/// # Errors
/// When it cannot be written.
pub fn write<W: Write>(
    repair: &Repair,
    heading: &Heading,
    out: &mut W,
    before: &mut dyn FnMut(&mut W) -> io::Result<()>,
    after: &mut dyn FnMut(&mut W) -> io::Result<()>,
) -> io::Result<()> {
    head(repair, heading, out)?;
    let path = search_path(repair);
    writeln!(out, "\\set ON_ERROR_STOP on\n{ENCODING}\nBEGIN;\nSET LOCAL lock_timeout = '10s';")?;
    let dropped = repair.tables.values().any(|plan| plan.dropped);
    if dropped {
        before(out)?;
        writeln!(out, "{ENCODING}")?;
    }
    writeln!(out, "SET LOCAL search_path = {path};\n{SAME_TEXT};\n{EXPECT}")?;
    let groups = repair.groups();
    let all: Vec<&TableName> = groups.iter().flatten().copied().collect();
    if !all.is_empty() {
        let names = all.iter().map(|name| only(&repair.tables[name].layout)).collect::<Vec<_>>().join(", ");
        writeln!(out, "-- Nobody else writes to them meanwhile; their triggers do not fire.")?;
        writeln!(out, "LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE;\nSET CONSTRAINTS ALL DEFERRED;")?;
    }
    let fires = |name: &TableName| {
        let triggers = repair.tables[name].triggers.iter().filter(|one| matches!(one.enabled.as_str(), "O" | "A"));
        triggers.cloned().collect::<Vec<_>>()
    };
    for name in &all {
        for trigger in fires(name) {
            writeln!(out, "ALTER TABLE {} DISABLE TRIGGER {};", trigger.table, ident(&trigger.name))?;
        }
    }
    for group in &groups {
        let plans: Vec<&TablePlan> = group.iter().map(|name| &repair.tables[*name]).collect();
        if repair.is_cycle(group) { together(&plans, out)? } else { one_by_one(plans[0], out)? }
    }
    writeln!(out, "\nSET CONSTRAINTS ALL IMMEDIATE;")?;
    for name in &all {
        for trigger in fires(name) {
            let always = if trigger.enabled == "A" { "ALWAYS " } else { "" };
            writeln!(out, "ALTER TABLE {} ENABLE {always}TRIGGER {};", trigger.table, ident(&trigger.name))?;
        }
    }
    if dropped {
        after(out)?;
        writeln!(out, "SET LOCAL search_path = {path};")?;
    }
    for one in repair.lost_references() {
        writeln!(out, "ALTER TABLE {} ADD CONSTRAINT {} {};", one.from, ident(&one.name), one.definition)?;
    }
    writeln!(out, "COMMIT;")
}

fn search_path(repair: &Repair) -> String {
    let mut schemas = vec!["pg_catalog".to_owned()];
    let own = repair.tables.keys().map(|name| ident(&name.schema)).chain(["public".to_owned()]);
    for schema in own {
        if !schemas.contains(&schema) {
            schemas.push(schema);
        }
    }
    schemas.join(", ")
}

fn only(layout: &Layout) -> String {
    format!("{}{}", if layout.partitioned { "" } else { "ONLY " }, layout.table)
}

fn head<W: Write>(repair: &Repair, heading: &Heading, out: &mut W) -> io::Result<()> {
    let Heading { database, moment, seen, until } = heading;
    writeln!(out, "-- Written by surus diff --repair. Run it with: psql -X -d {} -f FILE", comment(database))?;
    writeln!(out, "-- Rows as they were at {}; as they are was read at {}.", comment(moment), comment(seen))?;
    if let Some(until) = until {
        writeln!(out, "-- What changed after {} was meant, and is left alone.", comment(until))?;
    }
    writeln!(out, "-- It runs as a whole or not at all: it fails when a row is no longer as it was read.\n--")?;
    for (name, plan) in &repair.tables {
        let (back, set, left) = (plan.back.len(), plan.set.len(), plan.left.len());
        match plan.dropped {
            true => writeln!(out, "-- {}: was dropped, comes back with all rows", comment(&name.to_string()))?,
            false if back + set + left == 0 => continue,
            false => {
                let name = comment(&name.to_string());
                writeln!(out, "-- {name}: {back} rows put back, {set} set back, {left} left alone")?;
            }
        }
        for left in &plan.left {
            writeln!(out, "--   left alone: {}: {}", comment(&left.row), comment(&left.why))?;
        }
        for set in &plan.set {
            writeln!(out, "--   overwrites: {}", comment(&set_text(&plan.layout, set)))?;
        }
    }
    for note in &repair.notes {
        writeln!(out, "-- note: {}", comment(note))?;
    }
    Ok(())
}

/// `id = 7: status 'void' → 'paid'`.
pub(super) fn set_text(layout: &Layout, set: &SetBack) -> String {
    let shown = |value: &Option<String>| value.as_ref().map_or_else(|| "NULL".into(), |value| literal(value));
    let columns = set.columns.iter().map(|place| {
        format!(
            "{} {} → {}",
            ident(place.name(layout)),
            shown(&set.is.values[place.0]),
            shown(&set.was.values[place.0])
        )
    });
    format!("{}: {}", layout.key_text(&set.is.key), columns.collect::<Vec<_>>().join(", "))
}

impl SetBack {
    /// What is overwritten, for people: `id = 7: status 'void' → 'paid'`.
    pub fn text(&self, layout: &Layout) -> String {
        set_text(layout, self)
    }
}

/// A text that stays within its comment.
fn comment(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r")
}

fn value(value: &Option<String>) -> String {
    value.as_ref().map_or_else(|| "NULL".into(), |text| literal(text))
}

fn one_by_one<W: Write>(plan: &TablePlan, out: &mut W) -> io::Result<()> {
    let table = plan.layout.table.to_string();
    let (mut set, mut back) = (Vec::new(), Vec::new());
    for same in by_columns(&plan.set).values() {
        set.extend(same.chunks(ROWS_AT_A_TIME).map(|some| (update(&plan.layout, some), some.len(), "set back")));
    }
    back.extend(plan.back.chunks(ROWS_AT_A_TIME).map(|some| (insert(&plan.layout, some), some.len(), "put back")));
    for (statement, rows, what) in set.into_iter().chain(back) {
        let what = literal(&format!("{table}, {what}"));
        writeln!(
            out,
            "\nWITH done AS (\n{statement}\n)\nSELECT pg_temp.surus_expect({what}, count(*), {rows}) FROM done;"
        )?;
    }
    Ok(())
}

/// Rows that refer to each other come in one statement: foreign keys are looked at when it ends.
fn together<W: Write>(plans: &[&TablePlan], out: &mut W) -> io::Result<()> {
    let mut parts = Vec::new();
    for plan in plans {
        for same in by_columns(&plan.set).values() {
            parts.push((&plan.layout, update(&plan.layout, same), same.len(), "set back"));
        }
    }
    for plan in plans.iter().filter(|plan| !plan.back.is_empty()) {
        parts.push((&plan.layout, insert(&plan.layout, &plan.back), plan.back.len(), "put back"));
    }
    let with = parts.iter().enumerate().map(|(at, (_, statement, ..))| format!("done_{at} AS (\n{statement}\n)"));
    let checks = parts.iter().enumerate().map(|(at, (layout, _, rows, what))| {
        let what = literal(&format!("{}, {what}", layout.table));
        format!("pg_temp.surus_expect({what}, (SELECT count(*) FROM done_{at}), {rows})")
    });
    let (with, checks) = (with.collect::<Vec<_>>().join(",\n"), checks.collect::<Vec<_>>().join(",\n  "));
    writeln!(out, "\nWITH {with}\nSELECT {checks};")
}

fn by_columns(set: &[SetBack]) -> BTreeMap<Vec<usize>, Vec<&SetBack>> {
    let mut groups: BTreeMap<Vec<usize>, Vec<&SetBack>> = BTreeMap::new();
    for one in set {
        groups.entry(one.columns.iter().map(|place| place.0).collect()).or_default().push(one);
    }
    groups
}

/// Rows are set back where they are as they were seen, or are back already by a cascade of this very file.
fn update(layout: &Layout, some: &[&SetBack]) -> String {
    let Some(first) = some.first() else { return String::new() };
    let columns: Vec<_> = first.columns.iter().map(|place| &layout.columns[place.0]).collect();
    let mut names: Vec<String> = (0..layout.key.len()).map(|at| format!("k{at}")).collect();
    names.extend((0..columns.len()).flat_map(|at| [format!("was{at}"), format!("is{at}")]));
    let row = |(number, set): (usize, &&SetBack)| {
        let mut values: Vec<String> = layout.key_values(&set.is.values).iter().map(value).collect();
        values.extend(
            set.columns.iter().flat_map(|place| [value(&set.was.values[place.0]), value(&set.is.values[place.0])]),
        );
        // The first row tells their type.
        let typed = values.into_iter().map(|value| if number == 0 { format!("{value}::text") } else { value });
        format!("    ({})", typed.collect::<Vec<_>>().join(", "))
    };
    let sets = columns.iter().enumerate().map(|(at, c)| format!("{} = v.was{at}::{}", ident(&c.name), c.type_name));
    let key = layout.key.iter().enumerate().map(|(at, key)| key_condition(layout, key.place.0, &format!("k{at}")));
    let guards = columns.iter().enumerate().map(|(at, column)| {
        let text = format!("t.{}::text", ident(&column.name));
        format!("({text} IS NOT DISTINCT FROM v.is{at} OR {text} IS NOT DISTINCT FROM v.was{at})")
    });
    format!(
        "  UPDATE {} t SET {}\n  FROM (VALUES\n{}\n  ) v ({})\n  WHERE {}\n  RETURNING 1",
        only(layout),
        sets.collect::<Vec<_>>().join(", "),
        some.iter().enumerate().map(row).collect::<Vec<_>>().join(",\n"),
        names.join(", "),
        key.chain(guards).collect::<Vec<_>>().join("\n    AND ")
    )
}

fn key_condition(layout: &Layout, at: usize, name: &str) -> String {
    let column = &layout.columns[at];
    if layout.key_is_enforced {
        format!("t.{} = v.{name}::{}", ident(&column.name), column.type_name)
    } else {
        format!("t.{}::text IS NOT DISTINCT FROM v.{name}", ident(&column.name))
    }
}

/// Where the table does not keep rows apart by the key, the statement does.
fn insert(layout: &Layout, rows: &[Row]) -> String {
    let names = layout.columns.iter().map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ");
    let over = if layout.columns.iter().any(|column| column.identity) { " OVERRIDING SYSTEM VALUE" } else { "" };
    let one = |row: &Row| format!("    ({})", row.values.iter().map(value).collect::<Vec<_>>().join(", "));
    let head = format!("  INSERT INTO {} ({names}){over}", layout.table);
    if layout.key_is_enforced {
        let values = rows.iter().map(one).collect::<Vec<_>>().join(",\n");
        return format!("{head} VALUES\n{values}\n  RETURNING 1");
    }
    let typed = |(number, row): (usize, &Row)| {
        let values = row.values.iter().map(value);
        let values = values.map(|value| if number == 0 { format!("{value}::text") } else { value });
        format!("    ({})", values.collect::<Vec<_>>().join(", "))
    };
    let values = rows.iter().enumerate().map(typed).collect::<Vec<_>>().join(",\n");
    let columns: Vec<String> = (0..layout.columns.len()).map(|at| format!("c{at}")).collect();
    let casts = columns.iter().zip(&layout.columns).map(|(name, column)| format!("v.{name}::{}", column.type_name));
    let key = layout.key.iter().map(|key| key_condition(layout, key.place.0, &columns[key.place.0]));
    format!(
        "{head}\n  SELECT {} FROM (VALUES\n{values}\n  ) v ({})\n  WHERE NOT EXISTS (SELECT FROM {} t WHERE {})\n  RETURNING 1",
        casts.collect::<Vec<_>>().join(", "),
        columns.join(", "),
        only(layout),
        key.collect::<Vec<_>>().join(" AND ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::{
        Counts,
        shape::{Column, Consequence, Reference, Shape, UniqueKey},
    };

    fn table(name: &str) -> TableName {
        TableName { schema: "public".into(), name: name.into() }
    }

    fn plan(name: &str) -> TablePlan {
        let column = |name: &str| Column {
            name: name.into(),
            type_name: "integer".into(),
            generated: false,
            identity: false,
            sequence: None,
        };
        let past = Shape {
            oid: "1".into(),
            table: table(name),
            partitioned: false,
            columns: vec![column("id"), column("x")],
            keys: vec![UniqueKey { primary: true, columns: vec!["id".into()] }],
            triggers: Vec::new(),
        };
        let layout = Layout::of(&past, Some(&past), None).unwrap();
        let values = vec![Some("1".to_owned()), Some("it's".to_owned())];
        let back = vec![Row { key: vec![Some("1".into())], values }];
        let left = vec![crate::repair::Left { row: "id = 7\nDROP TABLE t".into(), why: "changed".into() }];
        let counts = Counts::default();
        TablePlan { layout, triggers: Vec::new(), named: true, dropped: false, counts, back, set: Vec::new(), left }
    }

    fn reference((from, to): (&str, &str)) -> Reference {
        Reference {
            name: "f".into(),
            from: table(from),
            columns: vec!["x".into()],
            to: table(to),
            to_columns: vec!["id".into()],
            on_delete: Consequence::Refused,
            on_update: Consequence::Refused,
            definition: String::new(),
        }
    }

    #[test]
    fn parents_come_first_and_circles_in_one_statement() {
        // d refers to itself; a to b, b and c to each other, c to d.
        let references = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "d")];
        let tables = ["a", "b", "c", "d"].map(|name| (table(name), plan(name)));
        let now = references.map(reference).to_vec();
        let repair = Repair { tables: BTreeMap::from(tables), now, ..Repair::default() };
        let groups: Vec<Vec<&str>> =
            repair.groups().iter().map(|group| group.iter().map(|name| name.name.as_str()).collect()).collect();
        assert_eq!(groups, [vec!["d"], vec!["b", "c"], vec!["a"]]);
        let mut out = Vec::new();
        write(&repair, &Heading::default(), &mut out, &mut |_| Ok(()), &mut |_| Ok(())).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("('1', 'it''s')"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("DROP")), "a key stays in its comment: {text}");
    }
}
