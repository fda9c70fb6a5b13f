//! Is the copy sound inside: every table (with its TOAST table, and the catalogs), every B-tree index?
//!
//! amcheck looks at them where it is there; a table that it cannot look at is read in full. All relations are looked
//! at, whatever is found, and all that are damaged are named.

use super::{
    Options,
    bench::{Amcheck, Bench, Database, Line, Relation},
    counted,
    report::Measured,
    step::{Found, short},
};
use surus_backup::pace::Pace;
use surus_core::monitor::Monitor;
use surus_pg::quote::{ident, shell as word};

/// How much of what amcheck says of one table is kept.
const LINES_EACH: usize = 3;

fn advice_heap(server: &str, look: &Look) -> String {
    format!(
        "Is it damaged on the original, which rows are lost, and the way back: surus prove page {server}{}. When it is \
         damaged there too, this backup holds the damage, and an older one may not: surus prove restore --backup LABEL. When \
         it is sound there, the backup or its storage is bad: surus backup verify, and take a new full one.",
        look.first
    )
}

fn advice_btree(server: &str, look: &Look) -> String {
    format!(
        "Is it damaged on the original, and the way back: surus prove page {server}{}. Nothing is lost in an index: REINDEX \
         INDEX CONCURRENTLY. Damage in an index often has a cause that tables suffer from, too: look at the disk, and at \
         collations after an upgrade of the system's library.",
        look.first
    )
}

/// What became of looking at one kind of relations.
#[derive(Default)]
struct Look {
    sound: u64,
    damaged: Vec<String>,
    evidence: Vec<String>,
    /// Why some could not be looked at.
    blind: Vec<String>,
    read_only: u64,
    /// The flags that name the first damage to `surus prove page`.
    first: String,
}

impl Look {
    fn damage(&mut self, database: &Database, relation: &Relation, lines: Vec<String>) {
        let noun = if relation.kind == 'i' { "index" } else { "table" };
        let name = format!("{}: {noun} {}", ident(&database.name), relation.name);
        if self.first.is_empty() {
            let block = lines.iter().find_map(|line| block_in(line));
            let block = block.map(|block| format!(" --block {block}")).unwrap_or_default();
            self.first = format!(" -d {} --relation {}{block}", word(&database.name), word(&relation.sql));
        }
        let more = lines.len().saturating_sub(LINES_EACH);
        for line in lines.iter().take(LINES_EACH) {
            self.evidence.push(format!("{name}: {}", short(line)));
        }
        if more > 0 {
            self.evidence.push(format!("{name}: and {more} more"));
        }
        self.damaged.push(name);
    }

    fn unreadable(&mut self, database: &Database, why: &str) {
        self.evidence.push(format!("{}: its catalog cannot be read: {}", ident(&database.name), short(why)));
        self.damaged.push(format!("{}: catalog", ident(&database.name)));
    }
}

/// The block that a message names first.
fn block_in(line: &str) -> Option<u32> {
    let rest = &line[line.find("block ")? + "block ".len()..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// Every table with its TOAST table, in every database. `server` is the original, as surus knows it.
pub fn heaps(bench: &Bench, server: &str, pace: &Pace<'_>, monitor: &dyn Monitor, measured: &mut Measured) -> Found {
    let mut look = Look::default();
    let wanted = |relation: &&Relation| matches!(relation.kind, 'r' | 't' | 'm');
    let total = each(bench).filter(|(_, relation)| wanted(relation)).count();
    monitor.begin("tables", Some(total as u64));
    for (number, database) in bench.databases.iter().enumerate() {
        let relations = match &database.relations {
            Ok(relations) => relations,
            Err(why) => {
                look.unreadable(database, why);
                continue;
            }
        };
        let mut line = bench.line(&database.name);
        for relation in relations.iter().filter(wanted).filter(|relation| number == 0 || !relation.shared) {
            heap(&mut line, database, relation, &mut look);
            pace.spend(relation.bytes());
            monitor.advance("tables", look.sound + look.damaged.len() as u64);
        }
        line.close();
        if let Err(why) = &database.amcheck {
            look.blind.push(format!("{}: {why}", ident(&database.name)));
        }
    }
    monitor.end("tables", "");
    measured.tables = Some(look.sound + look.damaged.len() as u64);
    measured.tables_damaged = Some(look.damaged.len() as u64);
    heaps_found(look, bench, server)
}

fn each(bench: &Bench) -> impl Iterator<Item = (&Database, &Relation)> {
    bench
        .databases
        .iter()
        .flat_map(|database| database.relations.iter().flatten().map(move |relation| (database, relation)))
}

fn heaps_found(look: Look, bench: &Bench, server: &str) -> Found {
    let all = counted(look.sound + look.damaged.len() as u64, "table", "tables");
    let databases = counted(bench.databases.len() as u64, "database", "databases");
    if !look.damaged.is_empty() {
        let text = format!("{} of {all} damaged: {}", look.damaged.len(), listed(&look.damaged));
        return Found::bad(text, advice_heap(server, &look)).with(look.evidence);
    }
    let mut notes = look.blind;
    if !bench.closed.is_empty() {
        notes.push(format!("not entered, for they let nobody in: {}", bench.closed.join(", ")));
    }
    if look.read_only > 0 {
        let how = format!("{} of them only by reading every row: amcheck did not look", look.read_only);
        notes.insert(0, how);
    }
    // template0 is as initdb made it; another database that lets nobody in is somebody's.
    let others: Vec<&str> = bench.closed.iter().map(String::as_str).filter(|name| *name != "template0").collect();
    if !others.is_empty() {
        let text = format!("{all} in {databases} are sound, and nobody could look into {}", others.join(", "));
        return Found::unknown(text).with(notes);
    }
    let how = if look.read_only > 0 { "could be read in full" } else { "are sound inside" };
    Found::good(format!("{all} in {databases} {how}")).with(notes)
}

fn listed(names: &[String]) -> String {
    const NAMED: usize = 12;
    let more = names.len().saturating_sub(NAMED);
    let text = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{text}; and {more} more") } else { text }
}

fn heap(line: &mut Line<'_>, database: &Database, relation: &Relation, look: &mut Look) {
    let amcheck = database.amcheck.as_ref().ok().filter(|amcheck| amcheck.has("verify_heapam"));
    let outcome = match amcheck.filter(|_| relation.method == "heap") {
        Some(amcheck) => verify(line, amcheck, relation),
        None => {
            look.read_only += 1;
            read_all(line, relation)
        }
    };
    match outcome {
        lines if lines.is_empty() => look.sound += 1,
        lines => look.damage(database, relation, lines),
    }
}

/// What amcheck says of a table; nothing when it is sound.
fn verify(line: &mut Line<'_>, amcheck: &Amcheck, relation: &Relation) -> Vec<String> {
    let sql = format!(
        "SELECT blkno, offnum, attnum, msg FROM {}.verify_heapam({}::oid::regclass, check_toast => true) LIMIT 200",
        amcheck.schema, relation.oid
    );
    let rows = match line.ask(&sql) {
        Ok(rows) => rows,
        Err(error) => return vec![said(&error)],
    };
    let told = |row: surus_pg::Row<'_>| {
        let block = row.opt_str("blkno").ok().flatten().map(|block| format!("block {block}")).unwrap_or_default();
        let item = row.opt_str("offnum").ok().flatten().map(|item| format!(", item {item}")).unwrap_or_default();
        format!("{block}{item}: {}", row.text("msg").unwrap_or_default())
    };
    rows.iter().map(told).collect()
}

/// Reads every value of every row, those in TOAST tables too. A TOAST table is read by its table.
fn read_all(line: &mut Line<'_>, relation: &Relation) -> Vec<String> {
    if relation.kind == 't' || relation.kind == 'S' {
        return Vec::new();
    }
    let sql = format!("COPY (SELECT * FROM ONLY {}) TO '/dev/null'", relation.name);
    match line.ask(&sql) {
        Ok(_) => Vec::new(),
        Err(error) => vec![said(&error)],
    }
}

/// The server's words, with what it adds.
pub(super) fn said(error: &surus_pg::AskError) -> String {
    let state = error.sqlstate.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
    let detail = error.detail.as_ref().map(|detail| format!("; {detail}")).unwrap_or_default();
    format!("{}{detail}{state}", error.message)
}

/// Every B-tree index, in every database, compared with its table.
pub fn indexes(
    bench: &Bench,
    server: &str,
    options: &Options<'_>,
    monitor: &dyn Monitor,
    measured: &mut Measured,
) -> Found {
    let mut look = Look::default();
    let mut others = 0u64;
    let mut invalid = Vec::new();
    let total = each(bench).filter(|(_, relation)| relation.kind == 'i').count();
    monitor.begin("indexes", Some(total as u64));
    for (number, database) in bench.databases.iter().enumerate() {
        let mut line = bench.line(&database.name);
        let indexes = database.relations.iter().flatten().filter(|relation| relation.kind == 'i');
        for index in indexes.filter(|index| number == 0 || !index.shared) {
            if !index.valid {
                invalid.push(format!(
                    "{}: index {} is invalid, on the original as well",
                    ident(&database.name),
                    index.name
                ));
                continue;
            }
            match database.amcheck.as_ref().map(|amcheck| index_check(amcheck, index, options.deep)) {
                Ok(Some(sql)) => match line.ask(&sql) {
                    Ok(_) => look.sound += 1,
                    Err(error) => look.damage(database, index, vec![said(&error)]),
                },
                Ok(None) => others += 1,
                Err(_) => {}
            }
            options.pace.spend(index.bytes());
            monitor.advance("indexes", look.sound + look.damaged.len() as u64 + others);
        }
        line.close();
        if let Err(why) = &database.amcheck {
            look.blind.push(format!("{}: {why}", ident(&database.name)));
        }
    }
    monitor.end("indexes", "");
    measured.indexes = Some(look.sound + look.damaged.len() as u64);
    measured.indexes_damaged = Some(look.damaged.len() as u64);
    indexes_found(look, server, others, invalid)
}

fn indexes_found(look: Look, server: &str, others: u64, invalid: Vec<String>) -> Found {
    let all = counted(look.sound + look.damaged.len() as u64, "index", "indexes");
    if !look.damaged.is_empty() {
        let text = format!("{} of {all} damaged: {}", look.damaged.len(), listed(&look.damaged));
        return Found::bad(text, advice_btree(server, &look)).with(look.evidence);
    }
    if !look.blind.is_empty() {
        let why = look.blind.first().cloned().unwrap_or_default();
        let why = why.split_once(": ").map_or(why.clone(), |(_, why)| why.to_owned());
        let seen = if look.sound > 0 { format!("; {all} of other databases are sound") } else { String::new() };
        return Found::unknown(format!("{why}: not every index was looked at{seen}")).with(look.blind);
    }
    let mut notes = invalid;
    if others > 0 {
        notes.push(format!(
            "{} of other kinds than B-tree, which nothing can look into",
            counted(others, "index", "indexes")
        ));
    }
    Found::good(format!("{all} agree with their tables")).with(notes)
}

/// The question that looks at an index; none for kinds that this amcheck does not know.
fn index_check(amcheck: &Amcheck, index: &Relation, deep: bool) -> Option<String> {
    let (schema, oid) = (&amcheck.schema, index.oid);
    match index.method.as_str() {
        "btree" if deep => Some(format!("SELECT {schema}.bt_index_parent_check({oid}::oid::regclass, true, true)")),
        "btree" => Some(format!("SELECT {schema}.bt_index_check({oid}::oid::regclass, true)")),
        "gin" if amcheck.has("gin_index_check") => {
            Some(format!("SELECT {schema}.gin_index_check({oid}::oid::regclass)"))
        }
        _ => None,
    }
}
