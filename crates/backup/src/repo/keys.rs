//! The keys that objects are encrypted with.

use super::container::random;
use std::fmt;

/// Names a data key; it stands in the header of every object that is encrypted with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key for data. It is itself kept encrypted in the repository, so that the user's key can change and the data need
/// not be written again.
#[derive(Clone)]
pub struct DataKey {
    pub id: KeyId,
    secret: [u8; 32],
}

impl DataKey {
    /// A new key from the system's randomness.
    pub fn random() -> Self {
        Self { id: KeyId(random()), secret: random() }
    }

    /// The key itself.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

/// The data keys of a repository.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Vec<DataKey>,
}

impl KeyRing {
    /// Of a repository without encryption.
    pub fn open() -> Self {
        Self::default()
    }

    /// With one key, which new objects are encrypted with.
    pub fn of(key: DataKey) -> Self {
        Self { keys: vec![key] }
    }

    /// Must every object be encrypted?
    pub fn required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The key that new objects are encrypted with.
    pub fn current(&self) -> Option<&DataKey> {
        self.keys.last()
    }

    /// The key with this id.
    pub fn find(&self, id: KeyId) -> Option<&DataKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}
