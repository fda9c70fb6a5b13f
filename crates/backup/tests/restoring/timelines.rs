//! A cluster whose timeline began while nobody archived: its history comes into the archive with the backup.

use crate::restoring::room::{Room, restored_rows};
use std::{fs, os::unix::fs::PermissionsExt};
use surus_backup::{
    manifest::{BackupKind, Method},
    restore::target::RecoveryTarget,
    take::TakeOptions,
    wal::fetch,
};
use surus_core::code;

const HISTORY: &str = "00000002.history";

/// Puts everything of the repository where the restored servers fetch from.
fn export(room: &Room) {
    let cluster = room.cluster();
    for entry in room.repo.place().list(&cluster.names.wal_folder(None)).unwrap() {
        let name = entry.name.rsplit('/').next().unwrap();
        let to = room.archive().join(name);
        fs::write(&to, fetch::look(&cluster, name).unwrap().unwrap()).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

fn forget_history(room: &Room) {
    room.repo.place().delete(&[room.cluster().names.wal(HISTORY)]).unwrap();
    fs::remove_file(room.archive().join(HISTORY)).ok();
}

fn has_history(room: &Room) -> bool {
    room.repo.place().read(&room.cluster().names.wal(HISTORY)).unwrap().is_some()
}

#[test]
fn a_backup_of_a_timeline_that_began_without_archiving_is_restored() {
    let mut room = Room::new(15);
    room.back_up();
    room.commit(3);
    room.archive_all();
    // As `surus restore` does it: archiving is off, so that the server brings no history into the archive.
    let options = room.options("second", RecoveryTarget::default());
    room.restore(&options);
    let (server, arrival) = room.start(&options);
    assert_eq!(arrival.timeline, Some(2));
    room.current = Some(server);
    assert!(!has_history(&room));
    let rows = room.commit(2);
    for method in [Method::Local, Method::Stream] {
        let full = TakeOptions { kind: Some(BackupKind::Full), method: Some(method), ..TakeOptions::default() };
        let taken = room.back_up_with(&full);
        assert_eq!(taken.about.timeline, 2);
        assert!(has_history(&room), "{method:?}");
        export(&room);
        let again = room.options("third", RecoveryTarget::default());
        assert_eq!(room.rows_with(&again), rows, "{method:?}");
        forget_history(&room);
    }
    // Backups that were taken before anybody looked after the history come back, too.
    let again = room.options("fourth", RecoveryTarget::default());
    room.restore(&again);
    let (server, arrival) = room.start(&again);
    assert_eq!((arrival.timeline, restored_rows(&server)), (Some(3), rows));
    drop(server);
    // A server that has lost its history cannot be backed up as if nothing were.
    fs::remove_file(options.to.join("pg_wal").join(HISTORY)).unwrap();
    let full = TakeOptions { kind: Some(BackupKind::Full), ..TakeOptions::default() };
    assert_eq!(room.try_back_up_with(&full).unwrap_err().code(), code::BACKUP_NO_WAL);
}
