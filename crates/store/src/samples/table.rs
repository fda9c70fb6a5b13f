//! Series by their ids, in pages: ids are given one after the other, so that pages are full, and a hash table would
//! take twice the room.

use std::collections::BTreeMap;

use super::SeriesId;
use super::index::Known;

/// Series of one page.
const PAGE: usize = 256;

/// All series by id.
#[derive(Debug, Default)]
pub(super) struct Table {
    pages: BTreeMap<u32, Page>,
    len: usize,
}

#[derive(Debug)]
struct Page {
    used: usize,
    slots: Box<[Option<Known>]>,
}

/// Its page, and its place there.
fn place(id: SeriesId) -> (u32, usize) {
    (id / PAGE as u32, id as usize % PAGE)
}

impl Table {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, id: SeriesId) -> Option<&Known> {
        let (page, place) = place(id);
        self.pages.get(&page)?.slots[place].as_ref()
    }

    pub fn get_mut(&mut self, id: SeriesId) -> Option<&mut Known> {
        let (page, place) = place(id);
        self.pages.get_mut(&page)?.slots[place].as_mut()
    }

    pub fn insert(&mut self, id: SeriesId, known: Known) {
        let (page, place) = place(id);
        let empty = || Page { used: 0, slots: (0..PAGE).map(|_| None).collect() };
        let page = self.pages.entry(page).or_insert_with(empty);
        if page.slots[place].replace(known).is_none() {
            page.used += 1;
            self.len += 1;
        }
    }

    pub fn remove(&mut self, id: SeriesId) -> Option<Known> {
        let (number, place) = place(id);
        let page = self.pages.get_mut(&number)?;
        let known = page.slots[place].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(known)
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, &Known)> {
        self.pages.iter().flat_map(|(number, page)| {
            let first = number * PAGE as u32;
            let full = page.slots.iter().enumerate().filter_map(|(at, known)| Some((at, known.as_ref()?)));
            full.map(move |(at, known)| (first + at as u32, known))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::series::Labels;

    #[test]
    fn what_is_inserted_is_there_until_it_is_removed() {
        let known = |stream| Known { labels: Labels::empty(), stream, first_ms: 0, last_ms: None };
        let mut table = Table::default();
        for id in [5, 255, 256, 100_000, 5, u32::MAX] {
            table.insert(id, known(id / 2));
        }
        let ids = |table: &Table| table.iter().map(|(id, known)| (id, known.stream)).collect::<Vec<_>>();
        let all = [5, 255, 256, 100_000, u32::MAX].map(|id| (id, id / 2));
        assert_eq!((table.len(), ids(&table)), (5, all.to_vec()));
        assert_eq!(table.get(256).map(|known| known.stream), Some(128));
        assert!(table.get(257).is_none() && table.get(70_000).is_none() && table.remove(4).is_none());
        for (id, _) in all {
            assert!(table.get_mut(id).is_some() && table.remove(id).is_some() && table.remove(id).is_none());
        }
        assert_eq!((table.len(), table.pages.len()), (0, 0));
    }
}
