//! Damage that was in the data directory before the backup is found in the copy and named.

use crate::room::{Room, step};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
};
use surus_backup::block::{BLOCK, checksum};
use surus_pg::server::Mode;
use surus_testkit::require_major;

/// Changes a page of a relation's file with the server stopped; with its checksum made right again, or not.
fn plant(room: &mut Room, relation: &str, block: u32, heal: bool, change: impl Fn(&mut [u8])) {
    room.server.sql("CHECKPOINT");
    let path = room.server.value(&format!("SELECT pg_relation_filepath('{relation}') AS v"));
    let path = room.server.data_dir().join(path);
    room.server.local_mut().stop(Mode::Fast).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut page = vec![0; BLOCK];
    let at = u64::from(block) * BLOCK as u64;
    file.read_exact_at(&mut page, at).unwrap();
    change(&mut page);
    if heal {
        let sum = checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
    }
    file.write_all_at(&page, at).unwrap();
    room.server.local_mut().start(std::time::Duration::from_secs(60)).unwrap();
    assert!(fs::metadata(&path).is_ok());
}

fn u16_at(page: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([page[at], page[at + 1]]))
}

/// Where the first tuple of a page begins.
fn first_tuple(page: &[u8]) -> usize {
    u16_at(page, 24) & 0x7FFF
}

#[test]
fn a_flipped_byte_of_a_table_is_named_by_block() {
    let mut room = Room::new(require_major(15).unwrap_or(15));
    plant(&mut room, "t", 3, false, |page| page[8000] ^= 0xFF);
    // The backup says it, too, and is taken all the same.
    room.run(&["backup", "run", "--repo", "main", "shop", "--format", "json"]);
    let (code, value) = room.drill(&[]);
    assert_eq!(code, Some(1), "{value:#}");
    let heap = step(&value, "heap");
    let said = heap["evidence"].to_string();
    assert!(
        heap["state"] == "failed" && said.contains("postgres: table public.t") && said.contains("block 3"),
        "{said}"
    );
    let sums = step(&value, "checksums");
    let said = sums["evidence"].to_string();
    assert!(sums["state"] == "failed" && said.contains("table public.t, block 3"), "{said}");
    assert_eq!(value["report"]["measured"]["pages_damaged"], 1);
    assert!(heap["advice"].is_string() && room.scratch_is_empty());
}

#[test]
fn damage_with_right_checksums_is_found_in_tables_and_indexes() {
    let mut room = Room::with(require_major(18).unwrap_or(15), true);
    room.server.sql("CREATE TABLE u AS SELECT * FROM t; CREATE INDEX u_text ON u (text)");
    // The xmin of a row from the far future.
    plant(&mut room, "t", 5, true, |page| {
        let at = first_tuple(page);
        page[at..at + 4].copy_from_slice(&0x7FFF_0000u32.to_le_bytes());
        // No hint that would spare anybody looking.
        let mask = at + 20;
        page[mask + 1] &= 0xF0;
    });
    // An entry of an index that points to another row.
    plant(&mut room, "u_text", 4, true, |page| {
        let at = (u16_at(page, 28)) & 0x7FFF;
        page[at + 10] ^= 0x15;
        page[at + 11] ^= 0x15;
    });
    room.back_up();
    let (code, value) = room.drill(&[]);
    assert_eq!(code, Some(1), "{value:#}");
    let heap = step(&value, "heap");
    let said = heap["evidence"].to_string();
    assert!(heap["state"] == "failed" && said.contains("public.t: block 5"), "{heap:#}");
    let btree = step(&value, "btree");
    let said = btree["evidence"].to_string();
    assert!(btree["state"] == "failed" && said.contains("index public.u_text"), "{btree:#}");
    assert_eq!(step(&value, "checksums")["state"], "passed");
}

#[test]
fn without_checksums_headers_are_looked_at_and_it_is_said() {
    let mut room = Room::with(require_major(15).unwrap_or(15), false);
    plant(&mut room, "t", 2, false, |page| page[13] = 0x7F);
    room.run(&["backup", "run", "--repo", "main", "shop", "--format", "json"]);
    let (code, value) = room.drill(&[]);
    let sums = step(&value, "checksums");
    assert!(code == Some(1) && sums["evidence"].to_string().contains("table public.t, block 2"), "{sums:#}");
    assert!(sums["result"].as_str().unwrap().contains("headers"), "{sums:#}");
}
