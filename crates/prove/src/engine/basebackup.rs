//! What pg_basebackup made: a directory, plain or as tar files, alone or with a WAL archive beside it.
//!
//! It is never started where it lies: it is copied, and the copy is compared with the backup's manifest.

mod label;
pub(super) mod tar;
mod wal_dir;

pub(super) use wal_dir::{WalDir, fetch_body};

use super::{
    Archive, Engine, Held, Kind, Landed, Order, Survey, Wish, archive, choose, fault, land,
    manifest::{self, Manifest},
};
use crate::error::{ProveError, Result};
use jiff::Timestamp;
use label::Label;
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};
use surus_backup::restore::target::Goal;
use surus_core::code;
use surus_pg::account::Account;

/// One directory of pg_basebackup, or a directory of such.
#[derive(Debug, Clone)]
pub struct BaseBackup {
    dir: PathBuf,
    wal: Option<PathBuf>,
    account: Account,
}

/// A backup in a directory of its own.
#[derive(Debug, Clone)]
struct Found {
    label: String,
    path: PathBuf,
    /// The main tar file; none: a directory as the server has it.
    base: Option<PathBuf>,
}

impl BaseBackup {
    /// From `--dir` and `--wal`.
    ///
    /// # Errors
    /// When there is no such directory, or no backup in it.
    pub fn open(wish: &Wish) -> Result<Self> {
        let Some(dir) = &wish.dir else {
            let text = "--engine basebackup needs --dir: the directory that pg_basebackup made";
            return Err(ProveError::refused(code::PROVE_ENGINE, text));
        };
        let whole = |dir: &PathBuf| fs::canonicalize(dir).map_err(ProveError::named("cannot open", dir));
        let wal = wish.wal.as_ref().map(whole).transpose()?;
        let engine = Self { dir: whole(dir)?, wal, account: Account::unprivileged()? };
        engine.found()?;
        Ok(engine)
    }

    /// The backups: the directory itself, or those below it.
    fn found(&self) -> Result<Vec<Found>> {
        if let Some(found) = Found::at(&self.dir)? {
            return Ok(vec![found]);
        }
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(ProveError::named("cannot read", &self.dir))?.flatten() {
            if entry.path().is_dir() {
                all.extend(Found::at(&entry.path())?);
            }
        }
        if all.is_empty() {
            let text = format!(
                "{} holds no backup of pg_basebackup: neither PG_VERSION with backup_label nor base.tar is in it",
                self.dir.display()
            );
            return Err(ProveError::refused(code::ENGINE_FORM, text));
        }
        all.sort_by(|one, other| one.label.cmp(&other.label));
        Ok(all)
    }

    fn wal_dir(&self) -> Result<Option<WalDir>> {
        self.wal.as_deref().map(WalDir::read).transpose()
    }

    fn held(&self, found: &Found, archive: Option<&WalDir>) -> Result<Held> {
        let mut held = Held { full: true, ..Held::named(&found.label) };
        let label = match found.label() {
            Ok(label) => label,
            Err(error) => {
                held.trouble = Some(error.to_string());
                return Ok(held);
            }
        };
        (held.timeline, held.start_lsn, held.started_at) = (Some(label.timeline), Some(label.start), label.started_at);
        match Manifest::read(&found.path.join(manifest::NAME)) {
            Ok(Some(manifest)) => {
                let range = manifest.range();
                held.stop_lsn = range.map(|range| range.end);
                if range.is_some_and(|range| (range.timeline, range.start) != (label.timeline, label.start)) {
                    held.trouble = Some("its backup_manifest is that of another backup".into());
                }
                held.size = Some(manifest.bytes());
            }
            Ok(None) => {}
            Err(error) => held.trouble = Some(error.to_string()),
        }
        match archive {
            Some(archive) => {
                if let Some((stop, at)) = archive.stop_of(&label) {
                    held.stop_lsn = held.stop_lsn.or(Some(stop));
                    held.stopped_at = at;
                }
            }
            // Without an archive there is one moment only, and the last file that was written tells it best.
            None => held.stopped_at = found.written_at(),
        }
        Ok(held)
    }

    /// The WAL that a backup brings along, and the archive's.
    fn wal(&self, found: &Found, archive: Option<WalDir>) -> Result<Archive> {
        let alone = archive.is_none();
        let mut dir = archive.unwrap_or_default();
        dir.merge(found.own_wal(alone)?);
        dir.segment_size = found.segment_size(dir.segment_size);
        let mut archive = dir.into_archive();
        // Where nothing is left, what is missing is named, too.
        archive.segment_size = found.segment_size(archive.segment_size);
        Ok(archive)
    }

    fn bring(&self, found: &Found, order: &Order<'_>) -> Result<Vec<String>> {
        let data = order.place.data();
        make(&data, &self.account)?;
        let spaces = land::room(order.place, "tablespaces", &self.account)?;
        let to = data.display();
        match &found.base {
            None => {
                land::mode(&found.path)?;
                copy(&found.path, &data, found.owner()?)?;
                for (oid, from) in land::tablespaces(&found.path)? {
                    if !from.is_dir() {
                        let text = format!("tablespace {oid} is missing: {} is not there", from.display());
                        return Err(ProveError::refused(code::ENGINE_DAMAGED, text));
                    }
                    let own = spaces.join(oid.to_string());
                    make(&own, &self.account)?;
                    copy(&from, &own, found.owner()?)?;
                    relink(&data, oid, &own)?;
                }
                Ok(vec![format!("cp -a {} {to}", found.path.display())])
            }
            Some(base) => {
                let mut commands = vec![format!("tar -xf {} -C {to}", base.display())];
                tar::extract(base, &data, &self.account, found.owner()?)?;
                let map = fs::read_to_string(data.join("tablespace_map")).unwrap_or_default();
                for (oid, from) in label::tablespace_map(&map) {
                    let Some(file) = tar::file(&found.path, &oid.to_string()) else {
                        let file = found.path.join(format!("{oid}.tar"));
                        let text = format!("tablespace {oid} ({from}) is missing: {} is not there", file.display());
                        return Err(ProveError::refused(code::ENGINE_DAMAGED, text));
                    };
                    let own = spaces.join(oid.to_string());
                    make(&own, &self.account)?;
                    tar::extract(&file, &own, &self.account, found.owner()?)?;
                    relink(&data, oid, &own)?;
                    commands.push(format!("tar -xf {} -C {}", file.display(), own.display()));
                }
                if let Some(file) = tar::file(&found.path, "pg_wal") {
                    let own = data.join("pg_wal");
                    tar::extract(&file, &own, &self.account, found.owner()?)?;
                    commands.push(format!("tar -xf {} -C {}", file.display(), own.display()));
                }
                Ok(commands)
            }
        }
    }
}

impl Engine for BaseBackup {
    fn kind(&self) -> Kind {
        Kind::Basebackup
    }

    fn address(&self) -> String {
        self.dir.display().to_string()
    }

    fn off_site(&self) -> Option<bool> {
        // A network's file system looks like any other directory.
        None
    }

    fn survey(&self) -> Result<Survey> {
        let archive = self.wal_dir()?;
        let found = self.found()?;
        let mut backups = Vec::new();
        let mut notes = Vec::new();
        for one in &found {
            backups.push(self.held(one, archive.as_ref())?);
            if !one.path.join(manifest::NAME).exists() {
                notes.push(format!("{} has no {}: its files cannot be verified", one.label, manifest::NAME));
            }
        }
        backups.sort_by_key(|held| (held.timeline, held.start_lsn));
        let newest = found.iter().find(|one| backups.last().is_some_and(|held| held.label == one.label));
        let wal = match newest {
            Some(newest) => self.wal(newest, archive)?,
            None => Archive::default(),
        };
        Ok(Survey {
            system_identifier: newest.and_then(Found::system_identifier),
            major: newest.and_then(Found::major),
            gaps: if self.wal.is_some() { wal.gaps(&backups) } else { Vec::new() },
            // What a backup brings along leads to one moment only.
            newest_segment: wal.newest().filter(|_| self.wal.is_some()).map(|kept| kept.segment.to_string()),
            newest_segment_at: wal.newest().filter(|_| self.wal.is_some()).and_then(|kept| kept.at),
            backups,
            notes,
        })
    }

    fn archive(&self) -> Result<Archive> {
        let Some(mut dir) = self.wal_dir()? else { return Ok(Archive::default()) };
        if let Some(newest) = self.found()?.last() {
            dir.segment_size = newest.segment_size(dir.segment_size);
        }
        Ok(dir.into_archive())
    }

    fn restore(&self, order: &Order<'_>) -> Result<Landed> {
        let survey = self.survey()?;
        let held = choose(&survey, order)?;
        let found = self.found()?;
        let Some(found) = found.iter().find(|one| one.label == held.label) else {
            let text = format!("backup {} has gone while it was looked at", held.label);
            return Err(ProveError::refused(code::PROVE_NO_BACKUP, text));
        };
        let archive = self.wal_dir()?;
        if let Some(archive) = &archive {
            archive.readable(&self.account)?;
        } else if !matches!(order.target.goal, Goal::Latest | Goal::Immediate) {
            let text = "without a WAL archive (--wal) a base backup leads to its own end and nowhere else";
            return Err(ProveError::refused(code::ENGINE_WAL, text));
        }
        let has_archive = archive.is_some();
        let way = self.wal(found, archive)?.demand(held, order.target)?;
        let mut commands = self.bring(found, order)?;
        let data = order.place.data();
        let mut notes = Vec::new();
        match Manifest::read(&found.path.join(manifest::NAME))? {
            Some(manifest) => manifest.verify(&data, &[])?,
            None => notes.push(format!("there is no {}: the files could not be verified", manifest::NAME)),
        }
        map_spaces(&data, order)?;
        land::own_all(&data, &self.account)?;
        land::own_all(&order.place.tablespaces(), &self.account)?;
        let seen = land::inspect(&data)?;
        if let (true, Some(wal)) = (has_archive, &self.wal) {
            let fetch = land::fetcher(order.place, &self.account, &fetch_body(wal))?;
            land::arm(&data, &self.account, &fetch, order.target, way.timeline)?;
            commands.push(format!("# restore_command = 'cp {}/%f %p'", wal.display()));
        } else {
            // It replays the WAL that it brought along; it must not look for a primary.
            for name in ["standby.signal", "recovery.signal"] {
                let _ = fs::remove_file(data.join(name));
            }
            notes.push("no WAL archive was given: this is the moment at which the backup ended".into());
        }
        Ok(land::landed(order, &held.label, seen, way.newest, commands, notes))
    }
}

impl Found {
    /// The backup in this directory; none when it holds none.
    fn at(dir: &Path) -> Result<Option<Self>> {
        let label = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(base) = tar::file(dir, "base") {
            return Ok(Some(Self { label, path: dir.to_owned(), base: Some(base) }));
        }
        if !dir.join("PG_VERSION").exists() && !dir.join("global").is_dir() {
            return Ok(None);
        }
        if !dir.join("backup_label").exists() {
            let text = match surus_pg::server::running_pid(dir) {
                Some(pid) => format!("{} is the data directory of a server that runs (process {pid})", dir.display()),
                None => format!("{} has no backup_label: it is no base backup, or was started", dir.display()),
            };
            return Err(ProveError::refused(code::ENGINE_FORM, text));
        }
        Ok(Some(Self { label, path: dir.to_owned(), base: None }))
    }

    fn label(&self) -> Result<Label> {
        let text = match &self.base {
            None => {
                let path = self.path.join("backup_label");
                fs::read_to_string(&path).map_err(ProveError::input("cannot read", &path))?
            }
            Some(base) => tar::text(base, "backup_label")?,
        };
        Label::parse(&text).ok_or_else(|| {
            let text = format!("the backup_label in {} is damaged", self.path.display());
            ProveError::refused(code::ENGINE_DAMAGED, text)
        })
    }

    /// Bytes of a segment, as its start and the name of its first segment tell.
    fn segment_size(&self, otherwise: u64) -> u64 {
        let label = self.label().ok();
        label.map_or(otherwise, |label| archive::segment_size(std::iter::once((label.start, label.file.as_str()))))
    }

    /// Who made it, and so would restore it: user and group.
    fn owner(&self) -> Result<(u32, u32)> {
        let path = self.base.as_deref().unwrap_or(&self.path);
        let meta = self.path.metadata().map_err(ProveError::input("cannot read", path))?;
        Ok((meta.uid(), meta.gid()))
    }

    fn written_at(&self) -> Option<Timestamp> {
        let files =
            [self.path.join(manifest::NAME), self.base.clone().unwrap_or_else(|| self.path.join("backup_label"))];
        let at = files.iter().find_map(|file| file.metadata().ok()?.modified().ok())?;
        Timestamp::try_from(at).ok()
    }

    fn system_identifier(&self) -> Option<u64> {
        let stated =
            Manifest::read(&self.path.join(manifest::NAME)).ok().flatten().and_then(|one| one.system_identifier);
        let control = || fs::read(self.path.join(surus_backup::control::PATH)).ok();
        stated.or_else(|| Some(surus_backup::control::Control::parse(&control()?).ok()?.system_identifier))
    }

    fn major(&self) -> Option<u16> {
        let text = match &self.base {
            None => fs::read_to_string(self.path.join("PG_VERSION")).ok()?,
            Some(base) => tar::text(base, "PG_VERSION").ok()?,
        };
        text.trim().parse().ok()
    }

    /// The WAL that is part of it.
    fn own_wal(&self, alone: bool) -> Result<WalDir> {
        match &self.base {
            None => WalDir::read(&self.path.join("pg_wal")),
            Some(_) => match tar::file(&self.path, "pg_wal") {
                Some(file) => WalDir::listed(tar::sizes(&file)?),
                // Without an archive it must be in the main file: pg_basebackup -X fetch puts it there.
                None if alone => {
                    let own = |(name, size): (String, u64)| Some((name.strip_prefix("pg_wal/")?.to_owned(), size));
                    let files = self.base.as_deref().map(tar::sizes).transpose()?.unwrap_or_default();
                    WalDir::listed(files.into_iter().filter_map(own).collect())
                }
                None => Ok(WalDir::default()),
            },
        }
    }
}

fn make(dir: &Path, account: &Account) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700).recursive(true).create(dir).map_err(ProveError::file("cannot make", dir))?;
    Ok(account.own(dir)?)
}

/// Copies what is in a directory; links in pg_tblspc are left out. What its owner may not read is refused, though we
/// might: whoever restores it in earnest is no one else.
fn copy(from: &Path, to: &Path, owner: (u32, u32)) -> Result<()> {
    for entry in fs::read_dir(from).map_err(ProveError::input("cannot read", from))? {
        let path = entry.map_err(ProveError::input("cannot read", from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        let meta = fs::symlink_metadata(&path).map_err(ProveError::input("cannot read", &path))?;
        let in_spaces = from.ends_with("pg_tblspc");
        if meta.is_symlink() && in_spaces {
            continue;
        }
        // A directory outside that was linked in, like pg_wal, becomes part of the copy.
        let meta = if meta.is_symlink() {
            fs::metadata(&path).map_err(ProveError::input("cannot read", &path))?
        } else {
            meta
        };
        if !fault::bits(&meta, owner.0, owner.1) {
            let mode = meta.mode() & 0o7777;
            let text = format!(
                "{} cannot be read by the backup's owner: mode {mode:04o}, uid {}, and the backup is of uid {}",
                path.display(),
                meta.uid(),
                owner.0
            );
            return Err(ProveError::refused(code::ENGINE_ACCESS, text));
        }
        if meta.is_dir() {
            fs::create_dir(&target).map_err(ProveError::file("cannot make", &target))?;
            let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
            fs::set_permissions(&target, mode).map_err(ProveError::file("cannot change", &target))?;
            copy(&path, &target, owner)?;
        } else if meta.is_file() {
            fs::copy(&path, &target).map_err(ProveError::file("cannot copy", &path))?;
        }
    }
    Ok(())
}

/// Lets a tablespace's link lead into the place.
fn relink(data: &Path, oid: u32, to: &Path) -> Result<()> {
    let link = data.join("pg_tblspc").join(oid.to_string());
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link).map_err(ProveError::file("cannot remove", &link))?;
    }
    symlink(to, &link).map_err(ProveError::file("cannot make", &link))
}

/// The server makes links as its tablespace_map says: it must not lead to the original's places.
fn map_spaces(data: &Path, order: &Order<'_>) -> Result<()> {
    let path = data.join("tablespace_map");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let root = order.place.tablespaces();
    let lines = label::tablespace_map(&text).into_iter();
    let new: String = lines.map(|(oid, _)| format!("{oid} {}\n", root.join(oid.to_string()).display())).collect();
    fs::write(&path, new).map_err(ProveError::file("cannot write", &path))
}
