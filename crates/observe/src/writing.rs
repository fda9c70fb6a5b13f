//! A target's series on their way to the store: full label sets, one batch per group and cycle. The store itself ends a
//! series that was in the batch before and is not in this one.

use crate::{
    desk::{Batch, Desk, Item},
    settings::Watched,
    snapshot::Answer,
};
use std::{collections::HashMap, sync::Arc};
use surus_core::series::{Family, Labels, MetricKind};

/// The label `job` of everything that is collected from a PostgreSQL server.
const JOB: &str = "postgres";

/// Groups that do not end when the server does.
const LASTING: &[&str] = &[TARGET, HOST];
/// The group of `up`, `pg_up` and `surus_*`.
pub(crate) const TARGET: &str = "target";
/// The group of the machine's own state.
pub(crate) const HOST: &str = "host";

pub(crate) struct Writing {
    desk: Desk,
    target: Arc<str>,
    /// `job`, `instance` and, where it is known, `cluster`.
    common: Vec<(Arc<str>, Arc<str>)>,
    names: HashMap<&'static str, Arc<str>>,
    groups: HashMap<Arc<str>, Group>,
    /// Families that are new in this cycle.
    undescribed: Vec<(&'static str, MetricKind, &'static str)>,
}

/// What a group wrote last.
struct Group {
    every_ms: i64,
    at_ms: i64,
    empty: bool,
    written: Vec<Written>,
}

/// A series that was written: the labels that its collector told last, and all of them. Cycles are alike, so the next
/// one uses the same full label sets, which the store holds too: none is made or kept twice.
#[derive(Clone)]
struct Written {
    family: &'static Family,
    own: Labels,
    full: Labels,
}

/// The series of the cycle before, to be found again: mostly at the same place.
struct Before {
    written: Vec<Written>,
    /// By family and own labels; made when something was not at its place.
    places: Option<HashMap<(&'static str, Labels), usize>>,
}

impl Before {
    fn find(&mut self, at: usize, family: &'static Family, own: &Labels) -> Option<&Written> {
        let fits = |one: &Written| std::ptr::eq(one.family, family) && one.own == *own;
        if self.places.is_none() && self.written.get(at).is_some_and(fits) {
            return self.written.get(at);
        }
        let key = |(at, one): (usize, &Written)| ((one.family.name, one.own.clone()), at);
        let places = self.places.get_or_insert_with(|| self.written.iter().enumerate().map(key).collect());
        places.get(&(family.name, own.clone())).and_then(|at| self.written.get(*at))
    }
}

impl Writing {
    pub(crate) fn new(desk: Desk, watched: &Watched) -> Self {
        Self::of_job(desk, JOB, watched)
    }

    /// Under another job than a target's.
    pub(crate) fn of_job(desk: Desk, job: &str, watched: &Watched) -> Self {
        let cluster = watched.cluster.as_deref().filter(|name| !name.is_empty());
        let mut common = vec![("job".into(), job.into()), ("instance".into(), watched.name.as_str().into())];
        common.extend(cluster.map(|name| ("cluster".into(), name.into())));
        Self {
            desk,
            target: watched.name.as_str().into(),
            common,
            names: HashMap::new(),
            groups: HashMap::new(),
            undescribed: Vec::new(),
        }
    }

    /// Where everything else that is remembered goes.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The target's name, shared.
    pub(crate) fn target(&self) -> Arc<str> {
        self.target.clone()
    }

    /// Hands over a cycle of a group. A moment is written once: what comes for it again is left out. One that is
    /// earlier, since the clock was set back, is for the store to judge.
    pub(crate) fn group<'a>(
        &mut self,
        group: &str,
        at_ms: i64,
        every_ms: i64,
        answers: impl Iterator<Item = &'a Arc<Answer>>,
    ) {
        let written = self.groups.get_mut(group).map(|before| std::mem::take(&mut before.written)).unwrap_or_default();
        let mut now = Vec::with_capacity(written.len());
        let mut points = Vec::with_capacity(written.len());
        let mut before = Before { written, places: None };
        // The series of a row share all labels but the name.
        let mut rows = HashMap::new();
        for told in answers.flat_map(|answer| &answer.told) {
            for point in &told.points {
                let full = match before.find(now.len(), told.family, &point.labels) {
                    Some(one) => one.full.clone(),
                    None => self.first(told.family, &point.labels, &mut rows),
                };
                points.push((full.clone(), point.value));
                now.push(Written { family: told.family, own: point.labels.clone(), full });
            }
        }
        drop(before);
        if !self.undescribed.is_empty() {
            self.desk.take(Item::Describe(std::mem::take(&mut self.undescribed)));
        }
        self.hand_over(group, at_ms, every_ms, points, now);
    }

    /// All labels of a series that the cycle before had not. `rows` has those of other series of this cycle, without a
    /// name, by the place of what the collector told.
    fn first(&mut self, family: &'static Family, own: &Labels, rows: &mut HashMap<usize, Labels>) -> Labels {
        let name = match self.names.get(family.name) {
            Some(name) => name.clone(),
            None => {
                self.undescribed.push((family.name, family.kind, family.help));
                let name = Arc::<str>::from(family.name);
                self.names.insert(family.name, name.clone());
                name
            }
        };
        let all = || own.pairs().chain(self.common.iter().map(|(name, value)| (name, value)));
        let all = || Labels::merged(all().map(|(name, value)| (name.clone(), value.clone())));
        rows.entry(own.place()).or_insert_with(all).named(&name)
    }

    fn hand_over(&mut self, group: &str, at_ms: i64, every_ms: i64, points: Vec<(Labels, f64)>, written: Vec<Written>) {
        let (name, empty) = (Arc::<str>::from(group), points.is_empty());
        match self.groups.get_mut(group) {
            Some(before) if before.at_ms == at_ms || (before.empty && empty) => {
                before.written = written;
                return;
            }
            None if empty => return,
            _ => {}
        }
        self.groups.insert(name.clone(), Group { every_ms, at_ms, empty, written });
        self.desk.take(Item::Batch(Batch { target: self.target.clone(), group: name, at_ms, every_ms, points }));
    }

    /// Ends every series that the server told. Whether it is there, and how its host is, is told on.
    pub(crate) fn end_all(&mut self, at_ms: i64) {
        let told = self.groups.keys().filter(|name| !LASTING.contains(&&***name));
        for group in told.cloned().collect::<Vec<_>>() {
            self.end(&group, at_ms);
        }
    }

    /// Ends every series: the target is not watched any more.
    pub(crate) fn leave(&mut self, at_ms: i64) {
        for group in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.end(&group, at_ms);
        }
    }

    /// Ends every series of one group, such as that of a database that was dropped.
    pub(crate) fn end(&mut self, group: &str, at_ms: i64) {
        if let Some(before) = self.groups.get(group) {
            let (every_ms, at_ms) = (before.every_ms, at_ms.max(before.at_ms + 1));
            self.hand_over(group, at_ms, every_ms, Vec::new(), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ONE: Family = Family { name: "one", kind: MetricKind::Gauge, help: "" };
    static OTHER: Family = Family { name: "other", kind: MetricKind::Gauge, help: "" };

    fn labels(value: &str) -> Labels {
        Labels::merged([("a", value)])
    }

    fn written(family: &'static Family, value: &str) -> Written {
        Written { family, own: labels(value), full: labels(&format!("{}-{value}", family.name)) }
    }

    #[test]
    fn a_series_is_found_again_wherever_it_is() {
        let cycle = vec![written(&ONE, "x"), written(&ONE, "y"), written(&OTHER, "x")];
        let mut before = Before { written: cycle, places: None };
        let mut full = |at, family, value: &str| {
            before.find(at, family, &labels(value)).map(|one| one.full.get("a").unwrap_or_default().to_owned())
        };
        assert_eq!(full(0, &ONE, "x").as_deref(), Some("one-x"));
        assert_eq!(full(1, &ONE, "new"), None);
        assert_eq!(full(2, &ONE, "y").as_deref(), Some("one-y"));
        assert_eq!(full(3, &OTHER, "x").as_deref(), Some("other-x"));
        assert_eq!(full(0, &OTHER, "y"), None);
    }
}
