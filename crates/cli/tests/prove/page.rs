//! `surus prove page`: planted damage is located, the lost rows are named, and the way back that is shown works.

use crate::room::{Room, step, text_of};
use serde_json::Value;
use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt,
    process::{Command, Stdio},
    time::Duration,
};
use surus_backup::block::{BLOCK, checksum};
use surus_pg::{account::Account, server::Mode};
use surus_testkit::require_major;

/// A damage: a file of a relation, the block in that file, and what becomes of the page.
struct Plant<'a> {
    path: String,
    block: u32,
    change: &'a dyn Fn(&mut [u8]),
}

fn flip(page: &mut [u8]) {
    page[BLOCK / 2] ^= 0xFF;
    page[BLOCK - 100] ^= 0xFF;
}

fn zero(page: &mut [u8]) {
    page.fill(0);
}

/// The path of a relation's file.
fn path(room: &Room, relation: &str) -> String {
    room.server.value(&format!("SELECT pg_relation_filepath('{relation}') AS v"))
}

/// Plants damage with the server stopped.
fn plant(room: &mut Room, plants: &[Plant<'_>]) {
    room.server.sql("CHECKPOINT");
    room.server.local_mut().stop(Mode::Fast).unwrap();
    for plant in plants {
        let file = OpenOptions::new().read(true).write(true).open(room.server.data_dir().join(&plant.path)).unwrap();
        let mut page = vec![0; BLOCK];
        let at = u64::from(plant.block) * BLOCK as u64;
        file.read_exact_at(&mut page, at).unwrap();
        (plant.change)(&mut page);
        file.write_all_at(&page, at).unwrap();
    }
    room.server.local_mut().start(Duration::from_secs(60)).unwrap();
}

/// What the command found, and its exit status.
fn page(room: &Room, arguments: &[&str]) -> (Option<i32>, Value) {
    let scratch = room.path("copies");
    let mut command = room.surus(&["prove", "page", "shop", "--format", "json", "--warm", "0s", "--scratch"]);
    let output = command.arg(scratch).args(arguments).output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(text_of(&output)));
    (output.status.code(), value)
}

/// The only damaged page that was found.
fn only(found: &(Option<i32>, Value)) -> &Value {
    let pages = found.1["pages"].as_array().unwrap_or_else(|| panic!("{found:?}"));
    assert!(found.0 == Some(1) && pages.len() == 1, "{:#}", found.1);
    &pages[0]
}

fn refused(room: &Room, arguments: &[&str], status: i32, words: &[&str]) {
    let (code, value) = page(room, arguments);
    let said = value.as_str().unwrap_or_else(|| panic!("{value:#}"));
    assert_eq!(code, Some(status), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
}

/// Runs commands as they were shown, in a shell, and fails if one does.
fn follow(room: &Room, commands: &[&str]) {
    let mut account = Account::unprivileged().unwrap().command("/bin/sh".as_ref(), room.dir.path());
    let bin = room.server.programs().bin_dir();
    let surus = std::path::Path::new(crate::room::SURUS).parent().unwrap();
    let path = format!("{}:{}:{}", surus.display(), bin.display(), std::env::var("PATH").unwrap_or_default());
    account.env("PATH", path).env("SURUS_PG_BIN", bin);
    if let Some(libraries) = room.server.programs().library_path() {
        account.env("LD_LIBRARY_PATH", libraries);
    }
    let script = format!("set -e\n{}\n", commands.join("\n"));
    let output = Command::output(account.arg("-c").arg(&script).stdin(Stdio::null())).unwrap();
    room.run(&["at", "--drop", "all", "--scratch", &room.path("copies").display().to_string()]);
    assert!(output.status.success(), "{script}\n{}", text_of(&output));
}

/// The commands of the way back that has this one.
fn way<'a>(found: &'a Value, with: &str) -> Vec<&'a str> {
    let all = found["way"].as_array().unwrap().iter().map(|way| {
        way["commands"].as_array().unwrap().iter().map(|command| command.as_str().unwrap()).collect::<Vec<_>>()
    });
    all.into_iter()
        .find(|commands| commands.iter().any(|command| command.contains(with)))
        .unwrap_or_else(|| panic!("no way back with {with}: {:#}", found["way"]))
}

const TABLES: &str = "\
CREATE TABLE long (id int PRIMARY KEY, text text); ALTER TABLE long ALTER text SET STORAGE EXTERNAL;
INSERT INTO long SELECT g, repeat(md5(g::text), 200) FROM generate_series(1, 60) g;
CREATE TABLE spans (id int, during int4range, EXCLUDE USING gist (during WITH &&));
INSERT INTO spans SELECT g, int4range(g * 10, g * 10 + 5) FROM generate_series(1, 2000) g;
CREATE MATERIALIZED VIEW seen AS SELECT * FROM t;
CREATE UNLOGGED TABLE light AS SELECT g AS id FROM generate_series(1, 1000) g;
CREATE TABLE other AS SELECT * FROM t; VACUUM t, other, long; CREATE EXTENSION amcheck";

fn seeded(major: u16) -> Room {
    let room = Room::new(major);
    for sql in TABLES.split(';') {
        room.server.sql(sql);
    }
    for text in ["invalid page in block", "page verification failed", "missing chunk", "connection to client lost"] {
        room.server.expect_log(text);
    }
    room
}

#[test]
fn a_page_of_a_table_is_located_by_every_name_and_its_rows_come_back() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let mut room = seeded(major);
        room.back_up();
        // After the backup: what WAL alone tells.
        room.server.sql("UPDATE t SET text = 'late' WHERE id BETWEEN 370 AND 380; CHECKPOINT");
        let ids = room.server.value(
            "SELECT string_agg(id::text, ' ' ORDER BY ctid) AS v FROM t WHERE ctid >= '(3,1)' AND ctid < '(4,0)'",
        );
        let ids: Vec<String> = ids.split(' ').map(str::to_owned).collect();
        let sum = "SELECT md5(string_agg(id || text, ' ' ORDER BY id)) AS v FROM t";
        let before = room.server.value(sum);
        room.switch_wal();
        let file = path(&room, "t");
        plant(&mut room, &[Plant { path: file.clone(), block: 3, change: &flip }]);

        // The whole cluster.
        let all = page(&room, &[]);
        let found = only(&all);
        assert_eq!((&found["database"], &found["what"]), (&"postgres".into(), &"table public.t".into()));
        assert_eq!(
            (&found["file"], &found["block"], &found["offset"]),
            (&file.as_str().into(), &3.into(), &24_576.into())
        );
        assert_eq!(found["wrong"][0]["kind"], "checksum");
        assert_eq!(found["rows"]["state"], "known", "{found:#}");
        assert_eq!(found["rows"]["version"]["version"], "same", "{found:#}");
        let named = found["rows"]["rows"].as_array().unwrap();
        let named: Vec<&str> = named.iter().map(|row| row[1][0].as_str().unwrap()).collect();
        assert_eq!(named, ids);
        assert_eq!(found["rows"]["key"], serde_json::json!(["id"]));

        // PostgreSQL's own words, the file, the relation.
        let error = room.server.try_query_in("postgres", "SELECT count(*) FROM t").unwrap_err().message;
        let by_line = page(&room, &["--log", &format!("2026-01-01 [7] ERROR:  {error}"), "--no-copy"]);
        let by_file = page(&room, &["--file", &file, "--block", "3", "--no-copy"]);
        let by_name = page(&room, &["--relation", "public.t", "--block", "3", "--no-copy"]);
        for found in [&by_line, &by_file, &by_name] {
            let found = only(found);
            assert_eq!((&found["what"], &found["block"]), (&"table public.t".into(), &3.into()));
            assert!(found["rows"]["why"].as_str().unwrap().contains("--no-copy"), "{found:#}");
        }
        // A sound page, and what is none.
        let sound = page(&room, &["--relation", "t", "--block", "2"]);
        assert!(sound.0 == Some(0) && sound.1["damaged"] == false && sound.1["looked"]["pages"] == 1, "{sound:?}");
        refused(&room, &["--relation", "t", "--block", "99999"], 2, &["SURUS-P050", "has "]);
        refused(&room, &["--relation", "nowhere"], 2, &["SURUS-P050", "no relation"]);
        refused(&room, &["--file", "base/5/PG_VERSION", "--block", "0"], 2, &["SURUS-P050", "no file of a relation"]);
        refused(&room, &["--file", &format!("{file}.1"), "--block", "3"], 2, &["SURUS-P050", "131072"]);
        refused(&room, &["--log", "page verification failed"], 2, &["SURUS-P050", "no file"]);

        // The way back in place, as it is shown.
        let mut commands = way(found, "surus diff").to_vec();
        let again = commands.pop().unwrap();
        follow(&room, &commands);
        assert_eq!(room.server.value(sum), before);
        follow(&room, &[&format!("{again} -q")]);
    }
}

/// Damages a page of each kind.
fn plant_all(room: &mut Room) {
    let of = |relation: &str| path(room, relation);
    let (index, gist) = (of("t_pkey"), of("spans_during_excl"));
    let (view, light, other) = (of("seen"), of("light"), of("other"));
    let (map, free) = (format!("{}_vm", of("t")), format!("{}_fsm", of("t")));
    let toast =
        room.server.value("SELECT pg_relation_filepath(reltoastrelid) AS v FROM pg_class WHERE relname = 'long'");
    let catalogue = of("pg_ts_config_map");
    let damage = |path: &str, block| Plant { path: path.to_owned(), block, change: &flip };
    plant(
        room,
        &[
            damage(&index, 2),
            damage(&gist, 1),
            damage(&view, 4),
            damage(&light, 1),
            damage(&map, 0),
            damage(&free, 2),
            damage(&toast, 5),
            damage(&catalogue, 1),
            Plant { path: other.clone(), block: 2, change: &zero },
        ],
    );
}

/// The rows that have a part of a value on the page are named, and come back.
fn toast_comes_back(room: &Room, found: &Value) {
    // Which rows have a part of a value on a page of a TOAST table.
    assert_eq!((&found["rows"]["refer"], &found["rows"]["table"]), (&true.into(), &"public.long".into()));
    let rows = found["rows"]["rows"].as_array().unwrap();
    for row in rows {
        let id = row[1][0].as_str().unwrap();
        let read = room.server.try_query_in("postgres", &format!("SELECT md5(text) FROM long WHERE id = {id}"));
        assert!(read.unwrap_err().message.contains("invalid page"), "{id}");
    }
    assert!(!rows.is_empty() && rows.len() < 10, "{found:#}");
    let named = rows.iter().map(|row| row[1][0].as_str().unwrap()).collect::<Vec<_>>().join(", ");
    room.server.sql(&format!("SELECT md5(text) FROM long WHERE id NOT IN ({named})"));
    let all = "SELECT count(*) || ' ' || bool_and(text = repeat(md5(id::text), 200)) AS v FROM long";
    let commands = way(found, "surus diff");
    follow(room, &commands[..commands.len() - 1]);
    assert_eq!(room.server.value(all), "60 true");
}

#[test]
fn each_kind_of_page_has_its_way_back() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let mut room = seeded(major);
        room.back_up();
        plant_all(&mut room);
        let (code, value) = page(&room, &[]);
        assert_eq!(code, Some(1), "{value:#}");
        let pages = value["pages"].as_array().unwrap();
        let of =
            |what: &str| pages.iter().find(|page| page["what"] == what).unwrap_or_else(|| panic!("{what}: {value:#}"));
        assert_eq!(pages.len(), 8, "{value:#}");
        assert!(value["looked"]["zero_pages"].as_u64().unwrap() >= 1, "{value:#}");
        assert!(!value["first"].as_array().unwrap().is_empty());

        let found = of("index public.t_pkey of table public.t");
        assert!(found["rows"]["state"] == "none", "{found:#}");
        follow(&room, &way(found, "REINDEX INDEX CONCURRENTLY public.t_pkey"));
        let found = of("index public.spans_during_excl of table public.spans");
        follow(&room, &way(found, "-c 'REINDEX INDEX public.spans_during_excl'"));
        let found = of("materialized view public.seen");
        follow(&room, &way(found, "REFRESH MATERIALIZED VIEW")[..1]);
        let found = of("visibility map of table public.t");
        follow(&room, &way(found, "pg_truncate_visibility_map")[..1]);
        let found = of("free space map of table public.t");
        follow(&room, &way(found, "VACUUM FULL")[..1]);
        let found = of("table public.light");
        assert!(found["rows"]["why"].as_str().unwrap().contains("in no backup"), "{found:#}");
        follow(&room, &way(found, "TRUNCATE"));

        // A system catalogue is never repaired in place.
        let found = of("system catalogue pg_catalog.pg_ts_config_map");
        let text = found["way"].to_string();
        assert!(text.contains("never repair it in place") && text.contains("surus restore --repo main"), "{text}");
        assert!(!text.contains("zero_damaged_pages") && !text.contains("surus diff"), "{text}");

        toast_comes_back(&room, of("TOAST table of public.long"));

        // A page of zeros is damage where the backup has rows.
        let zeros = page(&room, &["--relation", "other", "--block", "2"]);
        let found = only(&zeros);
        assert_eq!(
            (&found["wrong"][0]["kind"], &found["rows"]["state"]),
            (&"zero".into(), &"known".into()),
            "{found:#}"
        );
        let blind = page(&room, &["--relation", "other", "--block", "2", "--no-copy"]);
        assert!(blind.0 == Some(0) && blind.1["looked"]["unknown"].to_string().contains("all zeros"), "{blind:?}");

        // All but the catalogue is well again.
        let (code, value) = page(&room, &["--no-copy"]);
        let left: Vec<_> = value["pages"].as_array().unwrap().iter().map(|page| page["what"].clone()).collect();
        assert_eq!(
            (code, left),
            (Some(1), vec![Value::from("system catalogue pg_catalog.pg_ts_config_map")]),
            "{value:#}"
        );
    }
}

#[test]
fn without_checksums_headers_and_amcheck_tell_and_another_cluster_is_refused() {
    let mut room = Room::with(require_major(18).unwrap_or(15), false);
    room.server.sql("CREATE EXTENSION amcheck");
    room.back_up();
    let (base, dsn) = (room.path("base").display().to_string(), room.server.dsn("postgres"));
    room.server.local().run_client("pg_basebackup", &["-c", "fast", "-D", &base, "-d", &dsn]).unwrap();
    let file = path(&room, "t");
    let header = |page: &mut [u8]| page[13] = 0x7F;
    // The xmin of a row from the far future, without a hint that would spare anybody looking.
    let row = |page: &mut [u8]| {
        let at = usize::from(u16::from_le_bytes([page[24], page[25]]) & 0x7FFF);
        page[at..at + 4].copy_from_slice(&0x7FFF_0000u32.to_le_bytes());
        page[at + 21] &= 0xF0;
    };
    // Rows that changed after the copy's moment are counted on the page.
    let now = r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS v"#;
    let moment = room.server.value(now);
    room.server.sql("SELECT pg_current_xact_id()");
    room.server.sql("UPDATE t SET text = 'later' WHERE ctid IN ('(6,10)', '(6,11)', '(6,12)', '(6,13)', '(6,14)')");
    plant(&mut room, &[Plant { path: file.clone(), block: 6, change: &row }]);
    let inside = page(&room, &["--relation", "t", "--at", &moment]);
    let found = only(&inside);
    assert_eq!((&found["block"], &found["wrong"][0]["kind"]), (&6.into(), &"amcheck".into()), "{found:#}");
    assert_eq!(found["rows"]["state"], "known", "{found:#}");
    let version = &found["rows"]["version"];
    assert!(version["version"] == "later" && version["rows"].as_u64().unwrap() >= 5, "{found:#}");
    plant(&mut room, &[Plant { path: file, block: 2, change: &header }]);
    let (_, value) = page(&room, &["--no-copy", "--no-amcheck"]);
    assert_eq!((&value["checksums"], &value["pages"][0]["block"]), (&false.into(), &2.into()), "{value:#}");
    assert_eq!(value["pages"][0]["wrong"][0]["kind"], "header");
    // Another tool's backup tells the rows, too; the way back is not surus's then.
    let others = page(&room, &["--relation", "t", "--block", "2", "--dir", &base]);
    let found = only(&others);
    assert_eq!(
        (&found["rows"]["state"], &found["rows"]["rows"][0][1][0]),
        (&"known".into(), &"241".into()),
        "{found:#}"
    );
    let text = found["way"].to_string();
    assert!(text.contains("that tool's own restore command") && !text.contains("surus diff"), "{text}");
    let text = text_of(&room.run(&["prove", "page", "shop", "--relation", "t", "--block", "2", "--no-copy"]));
    assert!(text.contains("headers (the cluster has no checksums)") && text.contains("SURUS-P052"), "{text}");

    // A role that may read no file, on a machine that cannot see them either.
    room.server.sql("CREATE ROLE blind LOGIN");
    let dsn =
        room.server.dsn("postgres").replace("user=postgres", "user=blind").replace("user='postgres'", "user='blind'");
    assert!(dsn.contains("blind"), "{dsn}");
    let output = room.run(&["prove", "page", &dsn, "--relation", "t", "--no-copy"]);
    let said = text_of(&output);
    assert!(output.status.code() == Some(3) && said.contains("SURUS-P051") && said.contains("GRANT EXECUTE"), "{said}");
    room.server.sql(
        "GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean), pg_stat_file(text, boolean) TO blind",
    );
    let output = room.run(&["prove", "page", &dsn, "--relation", "public.t", "--no-copy", "--format", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["pages"][0]["block"], 2, "{value:#}");

    let other = Room::new(require_major(18).unwrap_or(15));
    other.back_up();
    let repo = other.path("repo").display().to_string();
    refused(&room, &["--relation", "t", "--block", "2", "--repo", &repo], 3, &["SURUS-P053"]);
}

#[test]
fn a_page_of_a_second_segment_and_an_intact_database() {
    let mut room = Room::new(require_major(18).unwrap_or(15));
    let intact = page(&room, &[]);
    assert!(intact.0 == Some(0) && intact.1["damaged"] == false, "{intact:?}");
    assert!(intact.1["looked"]["pages"].as_u64().unwrap() > 500, "{intact:?}");
    let text = text_of(&room.run(&["prove", "page", "shop", "--no-copy"]));
    assert!(text.contains("none is damaged as far as that shows"), "{text}");
    // A hole of a gigabyte takes no room, and its pages count as never used.
    let file = path(&room, "t");
    room.server.sql("CHECKPOINT");
    room.server.local_mut().stop(Mode::Fast).unwrap();
    let data = room.server.data_dir().to_owned();
    let open = |name: &str| OpenOptions::new().write(true).create(true).truncate(false).open(data.join(name)).unwrap();
    open(&file).set_len(1 << 30).unwrap();
    let mut page_of_it = vec![0u8; BLOCK];
    for (offset, value) in [(12, 28u16), (14, 8000), (16, 8192), (18, 8196)] {
        page_of_it[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }
    let sum = checksum(&page_of_it, 131_073) ^ 1;
    page_of_it[8..10].copy_from_slice(&sum.to_le_bytes());
    open(&format!("{file}.1")).write_all_at(&page_of_it, BLOCK as u64).unwrap();
    std::os::unix::fs::chown(data.join(format!("{file}.1")), owner(&data).0, owner(&data).1).unwrap();
    room.server.local_mut().start(Duration::from_secs(60)).unwrap();
    let found = page(&room, &["--relation", "t", "--block", "131073", "--no-copy", "--no-amcheck"]);
    let found = only(&found);
    assert_eq!((&found["segment"], &found["offset"]), (&1.into(), &8192.into()));
    assert_eq!(found["file"], format!("{file}.1"));
}

fn owner(path: &std::path::Path) -> (Option<u32>, Option<u32>) {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(path).unwrap();
    (Some(about.uid()), Some(about.gid()))
}

#[test]
fn a_drill_that_finds_damage_names_the_command() {
    let mut room = Room::new(require_major(15).unwrap_or(15));
    let file = path(&room, "t");
    plant(&mut room, &[Plant { path: file.clone(), block: 3, change: &flip }]);
    room.run(&["backup", "run", "--repo", "main", "shop", "--format", "json"]);
    let (_, value) = room.drill(&[]);
    let advice = |name: &str| step(&value, name)["advice"].as_str().unwrap_or_default().to_owned();
    assert!(advice("heap").contains("surus prove page shop -d postgres --relation public.t --block 3"), "{value:#}");
    let command = format!("surus prove page shop --file {file} --block 3");
    assert!(advice("checksums").contains(&command), "{value:#}");
    // The damage was there before the backup: the copy says so.
    let found = page(&room, &["--relation", "t", "--block", "3"]);
    let found = only(&found);
    let said = found["rows"].to_string();
    assert!(said.contains("damaged in the backup, too"), "{found:#}");
    assert!(!found["way"].to_string().contains("zero_damaged_pages"), "{found:#}");
}
