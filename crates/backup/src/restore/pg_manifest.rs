//! `backup_manifest`: what is in the directory, in PostgreSQL's own form, so that pg_verifybackup can verify it.
//! Source: PostgreSQL's documentation, "Backup Manifest Format". Version 2, which PostgreSQL 17 and newer have, names
//! the cluster as well.

use crate::manifest::About;
use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use std::io::{self, Write};

/// The file's name.
pub const NAME: &str = "backup_manifest";

/// A file as the manifest tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    pub path: &'a str,
    pub size: u64,
    pub modified_ms: i64,
    /// `None` leaves it out.
    pub crc32c: Option<u32>,
}

/// Writes the manifest in the version that the backup's server has. The WAL range is what the backup needs to become
/// consistent.
///
/// # Errors
/// When `out` cannot be written.
pub fn write<'a>(out: &mut impl Write, about: &About, files: impl Iterator<Item = Entry<'a>>) -> io::Result<()> {
    let mut digest = Context::new(&SHA256);
    let mut put = |text: &str| {
        digest.update(text.as_bytes());
        out.write_all(text.as_bytes())
    };
    match about.server_version >= 170_000 {
        true => put(&format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {},\n\"Files\": [",
            about.system_identifier
        ))?,
        false => put("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [")?,
    }
    for (number, file) in files.enumerate() {
        let path = serde_json::to_string(file.path)?;
        // As PostgreSQL writes it: the four bytes as they are in memory.
        let sum = file.crc32c.map_or_else(String::new, |crc| {
            let crc: String = crc.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            format!(", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{crc}\"")
        });
        let modified = Timestamp::from_millisecond(file.modified_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        put(&format!(
            "{}\n{{ \"Path\": {path}, \"Size\": {}, \"Last-Modified\": \"{} GMT\"{sum} }}",
            if number == 0 { "" } else { "," },
            file.size,
            modified.strftime("%Y-%m-%d %H:%M:%S")
        ))?;
    }
    put(&format!(
        "\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {}, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}\n],\n",
        about.timeline, about.start_lsn, about.stop_lsn
    ))?;
    let sum: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    out.write_all(format!("\"Manifest-Checksum\": \"{sum}\"}}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::example;

    #[test]
    fn it_is_json_with_its_own_checksum() {
        let mut text = Vec::new();
        let file = Entry { path: "a\"b", size: 3, modified_ms: 0, crc32c: Some(0x1234_5678) };
        write(&mut text, &example("a").about, [file.clone(), file].into_iter()).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["PostgreSQL-Backup-Manifest-Version"], 1);
        assert_eq!(value["Files"][1]["Checksum"], "78563412");
        assert_eq!(value["Files"][0]["Last-Modified"], "1970-01-01 00:00:00 GMT");
        assert_eq!(value["WAL-Ranges"][0]["End-LSN"], "0/2000100");
        let text = String::from_utf8(text).unwrap();
        let before = text.find("\"Manifest-Checksum\"").unwrap();
        let digest = aws_lc_rs::digest::digest(&SHA256, &text.as_bytes()[..before]);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(value["Manifest-Checksum"], hex.as_str());
    }

    #[test]
    fn newer_servers_have_version_2_and_need_no_checksums() {
        let mut text = Vec::new();
        let about = About { server_version: 170_000, ..example("a").about };
        let file = Entry { path: "base/5/16384", size: 8192, modified_ms: 0, crc32c: None };
        write(&mut text, &about, std::iter::once(file)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            (&value["PostgreSQL-Backup-Manifest-Version"], &value["System-Identifier"]),
            (&2.into(), &42.into())
        );
        assert_eq!(value["Files"][0].get("Checksum"), None);
    }
}
