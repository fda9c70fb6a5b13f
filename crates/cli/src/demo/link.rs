//! How the demo's servers are reached: connection strings, and the password file that belongs to them.

use super::site::{Site, write_file};
use crate::failure::Failure;
use std::{
    fmt::Write as _,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use surus_core::{code, secret::Secret};
use surus_pg::{Manners, Session, Target};

/// The application's database.
pub const LAB: &str = "labdb";
/// The database in which sessions block one another; apart, so that index builds in the first are not held up.
pub const BILLING: &str = "billing";

/// Roles with a random password, which only the password file knows.
pub const SUPERUSER: &str = "postgres";
pub const MONITOR: &str = "surus_monitor";
pub const APPLICATION: &str = "labuser";

/// The files that a client needs.
#[derive(Debug, Clone)]
pub struct Link {
    root_certificate: PathBuf,
    passfile: PathBuf,
}

/// Random passwords, one for each role.
#[derive(Debug, Clone)]
pub struct Passwords(Vec<(&'static str, Secret)>);

impl Passwords {
    /// New ones.
    pub fn make() -> Result<Self, Failure> {
        let one = |role| Ok((role, random()?));
        Ok(Self([SUPERUSER, MONITOR, APPLICATION].into_iter().map(one).collect::<Result<_, Failure>>()?))
    }

    /// Role and password.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        self.0.iter().map(|(role, secret)| (*role, secret))
    }
}

/// 144 bits in hexadecimal digits.
pub fn random() -> Result<Secret, Failure> {
    let mut bytes = [0; 18];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Failure::new(code::LOCAL_DIRECTORY, format!("/dev/urandom: {error}")))?;
    let mut text = String::new();
    for byte in bytes {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(Secret::new(text))
}

impl Link {
    /// The files' places in the demo's directory.
    pub fn of(site: &Site) -> Self {
        Self { root_certificate: site.join("root.crt"), passfile: site.join("pgpass") }
    }

    /// Writes them.
    pub fn write(&self, root_certificate: &str, passwords: &Passwords) -> Result<(), Failure> {
        write_file(&self.root_certificate, root_certificate, 0o644)?;
        let line = |(role, secret): (&str, &Secret)| format!("*:*:*:{role}:{}\n", secret.reveal());
        write_file(&self.passfile, &passwords.iter().map(line).collect::<String>(), 0o600)
    }

    /// A URI with TLS and full verification; the password is in the file it names.
    pub fn dsn(&self, role: &str, port: u16, database: &str) -> String {
        format!(
            "postgresql://{role}@localhost:{port}/{database}?sslmode=verify-full&sslrootcert={}&passfile={}",
            escaped(&self.root_certificate),
            escaped(&self.passfile)
        )
    }

    /// A session of the application over TLS, with the server's own settings in force.
    pub async fn session(&self, role: &str, port: u16, database: &str, name: &str) -> Result<Session, Failure> {
        let target = Target::parse(&self.dsn(role, port, database))?;
        ordinary(&target, name).await
    }
}

/// A session without surus's manners: what the server's and the role's settings say is in force.
pub async fn ordinary(target: &Target, name: &str) -> Result<Session, Failure> {
    let session = target.connect(&Manners::changing()).await?;
    let name = surus_pg::quote::literal(name);
    session.run(&format!("RESET ALL; SET application_name = {name}")).await.map_err(asked)?;
    Ok(session)
}

/// A query that was not answered, as what ends the command.
pub fn asked(error: surus_pg::AskError) -> Failure {
    Failure::new(error.code(), error.message)
}

/// Percent-encoded for a URI; source: RFC 3986, section 2.3 (unreserved), and `/`, which stands in a query as it is.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.display().to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(byte)),
            // Writing into a String does not fail.
            other => drop(write!(text, "%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_odd_letters_survives_the_connection_string() {
        let link = Link { root_certificate: "/tmp/a b&c/root.crt".into(), passfile: "/tmp/ü%?/pgpass".into() };
        let target = Target::parse(&link.dsn("me", 5432, "lab")).unwrap();
        assert_eq!(target.settings().passfile.as_deref(), Some(Path::new("/tmp/ü%?/pgpass")));
        assert_eq!((target.user(), target.database()), ("me", "lab"));
    }

    #[test]
    fn passwords_differ() {
        let all = Passwords::make().unwrap();
        let mut texts: Vec<_> = all.iter().map(|(_, secret)| secret.reveal().to_owned()).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 3);
        assert!(texts.iter().all(|text| text.len() == 36));
    }
}
