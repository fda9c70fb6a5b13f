//! Whether and how the server hands its finished WAL to an archive, as its settings say.

use crate::scene::Scene;
use surus_core::finding::Reason;

/// What happens to a finished segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Archiving {
    /// archive_mode is off.
    Off,
    /// It is on, but there is neither a command nor a library.
    Nowhere,
    /// The command says done and keeps nothing.
    Discarded(String),
    /// A command or a library takes it.
    To(String),
}

impl Archiving {
    /// From the settings.
    ///
    /// # Errors
    /// Unknown: the role may not see them.
    pub fn of(scene: &Scene<'_>) -> Result<Self, Reason> {
        if scene.setting("archive_mode")?.value == "off" {
            return Ok(Self::Off);
        }
        // archive_library is there from 15 on and goes before the command.
        let library = scene.settings().text("archive_library").unwrap_or_default().trim();
        if !library.is_empty() {
            return Ok(Self::To(library.to_owned()));
        }
        // The server shows "(disabled)" for the command while archive_mode is off.
        let command = scene.setting("archive_command")?.value.trim();
        Ok(match command {
            "" | "(disabled)" => Self::Nowhere,
            command if discards(command) => Self::Discarded(command.to_owned()),
            command => Self::To(command.to_owned()),
        })
    }

    /// Does a finished segment go anywhere?
    pub fn is_on(&self) -> bool {
        matches!(self, Self::To(_))
    }

    /// Why nothing is archived, in words.
    pub fn why_off(&self) -> String {
        match self {
            Self::Off => "archive_mode is off".into(),
            Self::Nowhere => "archive_mode is on, but archive_command is empty".into(),
            Self::Discarded(command) => format!("archive_command throws WAL away: {command}"),
            Self::To(_) => "WAL is archived".into(),
        }
    }
}

/// Is it one of the commands that people put in to silence the archiver: success without a copy?
fn discards(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    let program = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    let silent = matches!(program, "true" | ":" | "exit" | "echo" | "cd" | "sleep" | "rem");
    let chained = ["&&", ";", "|", ">"].iter().any(|sign| command.contains(sign));
    let to_null = command.contains("/dev/null") && !command.contains("%f");
    (silent && !chained) || to_null
}

#[cfg(test)]
mod tests {
    use super::discards;

    #[test]
    fn commands_that_keep_nothing_are_known() {
        for command in
            ["true", "/bin/true", "/usr/bin/true", ":", "exit 0", "echo %p", "cp %p /dev/null", "cat %p > /dev/null"]
        {
            assert!(discards(command), "{command}");
        }
        for command in [
            "cp %p /archive/%f",
            "test ! -f /archive/%f && cp %p /archive/%f",
            "pgbackrest --stanza=main archive-push %p",
            "cd /archive && cp %p %f",
            "rsync %p backup:/wal/%f > /dev/null",
        ] {
            assert!(!discards(command), "{command}");
        }
    }
}
