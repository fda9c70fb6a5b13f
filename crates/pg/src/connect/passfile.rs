//! The password file `~/.pgpass`.
//!
//! Source: PostgreSQL documentation, 34.16 "The Password File", and `passwordFromFile` in `fe-connect.c`.

use std::{io::ErrorKind, os::unix::fs::PermissionsExt, path::Path};
use surus_core::secret::Secret;

/// What a password is looked up for.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// As given; `localhost` for a Unix socket in a default directory.
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// What the password file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Password(Secret),
    /// The file has no line for the key, or there is no file.
    Nothing,
    /// The file is not used, as libpq does not use it either, for this reason.
    Ignored(String),
}

/// Looks a password up.
pub fn lookup(file: &Path, key: Key<'_>) -> Found {
    let ignored = |why: &str| Found::Ignored(format!("the password file {} is ignored: {why}", file.display()));
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Found::Nothing,
        Err(e) => return ignored(&e.to_string()),
    };
    if !metadata.is_file() {
        return ignored("it is not a plain file");
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return ignored("group or others may use it; its mode must be 0600 or less");
    }
    match std::fs::read_to_string(file) {
        Ok(text) => text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| password(line, key))
            .map_or(Found::Nothing, |password| Found::Password(Secret::new(password))),
        Err(e) => ignored(&e.to_string()),
    }
}

/// The password of a line `host:port:database:user:password` if the line is about the key.
fn password(line: &str, key: Key<'_>) -> Option<String> {
    let port = key.port.to_string();
    let mut rest = line;
    for wanted in [key.host, &port, key.database, key.user] {
        let any = rest.strip_prefix("*:");
        let (field, after) = field(rest);
        rest = match any {
            Some(after) => after,
            None if field == wanted => after?,
            None => return None,
        };
    }
    Some(field(rest).0)
}

/// One field without its escapes, and what follows its colon.
fn field(text: &str) -> (String, Option<&str>) {
    let mut field = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return (field, Some(&text[at + 1..])),
            '\\' => field.push(chars.next().map_or('\\', |(_, escaped)| escaped)),
            c => field.push(c),
        }
    }
    (field, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key<'static> = Key { host: "db.example", port: 5433, database: "app", user: "anna" };

    #[test]
    fn matches_fields_wildcards_and_escapes() {
        let cases = [
            ("db.example:5433:app:anna:secret", Some("secret")),
            ("*:*:*:*:any", Some("any")),
            ("*:5433:app:anna:a\\:b\\\\c", Some("a:b\\c")),
            ("db.example:5433:app:anna:stops:here", Some("stops")),
            ("db\\.example:5433:app:anna:escaped", Some("escaped")),
            ("db.example:5432:app:anna:other port", None),
            ("db.example:5433:app:bert:other user", None),
            ("db.example:5433:app:anna", None),
            ("*x:5433:app:anna:no wildcard", None),
            ("", None),
        ];
        for (line, wanted) in cases {
            assert_eq!(password(line, KEY).as_deref(), wanted, "{line}");
        }
        let colon = Key { host: "::1", database: "a:b", ..KEY };
        assert_eq!(password("\\:\\:1:5433:a\\:b:anna:v6", colon).as_deref(), Some("v6"));
    }

    #[test]
    fn uses_the_first_line_and_skips_comments() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgpass");
        std::fs::write(&file, "#*:*:*:*:comment\n\nother:*:*:*:no\n*:*:app:*:first\n*:*:*:*:second\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(lookup(&file, KEY), Found::Password(Secret::new("first")));
        let another = Key { database: "elsewhere", ..KEY };
        assert_eq!(lookup(&file, another), Found::Password(Secret::new("second")));
        assert_eq!(lookup(&directory.path().join("none"), KEY), Found::Nothing);
    }

    #[test]
    fn a_file_that_others_can_read_is_ignored_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgpass");
        std::fs::write(&file, "*:*:*:*:secret\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let Found::Ignored(why) = lookup(&file, KEY) else { panic!("must be ignored") };
        assert!(why.contains("0600") && !why.contains("secret"), "{why}");
        assert!(matches!(lookup(directory.path(), KEY), Found::Ignored(_)));
    }
}
