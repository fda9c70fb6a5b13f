//! A target's series on their way to the store: full label sets, one batch per group and cycle. The store itself ends a
//! series that was in the batch before and is not in this one.

use crate::{
    desk::{Batch, Desk, Item},
    settings::Watched,
    snapshot::Answer,
};
use std::{collections::HashMap, sync::Arc};
use surus_core::series::{Labels, METRIC_NAME, MetricKind, Told};

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
    name_label: Arc<str>,
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
            name_label: METRIC_NAME.into(),
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

    /// Hands over a cycle of a group. A moment is written once: what comes for it again is left out.
    pub(crate) fn group<'a>(
        &mut self,
        group: &str,
        at_ms: i64,
        every_ms: i64,
        answers: impl Iterator<Item = &'a Arc<Answer>>,
    ) {
        let mut points = Vec::new();
        for told in answers.flat_map(|answer| &answer.told) {
            self.add(told, &mut points);
        }
        if !self.undescribed.is_empty() {
            self.desk.take(Item::Describe(std::mem::take(&mut self.undescribed)));
        }
        self.hand_over(group, at_ms, every_ms, points);
    }

    fn add(&mut self, told: &Told, points: &mut Vec<(Labels, f64)>) {
        let family = told.family;
        let name = match self.names.get(family.name) {
            Some(name) => name.clone(),
            None => {
                self.undescribed.push((family.name, family.kind, family.help));
                let name = Arc::<str>::from(family.name);
                self.names.insert(family.name, name.clone());
                name
            }
        };
        for point in &told.points {
            let own = point.labels.pairs().iter().cloned();
            let named = std::iter::once((self.name_label.clone(), name.clone()));
            points.push((Labels::merged(own.chain(named).chain(self.common.iter().cloned())), point.value));
        }
    }

    fn hand_over(&mut self, group: &str, at_ms: i64, every_ms: i64, points: Vec<(Labels, f64)>) {
        let (name, empty) = (Arc::<str>::from(group), points.is_empty());
        match self.groups.get(group) {
            Some(before) if before.at_ms >= at_ms || (before.empty && empty) => return,
            None if empty => return,
            _ => {}
        }
        self.groups.insert(name.clone(), Group { every_ms, at_ms, empty });
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
            self.hand_over(group, at_ms, every_ms, Vec::new());
        }
    }
}
