//! Label sets.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";

/// The metric name's label, with the name shared.
static NAME: LazyLock<Arc<str>> = LazyLock::new(|| METRIC_NAME.into());

/// A label and its value.
pub type Pair = (Arc<str>, Arc<str>);

/// A label set: sorted by name, each name once, no empty value (which means the same as no label). Cheap to clone.
///
/// The metric name is kept apart from the other labels, so that the many series that a table or a query has under
/// different metric names hold the others only once between them ([`Labels::named`]).
#[derive(Clone)]
pub struct Labels {
    metric: Option<Arc<str>>,
    /// All labels but the metric name.
    others: Arc<[Pair]>,
}

/// Two labels of the same name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the label {name} is there twice")]
pub struct LabelError {
    pub name: String,
}

impl Labels {
    /// No labels at all.
    pub fn empty() -> Self {
        Self { metric: None, others: Arc::new([]) }
    }

    /// From pairs in any order. Empty values are left out.
    ///
    /// # Errors
    /// When a name is there twice.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelError> {
        let mut pairs: Vec<Pair> = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        match pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            Some(two) => Err(LabelError { name: two[0].0.to_string() }),
            None => Ok(Self::from_sorted(pairs)),
        }
    }

    /// From pairs in any order; of two with the same name the later one holds.
    pub fn merged<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut all: Vec<Pair> = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        all.reverse();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, first| later.0 == first.0);
        all.retain(|(_, value)| !value.is_empty());
        Self::from_sorted(all)
    }

    fn from_sorted(mut pairs: Vec<Pair>) -> Self {
        let at = pairs.binary_search_by(|(name, _)| (**name).cmp(METRIC_NAME)).ok();
        let metric = at.map(|at| pairs.remove(at).1);
        Self { metric, others: pairs.into() }
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        if name == METRIC_NAME {
            return self.metric();
        }
        self.others.binary_search_by(|(own, _)| (**own).cmp(name)).ok().map(|at| &*self.others[at].1)
    }

    /// The metric name; none after an operation that made another quantity of it.
    pub fn metric(&self) -> Option<&str> {
        self.metric.as_deref()
    }

    /// The labels in the order of their names, the metric name among them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().map(|(name, value)| (&**name, &**value))
    }

    /// As [`Labels::iter`], to share the texts.
    pub fn pairs(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        // Names that begin with a capital letter or two underscores may come before the metric name.
        let (before, after) = match &self.metric {
            Some(_) => self.others.split_at(self.others.partition_point(|(name, _)| **name < *METRIC_NAME)),
            None => (&self.others[..0], &self.others[..]),
        };
        let metric = self.metric.iter().map(|metric| (&*NAME, metric));
        before.iter().map(both).chain(metric).chain(after.iter().map(both))
    }

    /// Where the labels but the metric name are in memory: sets with the same place have the same ones, as long as
    /// one of them is held.
    pub fn place(&self) -> usize {
        self.others.as_ptr() as usize
    }

    /// How many, the metric name among them.
    pub fn len(&self) -> usize {
        self.others.len() + usize::from(self.metric.is_some())
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Only the labels whose names are wanted.
    pub fn keep(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let metric = self.metric.clone().filter(|_| wanted(METRIC_NAME));
        if self.others.iter().all(|(name, _)| wanted(name)) {
            return Self { metric, others: self.others.clone() };
        }
        Self { metric, others: self.others.iter().filter(|(name, _)| wanted(name)).cloned().collect() }
    }

    /// With this label set to this value; an empty value takes it away.
    pub fn with(&self, name: &str, value: &str) -> Self {
        if self.get(name).unwrap_or_default() == value {
            return self.clone();
        }
        if name == METRIC_NAME {
            let metric = (!value.is_empty()).then(|| value.into());
            return Self { metric, others: self.others.clone() };
        }
        let mut pairs: Vec<_> = self.others.iter().filter(|(own, _)| &**own != name).cloned().collect();
        if !value.is_empty() {
            let at = pairs.partition_point(|(own, _)| &**own < name);
            pairs.insert(at, (name.into(), value.into()));
        }
        Self { metric: self.metric.clone(), others: pairs.into() }
    }

    /// The same labels under this metric name; the others are shared.
    pub fn named(&self, metric: &Arc<str>) -> Self {
        Self { metric: (!metric.is_empty()).then(|| Arc::clone(metric)), others: Arc::clone(&self.others) }
    }
}

fn both((name, value): &Pair) -> (&Arc<str>, &Arc<str>) {
    (name, value)
}

/// Sets that share what they have are equal without a look at it.
impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        let same_name = match (&self.metric, &other.metric) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (None, None) => true,
            _ => false,
        };
        same_name && (Arc::ptr_eq(&self.others, &other.others) || self.others == other.others)
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.metric.hash(state);
        self.others.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By the first label that differs, its name before its value.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
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
    fn the_metric_name_keeps_its_place_in_the_order() {
        let all = [("Zone", "z"), ("__address__", "x"), ("__name__", "up"), ("a", "1")];
        let labels = Labels::new(all.into_iter().rev()).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), all);
        assert_eq!(labels.with("a", ""), Labels::new([all[0], all[1], all[2]]).unwrap());
        assert!(labels < labels.with("Zone", "zz") && labels.with(METRIC_NAME, "") > labels);
        let sorted = |labels: &Labels| labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>();
        let sets = [labels.clone(), labels.keep(|name| name != METRIC_NAME), labels.with("b", "1"), Labels::empty()];
        for (one, other) in sets.iter().flat_map(|one| sets.iter().map(move |other| (one, other))) {
            assert_eq!(one.cmp(other), sorted(one).cmp(&sorted(other)), "{one} {other}");
            assert_eq!(one == other, sorted(one) == sorted(other), "{one} {other}");
        }
    }

    #[test]
    fn other_labels_are_shared_between_names() {
        let row = Labels::new([("table", "t"), ("__name__", "a")]).unwrap();
        let other = row.named(&"b".into());
        assert_eq!((other.to_string().as_str(), other.place()), (r#"b{table="t"}"#, row.place()));
        assert_eq!(other, Labels::new([("__name__", "b"), ("table", "t")]).unwrap());
        assert_eq!(row.named(&"".into()), row.with(METRIC_NAME, ""));
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
