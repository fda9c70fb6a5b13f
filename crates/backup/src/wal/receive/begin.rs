//! Where receiving begins: after what is there already, on the server's own way.

use crate::wal::{name::Segment, timeline::History};
use std::collections::BTreeSet;
use surus_core::lsn::Lsn;

/// What is there already.
#[derive(Debug, Clone, Default)]
pub struct There {
    /// The newest segment of the spool, whole or not.
    pub spooled: Option<Segment>,
    /// Whole segments: those of the archive and of the spool.
    pub whole: BTreeSet<Segment>,
}

/// The server did not come from the timeline whose WAL is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stranger {
    pub here: Segment,
}

/// The segment to begin with: the one after the newest that is there on the server's way; `otherwise` when none is.
///
/// # Errors
/// When the spool's WAL is of a timeline that the server's does not come from.
pub fn begin(history: &History, there: &There, otherwise: Segment) -> Result<Segment, Stranger> {
    let newest = match there.spooled {
        Some(here) if left_at(history, here.timeline).is_none() => return Err(Stranger { here }),
        Some(here) => Some(here),
        None => there.whole.iter().copied().filter(|segment| is_on(history, *segment)).max(),
    };
    let mut segment = newest.unwrap_or(otherwise);
    loop {
        let follows = match (there.whole.contains(&segment), next_timeline(history, segment)) {
            // A timeline that was left before this segment begins: the next one goes on where it was left.
            (_, Some((timeline, at))) if segment.start() >= at => Segment::at(timeline, at, segment.size),
            (true, _) => segment.next(),
            (false, _) => return Ok(segment),
        };
        segment = follows;
    }
}

/// Where the server's way leaves a timeline, the end of everything for the server's own; `None` for one that is not on
/// it.
fn left_at(history: &History, timeline: u32) -> Option<Lsn> {
    if timeline == history.timeline {
        return Some(Lsn(u64::MAX));
    }
    history.entries.iter().find(|switch| switch.timeline == timeline).map(|switch| switch.at)
}

fn is_on(history: &History, segment: Segment) -> bool {
    left_at(history, segment.timeline).is_some_and(|at| segment.start() < at)
}

/// The timeline after this one, and where it begins.
fn next_timeline(history: &History, segment: Segment) -> Option<(u32, Lsn)> {
    let at = history.entries.iter().position(|switch| switch.timeline == segment.timeline)?;
    let next = history.entries.get(at + 1).map_or(history.timeline, |switch| switch.timeline);
    Some((next, history.entries[at].at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    fn segment(timeline: u32, number: u64) -> Segment {
        Segment { timeline, number, size: SIZE }
    }

    fn there(spooled: Option<Segment>, whole: &[(u32, u64)]) -> There {
        There { spooled, whole: whole.iter().map(|(timeline, number)| segment(*timeline, *number)).collect() }
    }

    /// Timeline 2 left timeline 1 within segment 3.
    fn history() -> History {
        History::parse(2, "1\t0/3000060\tx\n").unwrap()
    }

    #[test]
    fn it_begins_after_what_is_there() {
        let first = History::of_first(1);
        let cases = [
            (there(None, &[]), segment(1, 9)),
            (there(None, &[(1, 1), (1, 2)]), segment(1, 3)),
            (there(Some(segment(1, 2)), &[(1, 1)]), segment(1, 2)),
            (there(Some(segment(1, 2)), &[(1, 1), (1, 2), (1, 3)]), segment(1, 4)),
            // Not over a hole: what follows is there, but what the spool began is not.
            (there(Some(segment(1, 2)), &[(1, 3), (1, 4)]), segment(1, 2)),
        ];
        for (there, expected) in cases {
            assert_eq!(begin(&first, &there, segment(1, 9)), Ok(expected), "{there:?}");
        }
    }

    #[test]
    fn it_follows_the_servers_timelines() {
        let cases = [
            (there(None, &[(1, 1), (1, 2)]), segment(1, 3)),
            // The old timeline went on elsewhere; the server left it within segment 3.
            (there(None, &[(1, 2), (1, 3), (1, 4)]), segment(2, 3)),
            (there(Some(segment(1, 4)), &[(1, 2), (1, 3)]), segment(2, 3)),
            (there(Some(segment(1, 3)), &[(1, 2)]), segment(1, 3)),
            (there(None, &[(1, 2), (2, 3), (2, 4)]), segment(2, 5)),
        ];
        for (there, expected) in cases {
            assert_eq!(begin(&history(), &there, segment(2, 9)), Ok(expected), "{there:?}");
        }
        let stranger = there(Some(segment(5, 1)), &[]);
        assert_eq!(begin(&history(), &stranger, segment(2, 9)), Err(Stranger { here: segment(5, 1) }));
    }

    #[test]
    fn a_timeline_that_was_left_on_a_border_goes_on_in_the_next_segment() {
        let history = History::parse(2, "1\t0/3000000\tx\n").unwrap();
        assert_eq!(begin(&history, &there(None, &[(1, 2)]), segment(2, 9)), Ok(segment(2, 3)));
    }
}
