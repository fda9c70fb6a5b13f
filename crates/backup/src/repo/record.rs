//! A place that writes down what was asked of it. For tests, which say with it how much is read and written: what can
//! be counted need not be timed. The program itself never makes one.

use super::place::{Created, Entry, Place, PlaceError};
use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

/// What a place can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Create,
    Replace,
    Read,
    ReadRange,
    List,
    Delete,
}

/// One question: the verb, and the object's or folder's name.
pub type Asked = (Verb, String);

/// Wraps a place.
#[derive(Debug)]
pub struct RecordPlace {
    inner: Arc<dyn Place>,
    asked: Mutex<Vec<Asked>>,
}

impl RecordPlace {
    /// Nothing was asked yet.
    pub fn new(inner: Arc<dyn Place>) -> Self {
        Self { inner, asked: Mutex::default() }
    }

    /// Everything since the last time, in order.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often the verb was asked for since the last [`RecordPlace::take`].
    pub fn count(&self, verb: Verb) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|one| one.0 == verb).count()
    }

    fn note(&self, verb: Verb, name: &str) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((verb, name.to_owned()));
    }
}

impl Place for RecordPlace {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        self.note(Verb::Create, name);
        self.inner.create(name, body)
    }

    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        self.note(Verb::Replace, name);
        self.inner.replace(name, body)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        self.note(Verb::Read, name);
        self.inner.read(name)
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        self.note(Verb::ReadRange, name);
        self.inner.read_range(name, range)
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        self.note(Verb::List, folder);
        self.inner.list(folder)
    }

    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        names.iter().for_each(|name| self.note(Verb::Delete, name));
        self.inner.delete(names)
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn local_folder(&self) -> Option<&std::path::Path> {
        self.inner.local_folder()
    }
}
