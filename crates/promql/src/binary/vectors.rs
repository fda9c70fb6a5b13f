//! Arithmetic and comparison between vectors: partners are found once per series, then computed column by column.

use super::{Matching, Operator};
use crate::error::QueryError;
use crate::rows::{Merger, Row, absent, is_absent, is_metadata};
use std::collections::HashMap;
use surus_core::series::Labels;

/// Series of both sides with one signature, by their places.
#[derive(Default)]
struct Group {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// Two vectors about to be combined; "one" is the side that may have one series per signature.
struct Pairing<'a> {
    operator: Operator,
    matching: &'a Matching,
    as_bool: bool,
    many: Vec<Row>,
    one: Vec<Row>,
}

/// The operator between partners.
pub(super) fn matched(
    operator: Operator,
    left: Vec<Row>,
    right: Vec<Row>,
    matching: &Matching,
    as_bool: bool,
) -> Result<Vec<Row>, QueryError> {
    let (many, one) = if matching.group_right { (right, left) } else { (left, right) };
    let mut order: Vec<Group> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut group = |labels: &Labels, order: &mut Vec<Group>| {
        let place = *places.entry(matching.signature(labels)).or_insert(order.len());
        if place == order.len() {
            order.push(Group::default());
        }
        place
    };
    for (number, row) in many.iter().enumerate() {
        let place = group(&row.labels, &mut order);
        order[place].many.push(number);
    }
    for (number, row) in one.iter().enumerate() {
        let place = group(&row.labels, &mut order);
        order[place].one.push(number);
    }
    let pairing = Pairing { operator, matching, as_bool, many, one };
    let mut merger = Merger::default();
    for group in &order {
        pairing.check_one(group)?;
        pairing.check_many(group)?;
        for &many in &group.many {
            for &one in &group.one {
                merger.add(pairing.combined(many, one))?;
            }
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            pairing.fill(group, &mut merger)?;
        }
    }
    let mut rows = merger.rows();
    rows.retain(|row| row.values.iter().any(|value| !is_absent(*value)));
    Ok(rows)
}

impl Pairing<'_> {
    /// At each step one series of the "one" side at most.
    fn check_one(&self, group: &Group) -> Result<(), QueryError> {
        let Some((step, first, second)) = clash(&self.one, &group.one, |_| true) else { return Ok(()) };
        // Where the other side is empty, nothing is matched.
        let fills = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        if !fills && !self.many.iter().any(|row| row.has(step)) {
            let others = |step: usize| self.many.iter().any(|row| row.has(step));
            match clash(&self.one, &group.one, others) {
                None => return Ok(()),
                Some((_, first, second)) => return Err(self.duplicate(first, second)),
            }
        }
        Err(self.duplicate(first, second))
    }

    fn duplicate(&self, first: usize, second: usize) -> QueryError {
        let signature = {
            let labels = &self.one[second].labels;
            self.matching.signature(labels)
        };
        let mut texts = [braced(&self.one[first].labels), braced(&self.one[second].labels)];
        texts.sort();
        let side = if self.matching.group_right { "left" } else { "right" };
        QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many \
             matching not allowed: matching labels must be unique on one side",
            braced(&signature),
            texts[0],
            texts[1]
        ))
    }

    /// Without grouping one series of the other side at most; with it, no two that give the same labels.
    fn check_many(&self, group: &Group) -> Result<(), QueryError> {
        if group.many.len() < 2 || group.one.is_empty() {
            return Ok(());
        }
        let matched = |step: usize| group.one.iter().any(|&one| self.one[one].has(step));
        if !self.matching.groups() {
            return match clash(&self.many, &group.many, matched) {
                None => Ok(()),
                Some(_) => Err(QueryError::execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                )),
            };
        }
        for &one in &group.one {
            let mut same: HashMap<Labels, Vec<usize>> = HashMap::new();
            for &many in &group.many {
                same.entry(self.labels(many, one)).or_default().push(many);
            }
            for many in same.values().filter(|many| many.len() > 1) {
                if clash(&self.many, many, |step| self.one[one].has(step)).is_some() {
                    return Err(QueryError::execution(
                        "multiple matches for labels: grouping labels must ensure unique matches",
                    ));
                }
            }
        }
        Ok(())
    }

    fn combined(&self, many: usize, one: usize) -> Row {
        let values = match self.operator {
            Operator::Add => self.values(many, one, |l, r| l + r),
            Operator::Sub => self.values(many, one, |l, r| l - r),
            Operator::Mul => self.values(many, one, |l, r| l * r),
            Operator::Div => self.values(many, one, |l, r| l / r),
            _ => self.values(many, one, |l, r| self.single(l, r)),
        };
        Row { labels: self.labels(many, one), drop_name: self.drops_name(many), values }
    }

    fn drops_name(&self, many: usize) -> bool {
        self.as_bool || self.many[many].drop_name
    }

    fn values(&self, many: usize, one: usize, apply: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let swapped = self.matching.group_right;
        let pairs = self.many[many].values.iter().zip(&self.one[one].values);
        pairs
            .map(|(&many, &one)| match is_absent(many) || is_absent(one) {
                true => absent(),
                false if swapped => apply(one, many),
                false => apply(many, one),
            })
            .collect()
    }

    fn single(&self, left: f64, right: f64) -> f64 {
        match self.operator.is_comparison() && !self.as_bool {
            true if self.operator.holds(left, right) => left,
            true => absent(),
            false => self.operator.compute(left, right),
        }
    }

    /// The labels of a result.
    fn labels(&self, many: usize, one: usize) -> Labels {
        self.result_labels(&self.many[many].labels, &self.one[one].labels)
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.matching;
        let drop_name = !self.operator.is_comparison();
        let mut labels = many.keep(|name| {
            let kept = matching.groups() || matching.names(name) == matching.on;
            kept && !(drop_name && is_metadata(name))
        });
        for name in &matching.include {
            labels = labels.with(name, one.get(name).unwrap_or_default());
        }
        labels
    }

    /// Series that have no partner at a step, against the value that stands for one.
    fn fill(&self, group: &Group, merger: &mut Merger) -> Result<(), QueryError> {
        let lone = |rows: &[Row], own: usize, others: &[Row], places: &[usize], step: usize| {
            rows[own].has(step) && !places.iter().any(|&other| others[other].has(step))
        };
        // With group_right Prometheus takes the other side's value; its own tests say so.
        let (for_many, for_one) = (self.matching.fill_right, self.matching.fill_left);
        let ordered = |many: f64, one: f64| match self.matching.group_right {
            true => self.single(one, many),
            false => self.single(many, one),
        };
        if let Some(value) = for_many {
            for &many in &group.many {
                let row = &self.many[many];
                let values =
                    (0..row.values.len()).map(|step| match lone(&self.many, many, &self.one, &group.one, step) {
                        true => ordered(row.values[step], value),
                        false => absent(),
                    });
                let labels = self.result_labels(&row.labels, &self.matching.signature(&row.labels));
                merger.add(Row { labels, drop_name: self.drops_name(many), values: values.collect() })?;
            }
        }
        if let Some(value) = for_one {
            for &one in &group.one {
                let row = &self.one[one];
                let values =
                    (0..row.values.len()).map(|step| match lone(&self.one, one, &self.many, &group.many, step) {
                        true => ordered(value, row.values[step]),
                        false => absent(),
                    });
                let labels = self.result_labels(&self.matching.signature(&row.labels), &row.labels);
                let drop_name = self.as_bool || row.drop_name;
                merger.add(Row { labels, drop_name, values: values.collect() })?;
            }
        }
        Ok(())
    }
}

/// The first step, among those that count, at which two of these rows have a value; and the two.
fn clash(rows: &[Row], places: &[usize], counts: impl Fn(usize) -> bool) -> Option<(usize, usize, usize)> {
    if places.len() < 2 {
        return None;
    }
    let steps = rows[places[0]].values.len();
    (0..steps).find_map(|step| {
        let mut there = places.iter().filter(|&&place| rows[place].has(step));
        match (there.next(), there.next()) {
            (Some(&first), Some(&second)) if counts(step) => Some((step, first, second)),
            _ => None,
        }
    })
}

/// Labels as Prometheus writes them in messages, the metric name among the others.
fn braced(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}
