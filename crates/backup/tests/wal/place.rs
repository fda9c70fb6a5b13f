//! A place that fails as it is told.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use surus_backup::repo::place::{Created, Entry, Place, PlaceError, Trouble};

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Unreachable,
    Denied,
    Broken,
    /// The folder is not mounted: every object is absent.
    Vanished,
    /// The answer breaks off.
    Short,
    /// A byte is another one.
    Flipped,
}

/// Fails in the operations of a range, counted from the first one on.
#[derive(Debug)]
pub struct Failing {
    pub inner: Arc<dyn Place>,
    pub fault: Fault,
    pub during: Range<u64>,
    pub done: AtomicU64,
}

impl Failing {
    fn fault(&self) -> Option<Fault> {
        let now = self.done.fetch_add(1, Ordering::Relaxed);
        self.during.contains(&now).then_some(self.fault)
    }

    fn refuse<T>(&self, doing: &'static str, name: &str, otherwise: T) -> Option<Result<T, PlaceError>> {
        let trouble = match self.fault()? {
            Fault::Unreachable => Trouble::Unreachable,
            Fault::Denied => Trouble::Denied,
            Fault::Broken => Trouble::Broken,
            Fault::Vanished => return Some(Ok(otherwise)),
            Fault::Short | Fault::Flipped => return None,
        };
        let (name, place) = (name.to_owned(), self.address());
        Some(Err(PlaceError { trouble, doing, name, place, problem: "injected".into() }))
    }
}

impl Place for Failing {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        self.inner.create(name, body)
    }

    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        self.inner.replace(name, body)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let now = self.done.load(Ordering::Relaxed);
        if let Some(refused) = self.refuse("read", name, None) {
            return refused;
        }
        let mut body = self.inner.read(name)?;
        if let Some(body) = body.as_mut().filter(|_| self.during.contains(&now)) {
            match self.fault {
                Fault::Short => body.truncate(body.len() / 2),
                _ => body.iter_mut().skip(60).take(1).for_each(|byte| *byte ^= 4),
            }
        }
        Ok(body)
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        self.inner.read_range(name, range)
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        self.refuse("list", folder, Vec::new()).unwrap_or_else(|| self.inner.list(folder))
    }

    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        self.inner.delete(names)
    }

    fn address(&self) -> String {
        self.inner.address()
    }
}
