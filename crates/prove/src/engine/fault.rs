//! What another tool says when it fails, in plain words: the file that is missing, cut short or shut, the tablespace
//! that is gone. The tool's own message always follows.

use crate::error::ProveError;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use surus_core::code::{self, Code};
use surus_pg::account::Account;

/// A message is shown up to so many bytes: its end, where the reason is.
const SHOWN: usize = 2000;

/// The error for a tool that ended with `status` and said `output`.
pub fn name(tool: &'static str, status: &str, output: &str, account: Option<&Account>) -> ProveError {
    // What went well is not why it failed. WAL-G begins such lines so.
    let output: Vec<&str> = output.lines().filter(|line| !line.starts_with("INFO: ")).collect();
    let output = output.join("\n");
    let shown = tail(&output);
    match output.lines().find_map(|line| plain(line, account)) {
        Some((code, text)) => ProveError::refused(code, format!("{text}\n{tool} says: {shown}")),
        None => ProveError::Tool { program: tool.into(), status: status.into(), output: shown.into() },
    }
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The meaning of a line, where it is one of those that tools write about what they read.
/// Source: the messages of pgBackRest 2.45 to 2.55, WAL-G 3.0, rsync 3.2, GNU tar 1.34, gzip 1.12, PostgreSQL 13 to 18.
fn plain(line: &str, account: Option<&Account>) -> Option<(Code, String)> {
    let lower = line.to_ascii_lowercase();
    let path = path_in(line);
    let file = || path.as_deref().map_or_else(|| "file".to_owned(), shown);
    if lower.contains("permission denied") {
        return Some((code::ENGINE_ACCESS, shut(path.as_deref(), account)));
    }
    let space = path.as_deref().and_then(tablespace);
    let gone = lower.contains("missing file") || lower.contains("no such file or directory");
    if let Some(oid) = space.filter(|_| gone || lower.contains("missing path")) {
        return Some((code::ENGINE_DAMAGED, format!("tablespace {oid} is missing from the backup: {}", file())));
    }
    // Where the repository itself is not there, the message says it best.
    let repository = ["backup.info", "archive.info", "root directory"].iter().any(|text| lower.contains(text));
    if gone && path.is_some() && !repository {
        return Some((code::ENGINE_DAMAGED, format!("a file of the backup is missing: {}", file())));
    }
    if lower.contains("checksum") && (lower.contains("does not match") || lower.contains("invalid checksum")) {
        return Some((code::ENGINE_DAMAGED, format!("the backup's {} is not what was backed up", file())));
    }
    let unpacked = lower.split_once("extraction error in ").and_then(|(_, text)| text.split_once(": "));
    if let Some((part, why)) = unpacked
        && ["unexpected eof", "checksum", "corrupt", "invalid", "magic"].iter().any(|word| why.contains(word))
    {
        return Some((code::ENGINE_DAMAGED, format!("the backup's {part} is cut short or damaged")));
    }
    let cut = ["unexpected eof", "unexpected end of file", "end of file", "crc error", "not in gzip format"];
    if cut.iter().any(|text| lower.contains(text)) {
        return Some((code::ENGINE_DAMAGED, format!("{} is cut short or damaged", file())));
    }
    None
}

/// Why a path may not be read: the first part of it that shuts the account out, with its mode.
pub fn shut(path: Option<&Path>, account: Option<&Account>) -> String {
    let who = account.and_then(Account::name).map_or_else(|| "the restore".to_owned(), |name| format!("{name:?}"));
    let Some(path) = path else { return format!("{who} may not read something of the backup") };
    let barred = |one: &&Path| match (fs::metadata(one), account) {
        (Ok(meta), Some(account)) => !may_read(&meta, account),
        (Ok(meta), None) => meta.permissions().mode() & 0o400 == 0,
        (Err(_), _) => false,
    };
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    let first = parts.into_iter().find(barred).unwrap_or(path);
    match fs::metadata(first) {
        Ok(meta) => {
            format!("{who} may not read {} (mode {:04o}, uid {})", first.display(), meta.mode() & 0o7777, meta.uid())
        }
        Err(_) => format!("{who} may not read {}", first.display()),
    }
}

/// May the account read this file, or look into and enter this directory?
pub fn may_read(meta: &fs::Metadata, account: &Account) -> bool {
    bits(meta, account.uid(), account.gid())
}

/// As [`may_read`], for a user and a group.
pub fn bits(meta: &fs::Metadata, uid: u32, gid: u32) -> bool {
    let needed = if meta.is_dir() { 0o5 } else { 0o4 };
    let shift = match () {
        () if meta.uid() == uid => 6,
        () if meta.gid() == gid => 3,
        () => 0,
    };
    uid == 0 || meta.mode() >> shift & needed == needed
}

/// The first absolute path of a line, in quotes of any kind or without.
fn path_in(line: &str) -> Option<PathBuf> {
    for quote in ['\'', '"', '‘', '’'] {
        let quoted = line.split(quote).skip(1).step_by(2).find(|text| text.starts_with('/'));
        if let Some(text) = quoted {
            return Some(PathBuf::from(text));
        }
    }
    let bare = line.split_whitespace().map(|word| word.trim_end_matches([':', ',', ')'])).find(|w| w.starts_with('/'));
    bare.map(PathBuf::from)
}

/// A path as it is, or, of a file of the copy, its name in the data directory: that is where it is in the backup, too.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let inside = text.split_once("/copy-").and_then(|(_, rest)| rest.split_once("/data/"));
    inside.map_or(text.clone(), |(_, name)| name.to_owned())
}

/// The tablespace that a path is in.
fn tablespace(path: &Path) -> Option<u32> {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    parts.find(|part| part == "pg_tblspc")?;
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(line: &str) -> Option<String> {
        plain(line, None).map(|(_, text)| text)
    }

    #[test]
    fn messages_of_tools_are_put_in_plain_words() {
        let line = "ERROR: [055]: unable to open missing file '/r/backup/main/20260101-100000F/pg_data/base/5/2619' \
                    for read";
        let expected = "a file of the backup is missing: /r/backup/main/20260101-100000F/pg_data/base/5/2619";
        assert_eq!(named(line).as_deref(), Some(expected));
        let line = "ERROR: [055]: unable to open missing file '/r/x/pg_data/pg_tblspc/16385/PG_15_202209061/5/16386'";
        assert!(named(line).unwrap().starts_with("tablespace 16385 is missing"));
        let line = "rsync: [sender] send_files failed to open \"/b/base/1/data/base/5/2619\": Permission denied (13)";
        assert!(named(line).unwrap().contains("may not read /b/base/1/data/base/5/2619"));
        let line = "ERROR: error restoring '/s/copy-7-0/data/base/5/2619': actual checksum 'a1' does not match expected checksum 'b2'";
        assert_eq!(named(line).as_deref(), Some("the backup's base/5/2619 is not what was backed up"));
        let line = "ERROR: 2026/01/31 12:00:00.000001 Extraction error in part_001.tar.lz4: \
                    lz4: invalid frame checksum: got 1; expected 2";
        assert_eq!(named(line).as_deref(), Some("the backup's part_001.tar.lz4 is cut short or damaged"));
        let line = "ERROR: 2026/01/31 12:00:00.000001 Extraction error in part_001.tar.lz4: \
                    copy failed: no space left on device";
        assert_eq!(named(line), None);
        assert_eq!(named("ERROR: [032]: restore command requires option: pg1-path"), None);
    }
}
