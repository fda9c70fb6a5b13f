//! pg_basebackup's tar files, read with the machine's own tar.

use crate::{
    engine::{fault, tool},
    error::{ProveError, Result},
};
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use surus_core::code;
use surus_pg::account::Account;

/// The endings that pg_basebackup gives, and tar's option for each.
const FORMS: &[(&str, &str, Option<&str>)] = &[
    ("tar", "", None),
    ("tar.gz", "--use-compress-program=gzip", Some("gzip")),
    ("tar.lz4", "--use-compress-program=lz4", Some("lz4")),
    ("tar.zst", "--use-compress-program=zstd", Some("zstd")),
];

/// The tar file of this name in the directory, packed or not.
pub fn file(dir: &Path, name: &str) -> Option<PathBuf> {
    FORMS.iter().map(|(ending, ..)| dir.join(format!("{name}.{ending}"))).find(|path| path.is_file())
}

/// tar's option to unpack this file.
fn option(file: &Path) -> Result<Option<&'static str>> {
    let name = file.to_string_lossy();
    let form = FORMS.iter().rev().find(|(ending, ..)| name.ends_with(&format!(".{ending}")));
    let Some((_, option, Some(program))) = form else { return Ok(None) };
    tool::find(program)?;
    Ok(Some(option))
}

/// Unpacks it as the account; it is read with our own rights, though refused when its owner could not.
///
/// # Errors
/// When it is cut short or damaged, with its name and size.
pub fn extract(file: &Path, to: &Path, account: &Account, owner: (u32, u32)) -> Result<()> {
    let meta = file.metadata().map_err(ProveError::input("cannot read", file))?;
    if !fault::bits(&meta, owner.0, owner.1) {
        let mode = meta.mode() & 0o7777;
        let text = format!("{} cannot be read by the backup's owner: mode {mode:04o}", file.display());
        return Err(ProveError::refused(code::ENGINE_ACCESS, text));
    }
    let mut command = account.command(&tool::find("tar")?, to);
    command.args(["-x", "-p", "--no-same-owner", "-f", "-"]).args(option(file)?);
    run(&mut command, file).map(drop)
}

/// The content of a small file near the beginning.
pub fn text(file: &Path, name: &str) -> Result<String> {
    let mut command = Command::new(tool::find("tar")?);
    command.env("LC_ALL", "C").args(["-x", "-O", "--occurrence=1", "-f", "-"]).args(option(file)?).arg(name);
    let bytes = run(&mut command, file)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files in it with their sizes.
pub fn sizes(file: &Path) -> Result<Vec<(String, u64)>> {
    let mut command = Command::new(tool::find("tar")?);
    command.env("LC_ALL", "C").args(["-t", "-v", "-f", "-"]).args(option(file)?);
    let text = run(&mut command, file)?;
    // Mode, owner, size, date, time, name.
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(((*words.get(5)?).to_owned(), words.get(2)?.parse().ok()?))
    };
    Ok(String::from_utf8_lossy(&text).lines().filter_map(line).collect())
}

fn run(command: &mut Command, file: &Path) -> Result<Vec<u8>> {
    let input = File::open(file).map_err(ProveError::input("cannot open", file))?;
    let cannot = || ProveError::file("cannot unpack", file);
    command.stdin(Stdio::from(input)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().map_err(cannot())?;
    // Where only the first entry is wanted the packer may find nobody who reads on.
    let enough = command.get_args().any(|one| one == "--occurrence=1") && !output.stdout.is_empty();
    if output.status.success() || enough {
        return Ok(output.stdout);
    }
    let bytes = fs::metadata(file).map_or(0, |meta| meta.len());
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.trim().lines().take(4).collect();
    let text = format!("{} ({bytes} bytes) is cut short or damaged: {}", file.display(), said.join("; "));
    Err(ProveError::refused(code::ENGINE_DAMAGED, text))
}

/// The first bytes of a file.
pub fn head(file: &Path) -> [u8; 6] {
    let mut head = [0; 6];
    if let Ok(mut file) = File::open(file) {
        // A shorter file is none of those that are known by their head.
        let _ = file.read_exact(&mut head);
    }
    head
}
