//! `backup_manifest`: verifies what was restored against what pg_basebackup wrote: sizes and checksums of all files.
//! Source: PostgreSQL's documentation, "Backup Manifest Format". What pg_verifybackup ignores is ignored here, too.

use crate::error::{ProveError, Result};
use serde::Deserialize;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};
use surus_core::{code, lsn::Lsn};

/// The file's name.
pub const NAME: &str = "backup_manifest";
/// How many defects are named.
const NAMED: usize = 5;

/// What a backup's manifest says.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    #[serde(rename = "Files")]
    pub files: Vec<File>,
    #[serde(rename = "WAL-Ranges")]
    pub ranges: Vec<Range>,
    #[serde(rename = "System-Identifier")]
    pub system_identifier: Option<u64>,
}

/// A file.
#[derive(Debug, Deserialize)]
pub struct File {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// The name in hexadecimal, where it is no UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded: Option<String>,
    #[serde(rename = "Size")]
    pub size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

/// WAL that the backup needs.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Range {
    #[serde(rename = "Timeline")]
    pub timeline: u32,
    #[serde(rename = "Start-LSN")]
    pub start: Lsn,
    #[serde(rename = "End-LSN")]
    pub end: Lsn,
}

impl Manifest {
    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// When it is damaged: its own checksum does not fit, or it is no manifest.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(ProveError::input("cannot read", path))?,
        };
        Self::parse(&bytes).map(Some).map_err(|why| {
            let text = format!("{} is damaged: {why} ({} bytes)", path.display(), bytes.len());
            ProveError::refused(code::ENGINE_DAMAGED, text)
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mark = b"\"Manifest-Checksum\"";
        let at = bytes.windows(mark.len()).rposition(|window| window == mark).ok_or("it is cut short")?;
        #[derive(Deserialize)]
        struct Own {
            #[serde(rename = "Manifest-Checksum")]
            sum: String,
        }
        let own: Own = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if hex(&Sha256::digest(&bytes[..at])) != own.sum {
            return Err("its own checksum does not fit".into());
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The WAL that it needs, of its last timeline.
    pub fn range(&self) -> Option<Range> {
        self.ranges.last().copied()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Compares a directory with it. `ignored` are names at the top, besides those that pg_verifybackup ignores.
    ///
    /// # Errors
    /// With the first files that are missing, of another size, damaged, or too much.
    pub fn verify(&self, data: &Path, ignored: &[&str]) -> Result<()> {
        let skipped = |name: &str| {
            let top = name.split('/').next().unwrap_or_default();
            let usual = ["pg_wal", NAME, "postgresql.auto.conf", "standby.signal", "recovery.signal"];
            usual.contains(&top) || ignored.contains(&top)
        };
        let mut known = BTreeSet::new();
        let mut wrong = Vec::new();
        for file in &self.files {
            let name = file.name();
            if !skipped(&name) {
                wrong.extend(file.trouble(&data.join(&name)).map(|why| format!("{name} {why}")));
            }
            known.insert(name);
        }
        let mut found = Vec::new();
        names_below(data, "", &mut found)?;
        let extra = found.into_iter().filter(|name| !known.contains(name) && !skipped(name));
        wrong.extend(extra.map(|name| format!("{name} is there and not in the backup's manifest")));
        if wrong.is_empty() {
            return Ok(());
        }
        let more = wrong.len().saturating_sub(NAMED);
        wrong.truncate(NAMED);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        Err(ProveError::refused(code::ENGINE_DAMAGED, format!("{}{more}", wrong.join("; "))))
    }
}

impl File {
    /// Its path in the data directory.
    pub fn name(&self) -> String {
        match (&self.path, &self.encoded) {
            (Some(path), _) => path.clone(),
            (None, Some(encoded)) => {
                let pairs = encoded.as_bytes().chunks(2).filter_map(|two| std::str::from_utf8(two).ok());
                let bytes: Vec<u8> = pairs.filter_map(|two| u8::from_str_radix(two, 16).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            (None, None) => String::new(),
        }
    }

    /// What is wrong with the file at `path`; none when it is as it should be.
    fn trouble(&self, path: &Path) -> Option<String> {
        let size = match fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some("is missing".into()),
            Err(error) => return Some(format!("cannot be read: {error}")),
        };
        if size != self.size {
            let what = if size < self.size { "is cut short" } else { "is too long" };
            return Some(format!("{what}: it has {size} bytes, and {} were expected", self.size));
        }
        let (Some(algorithm), Some(expected)) = (&self.algorithm, &self.checksum) else { return None };
        match sum(path, algorithm) {
            Ok(actual) if actual.eq_ignore_ascii_case(expected) => None,
            Ok(_) => Some(format!("is damaged: its {algorithm} checksum does not fit")),
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }
}

/// A file's checksum as the manifest writes it.
fn sum(path: &Path, algorithm: &str) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    match algorithm {
        "CRC32C" => {
            let mut crc = 0;
            each_block(&mut file, |block| crc = crc32c::crc32c_append(crc, block))?;
            // The four bytes as they are in memory.
            Ok(hex(&crc.to_le_bytes()))
        }
        "SHA224" => sha::<Sha224>(&mut file),
        "SHA256" => sha::<Sha256>(&mut file),
        "SHA384" => sha::<Sha384>(&mut file),
        "SHA512" => sha::<Sha512>(&mut file),
        other => Err(std::io::Error::other(format!("its checksum algorithm {other:?} is unknown"))),
    }
}

fn sha<D: Digest>(file: &mut fs::File) -> std::io::Result<String> {
    let mut digest = D::new();
    each_block(file, |block| digest.update(block))?;
    Ok(hex(&digest.finalize()))
}

fn each_block(file: &mut fs::File, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(()),
            count => take(&block[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files below, with links to tablespaces followed.
fn names_below(dir: &Path, prefix: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(ProveError::file("cannot read", dir))? {
        let path: PathBuf = entry.map_err(ProveError::file("cannot read", dir))?.path();
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if prefix.is_empty() { own.into_owned() } else { format!("{prefix}/{own}") };
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() && prefix.is_empty() && name == "pg_wal" => {}
            Ok(meta) if meta.is_dir() => names_below(&path, &name, names)?,
            _ => names.push(name),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &str) -> Vec<u8> {
        let head = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [{files}],\n\"WAL-Ranges\": [\n{{ \"Timeline\": 1, \
             \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }}\n],\n"
        );
        let sum = hex(&Sha256::digest(head.as_bytes()));
        format!("{head}\"Manifest-Checksum\": \"{sum}\"}}\n").into_bytes()
    }

    #[test]
    fn defects_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        file("whole", "123456789");
        file("short", "12");
        file("other", "12345678X");
        file("extra", "");
        let entry = |name: &str| {
            format!(
                "{{ \"Path\": \"{name}\", \"Size\": 9, \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"839206e3\" }}"
            )
        };
        let entries = ["whole", "short", "other", "gone"].map(entry).join(",");
        let manifest = Manifest::parse(&manifest(&entries)).unwrap();
        let text = manifest.verify(dir.path(), &[]).unwrap_err().to_string();
        assert!(!text.contains("whole"), "{text}");
        assert!(text.contains("short is cut short: it has 2 bytes, and 9 were expected"), "{text}");
        assert!(text.contains("other is damaged: its CRC32C checksum does not fit"), "{text}");
        assert!(text.contains("gone is missing") && text.contains("extra is there and not in"), "{text}");
        assert!(manifest.verify(dir.path(), &["short", "other", "gone", "extra"]).is_ok());
    }

    #[test]
    fn a_damaged_manifest_is_none() {
        let whole = manifest("");
        assert_eq!(Manifest::parse(&whole).unwrap().range().unwrap().timeline, 1);
        let mut other = whole.clone();
        other[60] ^= 1;
        assert!(Manifest::parse(&other).is_err());
        assert_eq!(Manifest::parse(&whole[..40]).unwrap_err(), "it is cut short");
    }

    #[test]
    fn encoded_names_are_read() {
        let file: File = serde_json::from_str(r#"{ "Encoded-Path": "62617365", "Size": 0 }"#).unwrap();
        assert_eq!(file.name(), "base");
    }
}
