//! What a copy cannot do to others.

use crate::past::room;
use std::{fs, path::Path};
use surus_testkit::require_major;

/// Every file below a directory, with its content.
fn content(dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => content(&entry.path(), into),
            false => into.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap())),
        }
    }
    into.sort();
}

#[test]
fn a_tablespace_that_was_made_since_the_backup_is_not_written_into() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let (room, before) = room(major);
        // A server that replays looks half a megabyte ahead.
        room.server.sql("SELECT pg_logical_emit_message(false, '', repeat('-', 2000000))");
        room.archive_all();
        let space = room.path("space");
        fs::create_dir(&space).unwrap();
        surus_pg::account::Account::unprivileged().unwrap().own(&space).unwrap();
        room.server.sql(&format!("CREATE TABLESPACE away LOCATION '{}'", space.display()));
        room.server.sql_in("shop", "CREATE TABLE far TABLESPACE away AS SELECT generate_series(1, 1000) AS id");
        let moment = room.moment();
        room.server.sql_in("shop", "TRUNCATE far");
        room.archive_all();
        room.server.sql("CHECKPOINT");
        let (mut then, mut now) = (Vec::new(), Vec::new());
        content(&space, &mut then);
        let refused = room.run(&["at", &moment, "-d", "shop", "-c", "SELECT count(*) FROM far"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("a copy that replays this would write there"), "{said}");
        content(&space, &mut now);
        assert!(!then.is_empty() && now == then, "the original's tablespace is as it was");
        assert!(room.running().is_empty());
        let text = room.text(&["at", &before, "-d", "shop", "-c", "SELECT count(*) FROM t"]);
        assert!(text.contains("     4"), "before it was made nothing is in the way: {text}");
        // A backup that knows the tablespace has it in a place of the copy's own.
        room.back_up();
        let moment = room.moment();
        room.archive_all();
        let text = room.text(&["at", &moment, "-d", "shop", "-c", "SELECT count(*) FROM far"]);
        assert!(text.contains("     0"), "{text}");
    }
}

#[test]
fn a_copy_reaches_no_foreign_server() {
    let (room, _) = room(require_major(15).unwrap_or(15));
    let server = &room.server;
    let (socket, port) = (
        server.value("SELECT current_setting('unix_socket_directories') AS v"),
        server.value("SELECT current_setting('port') AS v"),
    );
    server.sql_in(
        "shop",
        &format!(
            "CREATE EXTENSION postgres_fdw;
             CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{socket}', port '{port}', dbname 'shop');
             CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS (user 'postgres');
             CREATE FOREIGN TABLE seen (id int, text text) SERVER there OPTIONS (table_name 't');
             INSERT INTO seen VALUES (9, 'written there')"
        ),
    );
    let moment = room.moment();
    room.archive_all();
    let asked = room.run(&["at", &moment, "-d", "shop", "-c", "SELECT * FROM seen"]);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(!asked.status.success() && said.contains("user mapping not found"), "{said}");
    let text = room.text(&["at", &moment, "-d", "shop", "-c", "SELECT count(*) FROM t"]);
    assert!(text.contains("     1"), "{text}");
}
