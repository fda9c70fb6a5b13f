//! Which series are meant.

use super::{Labels, METRIC_NAME};
use std::fmt;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends.
    Regex,
    /// `!~`, anchored at both ends.
    NotRegex,
}

/// A condition on one label; a label that is not there counts as empty.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub name: String,
    pub op: Op,
    pub value: String,
    regex: Option<regex::Regex>,
}

/// A regular expression that is none.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{value:?} is no regular expression: {why}")]
pub struct MatcherError {
    pub value: String,
    pub why: String,
}

impl Matcher {
    /// A matcher.
    ///
    /// # Errors
    /// When the value should be a regular expression and is none.
    pub fn new(name: &str, op: Op, value: &str) -> Result<Self, MatcherError> {
        let regex = match op {
            Op::Equal | Op::NotEqual => None,
            Op::Regex | Op::NotRegex => Some(
                regex::Regex::new(&format!("^(?s:{value})$"))
                    .map_err(|error| MatcherError { value: value.to_owned(), why: error.to_string() })?,
            ),
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// `name="value"`.
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), op: Op::Equal, value: value.to_owned(), regex: None }
    }

    /// The series of one metric name.
    pub fn metric(name: &str) -> Self {
        Self::equal(METRIC_NAME, name)
    }

    /// Does a label with this value (empty: without it) fulfil the condition?
    pub fn matches(&self, value: &str) -> bool {
        let found = |regex: &regex::Regex| regex.is_match(value);
        match self.op {
            Op::Equal => self.value == value,
            Op::NotEqual => self.value != value,
            Op::Regex => self.regex.as_ref().is_some_and(found),
            Op::NotRegex => !self.regex.as_ref().is_some_and(found),
        }
    }

    /// Do these labels fulfil the condition?
    pub fn accepts(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or_default())
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Regex => "=~",
            Op::NotRegex => "!~",
        };
        write!(f, "{}{op}{:?}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_label_is_an_empty_one_and_regexes_are_anchored() {
        let labels = Labels::new([("job", "api-server")]).unwrap();
        let accepts = |name, op, value| Matcher::new(name, op, value).unwrap().accepts(&labels);
        assert!(accepts("job", Op::Equal, "api-server") && accepts("zone", Op::Equal, ""));
        assert!(accepts("job", Op::Regex, "api-.*") && !accepts("job", Op::Regex, "api"));
        assert!(!accepts("job", Op::Regex, "a|b") && accepts("job", Op::NotRegex, "api"));
        assert!(accepts("zone", Op::Regex, ".*") && !accepts("zone", Op::Regex, ".+"));
        assert!(Matcher::new("job", Op::Regex, "(").is_err());
    }
}
