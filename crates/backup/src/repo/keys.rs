//! The keys that objects are encrypted with, and the user's key that they are themselves encrypted with.
//!
//! Each data key stands in a note `keys/ID.json`, wrapped with the user's key: once, or twice while the user's key is
//! being changed. Changing it rewrites these notes only; a new data key leaves the old ones readable. Specified in
//! docs/format/repository.md.

use super::{container::random, json, layout, place::Place};
use crate::error::{BackupError, Result};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    pbkdf2,
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, num::NonZeroU32};
use surus_core::{clock, code, secret::Secret};

/// The newest form of a key's note.
const FORMAT: u32 = 1;
/// Rounds of PBKDF2 for a new wrap: what OWASP's Password Storage Cheat Sheet asks of PBKDF2-HMAC-SHA256.
const ROUNDS: u32 = 600_000;
/// More is not worked off for anybody: whoever can write into the place could keep us busy for hours.
const MOST_ROUNDS: u32 = 20_000_000;
/// Characters of a passphrase, at least.
const SHORTEST: usize = 12;

/// Names a data key; it stands in the header of every object that is encrypted with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// All data keys of the place, which the user's key opens.
    ///
    /// # Errors
    /// When they cannot be read, or it is another key.
    pub fn unlock(place: &dyn Place, user: &UserKey) -> Result<Self> {
        let mut opener = Opener::new(user);
        let notes = notes(place)?;
        let keys: Vec<_> = notes.iter().filter_map(|note| note.open(&mut opener)).collect();
        match (keys.len(), notes.len()) {
            (_, 0) => refuse(place, "has no data key: the folder keys/ is empty"),
            (0, _) => refuse(place, "is encrypted with another key than the one that was given"),
            (some, all) if some < all => {
                let text = format!(
                    "was being given another key, and that was not finished: this key opens {some} of {all} data keys. \
                     The other one opens them all; or finish it: surus backup key rewrap"
                );
                refuse(place, &text)
            }
            _ => Ok(Self { keys }),
        }
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

fn refuse<T>(place: &dyn Place, text: &str) -> Result<T> {
    Err(BackupError::refused(code::REPO_KEY, format!("the repository in {} {text}", place.address())))
}

/// What the user keeps: 32 random bytes, or a passphrase.
#[derive(Clone)]
pub struct UserKey(Material);

#[derive(Clone)]
enum Material {
    Random([u8; 32]),
    Passphrase(Secret),
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserKey(***)")
    }
}

impl UserKey {
    /// From text: 64 hexadecimal digits or 44 characters of base64 are 32 random bytes, everything else is a
    /// passphrase.
    ///
    /// # Errors
    /// When it is too short for a passphrase.
    pub fn from_text(text: &Secret) -> Result<Self> {
        let word = text.reveal().trim();
        if let Some(bytes) = unhex(word).or_else(|| from_base64(word)).and_then(|bytes| bytes.try_into().ok()) {
            return Ok(Self(Material::Random(bytes)));
        }
        if word.chars().count() < SHORTEST {
            let text = format!(
                "a repository's key is 32 random bytes in hexadecimal (openssl rand -hex 32), or a passphrase of at least \
                 {SHORTEST} characters"
            );
            return Err(BackupError::refused(code::REPO_KEY, text));
        }
        Ok(Self(Material::Passphrase(Secret::new(word))))
    }

    /// The key that wraps, as this method makes it; `None` when the method is for the other kind of key.
    fn derive(&self, method: &Method, salt: &[u8]) -> Option<[u8; 32]> {
        let mut out = [0; 32];
        match (&self.0, method) {
            (Material::Random(bytes), Method::Hkdf) => {
                let derived = Salt::new(HKDF_SHA256, salt).extract(bytes);
                derived.expand(&[b"surus wrap 1"], HKDF_SHA256).ok()?.fill(&mut out).ok()?;
            }
            (Material::Passphrase(text), Method::Pbkdf2 { iterations }) if *iterations <= MOST_ROUNDS => {
                let rounds = NonZeroU32::new(*iterations)?;
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, text.reveal().as_bytes(), &mut out);
            }
            _ => return None,
        }
        Some(out)
    }

    fn method(&self) -> Method {
        match self.0 {
            Material::Random(_) => Method::Hkdf,
            Material::Passphrase(_) => Method::Pbkdf2 { iterations: ROUNDS },
        }
    }
}

/// How the wrapping key comes from the user's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method")]
enum Method {
    /// Of 32 random bytes.
    #[serde(rename = "hkdf-sha256")]
    Hkdf,
    /// Of a passphrase.
    #[serde(rename = "pbkdf2-hmac-sha256")]
    Pbkdf2 { iterations: u32 },
}

/// A data key, wrapped with one user's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wrap {
    #[serde(flatten)]
    method: Method,
    salt: Hex,
    nonce: Hex,
    /// The data key with the tag after it.
    sealed: Hex,
}

/// What stands in `keys/ID.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyNote {
    format: u32,
    id: Hex,
    /// The highest is the current one.
    number: u32,
    made_at: Timestamp,
    wraps: Vec<Wrap>,
}

/// What can be told of a data key without any key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyFacts {
    pub id: String,
    pub number: u32,
    pub made_at: Timestamp,
    /// Are new objects encrypted with it?
    pub current: bool,
    /// How it is wrapped: `hkdf-sha256` (with 32 random bytes), `pbkdf2-hmac-sha256` (with a passphrase). Two while the
    /// user's key is being changed.
    pub wraps: Vec<&'static str>,
}

/// Remembers the wrapping keys that it derived: that is slow on purpose, and all wraps of one change share their salt.
struct Opener<'a> {
    user: &'a UserKey,
    derived: Vec<(Method, Hex, Option<[u8; 32]>)>,
}

impl<'a> Opener<'a> {
    fn new(user: &'a UserKey) -> Self {
        Self { user, derived: Vec::new() }
    }

    fn key(&mut self, method: &Method, salt: &Hex) -> Option<LessSafeKey> {
        let known = self.derived.iter().find(|one| one.0 == *method && one.1 == *salt);
        let bytes = match known {
            Some((_, _, bytes)) => *bytes,
            None => {
                let bytes = self.user.derive(method, &salt.0);
                self.derived.push((method.clone(), salt.clone(), bytes));
                bytes
            }
        };
        UnboundKey::new(&AES_256_GCM, &bytes?).ok().map(LessSafeKey::new)
    }
}

impl KeyNote {
    /// A wrap is bound to the data key's id and number: notes cannot be exchanged for each other.
    fn associated(&self) -> Vec<u8> {
        format!("surus key 1\n{}\n{}", KeyId(self.id()), self.number).into_bytes()
    }

    fn id(&self) -> [u8; 16] {
        self.id.0.as_slice().try_into().unwrap_or_default()
    }

    fn name(&self) -> String {
        format!("{}{}.json", layout::KEYS, KeyId(self.id()))
    }

    fn open(&self, opener: &mut Opener<'_>) -> Option<DataKey> {
        self.wraps.iter().find_map(|wrap| {
            let key = opener.key(&wrap.method, &wrap.salt)?;
            let nonce = Nonce::try_assume_unique_for_key(&wrap.nonce.0).ok()?;
            let mut sealed = wrap.sealed.0.clone();
            let plain = key.open_in_place(nonce, Aad::from(self.associated()), &mut sealed).ok()?;
            Some(DataKey { id: KeyId(self.id()), secret: (&*plain).try_into().ok()? })
        })
    }

    fn wrap(&self, data: &DataKey, opener: &mut Opener<'_>, salt: &Hex) -> Result<Wrap> {
        let method = opener.user.method();
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = data.secret.to_vec();
        let done = opener.key(&method, salt).and_then(|key| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from(self.associated()), &mut sealed).ok()
        });
        if done.is_none() {
            return Err(BackupError::refused(code::BUG, "a data key could not be wrapped"));
        }
        Ok(Wrap { method, salt: salt.clone(), nonce: Hex(nonce.to_vec()), sealed: Hex(sealed) })
    }
}

/// All notes, the current one last.
fn notes(place: &dyn Place) -> Result<Vec<KeyNote>> {
    let mut notes = Vec::new();
    for entry in place.list(layout::KEYS)? {
        let Some(body) = place.read(&entry.name)? else { continue };
        let note: KeyNote = serde_json::from_slice(&body).map_err(|error| damaged(place, &entry.name, &error))?;
        if note.format > FORMAT {
            return Err(BackupError::refused(code::REPO_NEWER, format!("{} is of a newer surus", entry.name)));
        }
        if note.name() != entry.name {
            return Err(damaged(place, &entry.name, &"it is of another key than its name says"));
        }
        notes.push(note);
    }
    notes.sort_by_key(|note| (note.number, note.id()));
    Ok(notes)
}

fn damaged(place: &dyn Place, name: &str, why: &dyn fmt::Display) -> BackupError {
    let damage = super::container::Damage::Meaning(why.to_string());
    BackupError::Damaged { place: place.address(), name: name.to_owned(), damage }
}

/// Tells of all data keys; needs no key.
///
/// # Errors
/// When the place cannot be read.
pub fn list(place: &dyn Place) -> Result<Vec<KeyFacts>> {
    let notes = notes(place)?;
    let last = notes.len();
    let facts = notes.into_iter().enumerate().map(|(at, note)| KeyFacts {
        id: KeyId(note.id()).to_string(),
        number: note.number,
        made_at: note.made_at,
        current: at + 1 == last,
        wraps: note.wraps.iter().map(|wrap| wrap.method.name()).collect(),
    });
    Ok(facts.collect())
}

impl Method {
    fn name(&self) -> &'static str {
        match self {
            Self::Hkdf => "hkdf-sha256",
            Self::Pbkdf2 { .. } => "pbkdf2-hmac-sha256",
        }
    }
}

/// Adds the first data key of a repository that is being made, unless one is there that this key opens.
pub(super) fn prepare(place: &dyn Place, user: &UserKey) -> Result<()> {
    if notes(place)?.is_empty() { add(place, user, 1).map(drop) } else { KeyRing::unlock(place, user).map(drop) }
}

/// Adds a data key that objects are encrypted with from now on; what was written before stays readable.
///
/// # Errors
/// When the key does not open the repository, or the place cannot be written.
pub fn rotate(place: &dyn Place, user: &UserKey) -> Result<KeyId> {
    KeyRing::unlock(place, user)?;
    let number = notes(place)?.last().map_or(1, |note| note.number + 1);
    add(place, user, number)
}

fn add(place: &dyn Place, user: &UserKey, number: u32) -> Result<KeyId> {
    let data = DataKey::random();
    let id = Hex(data.id.0.to_vec());
    let mut note = KeyNote { format: FORMAT, id, number, made_at: clock::now(), wraps: Vec::new() };
    note.wraps.push(note.wrap(&data, &mut Opener::new(user), &Hex(random::<16>().to_vec()))?);
    place.create(&note.name(), &json(&note))?;
    Ok(data.id)
}

/// Changes the user's key: only the notes are rewritten. Every note has both wraps before the first one loses the old
/// wrap, so that wherever it is broken off one of the two keys opens all of them; run again, it goes on.
///
/// # Errors
/// When a data key is opened by neither, or the place cannot be written.
pub fn rewrap(place: &dyn Place, old: &UserKey, new: &UserKey) -> Result<usize> {
    let (mut by_old, mut by_new) = (Opener::new(old), Opener::new(new));
    let salt = Hex(random::<16>().to_vec());
    // Again until nothing was to do: another surus may have added a data key meanwhile.
    while add_wraps(place, &mut by_old, &mut by_new, &salt)? > 0 {}
    let notes = notes(place)?;
    for note in &notes {
        let mut only = note.clone();
        only.wraps.retain(|wrap| KeyNote { wraps: vec![wrap.clone()], ..note.clone() }.open(&mut by_new).is_some());
        if only != *note && !only.wraps.is_empty() {
            place.replace(&note.name(), &json(&only))?;
        }
    }
    Ok(notes.len())
}

fn add_wraps(place: &dyn Place, old: &mut Opener<'_>, new: &mut Opener<'_>, salt: &Hex) -> Result<usize> {
    let mut added = 0;
    let notes = notes(place)?;
    // All of them first: a wrong key must not leave half of them changed.
    let opened: Vec<_> = notes.iter().map(|note| (note.open(new), note.open(old))).collect();
    if notes.is_empty() || opened.iter().any(|keys| matches!(keys, (None, None))) {
        return refuse(place, "is encrypted with another key than the ones that were given");
    }
    for (note, keys) in notes.iter().zip(opened) {
        if let (None, Some(data)) = keys {
            let mut both = note.clone();
            both.wraps.push(note.wrap(&data, new, salt)?);
            place.replace(&note.name(), &json(&both))?;
            added += 1;
        }
    }
    Ok(added)
}

/// Bytes that stand in JSON as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hex(Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        unhex(&text).map(Self).ok_or_else(|| D::Error::custom("these are no hexadecimal digits"))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|two| two.len() == 2)?, 16).ok())
        .collect()
}

/// 32 bytes of base64, with or without its end.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=');
    if letters.len() != 43 || text.len() > 44 {
        return None;
    }
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::with_capacity(32));
    for letter in letters.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{
        Repo,
        codec::Codec,
        container::Kind,
        fault::{Fault, FaultPlace, Step},
        local::LocalPlace,
        place::Trouble,
        record::Verb,
    };
    use std::sync::Arc;

    fn key(text: &str) -> UserKey {
        UserKey::from_text(&Secret::new(text)).unwrap()
    }

    fn random_key(fill: char) -> UserKey {
        key(&fill.to_string().repeat(64))
    }

    fn place() -> (tempfile::TempDir, Arc<LocalPlace>) {
        let dir = tempfile::tempdir().unwrap();
        let place = LocalPlace::new(dir.path().join("repo"));
        place.make().unwrap();
        (dir, Arc::new(place))
    }

    #[test]
    fn a_repository_opens_with_its_key_only() {
        for (right, wrong) in
            [(random_key('a'), random_key('b')), (key("correct horse battery"), key("correct horse batter"))]
        {
            let (_dir, place) = place();
            let made = Repo::unlock_or_create(place.clone(), Some(&right)).unwrap();
            let body = made.sealed(Kind::Note, "n", Codec::None, b"for nobody else");
            place.create("n", &body).unwrap();
            let again = Repo::unlock(place.clone(), Some(&right)).unwrap();
            assert_eq!(again.read(Kind::Note, "n").unwrap().unwrap(), b"for nobody else");
            for bad in [Some(&wrong), None] {
                assert_eq!(Repo::unlock(place.clone(), bad).unwrap_err().code(), code::REPO_KEY);
                assert_eq!(Repo::unlock_or_create(place.clone(), bad).unwrap_err().code(), code::REPO_KEY);
            }
        }
    }

    #[test]
    fn a_key_for_what_is_not_encrypted_is_refused() {
        let (_dir, place) = place();
        Repo::unlock_or_create(place.clone(), None).unwrap();
        let error = Repo::unlock(place, Some(&random_key('a'))).unwrap_err();
        assert_eq!(error.code(), code::REPO_KEY);
        assert!(error.to_string().contains("is not encrypted"), "{error}");
    }

    #[test]
    fn after_a_rotation_old_objects_stay_readable_and_new_ones_have_the_new_key() {
        let (_dir, place) = place();
        let user = random_key('a');
        let before = Repo::unlock_or_create(place.clone(), Some(&user)).unwrap();
        place.create("old", &before.sealed(Kind::Note, "old", Codec::None, b"old")).unwrap();
        let id = rotate(place.as_ref(), &user).unwrap();
        let after = Repo::unlock(place.clone(), Some(&user)).unwrap();
        assert_eq!(after.keys().current().unwrap().id, id);
        assert_eq!(after.read(Kind::Note, "old").unwrap().unwrap(), b"old");
        place.create("new", &after.sealed(Kind::Note, "new", Codec::None, b"new")).unwrap();
        assert!(before.read(Kind::Note, "new").is_err(), "the old data key must not open it");
        let facts = list(place.as_ref()).unwrap();
        assert_eq!(facts.iter().map(|key| (key.number, key.current)).collect::<Vec<_>>(), [(1, false), (2, true)]);
    }

    #[test]
    fn wherever_a_change_of_key_is_broken_off_one_key_opens_all_and_it_can_be_finished() {
        let (old, new) = (random_key('a'), key("a passphrase of some length"));
        for cut in 0..6 {
            let (_dir, local) = place();
            Repo::unlock_or_create(local.clone(), Some(&old)).unwrap();
            rotate(local.as_ref(), &old).unwrap();
            rotate(local.as_ref(), &old).unwrap();
            let step = Step { spared: cut, ..Step::once(Verb::Replace, "keys/", Fault::Before(Trouble::Unreachable)) };
            let failing = FaultPlace::scripted(local.clone(), vec![step]);
            rewrap(&failing, &old, &new).unwrap_err();
            let opened = [&old, &new].map(|key| KeyRing::unlock(local.as_ref(), key).is_ok());
            assert_eq!(opened, [cut <= 3, cut >= 3], "broken off after {cut}");
            assert_eq!(rewrap(local.as_ref(), &old, &new).unwrap(), 3);
            assert_eq!(KeyRing::unlock(local.as_ref(), &new).unwrap().keys.len(), 3);
            assert_eq!(KeyRing::unlock(local.as_ref(), &old).unwrap_err().code(), code::REPO_KEY);
        }
    }

    #[test]
    fn a_wrong_key_changes_nothing() {
        let (_dir, place) = place();
        let user = random_key('a');
        Repo::unlock_or_create(place.clone(), Some(&user)).unwrap();
        let before: Vec<_> = place.list("").unwrap();
        assert_eq!(rewrap(place.as_ref(), &random_key('b'), &random_key('c')).unwrap_err().code(), code::REPO_KEY);
        assert_eq!(rotate(place.as_ref(), &random_key('b')).unwrap_err().code(), code::REPO_KEY);
        assert_eq!(place.list("").unwrap(), before);
    }

    #[test]
    fn a_note_in_another_ones_place_is_refused() {
        let (_dir, place) = place();
        let user = random_key('a');
        Repo::unlock_or_create(place.clone(), Some(&user)).unwrap();
        let id = rotate(place.as_ref(), &user).unwrap();
        let name = format!("keys/{id}.json");
        let text = String::from_utf8(place.read(&name).unwrap().unwrap()).unwrap();
        place.replace(&name, text.replace("\"number\": 2", "\"number\": 7").as_bytes()).unwrap();
        assert!(KeyRing::unlock(place.as_ref(), &user).is_err());
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let bytes: Vec<u8> = (0..32).map(|n| n * 7).collect();
        assert_eq!(from_base64("AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tk=").unwrap(), bytes);
        for short in ["", "hunter2", "elevenchars"] {
            assert_eq!(UserKey::from_text(&Secret::new(short)).unwrap_err().code(), code::REPO_KEY);
        }
        assert!(matches!(random_key('0').0, Material::Random(_)));
        assert!(matches!(key(&"x".repeat(64)).0, Material::Passphrase(_)));
        assert!(!format!("{:?}", key("correct horse battery")).contains("horse"));
    }
}
