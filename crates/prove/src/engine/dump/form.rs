//! What pg_dump and pg_dumpall write: which form a file has, where it is from, and whether it is whole.
//! Source: PostgreSQL's documentation, pg_dump and pg_restore; the comments that pg_dump writes around plain SQL.

use super::reader::Packed;
use crate::error::{ProveError, Result};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};
use surus_core::code;

/// How a dump is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Custom,
    Directory,
    Tar,
    /// SQL of one database.
    Plain,
    /// SQL of pg_dumpall: roles, tablespaces, and databases unless it was told to leave them out.
    Cluster,
}

impl Form {
    /// Is it for pg_restore?
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Custom | Self::Directory | Self::Tar)
    }
}

/// A dump as far as it is known before it is loaded.
#[derive(Debug, Clone)]
pub struct DumpFile {
    pub path: PathBuf,
    pub form: Form,
    pub packed: Option<Packed>,
}

impl DumpFile {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// When there is no such file, it may not be read, or it is none of pg_dump's.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::fs::canonicalize(path).map_err(ProveError::named("cannot open", path))?;
        let not = |why: &str| {
            let text = format!("{} is nothing that pg_dump or pg_dumpall made: {why}", path.display());
            Err(ProveError::refused(code::ENGINE_FORM, text))
        };
        if path.is_dir() {
            return match path.join("toc.dat").is_file() {
                true => Ok(Self { path, form: Form::Directory, packed: None }),
                false => not("the directory has no toc.dat"),
            };
        }
        let mut head = vec![0; 4096];
        let file = File::open(&path).map_err(ProveError::named("cannot open", &path))?;
        let length = read_some(file, &mut head).map_err(ProveError::input("cannot read", &path))?;
        head.truncate(length);
        if head.is_empty() {
            let text = format!("{} is empty (0 bytes): pg_dump wrote nothing, or it was cut", path.display());
            return Err(ProveError::refused(code::ENGINE_DAMAGED, text));
        }
        let packed = Packed::by_head(&head);
        if let Some(packed) = packed {
            head = packed.head(&path, 4096)?;
        }
        let form = match () {
            () if head.starts_with(b"PGDMP") => Form::Custom,
            () if head.get(257..262) == Some(b"ustar") && head.starts_with(b"toc.dat") => Form::Tar,
            () => match sql_form(&String::from_utf8_lossy(&head)) {
                Some(form) => form,
                None => return not("neither an archive nor its SQL begins so"),
            },
        };
        if packed.is_some() && form.is_archive() {
            return not("an archive of pg_dump that was packed once more cannot be read; unpack it");
        }
        Ok(Self { path, form, packed })
    }

    /// Its name, without endings.
    pub fn stem(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("dump").to_owned()
    }
}

fn read_some(mut file: impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

fn sql_form(head: &str) -> Option<Form> {
    let comments = head.lines().take_while(|line| line.is_empty() || line.starts_with("--") || line.starts_with('\\'));
    comments.into_iter().find_map(|line| match line {
        "-- PostgreSQL database dump" => Some(Form::Plain),
        "-- PostgreSQL database cluster dump" => Some(Form::Cluster),
        _ => None,
    })
}

/// What a text of SQL, or the table of contents of an archive, tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The database of an archive.
    pub database: Option<String>,
    /// The server that it is from.
    pub major: Option<u16>,
    /// The pg_dump that wrote it: it may speak of settings that older servers do not know.
    pub by: Option<u16>,
    pub made_at: Option<Timestamp>,
    /// Tables, as `schema.name`.
    pub tables: BTreeSet<String>,
    /// Tables whose rows are in it.
    pub with_rows: BTreeSet<String>,
    /// Roles that it makes, and roles that it only speaks of.
    pub makes: BTreeSet<String>,
    pub names: BTreeSet<String>,
    /// Tablespaces that it makes, and that it uses.
    pub makes_spaces: BTreeSet<String>,
    pub uses_spaces: BTreeSet<String>,
    /// Does it make or change databases by itself?
    pub connects: bool,
    /// Did it end as pg_dump ends it?
    pub ended: bool,
}

/// Reads what `pg_restore --list` printed.
pub fn contents(text: &str) -> About {
    let mut about = About { ended: true, ..About::default() };
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix(';') {
            let comment = comment.trim();
            let value = |name: &str| comment.strip_prefix(name).map(str::trim);
            if let Some(name) = value("dbname:") {
                about.database = Some(name.to_owned());
            } else if let Some(version) = value("Dumped from database version:") {
                about.major = major(version);
            } else if let Some(version) = value("Dumped by pg_dump version:") {
                about.by = major(version);
            } else if let Some(at) = value("Archive created at") {
                about.made_at = time(at);
            }
            continue;
        }
        let Some((_, rest)) = line.split_once("; ") else { continue };
        // Two OIDs, what it is, schema, name and owner.
        let mut words = rest.splitn(3, ' ');
        let Some(entry) = words.nth(2) else { continue };
        let table = |rest: &str| {
            let (schema, rest) = rest.split_once(' ')?;
            let (name, owner) = rest.rsplit_once(' ')?;
            Some((format!("{schema}.{name}"), owner.to_owned()))
        };
        if let Some(name) = entry.strip_prefix("TABLE DATA ").and_then(table) {
            about.with_rows.insert(name.0);
        } else if let Some((name, owner)) = entry.strip_prefix("TABLE ").and_then(table) {
            // TABLE ATTACH is of partitions.
            if !name.starts_with("ATTACH.") {
                about.tables.insert(name);
            }
            about.names.insert(owner);
        }
    }
    about
}

/// Reads SQL: which roles it makes and speaks of, which databases it enters, and how it ends.
///
/// # Errors
/// When it cannot be read to its end.
pub fn scan(text: impl Read) -> std::io::Result<About> {
    let mut about = About::default();
    let mut reader = BufReader::with_capacity(1 << 18, text);
    let mut line = Vec::new();
    let mut in_rows = false;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(about);
        }
        let bytes = line.trim_ascii_end();
        if in_rows {
            in_rows = bytes != b"\\.";
            continue;
        }
        if bytes.len() > 1 << 16 {
            continue;
        }
        let text = String::from_utf8_lossy(bytes);
        about.line(&text);
        in_rows = text.starts_with("COPY ") && text.ends_with(" FROM stdin;");
    }
}

impl About {
    fn line(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix("-- ") {
            if let Some(version) = comment.strip_prefix("Dumped from database version ") {
                self.major = self.major.max(major(version));
            } else if let Some(version) = comment.strip_prefix("Dumped by pg_dump version ") {
                self.by = self.by.max(major(version));
            } else if let Some(at) = comment.strip_prefix("Started on ") {
                self.made_at = time(at);
            } else if comment.ends_with("database dump complete") || comment.ends_with("database cluster dump complete")
            {
                self.ended = true;
            }
            return;
        }
        if line.starts_with("\\connect") {
            self.connects = true;
        } else if let Some(rest) = line.strip_prefix("COPY ") {
            self.with_rows.extend(first_name(rest));
        } else if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
            self.tables.extend(first_name(rest));
        } else if let Some(rest) = line.strip_prefix("CREATE ROLE ") {
            self.makes.extend(identifier(rest).map(|(name, _)| name));
        } else if let Some((name, _)) = made_space(line) {
            self.makes_spaces.insert(name);
        } else if let Some(rest) = line.strip_prefix("SET default_tablespace = ") {
            self.uses_spaces.extend(identifier(rest).map(|(name, _)| name));
        } else if line.starts_with("CREATE DATABASE ") {
            let rest = line.split_once(" TABLESPACE = ").map(|(_, rest)| rest);
            self.uses_spaces.extend(rest.and_then(identifier).map(|(name, _)| name));
        }
        let rest = match () {
            () if line.starts_with("ALTER DEFAULT PRIVILEGES FOR ROLE ") => {
                self.names
                    .extend(identifier(&line["ALTER DEFAULT PRIVILEGES FOR ROLE ".len()..]).map(|(name, _)| name));
                line.rsplit_once(" TO ").or(line.rsplit_once(" FROM ")).map(|(_, rest)| rest)
            }
            () if line.starts_with("ALTER ") => line.rsplit_once(" OWNER TO ").map(|(_, rest)| rest),
            () if line.starts_with("GRANT ") => line.rsplit_once(" TO ").map(|(_, rest)| rest),
            () if line.starts_with("REVOKE ") => line.rsplit_once(" FROM ").map(|(_, rest)| rest),
            () if line.starts_with("CREATE POLICY ") => line.split_once(" TO ").map(|(_, rest)| rest),
            () => None,
        };
        let mut rest = rest.unwrap_or_default();
        while let Some((name, after)) = identifier(rest) {
            self.names.insert(name);
            match after.trim_start().strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
    }

    /// Roles that must be there before it is loaded.
    pub fn roles(&self) -> BTreeSet<String> {
        let special = |name: &String| {
            let upper = ["PUBLIC", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER", "-"];
            upper.iter().any(|one| one.eq_ignore_ascii_case(name)) || name.starts_with("pg_") || name.is_empty()
        };
        self.names.iter().filter(|name| !self.makes.contains(*name) && !special(name)).cloned().collect()
    }
}

/// The tablespace that a line makes, and the line up to its place.
pub fn made_space(line: &str) -> Option<(String, &str)> {
    let (name, _) = identifier(line.strip_prefix("CREATE TABLESPACE ")?)?;
    let (before, _) = line.rsplit_once(" LOCATION ")?;
    Some((name, before))
}

/// An identifier at the beginning, quoted or not, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    name.push('"');
                    chars.next();
                }
                '"' => return Some((name, &quoted[at + 1..])),
                c => name.push(c),
            }
        }
        return None;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || "_$".contains(c))).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// `schema.name` at the beginning.
fn first_name(text: &str) -> Option<String> {
    let (schema, rest) = identifier(text)?;
    let (name, _) = identifier(rest.strip_prefix('.')?)?;
    Some(format!("{schema}.{name}"))
}

fn major(version: &str) -> Option<u16> {
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// `2026-01-31 12:00:00 UTC`; of other zones nothing is said.
fn time(text: &str) -> Option<Timestamp> {
    let (time, zone) = text.rsplit_once(' ')?;
    let time: DateTime = time.parse().ok()?;
    matches!(zone, "UTC" | "GMT").then(|| time.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_table_of_contents_is_read() {
        let text = ";\n; Archive created at 2026-01-31 12:00:00 UTC\n;     dbname: shop\n;     TOC Entries: 20\n\
            ;     Dumped from database version: 15.5 (Debian 15.5-0+deb12u1)\n;\n; Selected TOC Entries:\n;\n\
            215; 1259 16385 TABLE public orders clerk\n216; 1259 16386 TABLE app my table bob\n\
            3350; 0 16385 TABLE DATA public orders clerk\n3200; 2606 16390 CONSTRAINT public orders orders_pkey clerk\n";
        let about = contents(text);
        assert_eq!((about.database.as_deref(), about.major), (Some("shop"), Some(15)));
        assert_eq!(about.made_at.unwrap().to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(about.tables, set(&["public.orders", "app.my table"]));
        assert_eq!(about.with_rows, set(&["public.orders"]));
        assert_eq!(about.roles(), set(&["clerk", "bob"]));
    }

    #[test]
    fn sql_is_scanned_without_its_rows() {
        let text = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.5\n\nCREATE TABLE public.a (\n\
            );\nALTER TABLE public.a OWNER TO \"my \"\"clerk\";\nCOPY public.a (x) FROM stdin;\nALTER TABLE x OWNER TO nobody;\n\
            \\.\nGRANT SELECT ON TABLE public.a TO reader, writer WITH GRANT OPTION;\nREVOKE ALL ON SCHEMA public FROM PUBLIC;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE boss IN SCHEMA public GRANT SELECT ON TABLES  TO pg_monitor;\n\
            --\n-- PostgreSQL database dump complete\n--\n";
        let about = scan(text.as_bytes()).unwrap();
        assert!(about.ended && !about.connects && about.major == Some(15));
        assert_eq!(about.roles(), set(&["my \"clerk", "reader", "writer", "boss"]));
        assert_eq!((about.tables, about.with_rows), (set(&["public.a"]), set(&["public.a"])));
        assert!(!scan(&text.as_bytes()[..text.len() / 2]).unwrap().ended);
        let line = "CREATE TABLESPACE \"a b\" OWNER clerk LOCATION '/srv/a';";
        assert_eq!(made_space(line), Some(("a b".into(), "CREATE TABLESPACE \"a b\" OWNER clerk")));
        let uses =
            scan("SET default_tablespace = '';\nSET default_tablespace = fast;\n".as_bytes()).unwrap().uses_spaces;
        assert_eq!(uses, set(&["fast"]));
        let cluster =
            scan("\\connect postgres\nCREATE ROLE clerk;\nALTER ROLE clerk WITH LOGIN;\n".as_bytes()).unwrap();
        assert!(cluster.connects && cluster.makes == set(&["clerk"]) && cluster.roles().is_empty());
    }

    #[test]
    fn forms_are_known_by_their_heads() {
        let dir = tempfile::tempdir().unwrap();
        let form = |bytes: &[u8]| {
            let path = dir.path().join("x.dump");
            std::fs::write(&path, bytes).unwrap();
            DumpFile::open(&path).map(|file| (file.form, file.stem())).map_err(|error| error.to_string())
        };
        assert_eq!(form(b"PGDMP\x01"), Ok((Form::Custom, "x".into())));
        assert_eq!(form(b"--\n-- PostgreSQL database cluster dump\n--\n"), Ok((Form::Cluster, "x".into())));
        assert_eq!(form(b"--\n-- PostgreSQL database dump\n--\n"), Ok((Form::Plain, "x".into())));
        assert!(form(b"").unwrap_err().contains("is empty (0 bytes)"));
        assert!(form(b"SELECT 1").unwrap_err().contains("nothing that pg_dump"));
    }
}
