//! Where one can go. The navigation and the list of keys are made of these tables.

use crate::range::Range;

/// A page.
#[derive(Debug)]
pub struct Place {
    pub id: &'static str,
    /// Of a page of all targets the whole path; of a target's page what comes after the target's own address.
    pub path: &'static str,
    pub name: &'static str,
    /// After `g`, this key goes there.
    pub key: &'static str,
    /// Does the range of time matter on it?
    pub ranged: bool,
}

impl Place {
    /// How often it is fetched again while it follows the present, in seconds.
    pub fn refreshes(&self, range: &Range, live: Option<&str>) -> Option<u32> {
        if !range.is_live() || live == Some("off") || self.id == "explore" {
            return None;
        }
        match range.length_ms() {
            ..7_200_001 => Some(5),
            7_200_001..86_400_001 => Some(30),
            _ => Some(120),
        }
    }
}

const fn place(id: &'static str, path: &'static str, name: &'static str, key: &'static str, ranged: bool) -> Place {
    Place { id, path, name, key, ranged }
}

pub static FLEET_PAGE: Place = place("fleet", "/", "Fleet", "f", true);
pub static TIMELINE: Place = place("timeline", "/timeline", "Timeline", "e", true);
pub static PROOFS: Place = place("proofs", "/proofs", "Proofs", "p", false);
pub static EXPLORE: Place = place("explore", "/explore", "Explore", "x", true);
pub static COLLECTORS: Place = place("collectors", "/collectors", "Collectors", "c", false);

/// Pages of all targets.
pub static FLEET: &[&Place] = &[&FLEET_PAGE, &TIMELINE, &PROOFS, &EXPLORE, &COLLECTORS];

pub static INSTANCE: Place = place("instance", "", "Overview", "o", true);
pub static ACTIVITY: Place = place("activity", "/activity", "Activity", "a", true);
pub static BLOCKING: Place = place("blocking", "/blocking", "Blocking", "b", true);
pub static QUERIES: Place = place("queries", "/queries", "Queries", "q", true);
pub static TABLES: Place = place("tables", "/tables", "Tables", "t", true);
pub static INDEXES: Place = place("indexes", "/indexes", "Indexes", "i", true);
pub static REPLICATION: Place = place("replication", "/replication", "Replication & WAL", "r", true);
pub static BACKUPS: Place = place("backups", "/backups", "Backups", "k", true);
pub static VACUUM: Place = place("vacuum", "/vacuum", "Vacuum", "v", true);
pub static HOST: Place = place("host", "/host", "Host", "h", true);
pub static FINDINGS: Place = place("findings", "/findings", "Findings", "n", false);
pub static EVENTS: Place = place("events", "/events", "Events", "l", true);

/// Pages of one target.
pub static TARGET: &[&Place] = &[
    &INSTANCE,
    &ACTIVITY,
    &BLOCKING,
    &QUERIES,
    &TABLES,
    &INDEXES,
    &REPLICATION,
    &BACKUPS,
    &VACUUM,
    &HOST,
    &FINDINGS,
    &EVENTS,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_goes_to_one_page() {
        let all: Vec<&&Place> = FLEET.iter().chain(TARGET).collect();
        let keys: BTreeSet<&str> = all.iter().map(|place| place.key).collect();
        let ids: BTreeSet<&str> = all.iter().map(|place| place.id).collect();
        assert_eq!((keys.len(), ids.len()), (all.len(), all.len()));
    }
}
