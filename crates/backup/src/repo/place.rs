//! A place that holds named objects: a folder, or a bucket of an object store.
//!
//! This is all that the rest of the room may assume of a place, and all that it needs: objects are written whole,
//! appear whole or not at all, and one that was acknowledged stays. Implementations block; callers use threads.

use serde::Serialize;
use std::{fmt, ops::Range};
use surus_core::code::{self, Code};

/// What kind of trouble a place has: what a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It did not answer, or broke off; trying again may help.
    Unreachable,
    /// It says who is asking may not.
    Denied,
    /// No space, no inodes or a quota.
    NoRoom,
    /// It answered something that will not change by itself.
    Broken,
}

/// The place did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing} {name} in {place}: {problem}")]
pub struct PlaceError {
    pub trouble: Trouble,
    /// The verb: read, create, list …
    pub doing: &'static str,
    pub name: String,
    /// The place's address, without credentials.
    pub place: String,
    pub problem: String,
}

impl PlaceError {
    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self.trouble {
            Trouble::Unreachable => code::REPO_UNREACHABLE,
            Trouble::Denied => code::REPO_DENIED,
            Trouble::NoRoom => code::REPO_FULL,
            Trouble::Broken => code::REPO_BROKEN,
        }
    }
}

/// What became of an object that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there now, whole and durable.
    New,
    /// An object of that name was there before; nothing was changed.
    AlreadyThere,
}

/// An object as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    /// Stored bytes.
    pub size: u64,
    /// When it was written by the place's clock, milliseconds since 1970; 0 when the place does not say.
    pub modified_ms: i64,
}

/// A place that holds named objects. Names are relative, with `/` between their parts, of the characters
/// `A-Z a-z 0-9 . _ -`; a part never begins with a dot.
pub trait Place: Send + Sync + fmt::Debug {
    /// Writes a new object; never replaces one. After [`Created::New`] it survives a power cut.
    ///
    /// # Errors
    /// Nothing is there then, or, when the answer was lost on the way, the whole object: ask again to know.
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError>;

    /// Writes an object in place of the one that may be there, as one step. For marks and memories, never for data.
    ///
    /// # Errors
    /// The old one or the new one is there then, whole.
    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError>;

    /// The whole object; `None` only when the place itself says that there is none.
    ///
    /// # Errors
    /// Whatever leaves it open whether the object is there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError>;

    /// A part of the object. Shorter than asked for only where the object ends.
    ///
    /// # Errors
    /// As for [`Place::read`].
    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError>;

    /// All objects whose names begin with `folder` (which ends in `/`, or is empty), in order of their names.
    ///
    /// # Errors
    /// When the listing may be incomplete.
    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError>;

    /// As [`Place::list`], only of names after `after`, which need not be there: the end of a long list.
    ///
    /// # Errors
    /// As for [`Place::list`].
    fn list_after(&self, folder: &str, after: &str) -> Result<Vec<Entry>, PlaceError> {
        let mut entries = self.list(folder)?;
        entries.retain(|entry| entry.name.as_str() > after);
        Ok(entries)
    }

    /// Removes objects; one that is not there is no error.
    ///
    /// # Errors
    /// Some may be gone and others not.
    fn delete(&self, names: &[String]) -> Result<(), PlaceError>;

    /// Its address for people, without credentials.
    fn address(&self) -> String;

    /// Removes what writers that were killed have left and that never became an object, when it is older than this many
    /// milliseconds. Returns its bytes.
    ///
    /// # Errors
    /// When it cannot be found or removed.
    fn remove_unfinished(&self, _older_than_ms: i64) -> Result<u64, PlaceError> {
        Ok(0)
    }

    /// The folder, when it is one of this machine.
    fn local_folder(&self) -> Option<&std::path::Path> {
        None
    }
}

/// May an object have this name?
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 512
        && name.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        })
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_cannot_leave_the_place() {
        assert!(is_name("7412/wal/00000001/000000010000000000000001"));
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "a\0b"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
