//! The commands that answer with rows.

use super::{Replication, parsed, quoted, strange};
use crate::ask::AskError;
use surus_core::lsn::Lsn;

/// What a server says of itself: `IDENTIFY_SYSTEM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub system_identifier: u64,
    pub timeline: u32,
    /// How far WAL is durable there; on a standby, how far it is replayed or received.
    pub position: Lsn,
}

/// A timeline's history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    pub name: String,
    pub content: Vec<u8>,
}

/// Where a physical slot holds WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotPosition {
    /// The oldest WAL that it holds; none when it holds none yet.
    pub restart: Option<(Lsn, u32)>,
}

impl Replication {
    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// When the server refuses or the connection is gone; likewise below.
    pub async fn identify(&mut self) -> Result<Identity, AskError> {
        let answer = self.ask("IDENTIFY_SYSTEM").await?;
        Ok(Identity {
            system_identifier: answer.parsed("systemid")?,
            timeline: answer.parsed("timeline")?,
            position: answer.parsed("xlogpos")?,
        })
    }

    /// `SHOW`: a setting's value as a person would write it, e.g. `16MB`.
    ///
    /// # Errors
    /// As [`Replication::identify`]; also when there is no such setting.
    pub async fn show(&mut self, setting: &str) -> Result<String, AskError> {
        let answer = self.ask(&format!("SHOW {setting}")).await?;
        let value = answer.rows.first().and_then(|row| row.first()?.clone());
        let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| strange("a setting has no value"))
    }

    /// Bytes of a WAL segment.
    ///
    /// # Errors
    /// As [`Replication::identify`].
    pub async fn wal_segment_size(&mut self) -> Result<u64, AskError> {
        let text = self.show("wal_segment_size").await?;
        let units = [("kB", 10), ("MB", 20), ("GB", 30), ("B", 0)];
        let bytes = units.into_iter().find_map(|(unit, power)| {
            let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            number.checked_shl(power)
        });
        let plausible = bytes.filter(|bytes| bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(bytes));
        plausible.ok_or_else(|| strange(&format!("wal_segment_size is {text}")))
    }

    /// `TIMELINE_HISTORY`: a timeline's history file; timeline 1 has none.
    ///
    /// # Errors
    /// As [`Replication::identify`]; also when the server has no such file.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<HistoryFile, AskError> {
        let answer = self.ask(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = answer.value("content")?.ok_or_else(|| strange("a history file has no content"))?.to_vec();
        Ok(HistoryFile { name: answer.parsed("filename")?, content })
    }

    /// `CREATE_REPLICATION_SLOT … PHYSICAL`; with `reserve` it holds WAL at once, not only from its first use on.
    ///
    /// # Errors
    /// As [`Replication::identify`]; SQLSTATE 42710 when it is there already.
    pub async fn create_physical_slot(&mut self, name: &str, temporary: bool, reserve: bool) -> Result<(), AskError> {
        let temporary = if temporary { " TEMPORARY" } else { "" };
        let reserve = if reserve { " RESERVE_WAL" } else { "" };
        // The older syntax, which newer servers know as well.
        let command = format!("CREATE_REPLICATION_SLOT {}{temporary} PHYSICAL{reserve}", quoted(name));
        self.ask(&command).await.map(drop)
    }

    /// `READ_REPLICATION_SLOT`, PostgreSQL 15 or newer: where a physical slot holds WAL; `None` when there is none of
    /// that name.
    ///
    /// # Errors
    /// As [`Replication::identify`]; also when the slot is a logical one.
    pub async fn read_slot(&mut self, name: &str) -> Result<Option<SlotPosition>, AskError> {
        let answer = self.ask(&format!("READ_REPLICATION_SLOT {}", quoted(name))).await?;
        if answer.value("slot_type")?.is_none() {
            return Ok(None);
        }
        let restart = match answer.value("restart_lsn")? {
            None => None,
            lsn => Some((parsed("restart_lsn", lsn)?, answer.parsed("restart_tli")?)),
        };
        Ok(Some(SlotPosition { restart }))
    }

    /// `DROP_REPLICATION_SLOT`; with `wait` as soon as nobody uses it.
    ///
    /// # Errors
    /// As [`Replication::identify`]; also when there is none of that name.
    pub async fn drop_slot(&mut self, name: &str, wait: bool) -> Result<(), AskError> {
        let wait = if wait { " WAIT" } else { "" };
        self.ask(&format!("DROP_REPLICATION_SLOT {}{wait}", quoted(name))).await.map(drop)
    }
}
