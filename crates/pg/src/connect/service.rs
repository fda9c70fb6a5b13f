//! The connection service file: named sets of connection options.
//!
//! Source: PostgreSQL documentation, 34.17 "The Connection Service File", and `parseServiceFile` in `fe-connect.c`.

use crate::connect::{
    ConnectError,
    conninfo::{self, Options},
    environment::Environment,
};
use std::path::{Path, PathBuf};
use surus_core::code;

/// The options of a service: from the user's file, else from the system's.
///
/// # Errors
/// `SURUS-C002` when no file defines the service, or the file is not valid.
pub fn lookup(name: &str, servicefile: Option<&str>, environment: &Environment) -> Result<Options, ConnectError> {
    let named = servicefile.or_else(|| environment.variable("PGSERVICEFILE")).map(PathBuf::from);
    let mut looked_in = Vec::new();
    if let Some(file) = &named {
        // A file that was named has to be there; the default ones may be missing.
        let text = std::fs::read_to_string(file)
            .map_err(|e| failed(format!("the service file {} cannot be read: {e}", file.display())))?;
        looked_in.push(file.clone());
        if let Some(options) = section(&text, name, file)? {
            return Ok(options);
        }
    }
    let users = if named.is_none() { environment.in_home(".pg_service.conf") } else { None };
    for file in users.into_iter().chain([environment.system_service_file()]) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                looked_in.push(file);
                continue;
            }
            Err(e) => return Err(failed(format!("the service file {} cannot be read: {e}", file.display()))),
        };
        if let Some(options) = section(&text, name, &file)? {
            return Ok(options);
        }
        looked_in.push(file);
    }
    let files: Vec<_> = looked_in.iter().map(|file| file.display().to_string()).collect();
    Err(failed(format!("the service \"{name}\" is not defined in {}", files.join(" or "))))
}

fn failed(message: String) -> ConnectError {
    ConnectError::new(code::CONNECT_SERVICE, message)
}

/// The options of the section `[name]`; the first value of a keyword counts, as for libpq.
fn section(text: &str, name: &str, file: &Path) -> Result<Option<Options>, ConnectError> {
    let mut options: Option<Options> = None;
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if inside {
                break;
            }
            inside = header.strip_suffix(']') == Some(name);
            if inside {
                options = Some(Options::default());
            }
            continue;
        }
        let (true, Some(found)) = (inside, options.as_mut()) else { continue };
        let wrong = |what: &str| failed(format!("service file {}, line {}: {what}", file.display(), at + 1));
        if line.starts_with("ldap") {
            return Err(wrong("services kept in LDAP are not supported"));
        }
        let Some((keyword, value)) = line.split_once('=') else { return Err(wrong("\"=\" is missing")) };
        match keyword {
            "service" | "servicefile" => return Err(wrong("a service cannot refer to another service")),
            _ if conninfo::find(keyword).is_none() => {
                return Err(wrong(&format!("there is no connection option \"{keyword}\"")));
            }
            _ if found.get(keyword).is_none() => found.set(keyword, value)?,
            _ => {}
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[one]\nhost=one.example\nport=5433\nport=1\n\n[two]\ndbname=second\nuser = spaced\n";

    fn written(text: &str) -> (tempfile::TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pg_service.conf");
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap().to_owned();
        (directory, path)
    }

    #[test]
    fn reads_one_section_and_the_first_value_counts() {
        let options = section(FILE, "one", Path::new("f")).unwrap().unwrap();
        assert_eq!(
            (options.get("host"), options.get("port"), options.get("dbname")),
            (Some("one.example"), Some("5433"), None)
        );
        assert_eq!(section(FILE, "three", Path::new("f")).unwrap(), None);
    }

    #[test]
    fn names_the_file_and_the_line_of_a_mistake() {
        let error = section(FILE, "two", Path::new("/x/f")).unwrap_err();
        assert_eq!(error.code, code::CONNECT_SERVICE);
        assert!(error.message.contains("/x/f, line 9") && error.message.contains("\"user \""), "{}", error.message);
        for text in ["[a]\nservice=b\n", "[a]\nldap://h/dc=x?uniqueMember?one?(cn=a)\n", "[a]\nhost\n"] {
            assert_eq!(section(text, "a", Path::new("f")).unwrap_err().code, code::CONNECT_SERVICE);
        }
    }

    #[test]
    fn the_users_file_comes_before_the_systems() {
        let (home, _) = written("");
        std::fs::write(home.path().join(".pg_service.conf"), "[s]\nhost=mine\n").unwrap();
        let (system, _) = written("[s]\nhost=theirs\n[only]\nhost=system\n");
        let environment =
            Environment::empty().with_home(home.path()).with("PGSYSCONFDIR", system.path().to_str().unwrap());
        assert_eq!(lookup("s", None, &environment).unwrap().get("host"), Some("mine"));
        assert_eq!(lookup("only", None, &environment).unwrap().get("host"), Some("system"));
        let error = lookup("nowhere", None, &environment).unwrap_err();
        assert!(error.message.contains(".pg_service.conf") && error.message.contains("nowhere"), "{}", error.message);
    }

    #[test]
    fn a_named_file_must_be_there() {
        let (_kept, path) = written("[s]\nhost=named\n");
        let environment = Environment::empty().with("PGSERVICEFILE", &path);
        assert_eq!(lookup("s", None, &environment).unwrap().get("host"), Some("named"));
        assert_eq!(lookup("s", Some(&path), &Environment::empty()).unwrap().get("host"), Some("named"));
        let gone = Environment::empty().with("PGSERVICEFILE", "/nonexistent/services");
        assert_eq!(lookup("s", None, &gone).unwrap_err().code, code::CONNECT_SERVICE);
    }
}
