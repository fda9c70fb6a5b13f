use crate::segment::{Archive, SIZE, SYSTEM, bytes, numbered};
use std::{fs, thread};
use surus_backup::{
    repo::codec::Codec,
    wal::{
        fetch,
        push::{Archiver, Pushed, push, push_file},
    },
};
use surus_core::code;

const CODEC: Codec = Codec::Zstd(1);

#[test]
fn what_is_not_what_its_name_says_is_refused() {
    let archive = Archive::new();
    let name = numbered(5).to_string();
    let good = bytes(numbered(5), SYSTEM, 0);
    let mut later = good.clone();
    later[4] = 2;
    let cases: [(&str, &str, Vec<u8>); 8] = [
        ("recycled", &name, bytes(numbered(4), SYSTEM, 0)),
        ("foreign", &name, bytes(numbered(5), 42, 0)),
        ("short", &name, good[..good.len() - 8192].to_vec()),
        ("long", &name, [&good[..], &[0; 8192]].concat()),
        ("never written", &name, vec![0; SIZE as usize]),
        ("empty", &name, Vec::new()),
        ("later timeline", &name, later),
        ("half a name", "000000010000000000FFF005", good.clone()),
    ];
    for (what, name, content) in cases {
        let error = push(&archive.repo, name, &content, Some(SYSTEM), CODEC).unwrap_err();
        assert_eq!(error.code(), code::WAL_REFUSED, "{what}: {error}");
        assert!(error.to_string().contains(name), "{what}: {error}");
    }
    assert_eq!(push(&archive.repo, "RECOVERYXLOG", &good, None, CODEC).unwrap_err().code(), code::WAL_NAME);
    assert_eq!(archive.count(), 0);
    assert_eq!(push(&archive.repo, &name, &good, Some(SYSTEM), CODEC).unwrap(), Pushed::New);
}

#[test]
fn the_same_is_acknowledged_again_and_another_one_never_replaces_it() {
    let archive = Archive::new();
    let name = numbered(7).to_string();
    let (first, second) = (bytes(numbered(7), SYSTEM, 1), bytes(numbered(7), SYSTEM, 2));
    for (codec, expected) in [(CODEC, Pushed::New), (CODEC, Pushed::Same), (Codec::Lz4, Pushed::Same)] {
        assert_eq!(push(&archive.repo, &name, &first, None, codec).unwrap(), expected);
    }
    let error = push(&archive.repo, &name, &second, None, CODEC).unwrap_err();
    assert_eq!(error.code(), code::WAL_CONFLICT);
    assert_eq!(fetch::look(&archive.cluster(), &name).unwrap().unwrap(), first);
    // The part of a segment that a timeline ended with has a name of its own.
    let partial = format!("{name}.partial");
    assert_eq!(push(&archive.repo, &partial, &second, None, CODEC).unwrap(), Pushed::New);
    assert_eq!(fetch::look(&archive.cluster(), &partial).unwrap().unwrap(), second);
    assert_eq!(fetch::look(&archive.cluster(), &name).unwrap().unwrap(), first);
}

#[test]
fn two_promotions_cannot_share_a_timeline() {
    let archive = Archive::new();
    archive.cluster().register(SIZE, None).unwrap();
    let push = |name: &str, text: &str| push(&archive.repo, name, text.as_bytes(), Some(SYSTEM), CODEC);
    assert_eq!(push("00000002.history", "1\t0/3000060\tno recovery target specified\n").unwrap(), Pushed::New);
    assert_eq!(push("00000002.history", "1\t0/3000060\tno recovery target specified\n").unwrap(), Pushed::Same);
    let error = push("00000002.history", "1\t0/3000088\tno recovery target specified\n").unwrap_err();
    assert_eq!(error.code(), code::WAL_CONFLICT);
    for text in ["", "what is this", "2\t0/3000060\titself\n"] {
        assert_eq!(push("00000002.history", text).unwrap_err().code(), code::WAL_REFUSED, "{text:?}");
    }
    let backup = "000000010000000000000003.00000028.backup";
    let text = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n";
    assert_eq!(push(backup, text).unwrap(), Pushed::New);
    assert_eq!(push(&backup.replace("0003.", "0004."), text).unwrap_err().code(), code::WAL_REFUSED);
}

#[test]
fn of_many_who_push_one_name_one_stores_it() {
    let archive = Archive::new();
    for (number, seeds) in [(1, [3; 8]), (2, [0, 1, 2, 3, 4, 5, 6, 7])] {
        let name = numbered(number).to_string();
        let push = |seed: u8| push(&archive.repo, &name, &bytes(numbered(number), SYSTEM, seed), None, CODEC);
        let results: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = seeds.iter().map(|seed| scope.spawn(|| push(*seed))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let stored = results.iter().position(|result| matches!(result, Ok(Pushed::New))).unwrap();
        for (at, result) in results.iter().enumerate().filter(|(at, _)| *at != stored) {
            match result {
                Ok(pushed) => assert!(*pushed == Pushed::Same && seeds[at] == seeds[stored]),
                Err(error) => assert!(error.code() == code::WAL_CONFLICT && seeds[at] != seeds[stored], "{error}"),
            }
        }
        let there = fetch::look(&archive.cluster(), &name).unwrap().unwrap();
        assert!(there == bytes(numbered(number), SYSTEM, seeds[stored]));
    }
}

#[test]
fn several_threads_pack_what_one_does() {
    let archive = Archive::new();
    let segment = surus_backup::wal::name::Segment { size: 16 << 20, ..numbered(9) };
    let path = archive.folder("pg_wal").join(segment.to_string());
    let content = bytes(segment, SYSTEM, 5);
    fs::write(&path, &content).unwrap();
    let archiver = Archiver::new(archive.repo.clone(), None, CODEC);
    assert_eq!(archiver.push_file(&path, 4).unwrap(), Pushed::New);
    assert_eq!(push_file(&archive.repo, &path, None, CODEC).unwrap(), Pushed::Same);
    assert!(fetch::look(&archive.cluster(), &segment.to_string()).unwrap().unwrap() == content);
}

#[test]
fn a_repository_that_went_away_is_not_made_anew() {
    let archive = Archive::new();
    let archiver = Archiver::new(archive.repo.clone(), None, CODEC);
    let path = archive.folder("pg_wal").join(numbered(1).to_string());
    fs::write(&path, bytes(numbered(1), SYSTEM, 0)).unwrap();
    archiver.push_file(&path, 1).unwrap();
    let (folder, away) = (archive.dir.path().join("repo"), archive.dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    fs::create_dir(&folder).unwrap();
    let next = path.with_file_name(numbered(2).to_string());
    fs::write(&next, bytes(numbered(2), SYSTEM, 0)).unwrap();
    assert!(archiver.push_file(&next, 1).is_err());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}
