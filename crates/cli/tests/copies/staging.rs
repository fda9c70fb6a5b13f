//! `surus clone`.

use crate::room::{Room, wait_until};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};
use surus_pg::{Environment, Manners, Rows, Target};
use surus_testkit::require_major;

const SECRETS: [&str; 5] =
    ["tiberius.longbottom", "Tiberius Longbottom", "4929-1234-5678", "moonlit-passphrase", "deepvalue"];

fn rules(room: &Room, text: &str) -> String {
    let path = room.path("masks.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

const RULES: &str = "
[[mask]]
database = 'shop'
table = 'people'
column = 'email'
how = 'email'
[[mask]]
database = 'shop'
table = 'people'
column = 'name'
how = 'name'
[[mask]]
database = 'shop'
table = 'people'
column = 'card'
how = 'digits'
[[mask]]
database = 'shop'
table = 'public.people'
column = 'phrase'
how = \"constant:'hidden'\"
[[mask]]
database = 'shop'
table = 'letters'
column = 'email'
how = 'email'
[[mask]]
database = 'shop'
table = 'letters'
column = 'body'
how = \"sql:'letter ' || id\"
";

fn room(major: u16) -> Room {
    let room = Room::new(major);
    let server = &room.server;
    server.create_database("shop");
    server.sql_in(
        "shop",
        "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, name text, card text, phrase varchar(30));
         INSERT INTO people SELECT g, 'tiberius.longbottom' || g || '@example.org', 'Tiberius Longbottom',
           '4929-1234-5678-' || (1000 + g), 'moonlit-passphrase' FROM generate_series(1, 500) g;
         CREATE INDEX ON people (name);
         CREATE TABLE letters (id int PRIMARY KEY, email text REFERENCES people (email), body text);
         ALTER TABLE letters ALTER body SET STORAGE EXTERNAL;
         INSERT INTO letters SELECT g, 'tiberius.longbottom' || g || '@example.org', repeat('deepvalue ', 900)
           FROM generate_series(1, 20) g;
         CREATE MATERIALIZED VIEW seen AS SELECT name, email FROM people;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$;
         CREATE TRIGGER refuse BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION refuse();
         CREATE PUBLICATION everything FOR ALL TABLES;
         ANALYZE",
    );
    server.sql_in(
        "shop",
        "CREATE SUBSCRIPTION s CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false)",
    );
    server.sql("SELECT pg_create_logical_replication_slot('left_over', 'pgoutput')");
    server.sql("CREATE ROLE tester LOGIN PASSWORD 'known to testers'");
    room.back_up();
    // What comes by WAL is masked, too.
    server
        .sql_in("shop", "ALTER TABLE people DISABLE TRIGGER refuse; UPDATE people SET phrase = 'moonlit-passphrase 2'");
    server.sql_in("shop", "ALTER TABLE people ENABLE TRIGGER refuse");
    server.expect_log("could not connect");
    server.sql_in("shop", "ALTER SUBSCRIPTION s ENABLE");
    room.moment();
    room.archive_all();
    server.sql_in("shop", "ALTER SUBSCRIPTION s DISABLE");
    room
}

fn ask(clone: &Value, sql: &str) -> Rows {
    let dsn =
        format!("host=127.0.0.1 port={} user=tester password='known to testers' dbname=shop", clone["clone"]["port"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target::parse_in(&dsn, &Environment::empty()).unwrap();
        let session = target.connect(&Manners::looking()).await.unwrap();
        session.run("SET search_path = public").await.unwrap();
        let rows = session.ask(sql).await.unwrap();
        session.close().await;
        rows
    })
}

/// Files below a directory that hold one of the secrets.
fn holding(dir: &Path, secrets: &[&str], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            holding(&path, secrets, found);
        } else if entry.file_type().unwrap().is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let has = |secret: &&&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            found.extend(secrets.iter().find(has).map(|secret| format!("{}: {secret}", path.display())));
        }
    }
}

#[test]
fn a_clone_is_masked_in_every_file_and_reaches_nobody() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let room = room(major);
        room.server.sql_in("shop", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO tester");
        room.moment();
        room.archive_all();
        let masks = rules(&room, RULES);
        let check = "shop:SELECT count(*) FROM people";
        let made = room.json(&["clone", "create", "staging", "--mask", &masks, "--check", check, "--format", "json"]);
        assert_eq!((&made["proof"]["outcome"], &made["proof"]["items"]), (&"passed".into(), &serde_json::json!([12])));
        let dir = made["directory"].as_str().unwrap().to_owned();
        let mut found = Vec::new();
        holding(Path::new(&dir), &SECRETS, &mut found);
        assert!(found.is_empty(), "on {major}: {found:?}");
        holding(room.server.data_dir(), &SECRETS, &mut found);
        assert!(!found.is_empty(), "the original has them, or nothing is shown by that");

        let rows = ask(
            &made,
            "SELECT count(*) AS n, count(DISTINCT email) AS emails, bool_and(card ~ '^\\d{4}-\\d{4}-\\d{4}-\\d{4}$') AS cards FROM people",
        );
        let row = rows.first().unwrap();
        assert_eq!((row.i64("n").unwrap(), row.i64("emails").unwrap(), row.bool("cards").unwrap()), (500, 500, true));
        let joined = ask(&made, "SELECT count(*) AS n FROM letters JOIN people USING (email)");
        assert_eq!(joined.first().unwrap().i64("n").unwrap(), 20, "joins hold");
        let quiet = ask(
            &made,
            "SELECT (SELECT count(*) FROM pg_replication_slots) AS slots, current_setting('archive_mode') AS archive, \
             (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%worker') AS workers, \
             (SELECT bool_or(subenabled) FROM pg_stat_subscription JOIN pg_subscription ON subid = oid) AS enabled, \
             current_setting('max_logical_replication_workers') AS most",
        );
        let row = quiet.first().unwrap();
        assert_eq!((row.i64("slots").unwrap(), row.i64("workers").unwrap()), (0, 0));
        assert_eq!((row.text("archive").unwrap(), row.text("most").unwrap()), ("off".into(), "0".into()));
        let notes = made["clone"]["notes"].to_string();
        assert!(notes.contains("subscription s is disabled"), "{notes}");
        // It is at rest: no worker comes later, either.
        std::thread::sleep(Duration::from_millis(500));
        let log = fs::read_to_string(Path::new(&dir).join("data/postgresql.log")).unwrap();
        assert!(!log.contains("logical replication apply worker"), "{log}");

        let taken = room.run(&["clone", "create", "staging"]);
        assert_eq!(taken.status.code(), Some(2), "{}", String::from_utf8_lossy(&taken.stderr));
        let scratch = room.scratch().display().to_string();
        let list = room.bare(&["clone", "list", "--scratch", &scratch]).output().unwrap();
        assert!(String::from_utf8_lossy(&list.stdout).contains("staging"), "{list:?}");
        let dropped = room.bare(&["clone", "drop", "staging", "--scratch", &scratch]).output().unwrap();
        assert!(dropped.status.success() && room.places().is_empty(), "{dropped:?}");
    }
}

#[test]
fn a_rule_that_fits_nothing_leaves_no_clone_and_an_expired_one_goes() {
    let room = room(require_major(18).unwrap_or(15));
    let masks = rules(&room, &RULES.replace("'phrase'", "'phrases'"));
    let refused = room.run(&["clone", "create", "staging", "--mask", &masks]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("SURUS-P041") && said.contains("people.phrases") && room.places().is_empty(), "{said}");
    // One side of a foreign key alone would leave rows that refer to nothing.
    let one_side =
        RULES.replace("'letters'\ncolumn = 'email'\nhow = 'email'", "'letters'\ncolumn = 'email'\nhow = 'name'");
    let masks = rules(&room, &one_side);
    let refused = room.run(&["clone", "create", "staging", "--mask", &masks]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    let named = said.contains("SURUS-P041") && said.contains("letters_email_fkey of public.letters");
    assert!(named && said.contains("differ") && room.places().is_empty(), "{said}");
    let failing = room.run(&["clone", "create", "staging", "--expires", "3s", "--check", "shop:SELECT * FROM nowhere"]);
    assert_eq!(failing.status.code(), Some(1), "{}", String::from_utf8_lossy(&failing.stderr));
    let pids = room.running();
    assert_eq!(pids.len(), 1, "it runs nevertheless");
    wait_until("its keeper removed it", || room.places().is_empty());
}

#[test]
fn a_clone_that_has_stopped_is_started_again_as_it_was() {
    let room = Room::new(require_major(18).unwrap_or(15));
    room.server.create_database("shop");
    room.server.sql("CREATE ROLE tester LOGIN PASSWORD 'known to testers'");
    room.back_up();
    room.moment();
    room.archive_all();
    let made = room.json(&["clone", "create", "staging", "--expires", "1h", "--format", "json"]);
    let scratch = room.scratch().display().to_string();
    let clone = |words: &[&str]| {
        let output = room.bare(&[&["clone"], words, &["--scratch", &scratch]].concat()).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), said(&output.stdout), said(&output.stderr))
    };
    let state = |wanted: &str| {
        let (status, listed, _) = clone(&["list"]);
        assert!(status == Some(0) && listed.contains(wanted), "{listed}");
        listed
    };
    state("running");
    // As when the machine is switched off.
    surus_pg::server::kill_leftover(&room.places()[0].join("data"));
    assert!(state("stopped").contains("surus clone start staging starts it"));
    let (status, started, said) = clone(&["start", "staging", "--format", "json"]);
    assert_eq!(status, Some(0), "{said}");
    let started: Value = serde_json::from_str(&started).unwrap();
    assert!(started["running"] == true && started["clone"]["port"] == made["clone"]["port"], "{started:#}");
    let asked = ask(&started, "SELECT current_setting('archive_mode') AS mode");
    assert_eq!(asked.first().unwrap().text("mode").unwrap(), "off");
    let (status, _, said) = clone(&["start", "staging"]);
    assert!(status == Some(3) && said.contains("SURUS-P043") && said.contains("it runs already"), "{said}");
    let (status, _, said) = clone(&["start", "other"]);
    assert!(status == Some(2) && said.contains("SURUS-P030"), "{said}");
    let (status, ..) = clone(&["drop", "staging"]);
    assert!(status == Some(0) && room.places().is_empty());
}
