//! Sound backups are proven, in the oldest and the newest major; what the user's rules say counts.

use crate::room::{Room, step, text_of};
use serde_json::Value;
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use surus_testkit::require_major;

#[test]
fn a_sound_backup_is_proven_and_the_ledger_says_so() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let room = Room::new(major);
        room.back_up();
        room.server.sql("INSERT INTO t SELECT g, 'later' FROM generate_series(100001, 101000) g");
        room.switch_wal();
        let (code, value) = room.drill(&[]);
        assert_eq!(code, Some(0), "{value:#}");
        assert_eq!(value["outcome"], "passed");
        for name in ["restore", "recovery", "heap", "invariants", "rows", "rpo", "checksums", "clean-up"] {
            assert_eq!(step(&value, name)["state"], "passed", "{value:#}");
        }
        assert_eq!(value["report"]["counted"]["tables"]["postgres: public.t"], 21_000);
        let measured = &value["report"]["measured"];
        assert!(measured["rto_seconds"].as_f64().unwrap() > 0.0 && measured["pages"].as_u64().unwrap() > 500);
        assert_eq!(measured["pages_damaged"], 0);
        assert!(room.scratch_is_empty());
        let number = value["ledger"][0].as_i64().unwrap();
        let proof = room.json(&["proof", "show", &number.to_string()]);
        let proof = &proof["proof"];
        assert!(proof["kind"] == "restore" && proof["items"] == serde_json::json!([5]), "{proof:#}");
        let said = proof["log_excerpt"].as_str().unwrap();
        assert!(said.contains("redo done") && said.contains("selected new timeline ID: 2"), "{said}");
        let names: Vec<_> = proof["measured"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert!(names.contains(&"rto".into()) && names.contains(&"rpo".into()), "{names:?}");
        let verified = room.run(&["proof", "verify"]);
        assert!(verified.status.success(), "{}", text_of(&verified));
        // A moment by chance may lie before that of the first drill, whose rows then are no measure for it.
        for (target, compared) in [("latest", "none vanished since entry 1"), ("random", " 000 rows in 1 table")] {
            let text = room.run(&["prove", "restore", "shop", "--reserve", "1kB", "--target", target, "--seed", "7"]);
            let shown = text_of(&text);
            assert!(text.status.success() && shown.contains("PROVEN") && shown.contains("RTO"), "{shown}");
            assert!(shown.contains(compared), "{shown}");
        }
    }
}

#[test]
fn broken_rules_and_vanished_tables_fail_it() {
    let room = Room::new(require_major(15).unwrap_or(15));
    let rule =
        |sql: &str| room.configure(&format!("[[invariant]]\nname = 'ids'\ndatabase = 'postgres'\nsql = \"{sql}\"\n"));
    rule("SELECT id FROM t WHERE id < 1");
    room.server.sql("CREATE TABLE doomed AS SELECT 1 AS a");
    room.back_up();
    room.switch_wal();
    let (code, value) = room.drill(&[]);
    assert_eq!(code, Some(0), "{value:#}");
    assert_eq!(step(&value, "invariants")["result"], "1 holds");
    rule("SELECT id, text FROM t WHERE id > 19999");
    let (code, value) = room.drill(&[]);
    let found = step(&value, "invariants");
    assert!(code == Some(1) && found["state"] == "failed", "{value:#}");
    let evidence = found["evidence"][0].as_str().unwrap();
    assert!(evidence.contains("1 rows") && evidence.contains("20000"), "{evidence}");
    rule("SELECT nothing FROM t");
    let (code, value) = room.drill(&[]);
    assert!(code == Some(1) && step(&value, "invariants")["evidence"][0].as_str().unwrap().contains("nothing"));
    rule("SELECT id FROM t WHERE id < 1");
    room.server.sql("DROP TABLE doomed");
    room.switch_wal();
    let (code, value) = room.drill(&[]);
    let found = step(&value, "rows");
    assert!(
        code == Some(1) && found["evidence"][0].as_str().unwrap().contains("public.doomed is not there"),
        "{found:#}"
    );
    let list = room.json(&["proof", "list", "--kind", "restore"]);
    let outcomes: Vec<_> = list.as_array().unwrap().iter().map(|one| one["proof"]["outcome"].clone()).collect();
    assert_eq!(outcomes, ["passed", "failed", "failed", "failed"]);
    let (code, value) = room.drill(&[]);
    assert_eq!(code, Some(0), "what was told once is the new state: {value:#}");
}

#[test]
fn without_room_or_backup_nothing_is_begun() {
    let room = Room::new(require_major(15).unwrap_or(15));
    let none = room.run(&["prove", "restore", "--repo", "main"]);
    assert_eq!(none.status.code(), Some(3), "{}", text_of(&none));
    room.back_up();
    let scratch = room.path("copies");
    let refused = room.run(&["prove", "restore", "shop", "--reserve", "900TB", "--scratch", scratch.to_str().unwrap()]);
    let said = text_of(&refused);
    assert!(refused.status.code() == Some(3) && said.contains("SURUS-P002") && said.contains("stay free"), "{said}");
    assert!(!scratch.exists(), "nothing was written");
    // Where nobody says where copies go, they go beside surus's own files.
    let refused = text_of(&room.run(&["prove", "restore", "shop", "--reserve", "900TB"]));
    assert!(refused.contains(&room.path("state-copies").display().to_string()), "{refused}");
    let unknown = room.run(&["prove", "restore", "other"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", text_of(&unknown));
}

#[test]
fn it_is_held_back_while_others_work() {
    let room = Room::new(require_major(18).unwrap_or(15));
    room.back_up();
    let done = AtomicBool::new(false);
    let [held, free] = thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !done.load(Ordering::Relaxed) {
                number = black_box(number.wrapping_mul(31).wrapping_add(7));
            }
        });
        let held = room.drill(&["--rate", "2MB"]);
        room.configure("[prove]\nrate = 'none'\n");
        let free = room.drill(&[]);
        done.store(true, Ordering::Relaxed);
        [held, free]
    });
    let seconds = |value: &Value| value["report"]["measured"]["held_seconds"].as_f64().unwrap_or(0.0);
    let named = |value: &Value| value["report"]["limits"].as_str().unwrap().contains("/s while others");
    assert!(held.0 == Some(0) && seconds(&held.1) > 0.0 && named(&held.1), "{:#}", held.1);
    // How long it waits depends on how fast the machine is; how long all of it takes does not. One second is ahead.
    let bytes = held.1["report"]["measured"]["bytes"].as_f64().unwrap();
    let took = step(&held.1, "restore")["duration_ms"].as_f64().unwrap() / 1e3;
    assert!(took > 0.8 * (bytes / 2e6 - 1.0), "{bytes} bytes in {took} s");
    assert!(free.0 == Some(0) && seconds(&free.1) == 0.0 && !named(&free.1), "{:#}", free.1);
}
