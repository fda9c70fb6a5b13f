//! `BASE_BACKUP`: all files of a cluster as tar archives, one for each tablespace.

use super::{Replication, Step, frame::Parts, gone, literal, parsed, strange};
use crate::ask::AskError;
use std::{collections::VecDeque, io::Read};
use surus_core::{lsn::Lsn, version::Version};

/// Bytes of a manifest that are sent in one message.
const MANIFEST_PIECE: usize = 64 << 10;

/// How a base backup is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseBackupOptions {
    pub label: String,
    /// Ask for an immediate checkpoint instead of one that is spread over time.
    pub fast: bool,
    /// Bytes a second at most; the server takes whole kilobytes from 32 kB to 1 GB.
    pub max_rate: Option<u64>,
    /// Only what changed since the backup whose manifest was sent with [`Replication::upload_manifest`]; PostgreSQL 17
    /// or newer.
    pub incremental: bool,
}

impl BaseBackupOptions {
    /// The command. The server does not wait for WAL to be archived, sends none, writes no manifest, and leaves page
    /// checksums to us: it would end the whole backup for a bad one. Tablespaces are named in a `tablespace_map`.
    fn command(&self, version: Version) -> String {
        let rate = self.max_rate.map(|bytes| (bytes / 1024).clamp(32, 1 << 20));
        let label = literal(&self.label);
        if version.major() < 15 {
            let fast = if self.fast { " FAST" } else { "" };
            let rate = rate.map_or_else(String::new, |rate| format!(" MAX_RATE {rate}"));
            let rest = "NOWAIT TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'no'";
            return format!("BASE_BACKUP LABEL {label} PROGRESS{fast}{rate} {rest}");
        }
        let checkpoint = if self.fast { "fast" } else { "spread" };
        let rate = rate.map_or_else(String::new, |rate| format!(", MAX_RATE {rate}"));
        let incremental = if self.incremental { ", INCREMENTAL" } else { "" };
        format!(
            "BASE_BACKUP (LABEL {label}, PROGRESS, CHECKPOINT '{checkpoint}', WAIT false, WAL false, TABLESPACE_MAP true, \
             VERIFY_CHECKSUMS false, MANIFEST 'no'{rate}{incremental})"
        )
    }
}

/// A position in WAL and the timeline on which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupPoint {
    pub lsn: Lsn,
    pub timeline: u32,
}

/// A tar archive of a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The tablespace's number; `None` for the data directory itself.
    pub oid: Option<u32>,
    /// Where the tablespace is on the server.
    pub location: Option<String>,
    /// About how many bytes will come.
    pub bytes: u64,
}

/// What a base backup brings.
#[derive(Debug, PartialEq, Eq)]
pub enum BackupEvent<'a> {
    /// An archive begins; the one before is whole.
    Archive(Archive),
    /// More of the archive.
    Data(&'a [u8]),
    /// All archives are whole.
    End(BackupPoint),
}

/// A base backup that is coming.
#[derive(Debug)]
pub struct BaseBackup<'a> {
    connection: &'a mut Replication,
    /// Where recovery begins.
    pub start: BackupPoint,
    /// The archives that have not begun.
    coming: VecDeque<Archive>,
    /// Archives are separate COPYs before 15; afterwards one COPY carries them all, each part with its type.
    typed: bool,
    /// What comes is not of an archive.
    skipping: bool,
    ended: bool,
}

impl Replication {
    /// `BASE_BACKUP`. The server begins the backup, and waits for its checkpoint, before this returns.
    ///
    /// # Errors
    /// When the server refuses, or the connection is gone.
    pub async fn base_backup(&mut self, options: &BaseBackupOptions) -> Result<BaseBackup<'_>, AskError> {
        let version = self.version();
        self.send_query(&options.command(version)).await?;
        let start = self.point().await?;
        let spaces = self.rows().await?;
        let archive = |row: &Vec<Option<Vec<u8>>>| {
            let oid = spaces.of_row(row, "spcoid")?;
            let location = spaces.of_row(row, "spclocation")?;
            let kilobytes: u64 = spaces.of_row(row, "size")?.map_or(Ok(0), |size| parsed("size", Some(size)))?;
            Ok(Archive {
                oid: oid.map(|oid| parsed("spcoid", Some(oid))).transpose()?,
                location: location.map(|path| String::from_utf8_lossy(path).into_owned()),
                bytes: kilobytes.saturating_mul(1024),
            })
        };
        let coming = spaces.rows.iter().map(archive).collect::<Result<_, AskError>>()?;
        let typed = version.major() >= 15;
        Ok(BaseBackup { connection: self, start, coming, typed, skipping: false, ended: false })
    }

    /// `UPLOAD_MANIFEST`, PostgreSQL 17 or newer: the manifest of the backup that the next one builds on.
    ///
    /// # Errors
    /// When the server refuses it, the manifest cannot be read, or the connection is gone.
    pub async fn upload_manifest(&mut self, manifest: &mut impl Read) -> Result<(), AskError> {
        self.send_query("UPLOAD_MANIFEST").await?;
        match self.step().await? {
            Step::CopyIn => {}
            _ => return Err(strange("COPY was expected")),
        }
        let mut piece = vec![0; MANIFEST_PIECE];
        loop {
            let read = manifest.read(&mut piece).map_err(|error| gone(&error))?;
            if read == 0 {
                break;
            }
            self.frames.send(&super::message(b'd', &piece[..read])).await.map_err(|error| gone(&error))?;
        }
        self.frames.send(&super::message(b'c', &[])).await.map_err(|error| gone(&error))?;
        self.until_ready().await
    }

    /// A result of one row with a position in WAL.
    async fn point(&mut self) -> Result<BackupPoint, AskError> {
        let answer = self.rows().await?;
        Ok(BackupPoint { lsn: answer.parsed("recptr")?, timeline: answer.parsed("tli")? })
    }
}

/// A part of the one COPY of newer servers.
enum Part {
    Archive,
    Data,
    Manifest,
    Progress,
}

impl BaseBackup<'_> {
    /// About how many bytes will come in all.
    pub fn bytes(&self) -> u64 {
        self.coming.iter().map(|archive| archive.bytes).sum()
    }

    /// What comes next. After [`BackupEvent::End`] it must not be asked again.
    ///
    /// # Errors
    /// When the connection is gone, or the server ends the backup.
    pub async fn next(&mut self) -> Result<BackupEvent<'_>, AskError> {
        loop {
            if self.ended {
                return Err(strange("the backup has ended"));
            }
            match self.connection.step().await? {
                Step::CopyOut if !self.typed => match self.coming.pop_front() {
                    Some(archive) => return Ok(BackupEvent::Archive(archive)),
                    None => self.skipping = true,
                },
                Step::CopyOut | Step::CopyDone | Step::Complete => {}
                Step::CopyData(frame) if self.typed => {
                    let mut parts = Parts(self.connection.frames.body(&frame));
                    match part(&mut parts).map_err(|error| gone(&error))? {
                        Part::Archive => {
                            let archive = self.coming.pop_front();
                            let archive = archive.ok_or_else(|| strange("there are more archives than tablespaces"))?;
                            return Ok(BackupEvent::Archive(archive));
                        }
                        Part::Manifest => self.skipping = true,
                        Part::Data if !self.skipping => {
                            return Ok(BackupEvent::Data(&self.connection.frames.body(&frame)[1..]));
                        }
                        Part::Data | Part::Progress => {}
                    }
                }
                Step::CopyData(_) if self.skipping => {}
                Step::CopyData(frame) => return Ok(BackupEvent::Data(self.connection.frames.body(&frame))),
                Step::Columns(columns) => return self.end(columns).await.map(BackupEvent::End),
                _ => return Err(strange("an archive was expected")),
            }
        }
    }

    async fn end(&mut self, columns: Vec<String>) -> Result<BackupPoint, AskError> {
        let mut answer = super::Answer { columns, rows: Vec::new() };
        loop {
            match self.connection.step().await? {
                Step::Row(row) => answer.rows.push(row),
                Step::Complete => {}
                Step::Ready => break,
                _ => return Err(strange("the end of the backup was expected")),
            }
        }
        self.ended = true;
        if let Some(missing) = self.coming.front() {
            return Err(strange(&format!(
                "the archive of {} has not come",
                missing.location.as_deref().unwrap_or(".")
            )));
        }
        Ok(BackupPoint { lsn: answer.parsed("recptr")?, timeline: answer.parsed("tli")? })
    }
}

fn part(parts: &mut Parts<'_>) -> std::io::Result<Part> {
    match parts.byte()? {
        b'n' => Ok(Part::Archive),
        b'd' => Ok(Part::Data),
        b'm' => Ok(Part::Manifest),
        b'p' => Ok(Part::Progress),
        other => {
            let text = format!("a part of the backup is of type {:?}", other.escape_ascii().to_string());
            Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_major_has_its_syntax() {
        let options = BaseBackupOptions {
            label: "it's".into(),
            fast: true,
            max_rate: Some(1 << 20),
            ..BaseBackupOptions::default()
        };
        assert_eq!(
            options.command(Version::from_num(140_000)),
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST MAX_RATE 1024 NOWAIT TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'no'"
        );
        assert_eq!(
            options.command(Version::from_num(150_000)),
            "BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', WAIT false, WAL false, TABLESPACE_MAP true, \
             VERIFY_CHECKSUMS false, MANIFEST 'no', MAX_RATE 1024)"
        );
    }
}
