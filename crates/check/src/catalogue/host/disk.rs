use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
    size::Bytes,
};
use surus_pg::{
    Rows,
    host::{self, Room, state},
};

pub static CHECK: Check = Check {
    id: "host.disk",
    title: "a filesystem that the server writes to is nearly full",
    inspects: "space and inodes of the filesystems of data_directory, pg_wal, every tablespace and the log directory",
    why: "Without room for WAL the server stops at once and cannot start again until there is some; without room for data every \
          write fails.",
    remedy: "Enlarge the filesystem or remove what is not the server's. Never delete files of pg_wal or base by hand: find what \
             holds WAL back (archiving, slots) instead.",
    source: "check_postgres disk_space; pgEdge pg-healthcheck; 80 and 90 percent. How soon it is full takes samples over time",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings, Need::Host],
    thresholds: &[Threshold::above("space", "%", 80.0, 90.0), Threshold::above("inodes", "%", 80.0, 90.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT spcname AS name, pg_tablespace_location(oid) AS location FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let data = scene.data_directory()?;
    let mut places: Vec<(String, PathBuf)> =
        vec![("data_directory".into(), data.clone()), ("pg_wal".into(), data.join("pg_wal"))];
    for row in rows.iter() {
        places.push((format!("tablespace {}", row.str("name")?), PathBuf::from(row.str("location")?)));
    }
    if scene.on("logging_collector")? {
        places.push(("log_directory".into(), data.join(&scene.setting("log_directory")?.value)));
    }
    let mut verdict = Verdict::ok();
    let mut filesystems: BTreeMap<u64, (String, Vec<String>, Room)> = BTreeMap::new();
    for (name, path) in places {
        match look_at(&path) {
            Ok((device, point, room)) => filesystems.entry(device).or_insert((point, Vec::new(), room)).1.push(name),
            Err(reason) => verdict = verdict.but_unknown(name, reason),
        }
    }
    for (point, holds, room) in filesystems.into_values() {
        verdict.findings.extend(full(scene, &point, &holds.join(", "), room));
    }
    Ok(verdict)
}

fn look_at(path: &Path) -> Result<(u64, String, Room), Reason> {
    let unseen = |why: String| {
        Reason::Host(format!(
            "{} cannot be looked at: {why}; run surus as root or as the server's account",
            path.display()
        ))
    };
    let mount = state::mount_of(path).map_err(|error| unseen(error.to_string()))?;
    let room = host::room(path).ok_or_else(|| unseen("the filesystem does not tell".into()))?;
    let point = if mount.point.is_empty() { path.display().to_string() } else { mount.point };
    Ok((mount.device, point, room))
}

fn full(scene: &Scene<'_>, point: &str, holds: &str, room: Room) -> Vec<Finding> {
    let space = scene.grade("space", room.used_percent()).map(|severity| {
        let used = room.used_percent();
        Finding::new(
            severity,
            point,
            format!("{point} is {used:.0} % full, {} left; it holds {holds}", Bytes(room.free_bytes)),
        )
        .detail("When it is full, writes fail, and a full pg_wal stops the server.")
        .measured("used", used, "%")
        .measured("free", room.free_bytes, "bytes")
        .measured("size", room.total_bytes, "bytes")
        .saw("holds", holds)
        .fix(Plan::advice(
            "enlarge the filesystem, or remove what is not the server's; du -xh on it shows what is large",
        ))
    });
    let inodes = scene.grade("inodes", room.used_inodes_percent()).map(|severity| {
        let used = room.used_inodes_percent();
        Finding::new(
            severity,
            format!("{point} inodes"),
            format!("{used:.0} % of the inodes of {point} are taken; it holds {holds}"),
        )
        .detail("Without an inode no file can be made, although bytes are free.")
        .measured("used", used, "%")
        .measured("free", room.free_inodes, "inodes")
        .saw("holds", holds)
        .fix(Plan::advice(
            "remove many small files that are not the server's, or make the filesystem anew with more inodes",
        ))
    });
    space.into_iter().chain(inodes).collect()
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_how_full_the_data_directory_is() {
        seeded(&CHECK, |on| {
            on.limit("inodes", 101.0);
            on.limit("space", 0.0);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].title.contains("data_directory, pg_wal"), "{}", found[0].title);
            on.limit("space", 100.5);
            assert_eq!(on.findings(), []);
        });
    }
}
