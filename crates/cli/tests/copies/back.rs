//! `surus diff` and its repair.

use crate::room::Room;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use surus_testkit::require_major;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Rows of each table at the moment.
const ROWS: u64 = 30;

/// Tables that refer to each other and to themselves, with triggers that would falsify what is put back.
fn schema(dice: &mut Dice) -> (Vec<(String, bool)>, Vec<String>) {
    let mut sql = vec![
        "CREATE SCHEMA truth".to_owned(),
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         NEW.note := upper(NEW.note) || ' touched'; RETURN NEW; END $$"
            .into(),
    ];
    let count = 3 + dice.below(4);
    let mut tables: Vec<(String, bool)> = Vec::new();
    for at in 0..count {
        let name = if dice.below(3) == 0 { format!("\"Table {at}\"") } else { format!("t{at}") };
        let number = dice.below(2) == 0;
        let key = if !number {
            "id text COLLATE \"C\" PRIMARY KEY"
        } else {
            dice.of(&[
                "id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
                "id serial PRIMARY KEY",
                "id bigint PRIMARY KEY",
            ])
        };
        let id = |number: bool, g: &str| if number { g.to_owned() } else { format!("'k' || {g}") };
        let other = dice.of(&["jsonb", "bytea", "timestamptz", "numeric", "int[]", "json"]);
        let value = match other {
            "jsonb" | "json" => "json_build_object('g', g, 'q', E'it''s \\\\ \\n new')",
            "bytea" => "convert_to('b' || g, 'UTF8')",
            "timestamptz" => "'2026-01-01 00:00:00.123456+00'::timestamptz + g * interval '1 hour'",
            "numeric" => "g / 7.0",
            _ => "ARRAY[g, NULL, g * 2]",
        };
        let mut columns =
            format!("{key}, note text, other {other}, twice integer GENERATED ALWAYS AS (length(note) * 2) STORED");
        let mut values = String::new();
        let mut names = String::new();
        let parents: Vec<usize> = (0..tables.len()).filter(|_| dice.below(2) == 0).collect();
        for parent in parents {
            let (to, number) = &tables[parent];
            let kind = if *number { "bigint" } else { "text COLLATE \"C\"" };
            let act = dice.of(&["CASCADE", "SET NULL", "CASCADE"]);
            columns += &format!(", r{parent} {kind} REFERENCES {to} ON DELETE {act}");
            names += &format!(", r{parent}");
            values += &format!(", CASE WHEN g % 4 > 0 THEN {} END", id(*number, "(1 + g * 7 % 30)"));
        }
        if dice.below(2) == 0 {
            let kind = if number { "bigint" } else { "text COLLATE \"C\"" };
            columns += &format!(", up {kind} REFERENCES {name} ON DELETE {}", dice.of(&["CASCADE", "SET NULL"]));
            names += ", up";
            values += &format!(", CASE WHEN g > 1 THEN {} END", id(number, "(g / 2)"));
        }
        sql.push(format!("CREATE TABLE {name} ({columns})"));
        sql.push(format!(
            "INSERT INTO {name} (id, note, other{names}) OVERRIDING SYSTEM VALUE SELECT {}, 'row ' || g, ({value})::{other}{values} \
             FROM generate_series(1, {ROWS}) g",
            id(number, "g")
        ));
        tables.push((name, number));
    }
    sql.extend(circle(&tables));
    for (name, _) in &tables {
        sql.push(format!(
            "CREATE TRIGGER meddle BEFORE INSERT OR UPDATE OF note ON {name} FOR EACH ROW EXECUTE FUNCTION meddle()"
        ));
        sql.push(format!("CREATE TABLE truth.{name} AS SELECT t::text AS row FROM {name} t"));
    }
    (tables, sql)
}

/// The first table refers to the last.
fn circle(tables: &[(String, bool)]) -> [String; 2] {
    let (last, number) = tables.last().unwrap();
    let kind = if *number { "bigint" } else { "text COLLATE \"C\"" };
    let (first, first_number) = &tables[0];
    let add = format!("ALTER TABLE {first} ADD round {kind} REFERENCES {last} ON DELETE SET NULL");
    let of = if *first_number { "id" } else { "substr(id, 2)" };
    let to = if *number { format!("({of})::bigint") } else { format!("'k' || {of}") };
    [add, format!("UPDATE {first} SET round = {to}")]
}

/// Deletes and updates at random, and adds rows that must stay. The tables that were hit.
fn accident(room: &Room, database: &str, tables: &[(String, bool)], dice: &mut Dice) -> Vec<String> {
    let mut hit = Vec::new();
    for _ in 0..2 + dice.below(3) {
        let table = &tables[usize::try_from(dice.below(tables.len() as u64)).unwrap()].0;
        let some = format!("substring(id::text from '[0-9]+')::int % {} = 1", 3 + dice.below(5));
        let sql = match dice.below(3) {
            0 => format!("UPDATE {table} SET note = 'spoilt ' || id, other = NULL WHERE {some}"),
            _ => format!("DELETE FROM {table} WHERE {some}"),
        };
        room.server.sql_in(database, &sql);
        hit.push(table.clone());
    }
    for (table, number) in tables {
        let id = if *number { "1000" } else { "k1000" };
        let sql = format!("INSERT INTO {table} (id, note) OVERRIDING SYSTEM VALUE VALUES ('{id}', 'new')");
        room.server.sql_in(database, &sql);
    }
    hit.sort();
    hit.dedup();
    hit
}

fn count(room: &Room, database: &str, sql: &str) -> u64 {
    let rows = room.server.query_in(database, &format!("SELECT count(*) AS v FROM ({sql}) x"));
    rows.first().unwrap().i64("v").unwrap().try_into().unwrap()
}

fn psql(room: &Room, database: &str, file: &Path) -> Output {
    let programs = room.server.programs().with_client("psql").unwrap();
    let mut command = Command::new(programs.bin("psql").unwrap());
    if let Some(libraries) = programs.library_path() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command.args(["-X", "-q", "-f"]).arg(file).arg(room.server.dsn(database)).output().unwrap()
}

fn apply(room: &Room, database: &str, file: &Path) {
    let output = psql(room, database, file);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", fs::read_to_string(file).unwrap());
}

fn diff(room: &Room, database: &str, words: &[&str], status: i32) -> (String, String) {
    let dsn = room.server.dsn(database);
    let output = room.run(&[&["diff"], words, &[&dsn]].concat());
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(status), "{words:?}\n{out}\n{err}");
    (out, err)
}

fn schemas(major: u16, number: u64) {
    let room = Room::new(major);
    let mut made = Vec::new();
    for seed in 0..number {
        let (database, mut dice) = (format!("s{seed}"), Dice(seed * 7919 + 17));
        room.server.create_database(&database);
        let (tables, sql) = schema(&mut dice);
        sql.iter().for_each(|sql| room.server.sql_in(&database, sql));
        made.push((database, tables, dice));
    }
    room.back_up();
    let moment = room.moment();
    room.archive_all();
    for (database, tables, dice) in &mut made {
        let hit = accident(&room, database, tables, dice);
        // Everything is named, or only what was hit: then cascades have to be followed.
        let named: Vec<&str> = if dice.below(2) == 0 {
            tables.iter().map(|(name, _)| name.as_str()).collect()
        } else {
            hit.iter().map(String::as_str).collect()
        };
        let file = room.path(&format!("{database}.sql"));
        let path = file.display().to_string();
        let words = [named.as_slice(), &["--at", &moment, "--repair", &path]].concat();
        let (out, _) = diff(&room, database, &words, 0);
        assert!(out.contains("tried on a copy"), "{out}");
        apply(&room, database, &file);
        for (table, _) in tables.iter() {
            let lost = count(&room, database, &format!("TABLE truth.{table} EXCEPT SELECT t::text FROM {table} t"));
            let more = count(&room, database, &format!("SELECT t::text FROM {table} t EXCEPT TABLE truth.{table}"));
            assert_eq!((lost, more), (0, 1), "{database}.{table}\n{out}\n{}", fs::read_to_string(&file).unwrap());
        }
    }
}

#[test]
fn generated_schemas_get_back_every_row() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        schemas(major, 3);
    }
}

#[test]
#[ignore = "long: SURUS_SCHEMAS of them"]
fn many_generated_schemas_get_back_every_row() {
    let number = std::env::var("SURUS_SCHEMAS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    schemas(require_major(18).or_else(|| require_major(15)).unwrap(), number);
}

#[test]
fn what_changed_on_purpose_is_left_alone_or_said() {
    let room = Room::new(require_major(18).unwrap_or(15));
    room.server.create_database("shop");
    let sql = |sql: &str| room.server.sql_in("shop", sql);
    sql("CREATE TABLE t (id integer PRIMARY KEY, v text)");
    sql("INSERT INTO t SELECT g, 'old' FROM generate_series(1, 6) g");
    room.back_up();
    let moment = room.moment();
    sql("UPDATE t SET v = 'spoilt' WHERE id <= 3");
    sql("DELETE FROM t WHERE id = 4");
    let over = room.moment();
    sql("UPDATE t SET v = 'meant' WHERE id IN (2, 5)");
    sql("DELETE FROM t WHERE id = 6");
    room.archive_all();
    let (out, _) = diff(&room, "shop", &["t", "--at", &moment, "--format", "json"], 1);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["tables"][0]["counts"], serde_json::json!({"vanished": 2, "changed": 4, "new": 0, "same": 0}));
    let file = room.path("repair.sql");
    let path = file.display().to_string();
    // Without the end of the accident everything is overwritten, and every row is named.
    let (out, _) = diff(&room, "shop", &["t", "--at", &moment, "--repair", &path], 0);
    let text = fs::read_to_string(&file).unwrap();
    for id in [1, 2, 3, 5] {
        let said = format!("overwrites: id = {id}: v ");
        assert!(text.contains(&said) && out.contains(&said.replace("s:", "s")), "{out}\n{text}");
    }
    let (out, _) = diff(&room, "shop", &["t", "--at", &moment, "--until", &over, "--repair", &path, "--force"], 0);
    assert!(out.contains("id = 2: it changed again") && out.contains("id = 6: it was deleted after"), "{out}");
    // Whoever changes a row after the file was written is not overwritten: nothing is done at all.
    sql("UPDATE t SET v = 'later' WHERE id = 1");
    room.server.expect_log("nothing was changed");
    let output = psql(&room, "shop", &file);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("nothing was changed"),
        "{output:?}"
    );
    sql("UPDATE t SET v = 'spoilt' WHERE id = 1");
    apply(&room, "shop", &file);
    let rows = room.server.query_in("shop", "SELECT string_agg(id || v, ' ' ORDER BY id) AS v FROM t");
    assert_eq!(rows.first().unwrap().text("v").unwrap(), "1old 2meant 3old 4old 5meant");
}

#[test]
fn a_dropped_table_comes_back_with_everything_that_hung_on_it() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let room = Room::new(major);
        room.server.create_database("shop");
        let sql = |sql: &str| room.server.sql_in("shop", sql);
        sql("CREATE TABLE customers (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL)");
        sql("INSERT INTO customers (name) SELECT 'c' || g FROM generate_series(1, 1000) g");
        sql("CREATE INDEX by_name ON customers (name)");
        sql("CREATE TABLE orders (id integer PRIMARY KEY, customer integer REFERENCES customers)");
        sql("INSERT INTO orders SELECT g, g FROM generate_series(1, 100) g");
        room.back_up();
        let moment = room.moment();
        sql("DROP TABLE customers CASCADE");
        room.archive_all();
        let file = room.path("repair.sql");
        let (out, _) = diff(&room, "shop", &["customers", "--at", &moment, "--repair", &file.display().to_string()], 0);
        assert!(out.contains("the table was dropped"), "{out}");
        apply(&room, "shop", &file);
        assert_eq!(count(&room, "shop", "SELECT FROM customers WHERE name LIKE 'c%'"), 1000);
        assert_eq!(count(&room, "shop", "SELECT FROM pg_indexes WHERE indexname = 'by_name'"), 1);
        assert_eq!(
            count(&room, "shop", "SELECT FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype = 'f'"),
            1
        );
        sql("INSERT INTO customers (name) VALUES ('new')");
        assert_eq!(count(&room, "shop", "SELECT FROM customers WHERE id = 1001"), 1, "its sequence goes on");
    }
}

#[test]
fn a_condition_shows_rows_that_left_it_as_changed() {
    let room = Room::new(require_major(18).unwrap_or(15));
    room.server.create_database("shop");
    let sql = |sql: &str| room.server.sql_in("shop", sql);
    sql("CREATE TABLE t (name text COLLATE \"C\", v integer)");
    sql("INSERT INTO t SELECT chr(64 + g) || 'é', g FROM generate_series(1, 9) g");
    room.back_up();
    let moment = room.moment();
    sql("UPDATE t SET v = 100 WHERE v = 2");
    sql("DELETE FROM t WHERE v = 3");
    sql("INSERT INTO t VALUES ('new', 4)");
    room.archive_all();
    let words = ["t", "--at", &moment, "--key", "name", "--where", "v < 5", "--format", "json", "--limit", "1"];
    let (out, _) = diff(&room, "shop", &words, 1);
    let value: Value = serde_json::from_str(&out).unwrap();
    let table = &value["tables"][0];
    assert_eq!(table["counts"], serde_json::json!({"vanished": 1, "changed": 1, "new": 1, "same": 2}), "{value}");
    assert_eq!(table["rows"].as_array().unwrap().len(), 1);
    diff(&room, "shop", &["t", "--at", &moment], 2);
    diff(&room, "shop", &["nothing", "--at", &moment], 2);
}
