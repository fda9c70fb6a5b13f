//! A file of pg_wal goes into the repository: acknowledged when it is durable there, never in place of another.

use super::{
    name::{FileKind, Segment, file_kind},
    segment::{HEADER, SegmentHeader},
};
use crate::{
    error::{BackupError, Result},
    repo::{Cluster, Repo, codec::Codec, container::Kind, place::Created},
};
use std::{fs, path::Path};
use surus_core::code;

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the archive now.
    New,
    /// It was there already, with the same content.
    Same,
}

/// Archives a file under its own name. A segment's header says which cluster it is of; for the others `cluster` must be
/// known.
///
/// # Errors
/// When it is not what its name says, another file of that name is there, or it could not be stored.
pub fn push_file(repo: &Repo, path: &Path, cluster: Option<u64>, codec: Codec) -> Result<Pushed> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let content = fs::read(path).map_err(BackupError::file("cannot read", path))?;
    push(repo, name, &content, cluster, codec)
}

/// Archives content under the name of a file of pg_wal.
///
/// # Errors
/// As [`push_file`].
pub fn push(repo: &Repo, name: &str, content: &[u8], cluster: Option<u64>, codec: Codec) -> Result<Pushed> {
    let refuse = |why: String| Err(BackupError::refused(code::WAL_REFUSED, format!("{name} was not archived: {why}")));
    let Some(kind) = file_kind(name) else {
        return Err(BackupError::refused(code::WAL_NAME, format!("{name:?} is not the name of a file of pg_wal")));
    };
    let of_cluster = match kind {
        FileKind::Segment | FileKind::Partial => {
            let Some(header) = content.get(..HEADER).and_then(SegmentHeader::parse) else {
                return refuse("it does not begin as a WAL segment does".into());
            };
            let Some(segment) = Segment::parse(&name[..24], header.segment_size) else {
                return refuse(format!("there is no such segment where segments have {} bytes", header.segment_size));
            };
            if let Err(misfit) = header.fits(segment, content.len() as u64, cluster) {
                return refuse(misfit.to_string());
            }
            let found = repo.cluster(header.system_identifier);
            found.register(header.segment_size, None)?;
            found
        }
        FileKind::History | FileKind::Backup => match cluster {
            Some(cluster) => repo.cluster(cluster),
            None => repo.choose(None)?,
        },
    };
    store(&of_cluster, name, content, codec)
}

fn store(cluster: &Cluster, name: &str, content: &[u8], codec: Codec) -> Result<Pushed> {
    let object = cluster.names.wal(name);
    let body = cluster.repo.sealed(Kind::Wal, &object, codec, content);
    if cluster.repo.place().create(&object, &body)? == Created::New {
        return Ok(Pushed::New);
    }
    // What is there is read and verified as a whole: "the same" is said of the content, not of a name.
    match cluster.repo.read(Kind::Wal, &object)? {
        Some(there) if there == content => Ok(Pushed::Same),
        Some(_) => {
            let text = format!(
                "{name} was not archived: {} has a file of that name with other content, and it was not replaced",
                cluster.repo.address()
            );
            Err(BackupError::refused(code::WAL_CONFLICT, text))
        }
        None => Err(cluster.repo.missing(&object, "its own acknowledgement")),
    }
}
