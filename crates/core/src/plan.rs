//! A plan: ordered steps, each with its effect, lock, interruption, time and undo. Shown before anything acts.

use serde::{Deserialize, Serialize};
use std::fmt;

/// PostgreSQL's table-level lock modes, weakest first; `None` takes no table lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Lock {
    None,
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

impl Lock {
    /// The mode's name as PostgreSQL's documentation writes it.
    pub fn name(self) -> &'static str {
        match self {
            Lock::None => "no table lock",
            Lock::AccessShare => "ACCESS SHARE",
            Lock::RowShare => "ROW SHARE",
            Lock::RowExclusive => "ROW EXCLUSIVE",
            Lock::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Lock::Share => "SHARE",
            Lock::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Lock::Exclusive => "EXCLUSIVE",
            Lock::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// What the mode blocks, in plain words.
    pub fn blocks(self) -> &'static str {
        match self {
            Lock::None | Lock::AccessShare => "blocks nothing but DROP, TRUNCATE and the like",
            Lock::RowShare | Lock::RowExclusive => "blocks schema changes, not reads or writes",
            Lock::ShareUpdateExclusive => "blocks schema changes and VACUUM, not reads or writes",
            Lock::Share | Lock::ShareRowExclusive => "blocks writes, not reads",
            Lock::Exclusive => "blocks writes and SELECT … FOR UPDATE, not plain reads",
            Lock::AccessExclusive => "blocks everything, reads too",
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a step interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// Nothing.
    None,
    /// The server reads its configuration again; sessions stay.
    Reload,
    /// The table or index is written anew.
    Rewrite,
    /// The server must be restarted by a person, at a moment of their choice.
    Restart,
}

/// The thing that a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// `ALTER SYSTEM SET name = value`; surus records the earlier entry and can put it back.
    Setting { name: String, value: String },
    /// `ALTER SYSTEM RESET name`; surus records the earlier entry and can put it back.
    ResetSetting { name: String },
    /// SQL in one database. `transaction` false for what refuses one (CREATE INDEX CONCURRENTLY, VACUUM).
    Sql { database: Option<String>, sql: String, transaction: bool },
    /// Replace one line of pg_hba.conf; surus keeps a copy of the file and checks the result before the reload.
    HbaLine { line: u32, old: String, new: Option<String> },
    /// A command or a decision that only a person can make; surus prints it and never runs it.
    Manual { text: String },
}

/// How a step is taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Undo {
    /// This SQL takes it back.
    Sql { sql: String },
    /// By what surus records before it acts: the earlier setting, the earlier file.
    PreImage,
    /// It cannot be taken back; the text says why that is no loss, or what is lost.
    Never { why: String },
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What changes for the user, in plain words.
    pub effect: String,
    /// What is done.
    pub action: Action,
    /// The strongest table lock it takes.
    pub lock: Lock,
    /// What it interrupts.
    pub interrupts: Interruption,
    /// About how long it takes, in seconds; absent when there is nothing to estimate from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How it is taken back.
    pub undo: Undo,
    /// Why it is taken only when its finding is asked for by name: somebody must stand still for it, or loses
    /// something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_name: Option<String>,
}

impl Step {
    /// Sets a server setting that takes effect on reload.
    pub fn setting(name: impl Into<String>, value: impl Into<String>, effect: impl Into<String>) -> Self {
        Self {
            effect: effect.into(),
            action: Action::Setting { name: name.into(), value: value.into() },
            lock: Lock::None,
            interrupts: Interruption::Reload,
            seconds: Some(0.1),
            undo: Undo::PreImage,
            by_name: None,
        }
    }

    /// Removes a server setting's entry from postgresql.auto.conf, so that the configuration files decide again.
    pub fn reset_setting(name: impl Into<String>, effect: impl Into<String>) -> Self {
        let step = Self::setting("", "", effect);
        Self { action: Action::ResetSetting { name: name.into() }, ..step }
    }

    /// SQL inside a transaction; give the undo with [`Step::undo_sql`].
    pub fn sql(sql: impl Into<String>, lock: Lock, effect: impl Into<String>) -> Self {
        Self {
            effect: effect.into(),
            action: Action::Sql { database: None, sql: sql.into(), transaction: true },
            lock,
            interrupts: Interruption::None,
            seconds: None,
            undo: Undo::Never { why: "no undo is known".into() },
            by_name: None,
        }
    }

    /// SQL that refuses to run in a transaction: CREATE INDEX CONCURRENTLY, REINDEX CONCURRENTLY, VACUUM.
    pub fn sql_alone(sql: impl Into<String>, lock: Lock, effect: impl Into<String>) -> Self {
        let mut step = Self::sql(sql, lock, effect);
        if let Action::Sql { transaction, .. } = &mut step.action {
            *transaction = false;
        }
        step
    }

    /// Something only a person can do.
    pub fn manual(text: impl Into<String>) -> Self {
        Self {
            effect: String::new(),
            action: Action::Manual { text: text.into() },
            lock: Lock::None,
            interrupts: Interruption::None,
            seconds: None,
            undo: Undo::Never { why: "done by hand".into() },
            by_name: None,
        }
    }

    /// Replaces (or with `None` comments out) a line of pg_hba.conf.
    pub fn hba_line(line: u32, old: impl Into<String>, new: Option<String>, effect: impl Into<String>) -> Self {
        let step = Self::setting("", "", effect);
        Self { action: Action::HbaLine { line, old: old.into(), new }, ..step }
    }

    /// The SQL that takes it back.
    #[must_use]
    pub fn undo_sql(mut self, sql: impl Into<String>) -> Self {
        self.undo = Undo::Sql { sql: sql.into() };
        self
    }

    /// It cannot be taken back, and why.
    #[must_use]
    pub fn no_undo(mut self, why: impl Into<String>) -> Self {
        self.undo = Undo::Never { why: why.into() };
        self
    }

    /// About how long it takes, in seconds.
    #[must_use]
    pub fn takes(mut self, seconds: f64) -> Self {
        self.seconds = Some(seconds);
        self
    }

    /// What it interrupts.
    #[must_use]
    pub fn interrupts(mut self, what: Interruption) -> Self {
        self.interrupts = what;
        self
    }

    /// It is taken only when its finding is asked for by name, and why.
    #[must_use]
    pub fn only_by_name(mut self, why: impl Into<String>) -> Self {
        self.by_name = Some(why.into());
        self
    }

    /// Why it is taken only when its finding is asked for by name; `None` when it is harmless enough to be taken
    /// unasked.
    pub fn why_by_name(&self) -> Option<&str> {
        let stands_still = self.lock >= Lock::Share && self.interrupts == Interruption::Rewrite;
        self.by_name.as_deref().or(stands_still.then_some("nobody can change the table meanwhile"))
    }

    /// Is it left to a person?
    pub fn is_manual(&self) -> bool {
        matches!(self.action, Action::Manual { .. })
    }
}

/// An ordered list of steps that makes a finding go away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What the plan achieves, in one line.
    pub summary: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// A plan of the given steps.
    pub fn new(summary: impl Into<String>, steps: Vec<Step>) -> Self {
        Self { summary: summary.into(), steps }
    }

    /// A plan of one step.
    pub fn one(summary: impl Into<String>, step: Step) -> Self {
        Self::new(summary, vec![step])
    }

    /// Advice that surus cannot carry out itself.
    pub fn advice(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::one(text.clone(), Step::manual(text))
    }

    /// The strongest lock of all steps.
    pub fn strongest_lock(&self) -> Lock {
        self.steps.iter().map(|step| step.lock).max().unwrap_or(Lock::None)
    }

    /// The worst interruption of all steps.
    pub fn worst_interruption(&self) -> Interruption {
        self.steps.iter().map(|step| step.interrupts).max().unwrap_or(Interruption::None)
    }

    /// Has it at least one step that surus can carry out?
    pub fn is_applicable(&self) -> bool {
        self.steps.iter().any(|step| !step.is_manual())
    }
}
