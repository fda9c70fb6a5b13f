//! A target's series on their way to the store: full label sets, one batch per group and cycle, and the mark that ends
//! a series which is not told any more.

use crate::{
    desk::{Batch, Desk},
    settings::Watched,
    snapshot::Answer,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use surus_core::series::{Labels, METRIC_NAME, Told, stale};

/// The label `job` of everything that is collected from a PostgreSQL server.
const JOB: &str = "postgres";

pub(crate) struct Writing {
    desk: Desk,
    target: Arc<str>,
    /// `job`, `instance` and, where it is known, `cluster`.
    common: Vec<(Arc<str>, Arc<str>)>,
    name_label: Arc<str>,
    names: HashMap<&'static str, Arc<str>>,
    groups: HashMap<Arc<str>, Group>,
}

/// What a group wrote last.
struct Group {
    series: HashSet<Labels>,
    every_ms: i64,
    at_ms: i64,
}

impl Writing {
    pub(crate) fn new(desk: Desk, watched: &Watched) -> Self {
        let cluster = watched.cluster.as_deref().filter(|name| !name.is_empty());
        let mut common = vec![("job".into(), JOB.into()), ("instance".into(), watched.name.as_str().into())];
        common.extend(cluster.map(|name| ("cluster".into(), name.into())));
        Self {
            desk,
            target: watched.name.as_str().into(),
            common,
            name_label: METRIC_NAME.into(),
            names: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// Where everything else that is remembered goes.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Hands over a cycle of a group. Of two points with the same labels the first one counts.
    pub(crate) fn group<'a>(
        &mut self,
        group: &str,
        at_ms: i64,
        every_ms: i64,
        answers: impl Iterator<Item = &'a Arc<Answer>>,
    ) {
        let mut points = Vec::new();
        let mut series = HashSet::new();
        for told in answers.flat_map(|answer| &answer.told) {
            self.add(told, &mut points, &mut series);
        }
        self.hand_over(group, at_ms, every_ms, points, series);
    }

    fn add(&mut self, told: &Told, points: &mut Vec<(Labels, f64)>, series: &mut HashSet<Labels>) {
        let name = self.names.entry(told.family.name).or_insert_with(|| told.family.name.into()).clone();
        for point in &told.points {
            let own = point.labels.pairs().iter().cloned();
            let named = std::iter::once((self.name_label.clone(), name.clone()));
            let labels = Labels::merged(own.chain(named).chain(self.common.iter().cloned()));
            if series.insert(labels.clone()) {
                points.push((labels, point.value));
            }
        }
    }

    fn hand_over(
        &mut self,
        group: &str,
        at_ms: i64,
        every_ms: i64,
        mut points: Vec<(Labels, f64)>,
        series: HashSet<Labels>,
    ) {
        let before = self.groups.get(group);
        // A moment is written once; what comes for it again would contradict what was said.
        if before.is_some_and(|before| before.at_ms >= at_ms) {
            return;
        }
        let ended = before.into_iter().flat_map(|before| before.series.difference(&series));
        points.extend(ended.map(|labels| (labels.clone(), stale())));
        self.groups.insert(group.into(), Group { series, every_ms, at_ms });
        if !points.is_empty() {
            self.desk.batch(Batch { target: self.target.clone(), group: group.into(), at_ms, every_ms, points });
        }
    }

    /// Ends every series of every group.
    pub(crate) fn end_all(&mut self, at_ms: i64) {
        let groups: Vec<(Arc<str>, i64, i64)> =
            self.groups.iter().map(|(name, group)| (name.clone(), group.every_ms, group.at_ms)).collect();
        for (name, every_ms, last_ms) in groups {
            self.hand_over(&name, at_ms.max(last_ms + 1), every_ms, Vec::new(), HashSet::new());
        }
    }

    /// Ends every series of one group, which will not come back, such as that of a database that was dropped.
    pub(crate) fn end(&mut self, group: &str, at_ms: i64) {
        if let Some(before) = self.groups.get(group) {
            let (every_ms, at_ms) = (before.every_ms, at_ms.max(before.at_ms + 1));
            self.hand_over(group, at_ms, every_ms, Vec::new(), HashSet::new());
            self.groups.remove(group);
        }
    }
}
