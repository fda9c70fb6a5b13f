//! Which backup tools are configured on this machine, as their configuration files tell.

use super::{Kind, Wish};
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Backups that a configuration file tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    pub kind: Kind,
    /// The stanza, the server, or where the backups go.
    pub what: String,
    /// The file that says so.
    pub from: PathBuf,
    /// What opens it.
    pub wish: Wish,
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, what, from, .. } = self;
        let options = match &self.wish {
            Wish { stanza: Some(stanza), .. } => format!("--engine pgbackrest --stanza {stanza}"),
            Wish { server: Some(server), .. } => format!("--engine barman --server {server}"),
            Wish { config: Some(file), .. } => format!("--engine wal-g --engine-config {}", file.display()),
            _ => String::new(),
        };
        write!(f, "{kind}: {what}, in {} ({options})", from.display())
    }
}

/// Where the files are: the root directory, and the home of the account that the server runs as.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self::at("/")
    }

    /// A machine whose files are below this directory.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// pgBackRest's configuration files that are there: the main one and those of conf.d.
    pub fn pgbackrest_files(&self) -> Vec<PathBuf> {
        let main = ["etc/pgbackrest/pgbackrest.conf", "etc/pgbackrest.conf"].map(|path| self.root.join(path));
        let mut files: Vec<PathBuf> = main.into_iter().filter(|path| path.is_file()).take(1).collect();
        files.extend(with_ending(&self.root.join("etc/pgbackrest/conf.d"), "conf"));
        files
    }

    /// Barman's main configuration file, if it is there.
    pub fn barman_file(&self) -> Option<PathBuf> {
        let main = ["etc/barman.conf", "etc/barman/barman.conf"].map(|path| self.root.join(path));
        main.into_iter().find(|path| path.is_file())
    }

    /// WAL-G's configuration: a file of its own, or a directory of variables as envdir reads it.
    pub fn wal_g_config(&self) -> Option<PathBuf> {
        let places = [
            "etc/wal-g/wal-g.yaml",
            "etc/wal-g/wal-g.json",
            "etc/wal-g.d/env",
            "etc/wal-g/env",
            "var/lib/postgresql/.walg.json",
            "var/lib/pgsql/.walg.json",
        ];
        places.map(|path| self.root.join(path)).into_iter().find(|path| path.exists())
    }
}

/// Everything that is configured.
pub fn detect(machine: &Machine) -> Vec<Detected> {
    let mut all = Vec::new();
    let files = machine.pgbackrest_files();
    for file in &files {
        for stanza in stanzas(std::slice::from_ref(file)) {
            if all.iter().any(|known: &Detected| known.what == format!("stanza {stanza}")) {
                continue;
            }
            // The tool finds its own files; only another root's must be named.
            let config = (machine.root != Path::new("/")).then(|| file.clone());
            let wish = Wish { kind: Some(Kind::Pgbackrest), stanza: Some(stanza.clone()), config, ..Wish::default() };
            all.push(Detected { kind: Kind::Pgbackrest, what: format!("stanza {stanza}"), from: file.clone(), wish });
        }
    }
    if let Some(file) = machine.barman_file() {
        for server in barman(&file).servers() {
            let config = Some(file.clone());
            let wish = Wish { kind: Some(Kind::Barman), server: Some(server.clone()), config, ..Wish::default() };
            all.push(Detected { kind: Kind::Barman, what: format!("server {server}"), from: file.clone(), wish });
        }
    }
    if let Some(file) = machine.wal_g_config() {
        let wish = Wish { kind: Some(Kind::WalG), config: Some(file.clone()), ..Wish::default() };
        all.push(Detected { kind: Kind::WalG, what: "its storage".into(), from: file, wish });
    }
    all
}

/// The stanzas of pgBackRest's files.
pub fn stanzas(files: &[PathBuf]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for file in files {
        for (section, _) in ini(&fs::read_to_string(file).unwrap_or_default()) {
            let stanza = section.split(':').next().unwrap_or_default();
            if stanza != "global" && !stanza.is_empty() && !all.iter().any(|known| known == stanza) {
                all.push(stanza.to_owned());
            }
        }
    }
    all
}

/// What pgBackRest's files say for a stanza.
fn pgbackrest_values(files: &[PathBuf], stanza: &str) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        for (section, pairs) in ini(&fs::read_to_string(file).unwrap_or_default()) {
            if section == "global" || section == stanza {
                values.extend(pairs);
            }
        }
    }
    values
}

/// Where a stanza's repository is, when it is a directory of this machine.
pub fn pgbackrest_path(files: &[PathBuf], stanza: &str, repo: u32) -> PathBuf {
    let name = format!("repo{repo}-path");
    let known = pgbackrest_values(files, stanza).remove(&name);
    known.map_or_else(|| PathBuf::from("/var/lib/pgbackrest"), PathBuf::from)
}

/// Does a stanza's first repository lie elsewhere? None when no file says where it is.
pub fn pgbackrest_is_remote(files: &[PathBuf], stanza: &str) -> Option<bool> {
    let values = pgbackrest_values(files, stanza);
    let value = |name: &str| values.get(name).or_else(|| values.get(&name.replace("repo1", "repo")));
    if value("repo1-host").is_some() {
        return Some(true);
    }
    match value("repo1-type").map(String::as_str) {
        Some("posix" | "cifs") | None => (!values.is_empty()).then_some(false),
        Some(_) => Some(true),
    }
}

/// Barman's files, as one.
#[derive(Debug, Clone, Default)]
pub struct BarmanFiles {
    /// Sections in order; `barman` holds what goes for all servers.
    pub sections: Vec<(String, BTreeMap<String, String>)>,
}

impl BarmanFiles {
    /// The servers.
    pub fn servers(&self) -> Vec<String> {
        self.sections.iter().map(|(name, _)| name.clone()).filter(|name| name != "barman" && name != "all").collect()
    }

    /// A value for a server: its own, or that for all.
    pub fn value(&self, server: &str, name: &str) -> Option<&str> {
        let of = |section: &str| {
            let (_, values) = self.sections.iter().find(|(found, _)| found == section)?;
            values.get(name).map(String::as_str)
        };
        of(server).or_else(|| of("barman"))
    }
}

/// Reads Barman's main file and the directory that it names.
pub fn barman(file: &Path) -> BarmanFiles {
    let mut files = BarmanFiles { sections: ini(&fs::read_to_string(file).unwrap_or_default()) };
    let dir = files.value("barman", "configuration_files_directory").map(PathBuf::from);
    for file in dir.iter().flat_map(|dir| with_ending(dir, "conf")) {
        for (name, values) in ini(&fs::read_to_string(file).unwrap_or_default()) {
            match files.sections.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.extend(values),
                None => files.sections.push((name, values)),
            }
        }
    }
    files
}

/// Files of a directory with this ending, by name.
fn with_ending(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|own| own == ending)).collect();
    files.sort();
    files
}

/// Sections with their values; `#` and `;` begin comments, and lines that begin with blanks go on with a value.
pub fn ini(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut sections: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut last: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            sections.push((name.trim().to_owned(), BTreeMap::new()));
            last = None;
            continue;
        }
        let Some((_, values)) = sections.last_mut() else { continue };
        match (line.starts_with([' ', '\t']), &last, trimmed.split_once('=')) {
            (true, Some(name), _) => {
                if let Some(value) = values.get_mut(name) {
                    value.push('\n');
                    value.push_str(trimmed);
                }
            }
            (_, _, Some((name, value))) => {
                last = Some(name.trim().to_owned());
                values.insert(name.trim().to_owned(), value.trim().to_owned());
            }
            _ => {}
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let main = "[global]\nrepo1-path=/r\nrepo1-type=s3\n#[old]\n[global:archive-push]\ncompress-level=3\n[main]\npg1-path=/d\n";
        let file = write("etc/pgbackrest.conf", main);
        write("etc/pgbackrest/conf.d/x.conf", "[shop]\npg1-path=/s\n[main:backup]\n");
        let servers = dir.path().join("etc/barman.d");
        write(
            "etc/barman.conf",
            &format!("[barman]\nbarman_home = /b\nconfiguration_files_directory = {}\n", servers.display()),
        );
        write("etc/barman.d/pg.conf", "; a server\n[pg]\ndescription = a\n  b\nconninfo = host=pg\n");
        write("etc/barman.d/pg.conf.template", "[no]\n");
        write("etc/wal-g.d/env/WALG_FILE_PREFIX", "/w\n");
        let found: Vec<String> =
            detect(&Machine::at(dir.path())).iter().map(|one| format!("{} {}", one.kind, one.what)).collect();
        assert_eq!(
            found,
            ["pgBackRest stanza main", "pgBackRest stanza shop", "Barman server pg", "WAL-G its storage"]
        );
        assert_eq!(pgbackrest_is_remote(&[file], "main"), Some(true));
        let files = barman(&dir.path().join("etc/barman.conf"));
        assert_eq!(files.value("pg", "barman_home"), Some("/b"));
        assert_eq!(files.value("pg", "description"), Some("a\nb"));
        assert_eq!(detect(&Machine::at(dir.path().join("none"))), []);
    }
}
