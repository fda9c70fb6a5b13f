//! Who keeps the backups: surus's own repository, or another tool whose restore command brings them back.
//!
//! An engine only ever reads what it keeps. It says which backups there are and brings one of them into a scratch
//! place, as a data directory that PostgreSQL recovers by itself; what is done with it then is the same for all.

mod archive;
mod barman;
mod basebackup;
mod detect;
mod dump;
mod fault;
mod land;
mod manifest;
mod pgbackrest;
mod surus;
mod tool;
mod wal_g;

pub use archive::{Archive, Kept};
pub use barman::Barman;
pub use basebackup::BaseBackup;
pub use detect::{Detected, Machine, detect};
pub use dump::Dump;
pub use pgbackrest::Pgbackrest;
pub use surus::Surus;
pub use wal_g::WalG;

use crate::{
    error::{ProveError, Result},
    scratch::Place,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};
use surus_backup::{
    pace::Pace,
    restore::target::{Goal, RecoveryTarget},
    wal::name::Segment,
};
use surus_core::{code, lsn::Lsn, monitor::Monitor, protection::WalGap};

/// Which tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Surus,
    Pgbackrest,
    Barman,
    WalG,
    /// A directory or tar files that pg_basebackup made.
    Basebackup,
    /// What pg_dump or pg_dumpall made.
    Dump,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Surus => "surus",
            Self::Pgbackrest => "pgBackRest",
            Self::Barman => "Barman",
            Self::WalG => "WAL-G",
            Self::Basebackup => "pg_basebackup",
            Self::Dump => "pg_dump",
        })
    }
}

/// A backup, as far as a drill needs to know it. What a tool does not say is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Held {
    pub label: String,
    pub full: bool,
    pub timeline: Option<u32>,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub start_lsn: Option<Lsn>,
    pub stop_lsn: Option<Lsn>,
    /// Bytes of all files when restored.
    pub size: Option<u64>,
    /// Why it cannot be restored; none when nothing speaks against it.
    pub trouble: Option<String>,
}

impl Held {
    /// One of which only the label is known.
    fn named(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            full: false,
            timeline: None,
            started_at: None,
            stopped_at: None,
            start_lsn: None,
            stop_lsn: None,
            size: None,
            trouble: None,
        }
    }
}

/// Everything an engine keeps of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Survey {
    pub system_identifier: Option<u64>,
    /// The server's major.
    pub major: Option<u16>,
    /// Oldest first.
    pub backups: Vec<Held>,
    /// WAL that is missing from the oldest backup on.
    pub gaps: Vec<WalGap>,
    /// The newest archived segment, and when it came.
    pub newest_segment: Option<String>,
    pub newest_segment_at: Option<Timestamp>,
    /// What could not be seen or is odd.
    pub notes: Vec<String>,
}

/// What is to be restored, and how.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// None: the newest that leads to the target.
    pub backup: Option<&'a str>,
    pub target: &'a RecoveryTarget,
    pub place: &'a Place,
    /// Processes or threads.
    pub jobs: usize,
    /// Gives way to others, where the engine can.
    pub pace: Option<&'a Pace<'a>>,
    pub monitor: &'a dyn Monitor,
}

/// What lies in the place now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Landed {
    /// The data directory, owned by the account that the server runs as.
    pub data: PathBuf,
    pub label: String,
    pub major: u16,
    pub bytes: u64,
    /// Will the server replay WAL and promote? Not after a dump was loaded.
    pub recovers: bool,
    /// The newest segment on the way: a replay of all archived WAL that ends before it has met WAL that is damaged.
    /// None where it is not known.
    #[serde(skip)]
    pub replays_to: Option<Segment>,
    /// What was run, for the runbook: words of a shell, without secrets.
    pub commands: Vec<String>,
    /// What a reader of the proof should know.
    pub notes: Vec<String>,
}

/// One tool with one repository.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Which tool.
    fn kind(&self) -> Kind;
    /// Where the backups are, without credentials.
    fn address(&self) -> String;
    /// Are they on another machine or in an object store? None when that cannot be known.
    fn off_site(&self) -> Option<bool>;
    /// The cluster's system identifier, where it is known before anything is read.
    fn system_identifier(&self) -> Option<u64> {
        None
    }
    /// What is there.
    ///
    /// # Errors
    /// When the tool does not answer, or what it says cannot be understood.
    fn survey(&self) -> Result<Survey>;
    /// The archived WAL, by name; empty for a tool that keeps none.
    ///
    /// # Errors
    /// As [`Engine::survey`].
    fn archive(&self) -> Result<Archive> {
        Ok(Archive::default())
    }
    /// Brings a backup into the place. Blocks.
    ///
    /// # Errors
    /// With what the tool said; nothing can be started in the place then.
    fn restore(&self, order: &Order<'_>) -> Result<Landed>;
}

/// What somebody says about whose backups he means: the command line, the configuration, or what detection found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Wish {
    /// None: what the other fields, or this machine's configuration files, make clear.
    pub kind: Option<Kind>,
    /// pgBackRest's stanza.
    pub stanza: Option<String>,
    /// Barman's name of the server.
    pub server: Option<String>,
    /// The tool's configuration file; for WAL-G also a directory with one file for each variable, as envdir reads it.
    pub config: Option<PathBuf>,
    /// What pg_basebackup made, or a directory of such directories.
    pub dir: Option<PathBuf>,
    /// A WAL archive that belongs to it.
    pub wal: Option<PathBuf>,
    /// What pg_dump and pg_dumpall made.
    pub dumps: Vec<PathBuf>,
    /// A server to compare a loaded dump with.
    #[serde(skip)]
    pub compare: Option<String>,
}

impl Wish {
    /// What is meant, in words, where the backups cannot be opened; none when nothing was said.
    pub fn address(&self) -> Option<String> {
        let named = |word: &str, name: &Option<String>| name.as_ref().map(|name| format!("{word} {name}"));
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let dumps: Vec<String> = self.dumps.iter().map(|path| path.display().to_string()).collect();
        let dumps = (!dumps.is_empty()).then(|| dumps.join(", "));
        dumps
            .or_else(|| path(&self.dir))
            .or_else(|| named("stanza", &self.stanza))
            .or_else(|| named("server", &self.server))
            .or_else(|| path(&self.config))
    }

    /// The tool that is meant; none when nothing was said.
    pub fn kind(&self) -> Option<Kind> {
        self.kind.or(match self {
            Self { stanza: Some(_), .. } => Some(Kind::Pgbackrest),
            Self { server: Some(_), .. } => Some(Kind::Barman),
            Self { dir: Some(_), .. } => Some(Kind::Basebackup),
            Self { dumps, .. } if !dumps.is_empty() => Some(Kind::Dump),
            _ => None,
        })
    }
}

/// The engine for what was wished. Where nothing was said it is the only one that this machine's files tell of.
///
/// # Errors
/// When it is not clear whose backups are meant, or the tool is not installed.
pub fn open(wish: &Wish) -> Result<Box<dyn Engine>> {
    let unclear = |text: String| Err(ProveError::refused(code::PROVE_ENGINE, text));
    Ok(match wish.kind() {
        Some(Kind::Pgbackrest) => Box::new(Pgbackrest::open(wish)?),
        Some(Kind::Barman) => Box::new(Barman::open(wish)?),
        Some(Kind::WalG) => Box::new(WalG::open(wish)?),
        Some(Kind::Basebackup) => Box::new(BaseBackup::open(wish)?),
        Some(Kind::Dump) => Box::new(Dump::open(wish)?),
        Some(Kind::Surus) => return unclear("a repository of surus is named by --repo".into()),
        None => match detect(&Machine::here()).as_slice() {
            [one] => return open(&one.wish),
            [] => return unclear("no backup tool is configured on this machine, as far as its files tell".into()),
            several => {
                let each: Vec<String> = several.iter().map(ToString::to_string).collect();
                return unclear(format!("there are several:\n  {}", each.join("\n  ")));
            }
        },
    })
}

/// The newest backup that leads to the target, or the one that was named.
///
/// # Errors
/// When there is none; the text says what there is.
pub(crate) fn choose<'a>(survey: &'a Survey, order: &Order<'_>) -> Result<&'a Held> {
    let none = |text: String| Err(ProveError::refused(code::PROVE_NO_BACKUP, text));
    if let Some(label) = order.backup {
        return match survey.backups.iter().find(|held| held.label == label) {
            Some(Held { trouble: Some(why), .. }) => {
                Err(ProveError::refused(code::ENGINE_DAMAGED, format!("backup {label} cannot be restored: {why}")))
            }
            Some(held) => Ok(held),
            None => none(format!("there is no backup {label}; there are: {}", labels(survey))),
        };
    }
    let early = |held: &&Held| match &order.target.goal {
        Goal::Time(time) => held.stopped_at.is_none_or(|stopped| stopped <= *time),
        Goal::Lsn(lsn) => held.stop_lsn.is_none_or(|stop| stop <= *lsn),
        _ => true,
    };
    let Some(newest) = survey.backups.iter().rfind(early) else {
        return none(match survey.backups.first() {
            None => "no backup is there".to_owned(),
            Some(first) => match (&order.target.goal, first.stopped_at) {
                (Goal::Time(time), Some(at)) => format!("no backup ended before {time}; the oldest ended at {at}"),
                (goal, _) => format!("no backup ended before {goal}"),
            },
        });
    };
    match &newest.trouble {
        // An older one may do, but then the newest would never be proven.
        Some(why) => {
            let text = format!("backup {} cannot be restored: {why}", newest.label);
            Err(ProveError::refused(code::ENGINE_DAMAGED, text))
        }
        None => Ok(newest),
    }
}

fn labels(survey: &Survey) -> String {
    let all: Vec<&str> = survey.backups.iter().map(|held| held.label.as_str()).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}
