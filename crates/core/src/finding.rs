//! What a check saw.

use crate::{evidence::Evidence, plan::Plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// How bad a finding is. The order is from mild to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is lost by leaving it.
    Info,
    /// Will hurt; plan the fix.
    Warn,
    /// Hurts now or loses data; act.
    Crit,
}

impl Severity {
    /// The word used in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Crit => "crit",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that a check saw and that somebody should know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The check that saw it, e.g. `idx.fk`. The runner fills it in.
    pub id: String,
    /// Stable name of this very finding, e.g. `idx.fk:shop/public.orders.user_id`; suppress by it.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a relation, a role, a setting; empty for the instance as a whole.
    pub object: String,
    /// The database it was seen in, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// One line in plain words.
    pub title: String,
    /// Why it matters here, in a sentence or two.
    pub detail: String,
    /// The values behind it.
    pub evidence: Vec<Evidence>,
    /// How to make it go away, when surus knows.
    pub fix: Option<Plan>,
}

impl Finding {
    /// A finding about `object` (empty for the whole instance).
    pub fn new(severity: Severity, object: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            id: String::new(),
            key: String::new(),
            severity,
            object: object.into(),
            database: None,
            title: title.into(),
            detail: String::new(),
            evidence: Vec::new(),
            fix: None,
        }
    }

    /// Something worth knowing.
    pub fn info(object: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Severity::Info, object, title)
    }

    /// Something that will hurt.
    pub fn warn(object: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Severity::Warn, object, title)
    }

    /// Something that hurts now or loses data.
    pub fn crit(object: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(Severity::Crit, object, title)
    }

    /// Why it matters here.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = text.into();
        self
    }

    /// Adds an observed value without unit.
    #[must_use]
    pub fn saw(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.evidence.push(Evidence::new(name, value));
        self
    }

    /// Adds an observed number with its unit (`bytes`, `s`, `%`, `rows` …).
    #[must_use]
    pub fn measured(mut self, name: impl Into<String>, value: impl Into<Value>, unit: &'static str) -> Self {
        self.evidence.push(Evidence::measured(name, value, unit));
        self
    }

    /// The plan that makes it go away.
    #[must_use]
    pub fn fix(mut self, plan: Plan) -> Self {
        self.fix = Some(plan);
        self
    }
}

/// Why a check could not look. Never an excuse to say ok.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "what", rename_all = "snake_case")]
pub enum Reason {
    /// The role may not see it; the text says what to grant.
    Privilege(String),
    /// An extension or a preloaded library is missing.
    Extension(String),
    /// This major does not have it; the text says from which on.
    Version(String),
    /// It takes earlier samples, and nothing has collected them.
    History(String),
    /// It takes a backup repository, and none is known.
    Repository(String),
    /// It takes the server's log, and none is readable.
    Log(String),
    /// It takes the server's host, and surus is not on it or may not read the file.
    Host(String),
    /// The statistics are absent, stale or too young to judge by.
    Statistics(String),
    /// Somebody holds a lock that the look would have had to wait for.
    Locked(String),
    /// It took longer than a good guest may.
    Timeout(String),
    /// The target or the database could not be reached.
    Unreachable(String),
    /// It takes a statement of the operator: a policy, an allowed range, an expected standby.
    Undeclared(String),
    /// The server answered with something surus does not understand; a bug in surus or an unknown fork.
    Unexpected(String),
}

impl Reason {
    /// The reason's class as a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Reason::Privilege(_) => "privilege",
            Reason::Extension(_) => "extension",
            Reason::Version(_) => "version",
            Reason::History(_) => "history",
            Reason::Repository(_) => "repository",
            Reason::Log(_) => "log",
            Reason::Host(_) => "host",
            Reason::Statistics(_) => "statistics",
            Reason::Locked(_) => "locked",
            Reason::Timeout(_) => "timeout",
            Reason::Unreachable(_) => "unreachable",
            Reason::Undeclared(_) => "undeclared",
            Reason::Unexpected(_) => "unexpected",
        }
    }

    /// The reason in words.
    pub fn text(&self) -> &str {
        match self {
            Reason::Privilege(text)
            | Reason::Extension(text)
            | Reason::Version(text)
            | Reason::History(text)
            | Reason::Repository(text)
            | Reason::Log(text)
            | Reason::Host(text)
            | Reason::Statistics(text)
            | Reason::Locked(text)
            | Reason::Timeout(text)
            | Reason::Unreachable(text)
            | Reason::Undeclared(text)
            | Reason::Unexpected(text) => text,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
