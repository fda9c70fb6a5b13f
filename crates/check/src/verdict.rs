//! What a check's judgement is: findings, and what it could not see.

use surus_core::{
    finding::{Finding, Reason},
    proof::Proof,
};
use surus_pg::{AskError, AskErrorKind, RowError};

/// The outcome of a look. No finding and nothing unknown is *ok*.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    pub findings: Vec<Finding>,
    /// Parts that could not be seen: what (empty for all of it), and why.
    pub unknown: Vec<(String, Reason)>,
    /// The question does not arise here: no replica, no such feature in use.
    pub not_applicable: Option<String>,
    /// An experiment that was made while looking.
    pub proof: Option<Proof>,
}

impl Verdict {
    /// Nothing to complain about.
    pub fn ok() -> Self {
        Self::default()
    }

    /// These findings; none means ok.
    pub fn of(findings: Vec<Finding>) -> Self {
        Self { findings, ..Self::default() }
    }

    /// One finding.
    pub fn one(finding: Finding) -> Self {
        Self::of(vec![finding])
    }

    /// Could not look at all.
    pub fn unknown(reason: Reason) -> Self {
        Self { unknown: vec![(String::new(), reason)], ..Self::default() }
    }

    /// The question does not arise.
    pub fn not_applicable(why: impl Into<String>) -> Self {
        Self { not_applicable: Some(why.into()), ..Self::default() }
    }

    /// Adds a part that could not be seen.
    #[must_use]
    pub fn but_unknown(mut self, part: impl Into<String>, reason: Reason) -> Self {
        self.unknown.push((part.into(), reason));
        self
    }
}

/// Why a judgement was not reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// It could not be seen.
    Unknown(Reason),
    /// The answer had another shape than the check expects.
    Shape(RowError),
    /// The session is gone; further queries make no sense.
    Gone(String),
}

/// What a judging function returns.
pub type Judged = Result<Verdict, Trouble>;

impl From<RowError> for Trouble {
    fn from(error: RowError) -> Self {
        Trouble::Shape(error)
    }
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        Trouble::Unknown(reason)
    }
}

impl From<AskError> for Trouble {
    fn from(error: AskError) -> Self {
        match error.kind {
            AskErrorKind::Closed => Trouble::Gone(error.message),
            AskErrorKind::Privilege => Reason::Privilege(error.message).into(),
            AskErrorKind::Locked => {
                Reason::Locked(format!("{} (somebody holds a conflicting lock)", error.message)).into()
            }
            AskErrorKind::Timeout => Reason::Timeout(error.message).into(),
            AskErrorKind::Undefined | AskErrorKind::ObjectState | AskErrorKind::Server => {
                let state = error.sqlstate.map(|state| format!(" (SQLSTATE {state})")).unwrap_or_default();
                Reason::Unexpected(format!("{}{state}", error.message)).into()
            }
        }
    }
}
