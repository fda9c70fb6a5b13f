//! Backups that others made, by their own real programs: proven, and refused when something is wrong with them.
//!
//! The short form plants one defect of each kind. `cargo test -p surus-prove --test engines -- --ignored` plants all.

mod barman;
mod basebackup;
mod dump;
mod pgbackrest;
mod scene;
mod tally;
mod wal_g;

use tally::Tally;

#[test]
fn one_defect_of_each_kind_is_refused_and_named() {
    let mut tally = Tally::new(false);
    pgbackrest::defects(&mut tally);
    barman::defects(&mut tally);
    basebackup::defects(&mut tally);
    dump::defects(&mut tally);
    wal_g::defects(&mut tally);
    tally.end();
}

#[test]
#[ignore = "the whole matrix takes more than ten minutes"]
fn every_defect_is_refused_and_named() {
    let mut tally = Tally::new(true);
    pgbackrest::defects(&mut tally);
    barman::defects(&mut tally);
    basebackup::defects(&mut tally);
    dump::defects(&mut tally);
    wal_g::defects(&mut tally);
    assert!(tally.refused >= 40 || !peers() || !tally.wrong.is_empty(), "{} defects", tally.refused);
    tally.end();
}

#[test]
#[ignore = "the whole matrix takes more than ten minutes"]
fn every_healthy_backup_is_accepted() {
    let mut tally = Tally::new(true);
    pgbackrest::healthy(&mut tally);
    barman::healthy(&mut tally);
    basebackup::healthy(&mut tally);
    dump::healthy(&mut tally);
    wal_g::healthy(&mut tally);
    assert!(tally.accepted >= 40 || !peers() || !tally.wrong.is_empty(), "{} healthy", tally.accepted);
    tally.end();
}

/// Are all tools here, and all cases wanted?
fn peers() -> bool {
    std::env::var_os("SURUS_DEFECTS").is_none()
        && ["pgbackrest", "barman"].iter().all(|name| surus_testkit::peer::program(name).is_some())
}
