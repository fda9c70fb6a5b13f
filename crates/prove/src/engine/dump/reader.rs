//! Plain SQL that was packed: which program unpacks it, and its output as a stream.

use crate::{
    engine::tool,
    error::{ProveError, Result},
};
use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
};
use surus_core::code;

/// How a file is packed, known by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    program: &'static str,
}

const HEADS: &[(&[u8], &str)] = &[
    (&[0x1f, 0x8b], "gzip"),
    (b"BZh", "bzip2"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
];

impl Packed {
    /// From a file's first bytes; none when it is not packed.
    pub fn by_head(head: &[u8]) -> Option<Self> {
        HEADS.iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, program)| Self { program })
    }

    /// A process that unpacks the file to its standard output.
    pub fn unpack(self, path: &Path) -> Result<Child> {
        let input = File::open(path).map_err(ProveError::input("cannot open", path))?;
        let mut command = Command::new(tool::find(self.program)?);
        command.args(["-d", "-c"]).stdin(Stdio::from(input)).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(ProveError::file("cannot unpack", path))
    }

    /// The first bytes of what is packed.
    pub fn head(self, path: &Path, bytes: u64) -> Result<Vec<u8>> {
        let mut child = self.unpack(path)?;
        let mut head = Vec::new();
        if let Some(out) = child.stdout.take() {
            out.take(bytes).read_to_end(&mut head).map_err(ProveError::input("cannot unpack", path))?;
        }
        // It may still want to write what nobody reads.
        let _ = child.kill();
        let _ = child.wait();
        Ok(head)
    }

    /// Waits for the process; an error when it could not unpack all.
    pub fn finish(self, mut child: Child, path: &Path) -> Result<()> {
        let mut said = String::new();
        if let Some(mut out) = child.stderr.take() {
            let _ = out.read_to_string(&mut said);
        }
        let status = child.wait().map_err(ProveError::file("cannot unpack", path))?;
        if status.success() {
            return Ok(());
        }
        let bytes = path.metadata().map_or(0, |meta| meta.len());
        let text = format!("{} ({bytes} bytes) is cut short or damaged: {}", path.display(), said.trim());
        Err(ProveError::refused(code::ENGINE_DAMAGED, text))
    }
}
