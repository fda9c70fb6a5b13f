//! Which tablespaces are of the backup: those that the server knew when it began. One that was made meanwhile comes
//! from WAL; a part of it in the backup, which the server's own map does not name, would keep the copy from starting.

use super::work::Read;
use crate::manifest::Tablespace;

/// By the map that the server made when the backup began. Those that lie in the data directory itself stand in none:
/// of them `known` tells.
pub fn at_start(map: Option<&str>, known: &[Tablespace]) -> Vec<Tablespace> {
    let inside = known.iter().filter(|space| !space.path.starts_with('/')).cloned();
    let mut all: Vec<_> = entries(map.unwrap_or_default()).into_iter().chain(inside).collect();
    all.sort_by_key(|space| space.oid);
    all.dedup_by_key(|space| space.oid);
    all
}

/// The map's lines: `OID path`. Source: PostgreSQL's `read_tablespace_map`: what follows a backslash is taken as it is,
/// a line's end too.
fn entries(map: &str) -> Vec<Tablespace> {
    let (mut lines, mut escaped) = (vec![String::new()], false);
    for letter in map.chars() {
        match letter {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '\n' if !escaped => lines.push(String::new()),
            other => lines.last_mut().into_iter().for_each(|line| line.push(other)),
        }
        escaped = false;
    }
    let space = |line: String| {
        let (oid, path) = line.split_once(' ')?;
        Some(Tablespace { oid: oid.parse().ok()?, path: path.to_owned() })
    };
    lines.into_iter().filter_map(space).collect()
}

/// Leaves out what was read of other tablespaces.
pub fn leave_out_others(read: &mut Read, spaces: &[Tablespace]) {
    let of_these = |path: &str| {
        let oid = path.strip_prefix("pg_tblspc/").map(|rest| rest.split('/').next().unwrap_or_default());
        let oid = oid.and_then(|oid| oid.parse::<u32>().ok());
        oid.is_none_or(|oid| spaces.iter().any(|space| space.oid == oid))
    };
    read.directories.retain(|(path, _)| of_these(path));
    read.manifest_files.retain(|file| of_these(&file.path));
    read.bad_pages.retain(|page| of_these(&page.path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::FileEntry;

    fn space(oid: u32, path: &str) -> Tablespace {
        Tablespace { oid, path: path.into() }
    }

    #[test]
    fn the_servers_map_says_which_tablespaces_there_are() {
        let known = [space(7, "/srv/was"), space(9, "pg_tblspc/9")];
        let map = "16385 /srv/fast one\n16386 /srv/a\\\nb\\\\c\n";
        let expected = [space(9, "pg_tblspc/9"), space(16385, "/srv/fast one"), space(16386, "/srv/a\nb\\c")];
        assert_eq!(at_start(Some(map), &known), expected);
        assert_eq!(at_start(None, &known), [space(9, "pg_tblspc/9")]);
    }

    #[test]
    fn what_was_made_meanwhile_is_left_out() {
        let paths = ["base/5/1", "pg_tblspc/7/PG_15_1/5/1", "pg_tblspc/8/PG_15_1/5/1"];
        let file = |path: &&str| FileEntry {
            path: (*path).into(),
            size: 0,
            mode: 0,
            modified_ms: 0,
            crc32c: Some(0),
            runs: Vec::new(),
        };
        let mut read = Read {
            directories: ["pg_tblspc", "pg_tblspc/7", "pg_tblspc/8"].map(|path| (path.to_owned(), 0o700)).to_vec(),
            manifest_files: paths.iter().map(file).collect(),
            chunks: Vec::new(),
            bundles: 0,
            bad_pages: Vec::new(),
            own: 0,
            stored: 0,
            taken_over: 0,
        };
        leave_out_others(&mut read, &[space(7, "/srv/fast")]);
        let left: Vec<_> = read.manifest_files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(left, paths[..2]);
        assert_eq!(read.directories.len(), 2);
    }
}
