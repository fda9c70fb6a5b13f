//! Puts back what an accident took: which rows, in which order, and nothing that is not asked for.
//!
//! Rows that vanished are put back and rows that changed are set back to what they were: in the tables that are named,
//! and through foreign keys in others, as far as a cascade took rows or set references to NULL there, or rows that are
//! put back need theirs. Rows that are new are never touched; those that changed again after the accident neither.

mod script;
mod trial;

pub use script::{Heading, write};
pub use trial::{Tried, dump, try_on};

use crate::{
    diff::{
        Change, Counts, Layout, Row, Side, TableName, Values, by_key, compare,
        layout::Place,
        pair,
        shape::{Consequence, Reference, Trigger, references},
    },
    error::{ProveError, Result},
};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use surus_core::code;

/// Bytes of values that a repair holds, at most.
const MOST_BYTES: usize = 512 << 20;

/// The snapshots that a repair is worked out from.
#[derive(Clone, Copy)]
pub struct Sides<'a> {
    pub past: &'a Side,
    pub now: &'a Side,
    /// When the accident was over: what changed after it was meant.
    pub until: Option<&'a Side>,
}

/// A table that is named.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub table: &'a TableName,
    pub key: Option<&'a [String]>,
    pub condition: Option<&'a str>,
}

/// A row that is there, and is set back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    pub was: Row,
    pub is: Row,
    /// The columns that are set back; the others stay as they are.
    pub columns: Vec<Place>,
}

/// A row that is left as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    pub row: String,
    pub why: String,
}

/// What is done with one table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    pub layout: Layout,
    pub triggers: Vec<Trigger>,
    /// Was it named?
    pub named: bool,
    /// Was it dropped? All of it comes back then.
    pub dropped: bool,
    /// As the diff counted them; of a named table.
    pub counts: Counts,
    pub back: Vec<Row>,
    pub set: Vec<SetBack>,
    pub left: Vec<Left>,
}

/// The whole repair.
#[derive(Debug, Default)]
pub struct Repair {
    pub tables: BTreeMap<TableName, TablePlan>,
    pub notes: Vec<String>,
    then: Vec<Reference>,
    now: Vec<Reference>,
    vanished_only: bool,
    bytes: usize,
}

impl Repair {
    /// Works it out.
    ///
    /// # Errors
    /// When a side does not answer, a table cannot be compared, or there is too much.
    pub async fn of(sides: Sides<'_>, named: &[Named<'_>], vanished_only: bool) -> Result<Self> {
        let (then, now) = (references(sides.past).await?, references(sides.now).await?);
        let mut repair = Self { then, now, vanished_only, ..Self::default() };
        for one in named {
            repair.add_named(sides, one).await?;
        }
        let mut todo: VecDeque<(TableName, Vec<Row>, bool)> = VecDeque::new();
        for (name, plan) in &repair.tables {
            todo.push_back((name.clone(), plan.back.clone(), true));
            todo.push_back((name.clone(), plan.set.iter().map(|one| one.was.clone()).collect(), false));
        }
        while let Some((name, rows, vanished)) = todo.pop_front() {
            if rows.is_empty() {
                continue;
            }
            repair.parents(sides, &name, &rows, &mut todo).await?;
            if vanished {
                repair.children(sides, &name, &rows, &mut todo).await?;
            }
        }
        repair.warn_of_cascades();
        repair.warn_of_sequences(sides).await?;
        Ok(repair)
    }

    /// Is there anything to do?
    pub fn is_empty(&self) -> bool {
        !self.tables.values().any(|plan| plan.dropped || plan.back.len() + plan.set.len() > 0)
    }

    /// Foreign keys of other tables to those that come back.
    pub fn lost_references(&self) -> Vec<&Reference> {
        let dropped = |name: &TableName| self.tables.get(name).is_some_and(|plan| plan.dropped);
        let there = |one: &Reference| self.now.iter().any(|now| (&now.from, &now.name) == (&one.from, &one.name));
        self.then.iter().filter(|one| dropped(&one.to) && !dropped(&one.from) && !there(one)).collect()
    }

    async fn add_named(&mut self, sides: Sides<'_>, named: &Named<'_>) -> Result<()> {
        let Some(mut plan) = plan_of(sides, named.table, named.key).await? else { return Ok(()) };
        plan.named = true;
        if plan.dropped && named.condition.is_some() {
            let text = format!("no repair was written: {} was dropped, and comes back as a whole or not", named.table);
            return Err(ProveError::refused(code::DIFF_TABLE, text));
        }
        let (mut gone, mut changed, mut bytes) = (Vec::new(), Vec::new(), 0);
        let dropped = plan.dropped;
        let mut each = |change: Change| {
            match change {
                Change::Vanished(row) if !dropped => gone.push(row),
                Change::Changed { was, is } => changed.push((was, is)),
                _ => return Ok(()),
            }
            let last =
                gone.last().map_or(0, weight).max(changed.last().map_or(0, |(was, is)| weight(was) + weight(is)));
            bytes += last;
            if bytes > MOST_BYTES { Err(too_much()) } else { Ok(()) }
        };
        if plan.layout.key.is_empty() {
            let rows = sides.past.ask(&format!("SELECT count(*) AS rows FROM {}", named.table)).await?;
            plan.counts.vanished = u64::try_from(rows.first()?.i64("rows")?).unwrap_or(0);
            self.tables.insert(named.table.clone(), plan);
            return Ok(());
        }
        let now = Some(sides.now).filter(|_| !plan.dropped);
        plan.counts = compare(sides.past, now, &plan.layout, named.condition, &mut each).await?;
        self.bytes += bytes;
        let (gone, left) = still_gone(sides, &plan.layout, gone).await?;
        plan.back = gone;
        plan.left.extend(left);
        self.add_changed(sides, &mut plan, changed).await?;
        self.tables.insert(named.table.clone(), plan);
        Ok(())
    }

    async fn add_changed(&self, sides: Sides<'_>, plan: &mut TablePlan, changed: Vec<(Row, Row)>) -> Result<()> {
        let rows: Vec<Row> = changed.iter().map(|(_, is)| is.clone()).collect();
        let then = by_key(sides.until, &plan.layout, &rows).await?;
        for (was, is) in changed {
            let why = match (sides.until, then.get(&is.key)) {
                _ if self.vanished_only => Some("it changed, and only rows that vanished are put back"),
                (Some(_), Some(then)) if then.values != is.values => Some("it changed again after the accident"),
                (Some(_), None) => Some("it was put there again after the accident"),
                _ => None,
            };
            if let Some(why) = why {
                plan.left.push(Left { row: plan.layout.key_text(&is.key), why: why.into() });
                continue;
            }
            let columns = (0..was.values.len()).filter(|at| was.values[*at] != is.values[*at]).map(Place).collect();
            plan.set.push(SetBack { was, is, columns });
        }
        Ok(())
    }

    /// The plan of a table that is reached through a foreign key; none when it cannot be compared.
    async fn reached(&mut self, sides: Sides<'_>, name: &TableName) -> Result<Option<&mut TablePlan>> {
        if !self.tables.contains_key(name) {
            match plan_of(sides, name, None).await {
                Ok(Some(plan)) => {
                    if plan.dropped {
                        self.notes.push(format!("{name} was dropped too, and is needed: it comes back"));
                    }
                    self.tables.insert(name.clone(), plan);
                }
                Ok(None) => return Ok(None),
                Err(ProveError::Refused { code, message }) if code.id == code::DIFF_KEY.id => {
                    self.notes.push(format!("rows of {name} are not looked at: {message}"));
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.tables.get_mut(name))
    }

    /// Rows that others which come back refer to, and which vanished too.
    async fn parents(
        &mut self,
        sides: Sides<'_>,
        name: &TableName,
        rows: &[Row],
        todo: &mut VecDeque<(TableName, Vec<Row>, bool)>,
    ) -> Result<()> {
        let own: Vec<Reference> = self.now.iter().filter(|one| one.from == *name).cloned().collect();
        for reference in own {
            let Some(wanted) = self.values(name, &reference.columns, rows) else { continue };
            let Some(plan) = self.reached(sides, &reference.to).await? else { continue };
            if plan.dropped {
                continue;
            }
            let Some(places) = places(&plan.layout, &reference.to_columns) else { continue };
            let layout = plan.layout.clone();
            let refs: Vec<&Place> = places.iter().collect();
            sides.now.look_in(&layout.table).await?;
            sides.past.look_in(&layout.table).await?;
            let of = |row: &Row| -> Values { places.iter().map(|place| row.values[place.0].clone()).collect() };
            let there: HashSet<Values> = sides.now.find(&layout, &refs, &wanted).await?.iter().map(of).collect();
            let missing: Vec<Values> = wanted.into_iter().filter(|values| !there.contains(values)).collect();
            let rows = sides.past.find(&layout, &refs, &missing).await?;
            let added = self.put_back(sides, &reference.to, rows, false).await?;
            todo.push_back((reference.to.clone(), added, true));
        }
        Ok(())
    }

    /// Rows that referred to some which come back, and that a cascade took or cut off.
    async fn children(
        &mut self,
        sides: Sides<'_>,
        name: &TableName,
        rows: &[Row],
        todo: &mut VecDeque<(TableName, Vec<Row>, bool)>,
    ) -> Result<()> {
        let acts = |one: &&Reference| one.to == *name && one.on_delete != Consequence::Refused;
        let others: Vec<Reference> = self.now.iter().filter(acts).cloned().collect();
        for reference in others {
            let Some(wanted) = self.values(name, &reference.to_columns, rows) else { continue };
            let Some(plan) = self.reached(sides, &reference.from).await? else { continue };
            let Some(places) = places(&plan.layout, &reference.columns).filter(|_| !plan.dropped) else { continue };
            let layout = plan.layout.clone();
            sides.past.look_in(&layout.table).await?;
            let then = sides.past.find(&layout, &places.iter().collect::<Vec<_>>(), &wanted).await?;
            let there = by_key(Some(sides.now), &layout, &then).await?;
            let (present, absent): (Vec<Row>, Vec<Row>) =
                then.into_iter().partition(|row| there.contains_key(&row.key));
            if reference.on_delete == Consequence::Cascade {
                let added = self.put_back(sides, &reference.from, absent, true).await?;
                todo.push_back((reference.from.clone(), added, true));
                continue;
            }
            let cut = present.into_iter().filter_map(|was| {
                let is = there.get(&was.key)?.clone();
                let differs = |place: &&Place| was.values[place.0] != is.values[place.0];
                let cut =
                    |place: &Place| reference.on_delete == Consequence::SetDefault || is.values[place.0].is_none();
                let columns: Vec<Place> = places.iter().filter(differs).copied().filter(cut).collect();
                (!columns.is_empty()).then_some(SetBack { was, is, columns })
            });
            let cut = cut.collect();
            self.join_again(sides, &reference.from, cut).await?;
        }
        Ok(())
    }

    /// Sets references back that a deletion cut off.
    async fn join_again(&mut self, sides: Sides<'_>, name: &TableName, cut: Vec<SetBack>) -> Result<()> {
        let vanished_only = self.vanished_only;
        let Some(plan) = self.tables.get_mut(name) else { return Ok(()) };
        let rows: Vec<Row> = cut.iter().map(|one| one.is.clone()).collect();
        let then = by_key(sides.until, &plan.layout, &rows).await?;
        for one in cut {
            if let Some(known) = plan.set.iter_mut().find(|known| known.was.key == one.was.key) {
                known.columns.extend(
                    one.columns.iter().filter(|place| !known.columns.contains(place)).copied().collect::<Vec<_>>(),
                );
                continue;
            }
            let row = plan.layout.key_text(&one.is.key);
            if plan.left.iter().any(|left| left.row == row) {
                continue;
            }
            let same = |then: &Row| one.columns.iter().all(|place| then.values[place.0] == one.is.values[place.0]);
            if vanished_only {
                plan.left
                    .push(Left { row, why: "its reference was cut, and only rows that vanished are put back".into() });
            } else if sides.until.is_some() && !then.get(&one.is.key).is_some_and(same) {
                plan.left.push(Left { row, why: "its reference changed again after the accident".into() });
            } else {
                plan.set.push(one);
            }
        }
        Ok(())
    }

    /// Adds rows to those that come back; gives those that were not among them and are not there.
    async fn put_back(&mut self, sides: Sides<'_>, name: &TableName, rows: Vec<Row>, ask: bool) -> Result<Vec<Row>> {
        let Some(plan) = self.tables.get_mut(name) else { return Ok(Vec::new()) };
        let known: HashSet<Values> = plan.back.iter().map(|row| row.key.clone()).collect();
        let there = by_key(Some(sides.now), &plan.layout, &rows).await?;
        let mut seen = known;
        let rows: Vec<Row> =
            rows.into_iter().filter(|row| !there.contains_key(&row.key) && seen.insert(row.key.clone())).collect();
        let (rows, left) = if ask { still_gone(sides, &plan.layout, rows).await? } else { (rows, Vec::new()) };
        plan.left.extend(left.into_iter().filter(|one| !plan.left.contains(one)).collect::<Vec<_>>());
        self.bytes += rows.iter().map(weight).sum::<usize>();
        if self.bytes > MOST_BYTES {
            return Err(too_much());
        }
        plan.back.extend(rows.iter().cloned());
        Ok(rows)
    }

    /// The distinct values of columns in rows, those with NULL in them left out.
    fn values(&self, name: &TableName, columns: &[String], rows: &[Row]) -> Option<Vec<Values>> {
        let places = places(&self.tables.get(name)?.layout, columns)?;
        let of = |row: &Row| -> Values { places.iter().map(|place| row.values[place.0].clone()).collect() };
        let all: BTreeSet<Values> = rows.iter().map(of).filter(|values| values.iter().all(Option::is_some)).collect();
        (!all.is_empty()).then(|| all.into_iter().collect())
    }

    fn warn_of_cascades(&mut self) {
        for one in self.now.iter().filter(|one| one.on_update != Consequence::Refused) {
            let Some(plan) = self.tables.get(&one.to) else { continue };
            let places = places(&plan.layout, &one.to_columns).unwrap_or_default();
            if plan.set.iter().any(|set| set.columns.iter().any(|place| places.contains(place))) {
                let (to, from, name) = (&one.to, &one.from, &one.name);
                self.notes.push(format!("setting {to} back also changes rows of {from} that refer to it ({name})"));
            }
        }
    }

    async fn warn_of_sequences(&mut self, sides: Sides<'_>) -> Result<()> {
        for plan in self.tables.values().filter(|plan| !plan.back.is_empty()) {
            for (at, column) in plan.layout.columns.iter().enumerate() {
                let Some(sequence) = &column.sequence else { continue };
                let number = |row: &Row| row.values[at].as_ref()?.parse::<i64>().ok();
                let Some(largest) = plan.back.iter().filter_map(number).max() else { continue };
                let sql = format!(
                    "SELECT last_value FROM pg_sequences WHERE format('%I.%I', schemaname, sequencename) = {}",
                    surus_pg::quote::literal(sequence)
                );
                let last = sides.now.ask(&sql).await?;
                let last = last.first().ok().and_then(|row| row.opt_i64("last_value").ok()?).unwrap_or(0);
                if last < largest {
                    self.notes.push(format!(
                        "sequence {sequence} stands at {last} and rows up to {largest} come back; it is left alone: \
                         SELECT setval('{sequence}', {largest})"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Tables in the order in which they are written: those that others refer to first; a group refers to itself.
    pub fn groups(&self) -> Vec<Vec<&TableName>> {
        let work = |plan: &TablePlan| !plan.dropped && plan.back.len() + plan.set.len() > 0;
        let names: Vec<&TableName> = self.tables.iter().filter(|(_, plan)| work(plan)).map(|(name, _)| name).collect();
        let at = |name: &TableName| names.iter().position(|other| *other == name);
        let count = names.len();
        let mut leads = vec![vec![false; count]; count];
        for one in &self.now {
            if let (Some(from), Some(to)) = (at(&one.from), at(&one.to)) {
                leads[from][to] = true;
            }
        }
        for via in 0..count {
            for from in 0..count {
                for to in 0..count {
                    leads[from][to] |= leads[from][via] && leads[via][to];
                }
            }
        }
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (one, to) in leads.iter().enumerate() {
            match groups.iter_mut().find(|group| to[group[0]] && leads[group[0]][one]) {
                Some(group) => group.push(one),
                None => groups.push(vec![one]),
            }
        }
        // Whoever leads to more others comes later.
        groups.sort_by_key(|group| (0..count).filter(|to| leads[group[0]][*to] && !group.contains(to)).count());
        groups.into_iter().map(|group| group.into_iter().map(|at| names[at]).collect()).collect()
    }

    /// Does a table refer to itself, by itself or through others of the group?
    pub fn is_cycle(&self, group: &[&TableName]) -> bool {
        group.len() > 1 || self.now.iter().any(|one| one.from == one.to && one.from == *group[0])
    }
}

fn weight(row: &Row) -> usize {
    row.values.iter().flatten().map(|value| value.len() + 24).sum()
}

fn too_much() -> ProveError {
    let text = "no repair was written: more than 512 MB of values would be in it; narrow it with --where";
    ProveError::refused(code::DIFF_TABLE, text)
}

fn places(layout: &Layout, columns: &[String]) -> Option<Vec<Place>> {
    columns.iter().map(|name| layout.place(name)).collect()
}

async fn plan_of(sides: Sides<'_>, name: &TableName, key: Option<&[String]>) -> Result<Option<TablePlan>> {
    let both = match pair(sides.past, sides.now, name).await {
        // A table that is newer than the moment: nothing of it vanished.
        Err(ProveError::Refused { code, .. }) if code.id == code::DIFF_TABLE.id && key.is_none() => return Ok(None),
        other => other?,
    };
    let layout = match (&both.now, Layout::of(&both.past, both.now.as_ref(), key)) {
        // Nothing is compared in a table that comes back as a whole.
        (None, Err(_)) => Layout::without_key(&both.past),
        (_, layout) => layout?,
    };
    for side in [Some(sides.past), Some(sides.now), sides.until].into_iter().flatten() {
        side.look_in(name).await?;
    }
    Ok(Some(TablePlan {
        layout,
        triggers: both.now.as_ref().map(|now| now.triggers.clone()).unwrap_or_default(),
        named: false,
        dropped: both.now.is_none(),
        counts: Counts::default(),
        back: Vec::new(),
        set: Vec::new(),
        left: Vec::new(),
    }))
}

/// Of rows that are gone, those that were gone when the accident was over; the others were deleted after it.
async fn still_gone(sides: Sides<'_>, layout: &Layout, rows: Vec<Row>) -> Result<(Vec<Row>, Vec<Left>)> {
    let there = by_key(sides.until, layout, &rows).await?;
    let (later, gone): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| there.contains_key(&row.key));
    let left = |row: &Row| Left { row: layout.key_text(&row.key), why: "it was deleted after the accident".into() };
    Ok((gone, later.iter().map(left).collect()))
}
