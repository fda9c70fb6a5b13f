//! A data directory for each major and set of initdb options, made once and copied for each server.

use crate::run_dir;
use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    process,
};
use surus_pg::{
    Programs,
    account::Account,
    server::{InitOptions, LocalServer},
};

/// Puts a new data directory into `dir/data`.
pub(crate) fn copy_to(programs: &Programs, options: &InitOptions, dir: &Path) {
    let template = template(programs, options);
    let account = Account::unprivileged().expect("there is an account for PostgreSQL");
    account.own(dir).expect("the run directory can be given away");
    copy_tree(&template.join("data"), &dir.join("data"), &account)
        .unwrap_or_else(|error| panic!("the template {} cannot be copied: {error}", template.display()));
}

fn template(programs: &Programs, options: &InitOptions) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (programs.version().num(), programs.bin_dir(), options.arguments(programs.major())).hash(&mut hasher);
    let templates = run_dir::root().join("templates");
    fs::create_dir_all(&templates).expect("the template directory can be made");
    let name = format!("{}-{:016x}", programs.major(), hasher.finish());
    let path = templates.join(&name);
    if path.is_dir() {
        return path;
    }
    let lock = File::create(templates.join(format!("{name}.making"))).expect("a lock file can be made");
    lock.lock().expect("a lock can be waited for");
    if !path.is_dir() {
        // The rename makes it appear whole or not at all, also when this process is killed.
        let half_made = templates.join(format!("{name}.{}", process::id()));
        let _ = fs::remove_dir_all(&half_made);
        LocalServer::init(programs, &half_made, options)
            .unwrap_or_else(|error| panic!("no template for PostgreSQL {}: {error}", programs.version()));
        fs::rename(&half_made, &path).expect("the template can be renamed");
    }
    path
}

fn copy_tree(from: &Path, to: &Path, account: &Account) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    account.own(to).map_err(io::Error::other)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, account)?;
        } else {
            fs::copy(entry.path(), &target)?;
            account.own(&target).map_err(io::Error::other)?;
        }
    }
    Ok(())
}
