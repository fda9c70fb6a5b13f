//! Where a page is: a relation's files, and the words that PostgreSQL has for a page. Pure.
//!
//! Source: PostgreSQL's documentation, "Database File Layout".

use serde::Serialize;
use surus_backup::control::Control;

/// How a server was built: bytes of a page, and pages of a relation's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Geometry {
    pub page_size: usize,
    pub segment_pages: u32,
}

impl Geometry {
    /// From its control file or settings; none when the numbers are none that PostgreSQL can be built with.
    pub fn new(page_size: u64, segment_pages: u64) -> Option<Self> {
        let fits = page_size.is_power_of_two() && (1024..=32_768).contains(&page_size) && segment_pages > 0;
        let segment_pages = u32::try_from(segment_pages).ok()?;
        fits.then_some(Self { page_size: page_size as usize, segment_pages })
    }

    /// From a control file.
    pub fn of(control: &Control) -> Option<Self> {
        Self::new(control.page_size.into(), control.segment_pages.into())
    }
}

/// Which of a relation's forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fork {
    Main,
    Fsm,
    Vm,
    Init,
}

impl Fork {
    pub const ALL: [Self; 4] = [Self::Main, Self::Fsm, Self::Vm, Self::Init];

    /// What its files' names end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Fsm => "_fsm",
            Self::Vm => "_vm",
            Self::Init => "_init",
        }
    }

    /// As PostgreSQL's functions call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Fsm => "fsm",
            Self::Vm => "vm",
            Self::Init => "init",
        }
    }
}

/// A relation's file, by its path below the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationFile {
    /// `base/5/16384`, `global/1260`, `pg_tblspc/16400/PG_18_202506291/5/16384`: without fork and segment.
    pub relation: String,
    pub fork: Fork,
    pub segment: u32,
}

impl RelationFile {
    /// Is the path one? What stands before `base/`, `global/` or `pg_tblspc/` is the data directory.
    pub fn parse(path: &str) -> Option<Self> {
        let begins = ["base/", "global/", "pg_tblspc/"].iter().flat_map(|root| path.match_indices(root));
        let mut begins = begins.map(|(at, _)| at).filter(|at| *at == 0 || path.as_bytes()[at - 1] == b'/');
        begins.find_map(|at| Self::below(&path[at..]))
    }

    fn below(path: &str) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/')?;
        let folders: Vec<&str> = folder.split('/').collect();
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let known = match folders.as_slice() {
            ["global"] => true,
            ["base", database] => number(database),
            ["pg_tblspc", space, version, database] => number(space) && version.starts_with("PG_") && number(database),
            _ => false,
        };
        let (stem, segment) = match name.split_once('.') {
            Some((stem, segment)) => (stem, segment.parse::<u32>().ok()?),
            None => (name, 0),
        };
        let (node, fork) = match stem.split_once('_') {
            Some((node, fork)) => (node, Fork::ALL[1..].iter().copied().find(|one| one.word() == fork)?),
            None => (stem, Fork::Main),
        };
        (known && number(node)).then(|| Self { relation: format!("{folder}/{node}"), fork, segment })
    }

    /// The number of the database's directory; none for the relations of all databases.
    pub fn database(&self) -> Option<u32> {
        let mut parts = self.relation.rsplit('/');
        parts.next();
        parts.next().and_then(|folder| folder.parse().ok())
    }

    /// The number of the file.
    pub fn node(&self) -> Option<u32> {
        self.relation.rsplit('/').next().and_then(|node| node.parse().ok())
    }
}

/// A page of a relation, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub relation: String,
    pub fork: Fork,
    pub block: u32,
}

impl Spot {
    pub fn segment(&self, geometry: Geometry) -> u32 {
        self.block / geometry.segment_pages
    }

    /// The file that it is in.
    pub fn file(&self, geometry: Geometry) -> String {
        file(&self.relation, self.fork, self.segment(geometry))
    }

    /// Bytes of that file before it.
    pub fn offset(&self, geometry: Geometry) -> u64 {
        u64::from(self.block % geometry.segment_pages) * geometry.page_size as u64
    }
}

/// The path of a relation's file.
pub fn file(relation: &str, fork: Fork, segment: u32) -> String {
    let segment = if segment == 0 { String::new() } else { format!(".{segment}") };
    format!("{relation}{}{segment}", fork.suffix())
}

/// The page that a message is about: a line of PostgreSQL's log, of `pg_checksums` or `pg_basebackup`, of a drill.
///
/// # Errors
/// What is missing in it.
pub fn of_line(line: &str, geometry: Geometry) -> Result<Spot, String> {
    let words = line.split(|c: char| c.is_whitespace() || "\"'()«»„“,;:".contains(c));
    let file = words.filter(|word| !word.is_empty()).find_map(|word| RelationFile::parse(word.trim_end_matches('.')));
    let file = file.ok_or("no file of a relation is named in it, like base/5/16384")?;
    let number = ["block ", "blocks ", "Block ", "page "].iter().find_map(|word| {
        line.match_indices(word).find_map(|(at, _)| {
            let rest = &line[at + word.len()..];
            let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
            digits.parse::<u32>().ok()
        })
    });
    let mut block = number.ok_or("no block is named in it")?;
    // These count from the beginning of the file, the server from that of the relation.
    if line.contains("checksum verification failed in file") {
        block = block.saturating_add(file.segment.saturating_mul(geometry.segment_pages));
    }
    Ok(Spot { relation: file.relation, fork: file.fork, block })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Geometry = Geometry { page_size: 8192, segment_pages: 131_072 };

    #[test]
    fn relation_files_are_told_from_others() {
        let of = |path: &str| RelationFile::parse(path);
        let file = of("base/5/16384_vm.2").unwrap();
        assert_eq!((file.relation.as_str(), file.fork, file.segment), ("base/5/16384", Fork::Vm, 2));
        assert_eq!((file.database(), file.node()), (Some(5), Some(16384)));
        let file = of("/srv/base/data/global/1260").unwrap();
        assert_eq!((file.relation.as_str(), file.database()), ("global/1260", None));
        let space = "pg_tblspc/16400/PG_18_202506291/5/16384";
        assert_eq!(of(&format!("./{space}_fsm")).unwrap().relation, space);
        for other in [
            "base/5/PG_VERSION",
            "global/pg_filenode.map",
            "base/5/t3_16384",
            "global/pg_control",
            "base/5/1.x",
            "base/5",
            "16384",
            "base/x/16384",
            "xbase/5/16384",
        ] {
            assert!(of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn messages_name_pages() {
        let of = |line: &str| of_line(line, USUAL).map(|spot| (spot.file(USUAL), spot.block, spot.offset(USUAL)));
        let named = |file: &str, block, offset| Ok((file.to_owned(), block, offset));
        assert_eq!(of("ERROR:  invalid page in block 7 of relation base/5/16384"), named("base/5/16384", 7, 57_344));
        let quoted = "2026-01-01 [1] ERROR:  invalid page in block 7 of relation \"base/5/16384_fsm\"";
        assert_eq!(of(quoted), named("base/5/16384_fsm", 7, 57_344));
        let read = "could not read block 131073 in file \"base/5/16384.1\": read only 0 of 8192 bytes";
        assert_eq!(of(read), named("base/5/16384.1", 131_073, 8192));
        let many = "2 invalid pages among blocks 3..4 of relation \"global/1260\"";
        assert_eq!(of(many), named("global/1260", 3, 24_576));
        let tool =
            "pg_checksums: error: checksum verification failed in file \"/d/base/5/16384.1\", block 1: calculated";
        assert_eq!(of(tool), named("base/5/16384.1", 131_073, 8192));
        assert_eq!(of("shop: table public.t, block 3 (file base/5/16384)"), named("base/5/16384", 3, 24_576));
        assert!(of("page verification failed, calculated checksum 1 but expected 2").is_err());
        assert!(of("could not open file \"base/5/16384\"").unwrap_err().contains("no block"));
    }

    #[test]
    fn only_what_postgresql_can_be_built_with_is_a_geometry() {
        assert_eq!(Geometry::new(8192, 131_072), Some(USUAL));
        assert!(Geometry::new(16_384, 65_536).is_some());
        assert!(Geometry::new(0, 0).is_none() && Geometry::new(8192, 0).is_none() && Geometry::new(1000, 1).is_none());
        let small = Geometry::new(4096, 16).unwrap();
        let spot = Spot { relation: "base/5/7".into(), fork: Fork::Main, block: 17 };
        assert_eq!((spot.file(small), spot.offset(small)), ("base/5/7.1".into(), 4096));
    }
}
