//! What every restored data directory goes through: it is given to the server's account, looked at, and told where its
//! WAL comes from and where to stop.

use super::{Landed, Order, tool::quoted};
use crate::{
    error::{ProveError, Result},
    scratch::Place,
};
use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};
use surus_backup::{
    control::{self, Control},
    restore::{settings, target::RecoveryTarget},
    wal::name::Segment,
};
use surus_core::code;
use surus_pg::account::Account;

/// Bytes of a page, and of a part of a relation, as PostgreSQL is built everywhere.
const PAGE: u64 = 8192;
const PART: u64 = 1 << 30;

/// A directory of our own in the place, which the account may write to.
pub fn room(place: &Place, name: &str, account: &Account) -> Result<PathBuf> {
    let dir = place.dir().join(name);
    fs::create_dir_all(&dir).map_err(ProveError::file("cannot make", &dir))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(ProveError::file("cannot change", &dir))?;
    account.own(&dir)?;
    Ok(dir)
}

/// Gives everything below to the account; links are not followed, for what they lead to is not ours.
pub fn own_all(dir: &Path, account: &Account) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let give = |path: &Path| {
        chown(path, Some(account.uid()), Some(account.gid()))
            .map_err(ProveError::file("cannot change the owner of", path))
    };
    give(dir)?;
    each_below(dir, &mut |path, kind| if kind.is_symlink() { Ok(()) } else { give(path) })
}

/// Calls `visit` for all that is below; links are not followed.
pub fn each_below(dir: &Path, visit: &mut dyn FnMut(&Path, fs::FileType) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(ProveError::file("cannot read", dir))? {
        let entry = entry.map_err(ProveError::file("cannot read", dir))?;
        let kind = entry.file_type().map_err(ProveError::file("cannot read", &entry.path()))?;
        visit(&entry.path(), kind)?;
        if kind.is_dir() {
            each_below(&entry.path(), visit)?;
        }
    }
    Ok(())
}

/// What a look at a restored data directory says.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub major: u16,
    pub bytes: u64,
}

/// Looks at a data directory that is to be started: is it one, and are its files of the sizes that files can have?
///
/// # Errors
/// With the file that is missing or cut short, the mode that PostgreSQL refuses, or the tablespace that leads nowhere.
pub fn inspect(data: &Path) -> Result<Seen> {
    let damaged = |text: String| Err(ProveError::refused(code::ENGINE_DAMAGED, text));
    let version = fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
    let Ok(major) = version.trim().parse::<u16>() else {
        return damaged("PG_VERSION is missing or damaged: what was restored is no data directory".into());
    };
    let control = fs::read(data.join(control::PATH)).unwrap_or_default();
    if control.len() != control::SIZE {
        let (is, should) = (control.len(), control::SIZE);
        return damaged(format!("{} has {is} bytes, and it should have {should}", control::PATH));
    }
    if Control::parse(&control).is_err() {
        return damaged(format!("{} is damaged: its checksum is wrong", control::PATH));
    }
    mode(data)?;
    let mut bytes = 0;
    let mut visit = |root: &Path, prefix: &str| -> Result<()> {
        each_below(root, &mut |path, kind| {
            if kind.is_file() {
                let size = path.metadata().map_err(ProveError::file("cannot read", path))?.len();
                bytes += size;
                let name = Path::new(prefix).join(path.strip_prefix(root).unwrap_or(path));
                relation(path, &name, size)?;
            }
            Ok(())
        })
    };
    visit(data, "")?;
    for (oid, to) in tablespaces(data)? {
        if !to.is_dir() {
            return damaged(format!("tablespace {oid} is missing: it should be in {}", to.display()));
        }
        visit(&to, &format!("pg_tblspc/{oid}"))?;
    }
    Ok(Seen { major, bytes })
}

/// Is the directory's mode one that PostgreSQL starts in? Source: its `checkDataDir`: 0700 or 0750.
///
/// # Errors
/// When it is not.
pub fn mode(data: &Path) -> Result<()> {
    let mode = data.metadata().map_err(ProveError::file("cannot read", data))?.permissions().mode() & 0o777;
    if mode & 0o027 == 0 && mode & 0o700 == 0o700 {
        return Ok(());
    }
    let text =
        format!("{} has mode {mode:04o}: PostgreSQL starts in a data directory of 0700 or 0750 only", data.display());
    Err(ProveError::refused(code::ENGINE_ACCESS, text))
}

/// The tablespaces of a data directory, and where their links lead.
pub fn tablespaces(data: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let dir = data.join("pg_tblspc");
    let mut all = Vec::new();
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let Some(oid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let kind = entry.file_type().map_err(ProveError::file("cannot read", &entry.path()))?;
        if kind.is_symlink() {
            all.push((oid, fs::read_link(entry.path()).map_err(ProveError::file("cannot read", &entry.path()))?));
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// A relation's file has whole pages, and each part before the last is full.
fn relation(path: &Path, name: &Path, size: u64) -> Result<()> {
    let inside = name.iter().next().and_then(OsStr::to_str).unwrap_or_default();
    if !matches!(inside, "base" | "global" | "pg_tblspc") {
        return Ok(());
    }
    let Some((file, part)) = name.file_name().and_then(OsStr::to_str).and_then(file_node) else { return Ok(()) };
    let damaged = |text: String| Err(ProveError::refused(code::ENGINE_DAMAGED, text));
    if !size.is_multiple_of(PAGE) {
        let whole = size.next_multiple_of(PAGE);
        return damaged(format!(
            "{} is cut short: it has {size} bytes, which are no whole pages; {whole} or more were expected",
            name.display()
        ));
    }
    let before = match part {
        0 => return Ok(()),
        1 => file.to_owned(),
        part => format!("{file}.{}", part - 1),
    };
    let there = path.with_file_name(&before).metadata().map_or(0, |meta| meta.len());
    if there != PART {
        let name = name.with_file_name(before);
        return damaged(format!("{} is cut short: it has {there} bytes, and {PART} were expected", name.display()));
    }
    Ok(())
}

/// A main fork's name and the number of its part: `16384.2`.
fn file_node(name: &str) -> Option<(&str, u32)> {
    let (file, part) = name.split_once('.').map_or((name, Some(0)), |(file, part)| (file, part.parse().ok()));
    (!file.is_empty() && file.bytes().all(|byte| byte.is_ascii_digit())).then_some((file, part?))
}

/// Writes the script that fetches WAL. It ends with 1 only when a file is surely not there: with any other number up to
/// 125 a server would take the WAL for ended and promote. `body` is a shell's text with the file's name in `$1` and
/// where it goes in `$2`; it ends with 0, with 1, or with anything else, which becomes 255.
pub fn fetcher(place: &Place, account: &Account, body: &str) -> Result<Vec<String>> {
    let path = place.dir().join("fetch-wal");
    let text = format!(
        "#!/bin/sh\n# Fetches one file of WAL: name and destination. 0: it is there. 1: the archive has none. 255: unknown.\n\
         fetch() {{\n{body}}}\nfetch \"$1\" \"$2\"\nstatus=$?\ncase $status in\n0|1) exit $status ;;\nesac\n\
         echo \"surus: WAL file $1 could not be fetched: its command ended with $status\" >&2\nexit 255\n"
    );
    // It may hold a passphrase: nobody else may read it, at no moment.
    let mut open = fs::OpenOptions::new();
    let file = open.write(true).create(true).truncate(true).mode(0o500).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(ProveError::file("cannot write", &path))?;
    account.own(&path)?;
    Ok(vec!["/bin/sh".into(), path.display().to_string()])
}

/// Tells the server to recover: where WAL comes from, and up to where.
pub fn arm(data: &Path, account: &Account, fetch: &[String], target: &RecoveryTarget, timeline: u32) -> Result<()> {
    let write = |name: &str, text: &str| -> Result<()> {
        let path = data.join(name);
        fs::write(&path, text).map_err(ProveError::file("cannot write", &path))?;
        account.own(&path)?;
        Ok(())
    };
    let auto = data.join("postgresql.auto.conf");
    let there = fs::read_to_string(&auto).unwrap_or_default();
    let settings = settings::all(fetch, target, timeline, false);
    write("postgresql.auto.conf", &settings::auto_conf(&there, &settings))?;
    let _ = fs::remove_file(data.join("standby.signal"));
    write("recovery.signal", "")
}

/// The words of a restore command, for people.
pub fn fetch_words(fetch: &[String]) -> String {
    let words: Vec<String> = fetch.iter().map(|word| quoted(word)).collect();
    format!("# restore_command = {} %f %p", words.join(" "))
}

/// What the drill is told.
pub fn landed(
    order: &Order<'_>,
    label: &str,
    seen: Seen,
    replays_to: Option<Segment>,
    commands: Vec<String>,
    notes: Vec<String>,
) -> Landed {
    Landed {
        replays_to,
        data: order.place.data(),
        label: label.to_owned(),
        major: seen.major,
        bytes: seen.bytes,
        recovers: true,
        commands,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_relations_are_known_by_their_names() {
        assert_eq!(file_node("16384"), Some(("16384", 0)));
        assert_eq!(file_node("16384.12"), Some(("16384", 12)));
        for other in ["16384_fsm", "PG_VERSION", "pg_control", "16384_vm.1", "t3_16384", ""] {
            assert_eq!(file_node(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_of_broken_pages_is_named_with_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("2619");
        fs::write(&path, vec![0; 8192 + 100]).unwrap();
        let error = relation(&path, Path::new("base/5/2619"), 8292).unwrap_err().to_string();
        assert_eq!(
            error,
            "base/5/2619 is cut short: it has 8292 bytes, which are no whole pages; 16384 or more were expected"
        );
        let error = relation(&dir.path().join("2619.1"), Path::new("base/5/2619.1"), 8192).unwrap_err().to_string();
        assert!(error.contains("base/5/2619 is cut short: it has 8292 bytes, and 1073741824"), "{error}");
    }
}
