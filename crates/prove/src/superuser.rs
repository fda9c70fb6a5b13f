//! The name of the role that a cluster was made with, read from its files: who wants to connect to a copy must know one
//! that may do everything, and before the copy runs nobody can be asked.

use std::{fs, path::Path};
use surus_backup::block::BLOCK;

/// The OID of the bootstrap superuser. Source: PostgreSQL, `pg_authid.dat`.
const BOOTSTRAP: u32 = 10;
/// The OID of `pg_authid`.
const AUTHID: u32 = 1260;
/// Bytes of a `name`.
const NAME: usize = 64;
/// `HEAP_XMAX_INVALID`: nobody has deleted or replaced this version of the row.
const NOT_REPLACED: u16 = 0x0800;

/// The bootstrap superuser of the cluster in a data directory; none when the files do not tell.
///
/// Source: PostgreSQL's documentation, "Database Page Layout", and `relmapper.c`.
pub fn of_files(data: &Path) -> Option<String> {
    let map = fs::read(data.join("global/pg_filenode.map")).ok()?;
    let count = usize::try_from(u32_at(&map, 4)?).ok()?.min(64);
    let file = (0..count).find_map(|at| (u32_at(&map, 8 + at * 8)? == AUTHID).then(|| u32_at(&map, 12 + at * 8))?)?;
    let pages = fs::read(data.join(format!("global/{file}"))).ok()?;
    let versions: Vec<(bool, String)> = pages.chunks_exact(BLOCK).flat_map(names).collect();
    // The newest version stands behind the older ones.
    let current = versions.iter().rfind(|(current, _)| *current).or(versions.last());
    current.map(|(_, name)| name.clone())
}

/// The bootstrap superuser's versions on a page, and whether each was not replaced.
fn names(page: &[u8]) -> Vec<(bool, String)> {
    let lower = u16_at(page, 12).map_or(0, usize::from).min(BLOCK);
    let of = |at: usize| {
        let pointer = u32_at(page, at)?;
        let (offset, normal) = ((pointer & 0x7FFF) as usize, (pointer >> 15) & 3 == 1);
        let start = offset + usize::from(*page.get(offset + 22)?);
        let current = u16_at(page, offset + 20)? & NOT_REPLACED != 0;
        let name =
            page.get(start + 4..start + 4 + NAME).filter(|_| normal && u32_at(page, start) == Some(BOOTSTRAP))?;
        let end = name.iter().position(|byte| *byte == 0)?;
        Some((current, String::from_utf8(name[..end].to_vec()).ok()?))
    };
    (24..lower).step_by(4).filter_map(of).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_superuser_is_found_also_under_another_name() {
        surus_testkit::each_major(|major| {
            let server = surus_testkit::Server::builder().major(major).start();
            server.sql("CHECKPOINT");
            assert_eq!(of_files(server.data_dir()).as_deref(), Some("postgres"));
            server.sql("CREATE ROLE other SUPERUSER LOGIN");
            let programs = server.local();
            let rename = ["-X", "-c", "ALTER ROLE postgres RENAME TO \"The Boss\"", "-c", "CHECKPOINT", "-U", "other"];
            let host = format!("--host={}", programs.socket_dir().display());
            let port = format!("--port={}", programs.port());
            programs.run_client("psql", &[&rename[..], &[&host, &port, "postgres"]].concat()).unwrap();
            assert_eq!(of_files(server.data_dir()).as_deref(), Some("The Boss"));
            let back = ["-X", "-c", "ALTER ROLE \"The Boss\" RENAME TO postgres", "-U", "other"];
            programs.run_client("psql", &[&back[..], &[&host, &port, "postgres"]].concat()).unwrap();
        });
        assert_eq!(of_files(Path::new("/nonexistent")), None);
    }
}
