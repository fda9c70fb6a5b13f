//! A backup and those that it builds on, seen as one: for every block of every file, which backup holds it.

use crate::{
    block::blocks_of,
    error::{BackupError, Result},
    manifest::{BackupKind, FileEntry, Manifest},
    repo::{Cluster, container::Kind},
};
use std::collections::HashMap;
use surus_core::code;

/// No chain is longer; an incremental backup that would make it so is taken as a full one.
pub const LONGEST: usize = 64;

/// Consecutive blocks of a file, and which backup of the chain holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The first block's number in the file.
    pub block: u32,
    pub count: u32,
    /// The backup's place in [`Chain::backups`].
    pub backup: u16,
    /// The chunk's number in that backup's manifest.
    pub chunk: u32,
    /// The first block's number in the chunk.
    pub at: u32,
}

/// A backup and what it builds on.
#[derive(Debug)]
pub struct Chain {
    /// The full backup first, the wanted one last.
    pub backups: Vec<Manifest>,
    /// For each file of the last manifest, in its order, where its blocks are: sorted, without a gap.
    pub sources: Vec<Vec<Source>>,
}

impl Chain {
    /// Reads the manifests of a backup and all that it builds on.
    ///
    /// # Errors
    /// When one is missing or damaged, or they do not fit together.
    pub fn read(cluster: &Cluster, label: &str) -> Result<Self> {
        let mut backups = vec![read_manifest(cluster, label, "it was asked for")?];
        while let Some(parent) = backups.last().and_then(|newest| newest.about.parent.clone()) {
            if backups.len() == LONGEST || backups.iter().any(|one| one.about.label == parent) {
                let text = format!("backup {label} builds on {LONGEST} others or on itself");
                return Err(BackupError::refused(code::REPO_DAMAGED, text));
            }
            let child = backups.last().map_or_else(String::new, |one| format!("backup {}", one.about.label));
            backups.push(read_manifest(cluster, &parent, &child)?);
        }
        backups.reverse();
        Self::of(backups)
    }

    /// Lays the backups over each other; the first is a full one.
    ///
    /// # Errors
    /// When a block is in none of them.
    pub fn of(backups: Vec<Manifest>) -> Result<Self> {
        let mut below: HashMap<String, Vec<Source>> = HashMap::new();
        let mut sources = Vec::new();
        for (number, manifest) in backups.iter().enumerate() {
            let full = manifest.about.kind == BackupKind::Full;
            sources = Vec::with_capacity(manifest.files.len());
            for file in &manifest.files {
                let parent = if full { None } else { below.get(&file.path) };
                let laid = lay_over(parent.map_or(&[][..], Vec::as_slice), file, number as u16);
                sources.push(laid.ok_or_else(|| {
                    let text = format!("backup {} does not say where all of {} is", manifest.about.label, file.path);
                    BackupError::refused(code::REPO_DAMAGED, text)
                })?);
            }
            if number + 1 < backups.len() {
                let paths = manifest.files.iter().map(|file| file.path.clone());
                below = paths.zip(sources.iter().cloned()).collect();
            }
        }
        Ok(Self { backups, sources })
    }

    /// The wanted backup.
    ///
    /// # Panics
    /// Never: a chain holds at least one.
    pub fn newest(&self) -> &Manifest {
        &self.backups[self.backups.len() - 1]
    }
}

/// Reads one manifest.
///
/// # Errors
/// When it is missing or damaged.
pub fn read_manifest(cluster: &Cluster, label: &str, needed_by: &str) -> Result<Manifest> {
    let name = cluster.names.manifest(label);
    match cluster.repo.read(Kind::Manifest, &name)? {
        Some(lines) => Manifest::from_lines(&lines).map_err(|damage| cluster.repo.damaged(&name, damage)),
        None => Err(cluster.repo.missing(&name, needed_by)),
    }
}

/// A file's own runs over what is below; `None` when a block is in neither.
fn lay_over(below: &[Source], file: &FileEntry, backup: u16) -> Option<Vec<Source>> {
    let mut laid: Vec<Source> = Vec::with_capacity(file.runs.len());
    let mut next = 0u32;
    let blocks = u32::try_from(blocks_of(file.size)).ok()?;
    for run in &file.runs {
        take_from(below, next, run.block, &mut laid)?;
        laid.push(Source { block: run.block, count: run.count, backup, chunk: run.chunk, at: run.at });
        next = run.block + run.count;
    }
    take_from(below, next, blocks, &mut laid)?;
    Some(laid)
}

/// Adds the blocks `from..to` of what is below; `None` when it does not have them all.
fn take_from(below: &[Source], mut from: u32, to: u32, laid: &mut Vec<Source>) -> Option<()> {
    let mut at = below.partition_point(|source| source.block + source.count <= from);
    while from < to {
        let source = below.get(at).filter(|source| source.block <= from)?;
        let skipped = from - source.block;
        let count = (source.count - skipped).min(to - from);
        laid.push(Source { block: from, count, at: source.at + skipped, ..*source });
        from += count;
        at += 1;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Run;
    use proptest::prelude::*;

    fn file(size_blocks: u32, runs: Vec<Run>) -> FileEntry {
        FileEntry {
            path: "f".into(),
            size: u64::from(size_blocks) * 8192,
            mode: 0,
            modified_ms: 0,
            crc32c: Some(0),
            runs,
        }
    }

    /// Runs for the blocks that changed, each in a chunk of its own.
    fn runs(changed: &[bool]) -> Vec<Run> {
        let blocks = changed.iter().enumerate().filter(|(_, changed)| **changed);
        blocks.map(|(block, _)| Run { block: block as u32, count: 1, chunk: block as u32, at: 0 }).collect()
    }

    proptest! {
        #[test]
        fn each_block_comes_from_the_newest_backup_that_has_it(
            generations in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 0..40), 0..6)
        ) {
            let mut below = lay_over(&[], &file(30, vec![Run { block: 0, count: 30, chunk: 900, at: 0 }]), 0).unwrap();
            let mut truth = vec![0u16; 30];
            for (number, changed) in generations.iter().enumerate() {
                let backup = number as u16 + 1;
                // What is new at the end cannot come from below.
                let changed: Vec<_> =
                    changed.iter().enumerate().map(|(block, changed)| *changed || block >= truth.len()).collect();
                truth.resize(changed.len(), backup);
                for (block, changed) in changed.iter().enumerate() {
                    if *changed { truth[block] = backup; }
                }
                below = lay_over(&below, &file(changed.len() as u32, runs(&changed)), backup).unwrap();
                let seen: Vec<_> = below.iter().flat_map(|one| vec![one.backup; one.count as usize]).collect();
                prop_assert_eq!(&seen, &truth);
                let mut next = 0;
                for source in &below {
                    prop_assert_eq!(source.block, next);
                    next += source.count;
                    let expected = if source.backup == 0 { (900, source.block) } else { (source.block, 0) };
                    prop_assert_eq!((source.chunk, source.at), expected);
                }
            }
        }
    }

    #[test]
    fn a_block_that_nobody_has_is_an_error() {
        assert_eq!(lay_over(&[], &file(2, vec![Run { block: 0, count: 1, chunk: 0, at: 0 }]), 0), None);
    }
}
