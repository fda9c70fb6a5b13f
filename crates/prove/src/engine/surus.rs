//! surus's own repository.

use super::{Archive, Engine, Held, Kept, Kind, Landed, Order, Survey};
use crate::{
    error::{ProveError, Result},
    scratch::Purpose,
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use surus_backup::{
    BackupError, Cluster,
    catalogue::Catalogue,
    protection,
    restore::{Plan, RestoreOptions, directory::SpaceMap, settings::restore_command, target::Goal},
    wal::{name::Segment, survey},
};
use surus_core::{code, version::Version};

/// A cluster in a repository of surus.
#[derive(Debug, Clone)]
pub struct Surus {
    cluster: Cluster,
    /// The command that fetches WAL: `surus wal get` with the repository's flags.
    fetch: Vec<String>,
}

impl Surus {
    /// `fetch` is the command that fetches WAL for the server; the file's name and place are added.
    pub fn new(cluster: Cluster, fetch: Vec<String>) -> Self {
        Self { cluster, fetch }
    }

    /// The cluster in its repository.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

impl Engine for Surus {
    fn kind(&self) -> Kind {
        Kind::Surus
    }

    fn address(&self) -> String {
        self.cluster.repo.address()
    }

    fn off_site(&self) -> Option<bool> {
        Some(self.cluster.repo.place().local_folder().is_none())
    }

    fn system_identifier(&self) -> Option<u64> {
        Some(self.cluster.names.system_identifier)
    }

    fn survey(&self) -> Result<Survey> {
        let catalogue = Catalogue::read(&self.cluster)?;
        let seen = protection::look(&self.cluster)?;
        let held = |listed: &surus_backup::catalogue::Listed| Held {
            label: listed.about.label.clone(),
            full: listed.about.parent.is_none(),
            timeline: Some(listed.about.timeline),
            started_at: Some(listed.about.started_at),
            stopped_at: Some(listed.about.stopped_at),
            start_lsn: Some(listed.about.start_lsn),
            stop_lsn: Some(listed.about.stop_lsn),
            size: Some(listed.about.size),
            trouble: catalogue.trouble(listed),
        };
        let mut backups: Vec<Held> = catalogue.backups.iter().map(held).collect();
        for (label, why) in &catalogue.unreadable {
            // A label begins with the moment that the backup began.
            let at = backups.partition_point(|one| one.label < *label);
            backups.insert(at, Held { trouble: Some(why.clone()), ..Held::named(label) });
        }
        let newest = catalogue.backups.last();
        Ok(Survey {
            system_identifier: Some(self.cluster.names.system_identifier),
            major: newest.map(|listed| Version::from_num(listed.about.server_version).major()),
            backups,
            gaps: seen.gaps,
            newest_segment: seen.newest_segment,
            newest_segment_at: seen.newest_segment_at,
            notes: Vec::new(),
        })
    }

    fn archive(&self) -> Result<Archive> {
        let known = survey::survey(&self.cluster)?;
        let size = known.segments.first().map_or(0, |segment| segment.size);
        let folders =
            self.cluster.repo.place().list(&self.cluster.names.wal_folder(None)).map_err(BackupError::from)?;
        let times: BTreeMap<&str, i64> =
            folders.iter().filter_map(|entry| Some((entry.name.rsplit('/').next()?, entry.modified_ms))).collect();
        let kept = |segment: &Segment| {
            let at = times.get(segment.to_string().as_str()).filter(|ms| **ms > 0);
            Kept { segment: *segment, plain_size: None, at: at.and_then(|ms| Timestamp::from_millisecond(*ms).ok()) }
        };
        let segments = known.segments.iter().map(kept).collect();
        let let_go_before = known.let_go_before;
        Ok(Archive { holes: known.holes, let_go_before, ..Archive::new(segments, known.histories, size) })
    }

    fn restore(&self, order: &Order<'_>) -> Result<Landed> {
        let options = RestoreOptions {
            to: order.place.data(),
            backup: order.backup.map(str::to_owned),
            target: order.target.clone(),
            delta: false,
            spaces: SpaceMap { each: Vec::new(), root: Some(order.place.tablespaces()) },
            workers: order.jobs,
            fetch: self.fetch.clone(),
            keep_archiving: false,
            durable: order.place.mark.purpose == Purpose::Clone,
        };
        let plan = Plan::make(&self.cluster, &options)?;
        // Its server could not recover: that is said before the files are written.
        if let Some(trouble) = &plan.outline.fetch_trouble {
            return Err(ProveError::refused(code::RESTORE_FETCH, format!("nothing was restored: {trouble}")));
        }
        let restored = plan.carry_out_at(order.pace, order.monitor)?;
        Ok(Landed {
            data: plan.outline.to.clone(),
            label: restored.label,
            major: Version::from_num(plan.about().server_version).major(),
            bytes: restored.bytes,
            recovers: true,
            replays_to: Segment::parse(&plan.outline.choice.last_segment, plan.about().segment_size)
                .filter(|_| matches!(order.target.goal, Goal::Latest | Goal::Time(_))),
            commands: vec![
                format!("surus restore --repo {} --to {}", self.address(), order.place.data().display()),
                format!("# restore_command = {}", restore_command(&self.fetch)),
            ],
            notes: plan.outline.choice.notes.clone(),
        })
    }
}
