use crate::{
    rule::{Check, Look, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use std::path::{Path, PathBuf};
use surus_core::{
    finding::{Finding, Reason, Severity},
    plan::Plan,
};
use surus_pg::host::state::{self, FileMode};

pub static CHECK: Check = Check {
    id: "sec.fs_perms",
    title: "other accounts of the host may read or change files of the server",
    inspects: "modes of data_directory, hba_file, ident_file, config_file, ssl_key_file and the socket directories",
    why: "Whoever reads the data files reads every table; whoever writes pg_hba.conf lets himself in. The database's own \
          permissions do not count there.",
    remedy: "chmod as the finding says, as the server's account.",
    source: "CIS PostgreSQL Benchmark (pgdsat); check_pgactivity pgdata_permission; the server's own rule for PGDATA and key files",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings, Need::Host],
    thresholds: &[],
    look: Look::Facts(judge),
};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Access,
    Config,
    Key,
    SocketDirectory,
}

fn judge(scene: &Scene<'_>) -> Judged {
    let data = scene.data_directory()?;
    let settings = scene.settings();
    let mut files: Vec<(Kind, PathBuf)> = vec![(Kind::Data, data.clone())];
    let named = |name: &str| settings.text(name).filter(|text| !text.is_empty()).map(|text| data.join(text));
    for (kind, name) in [(Kind::Access, "hba_file"), (Kind::Access, "ident_file"), (Kind::Config, "config_file")] {
        files.extend(named(name).map(|path| (kind, path)));
    }
    if scene.on("ssl")? {
        files.extend(named("ssl_key_file").map(|path| (Kind::Key, path)));
    }
    let sockets = settings.list("unix_socket_directories").unwrap_or_default();
    // A name with @ is an abstract socket, which has no directory.
    files.extend(
        sockets.iter().filter(|dir| dir.starts_with('/')).map(|dir| (Kind::SocketDirectory, PathBuf::from(dir))),
    );
    let mut verdict = Verdict::ok();
    for (kind, path) in files {
        match state::file_mode(&path) {
            Ok(mode) => verdict
                .findings
                .extend(wrong(kind, mode).map(|(severity, what, right)| finding(&path, mode, severity, what, right))),
            Err(error) => {
                let why = format!("{error}; run surus as root or as the server's account");
                verdict = verdict.but_unknown(path.display().to_string(), Reason::Host(why));
            }
        }
    }
    Ok(verdict)
}

/// How bad a mode is, what others may do, and the right mode.
fn wrong(kind: Kind, FileMode { mode, uid, .. }: FileMode) -> Option<(Severity, &'static str, u32)> {
    match kind {
        Kind::Data if mode & 0o027 != 0 => Some((Severity::Crit, "enter or change the data directory", 0o700)),
        Kind::Access if mode & 0o022 != 0 => Some((Severity::Crit, "change who may connect", 0o600)),
        Kind::Access if mode & 0o004 != 0 => Some((Severity::Warn, "read who may connect", 0o640)),
        Kind::Config if mode & 0o022 != 0 => {
            Some((Severity::Crit, "change the server's settings, and so run programs as it", 0o600))
        }
        // The server's own rule: a key of root's may be readable by a group.
        Kind::Key if mode & 0o077 != 0 && !(uid == 0 && mode & 0o037 == 0) => {
            Some((Severity::Crit, "read or change the private key of the server", 0o600))
        }
        Kind::SocketDirectory if mode & 0o002 != 0 && mode & 0o1000 == 0 => {
            Some((Severity::Crit, "replace the server's socket by one of their own", 0o1777))
        }
        _ => None,
    }
}

fn finding(path: &Path, mode: FileMode, severity: Severity, what: &str, right: u32) -> Finding {
    let path = path.display();
    Finding::new(
        severity,
        path.to_string(),
        format!("other accounts of the host may {what} ({path}, mode {:04o})", mode.mode),
    )
    .detail("Permissions inside the database do not protect against that.")
    .saw("mode", format!("{:04o}", mode.mode))
    .saw("owner uid", mode.uid)
    .fix(Plan::advice(format!("chmod {right:04o} '{path}'")))
}

#[cfg(test)]
mod tests {
    use super::{CHECK, Kind, wrong};
    use crate::testing::*;
    use std::{fs, os::unix::fs::PermissionsExt};
    use surus_pg::host::state::FileMode;

    check_tests!(CHECK);

    #[test]
    fn sees_open_files() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), []);
            let data = on.server.data_dir().to_owned();
            let set =
                |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            set(&data.join("pg_hba.conf"), 0o644);
            set(&data.join("pg_ident.conf"), 0o660);
            set(&data, 0o755);
            let found = on.findings();
            let seen: Vec<_> =
                found.iter().map(|f| (f.severity.word(), f.object.rsplit('/').next().unwrap())).collect();
            assert_eq!(seen, [("crit", "data"), ("crit", "pg_ident.conf"), ("warn", "pg_hba.conf")]);
            set(&data, 0o750);
            assert_eq!(on.findings().len(), 2, "a group that reads for backups is a supported set-up");
        });
    }

    #[test]
    fn keys_and_socket_directories() {
        let is_wrong = |kind, mode, uid| wrong(kind, FileMode { mode, uid, gid: 0 }).is_some();
        assert!(is_wrong(Kind::Key, 0o640, 101) && !is_wrong(Kind::Key, 0o640, 0) && is_wrong(Kind::Key, 0o644, 0));
        assert!(is_wrong(Kind::SocketDirectory, 0o777, 0) && !is_wrong(Kind::SocketDirectory, 0o1777, 0));
        assert!(!is_wrong(Kind::Config, 0o644, 101) && is_wrong(Kind::Config, 0o664, 101));
    }
}
