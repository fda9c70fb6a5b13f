//! Label sets.

use std::fmt;
use std::sync::Arc;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";

/// A label set: sorted by name, each name once, no empty value (which means the same as no label). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

/// Two labels of the same name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the label {name} is there twice")]
pub struct LabelError {
    pub name: String,
}

impl Labels {
    /// No labels at all.
    pub fn empty() -> Self {
        Self(Arc::new([]))
    }

    /// From pairs in any order. Empty values are left out.
    ///
    /// # Errors
    /// When a name is there twice.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelError> {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        match pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            Some(two) => Err(LabelError { name: two[0].0.to_string() }),
            None => Ok(Self(pairs.into())),
        }
    }

    /// From pairs in any order; of two with the same name the later one holds.
    pub fn merged<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut all: Vec<(Arc<str>, Arc<str>)> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        all.reverse();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, first| later.0 == first.0);
        all.retain(|(_, value)| !value.is_empty());
        Self(all.into())
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(own, _)| (**own).cmp(name)).ok().map(|at| &*self.0[at].1)
    }

    /// The metric name; none after an operation that made another quantity of it.
    pub fn metric(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// The labels in the order of their names, the metric name among them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// As [`Labels::iter`], to share the texts.
    pub fn pairs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }

    /// How many, the metric name among them.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the labels whose names are wanted.
    pub fn keep(&self, wanted: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| wanted(name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(name, _)| wanted(name)).cloned().collect())
    }

    /// With this label set to this value; an empty value takes it away.
    pub fn with(&self, name: &str, value: &str) -> Self {
        if self.get(name).unwrap_or_default() == value {
            return self.clone();
        }
        let mut pairs: Vec<_> = self.0.iter().filter(|(own, _)| &**own != name).cloned().collect();
        if !value.is_empty() {
            let at = pairs.partition_point(|(own, _)| &**own < name);
            pairs.insert(at, (name.into(), value.into()));
        }
        Self(pairs.into())
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

/// As PromQL writes it: `name{a="b"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric().unwrap_or_default();
        f.write_str(name)?;
        let mut others = self.iter().filter(|(name, _)| *name != METRIC_NAME).peekable();
        if others.peek().is_none() && !name.is_empty() {
            return Ok(());
        }
        f.write_str("{")?;
        for (number, (name, value)) in others.enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Is this a name that a label may have (`[a-zA-Z_][a-zA-Z0-9_]*`)?
pub fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':')
}

/// Is this a name that a metric may have (`[a-zA-Z_:][a-zA-Z0-9_:]*`)?
pub fn is_metric_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_unique_and_without_empty_values() {
        let labels = Labels::new([("b", "2"), ("__name__", "up"), ("c", ""), ("a", "1")]).unwrap();
        assert_eq!(labels.to_string(), r#"up{a="1", b="2"}"#);
        assert_eq!((labels.len(), labels.get("b"), labels.get("c"), labels.metric()), (3, Some("2"), None, Some("up")));
        assert_eq!(Labels::new([("a", "1"), ("a", "2")]).unwrap_err().name, "a");
        assert_eq!(Labels::merged([("a", "1"), ("b", "3"), ("a", "2"), ("b", "")]).to_string(), r#"{a="2"}"#);
    }

    #[test]
    fn labels_are_set_and_taken_away() {
        let labels = Labels::new([("b", "2")]).unwrap();
        assert_eq!(labels.with("a", "1").to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(labels.with("b", "3").with("c", "x\"y").to_string(), r#"{b="3", c="x\"y"}"#);
        assert_eq!(labels.with("b", ""), Labels::empty());
        assert_eq!(labels.keep(|name| name != "b"), Labels::empty());
        assert!(is_label_name("_a1") && !is_label_name("1a") && !is_label_name("a:b") && is_metric_name("a:b"));
    }
}
