//! The demo's repository: the primary archives into it from its first segment on, and its backups are in it.

use super::{
    link::LAB,
    site::{unusable, write_file},
};
use crate::{config::Config, failure::Failure};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use surus_backup::Repo;
use surus_core::code;
use surus_pg::account::Account;

/// What `--repo` calls it.
pub const NAME: &str = "demo";
/// The configuration file, which the commands of another terminal read, too.
const CONFIG: &str = "surus.toml";

/// Where backups and WAL of the demo are, and the program that the primary archives with.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: PathBuf,
    program: PathBuf,
    site: PathBuf,
}

impl Repository {
    /// The one of this directory, which may be there already.
    pub fn of(site: &Path, account: &Account) -> Result<Self, Failure> {
        let folder = site.join("repository");
        if !folder.exists() {
            Repo::in_folder(&folder)?;
            own_all(account, &folder)?;
        }
        Ok(Self { folder, program: program(site, account)?, site: site.to_owned() })
    }

    /// The `surus` that the server's account may run.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The configuration file, once it is written.
    pub fn config(&self) -> PathBuf {
        self.site.join(CONFIG)
    }

    /// For the primary. Without an agent, nothing of it goes on when the server has ended.
    pub fn archive_command(&self) -> String {
        let word = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''").replace('%', "%%"));
        format!("{} wal push --no-agent --repo {} %p", word(&self.program), word(&self.folder))
    }

    /// Writes the configuration: both servers, the repository, backups now and then, and copies inside the site.
    pub fn write_config(&self, targets: &[(&str, String)]) -> Result<(), Failure> {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut text = format!("data_dir = {}\n", quoted(&self.site.join("surus").display().to_string()));
        for (name, dsn) in targets {
            text.push_str(&format!("\n[[target]]\nname = \"{name}\"\ndsn = {}\ncluster = \"demo\"\n", quoted(dsn)));
            if *name == "primary" {
                text.push_str("heartbeat = \"1s\"\n");
            }
        }
        text.push_str(&format!(
            "\n[[repository]]\nname = \"{NAME}\"\nplace = {}\n\n[[backup]]\ntarget = \"primary\"\n\
             repository = \"{NAME}\"\nfull = \"0 * * * *\"\nincremental = \"*/10 * * * *\"\nkeep_full = 2\n\n\
             [prove]\nscratch = {}\nreserve = \"64MB\"\n\n\
             [[invariant]]\nname = \"every task has a project\"\ndatabase = \"{LAB}\"\nsql = \"SELECT id FROM public.tasks t \
             WHERE NOT EXISTS (SELECT FROM public.projects p WHERE p.id = t.project_id)\"\n",
            quoted(&self.folder.display().to_string()),
            quoted(&self.site.join("copies").display().to_string()),
        ));
        // The servers fetch WAL with it; passwords stand in the password file.
        write_file(&self.config(), &text, 0o644)
    }

    /// What that file says.
    pub fn read_config(&self) -> Result<Config, Failure> {
        Config::load(Some(&self.config()))
    }

    /// Ends the copies that somebody looked into the past with.
    pub async fn drop_copies(&self) {
        if !self.site.join("copies").exists() {
            return;
        }
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("--config").arg(self.config()).args(["--quiet", "at", "--drop", "all"]);
        // What it cannot end ends by itself, when its time is over.
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    }

    /// Takes a full backup, as `surus backup run` does; gives what that says.
    pub async fn back_up(&self, account: &Account, dsn: &str) -> Result<Value, Failure> {
        let folder = self.folder.display().to_string();
        let words = ["backup", "run", "--full", "--format", "json", "--quiet", "--repo", &folder, dsn];
        // As the account that archives: what one of them makes the other one must be able to write to.
        let mut command = tokio::process::Command::from(account.command(&self.program, &self.site));
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        answer(command.output().await, code::BACKUP_ABORTED)
    }
}

/// What a `surus` of ours said, as JSON; its findings are an answer, too.
fn answer(output: std::io::Result<Output>, failed: code::Code) -> Result<Value, Failure> {
    let output = output.map_err(|error| Failure::bug(format!("surus did not start: {error}")))?;
    if matches!(output.status.code(), Some(0 | 1))
        && let Ok(value) = serde_json::from_slice(&output.stdout)
    {
        return Ok(value);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(failed, if said.is_empty() { output.status.to_string() } else { said }))
}

/// This program, if the account may run it where it is; else a copy in the site.
fn program(site: &Path, account: &Account) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::bug(format!("surus does not find itself: {error}")))?;
    let everybody = fs::metadata(&own).is_ok_and(|about| about.permissions().mode() & 0o005 == 0o005);
    if everybody && own.parent().is_some_and(|dir| account.can_enter(dir).is_ok()) {
        return Ok(own);
    }
    let (dir, copy) = (site.join("bin"), site.join("bin/surus"));
    if copy.exists() {
        return Ok(copy);
    }
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        fs::copy(&own, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
    };
    make().map_err(|error| unusable(&dir, &error))?;
    Ok(copy)
}

fn own_all(account: &Account, path: &Path) -> Result<(), Failure> {
    account.own(path)?;
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| unusable(path, &error))?;
        for entry in entries.flatten() {
            own_all(account, &entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_whatever_the_directory_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("it's \"odd\" \\ 50%");
        fs::create_dir(&site).unwrap();
        let repository = Repository { folder: site.join("repository"), program: "/usr/bin/surus".into(), site };
        repository.write_config(&[("primary", "host=/tmp/x".into()), ("standby", "host=/tmp/y".into())]).unwrap();
        let config = repository.read_config().unwrap();
        assert_eq!(config.repository[0].place, repository.folder.display().to_string());
        assert_eq!((config.target.len(), config.backup.len(), config.invariant.len()), (2, 1, 1));
        assert!(repository.archive_command().contains("50%%/repository' %p"), "{}", repository.archive_command());
    }
}
