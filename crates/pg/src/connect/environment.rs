//! What the process environment says about connecting: the `PG*` variables, the home directory and the user's name.
//!
//! Read in one place and handed on, so that tests can give their own and nothing else looks at the process.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// A snapshot of the environment that connecting depends on.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    user: Option<String>,
    home: Option<PathBuf>,
    socket_directories: Vec<PathBuf>,
    system_directory: PathBuf,
}

/// Where PostgreSQL's servers put their Unix sockets: Debian's and Red Hat's choice, then the source's own default.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// Where the system-wide service file lies when `PGSYSCONFDIR` does not say (Debian's and Ubuntu's choice).
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

impl Environment {
    /// The environment of this process.
    pub fn read() -> Self {
        let mut environment = Self::empty();
        for (name, value) in std::env::vars_os() {
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
                && name.starts_with("PG")
            {
                environment.variables.insert(name, value);
            }
        }
        environment.user = whoami::username().ok();
        environment.home = std::env::home_dir();
        environment
    }

    /// An environment in which nothing is set: no variables, no user, no home.
    pub fn empty() -> Self {
        Self {
            variables: BTreeMap::new(),
            user: None,
            home: None,
            socket_directories: SOCKET_DIRECTORIES.iter().map(PathBuf::from).collect(),
            system_directory: SYSTEM_DIRECTORY.into(),
        }
    }

    /// The same environment with one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same environment with another name of the operating system's user.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// The same environment with another home directory.
    #[must_use]
    pub fn with_home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// The same environment with other default directories of Unix sockets.
    #[must_use]
    pub fn with_socket_directories(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        self.socket_directories = directories.into_iter().collect();
        self
    }

    /// A variable's value; an empty one counts as set, as for libpq.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The name of the operating system's user.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A file below the home directory.
    pub fn in_home(&self, path: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(path))
    }

    /// The directories in which a server's Unix socket is looked for when no host is given.
    pub fn socket_directories(&self) -> &[PathBuf] {
        &self.socket_directories
    }

    /// The system-wide service file.
    pub fn system_service_file(&self) -> PathBuf {
        self.variable("PGSYSCONFDIR")
            .map_or_else(|| self.system_directory.clone(), PathBuf::from)
            .join("pg_service.conf")
    }
}

/// Names only: `PGPASSWORD` is among the values.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys().collect::<Vec<_>>())
            .field("user", &self.user)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_values() {
        let environment = Environment::empty().with("PGPASSWORD", "hunter2").with_user("anna");
        assert_eq!(environment.variable("PGPASSWORD"), Some("hunter2"));
        let shown = format!("{environment:?}");
        assert!(shown.contains("PGPASSWORD") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_system_service_file_follows_pgsysconfdir() {
        let environment = Environment::empty();
        assert_eq!(environment.system_service_file(), PathBuf::from("/etc/postgresql-common/pg_service.conf"));
        let moved = environment.with("PGSYSCONFDIR", "/srv/etc");
        assert_eq!(moved.system_service_file(), PathBuf::from("/srv/etc/pg_service.conf"));
    }
}
