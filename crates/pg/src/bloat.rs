//! How many pages the live rows of a table or the entries of a B-tree need, from the planner's statistics alone.
//!
//! The sums follow PostgreSQL's page layout (bufpage.h, htup_details.h, itup.h, nbtree.h). They hold within a few
//! points while the statistics are complete and fresh; otherwise there is no number at all, since a wrong one is worse.

use crate::{Row, RowError, Rows, quote};
use surus_core::{finding::Reason, size::human_count};

const PAGE_HEADER: f64 = 24.0;
const LINE_POINTER: f64 = 4.0;
/// What a B-tree page keeps at its end for its siblings.
const BTREE_SPECIAL: f64 = 16.0;
/// Statistics are believed while no larger share of the rows has changed since.
const MOST_CHANGED: f64 = 0.1;

/// One attribute of a table or an index.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Attribute {
    /// Fixed length in bytes; negative for variable length.
    length: f64,
    align: usize,
    /// Average stored width; absent without statistics.
    width: Option<f64>,
    /// Share of NULLs.
    nulls: f64,
    dropped: bool,
    /// Distinct values: a count, or as a negative share of the rows.
    distinct: f64,
}

/// A table or an index whose pages are to be estimated.
#[derive(Debug, Clone)]
pub struct Measured {
    pub schema: String,
    pub name: String,
    /// The table of an index.
    pub table: String,
    pub pages: f64,
    pub block: f64,
    pub rows: f64,
    fillfactor: f64,
    /// Rows of the table, and how many changed since ANALYZE.
    table_rows: f64,
    changed: f64,
    analyzed: bool,
    /// Equal entries of the index are kept once.
    deduplicates: bool,
    attributes: Vec<Attribute>,
}

/// What the estimates need of a table and its attributes.
macro_rules! statistics {
    ($table:literal) => {
        concat!(
            "current_setting('block_size')::bigint AS block, pg_stat_get_mod_since_analyze(",
            $table,
            ".oid) AS changed, coalesce(pg_stat_get_last_analyze_time(",
            $table,
            ".oid), pg_stat_get_last_autoanalyze_time(",
            $table,
            ".oid)) IS NOT NULL AS analyzed, a.attlen AS length, a.attalign AS align, a.attisdropped AS dropped, \
             s.stawidth AS width, s.stanullfrac AS nulls, s.stadistinct AS distinct_values"
        )
    };
}

/// Types whose equal values are equal byte by byte, so that a B-tree may keep them once.
macro_rules! equal_image {
    () => {
        "'bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype, 'text'::regtype, \
         'varchar'::regtype, 'uuid'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, \
         'bytea'::regtype, 'name'::regtype"
    };
}

/// `$which` says which relations, of pg_class as `c`.
macro_rules! tables {
    ($which:literal) => {
        concat!(
            "SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relname AS table_name, c.relpages::bigint AS pages, \
             c.reltuples AS rows, c.reltuples AS table_rows, c.reloptions AS options, 100 AS fillfactor, false AS dedup, ",
            statistics!("c"),
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
             LEFT JOIN pg_statistic s ON s.starelid = c.oid AND s.staattnum = a.attnum AND NOT s.stainherit \
             WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' \
               AND left(n.nspname, 3) <> 'pg_' AND ",
            $which,
            " ORDER BY c.relpages DESC, c.oid, a.attnum"
        )
    };
}

/// As `tables`, for B-trees.
macro_rules! btrees {
    ($which:literal) => {
        concat!(
            "SELECT c.oid, n.nspname AS schema, c.relname AS name, t.relname AS table_name, c.relpages::bigint AS pages, \
             c.reltuples AS rows, t.reltuples AS table_rows, c.reloptions AS options, 90 AS fillfactor, \
             i.indnatts = i.indnkeyatts AND NOT i.indisunique AND NOT EXISTS (SELECT FROM pg_attribute k WHERE k.attrelid = c.oid \
               AND k.atttypid NOT IN (",
            equal_image!(),
            ")) AS dedup, ",
            statistics!("t"),
            " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam JOIN pg_class t ON t.oid = i.indrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
             LEFT JOIN pg_statistic s ON NOT s.stainherit \
               AND s.starelid = CASE WHEN i.indkey[a.attnum - 1] = 0 THEN c.oid ELSE t.oid END \
               AND s.staattnum = CASE WHEN i.indkey[a.attnum - 1] = 0 THEN a.attnum ELSE i.indkey[a.attnum - 1] END \
             WHERE c.relkind = 'i' AND m.amname = 'btree' AND i.indisvalid AND c.relpersistence <> 't' \
               AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_' AND ",
            $which,
            " ORDER BY c.relpages DESC, c.oid, a.attnum"
        )
    };
}

/// The query for the 1,000 largest tables of more than 1 MB.
pub const LARGEST_TABLES: &str = tables!(
    "c.oid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'm') AND relpages >= 128 ORDER BY relpages DESC LIMIT 1000)"
);

/// The query for the 1,000 largest B-trees of more than 1 MB.
pub const LARGEST_BTREES: &str = btrees!(
    "c.oid IN (SELECT oid FROM pg_class WHERE relkind = 'i' AND relpages >= 128 ORDER BY relpages DESC LIMIT 1000)"
);

/// The query for tables of at least so many pages.
pub fn tables_sql(pages: u64) -> String {
    tables!("c.relpages >= @pages@").replace("@pages@", &pages.to_string())
}

/// The query for B-trees of at least so many pages.
pub fn btrees_sql(pages: u64) -> String {
    btrees!("c.relpages >= @pages@").replace("@pages@", &pages.to_string())
}

/// The answer to either query; one item per relation.
///
/// # Errors
/// When the rows are not those of one of these queries.
pub fn read(rows: &Rows) -> Result<Vec<Measured>, RowError> {
    let mut all: Vec<Measured> = Vec::new();
    let mut last = None;
    for row in rows.iter() {
        let oid = row.i64("oid")?;
        if last != Some(oid) {
            all.push(Measured::read(row)?);
            last = Some(oid);
        }
        if let Some(measured) = all.last_mut() {
            measured.attributes.push(attribute(row)?);
        }
    }
    Ok(all)
}

fn attribute(row: Row<'_>) -> Result<Attribute, RowError> {
    let align = match row.str("align")? {
        "d" => 8,
        "i" => 4,
        "s" => 2,
        _ => 1,
    };
    Ok(Attribute {
        length: row.f64("length")?,
        align,
        width: row.opt_f64("width")?,
        nulls: row.opt_f64("nulls")?.unwrap_or(0.0),
        dropped: row.bool("dropped")?,
        distinct: row.opt_f64("distinct_values")?.unwrap_or(-1.0),
    })
}

impl Measured {
    fn read(row: Row<'_>) -> Result<Self, RowError> {
        let options = row.list("options")?;
        let option =
            |name: &str| options.iter().filter_map(|o| o.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v);
        let fillfactor = option("fillfactor").and_then(|value| value.parse().ok());
        let off = option("deduplicate_items").is_some_and(|value| matches!(value, "off" | "false" | "no" | "0"));
        Ok(Self {
            schema: row.text("schema")?,
            name: row.text("name")?,
            table: row.text("table_name")?,
            pages: row.f64("pages")?,
            block: row.f64("block")?,
            rows: row.f64("rows")?.max(0.0),
            fillfactor: fillfactor.map_or_else(|| row.f64("fillfactor"), Ok)?,
            table_rows: row.f64("table_rows")?.max(0.0),
            changed: row.f64("changed")?,
            analyzed: row.bool("analyzed")?,
            deduplicates: row.bool("dedup")? && !off,
            attributes: Vec::new(),
        })
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> f64 {
        self.pages * self.block
    }

    /// Why the statistics do not allow an estimate.
    pub fn doubt(&self) -> Option<Reason> {
        let table = quote::qualified(&self.schema, &self.table);
        let text = if !self.analyzed {
            format!("no ANALYZE of {table} is on record since statistics began")
        } else if self.changed > MOST_CHANGED * self.table_rows {
            format!("{} rows of {table} changed since ANALYZE", human_count(self.changed as i64))
        } else if self.attributes.iter().any(|attribute| !attribute.dropped && attribute.width.is_none()) {
            format!("a column of {table} has no statistics")
        } else {
            return None;
        };
        Some(Reason::Statistics(format!("{text}: ANALYZE {table}")))
    }

    /// Its qualified name.
    pub fn qualified(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }

    /// The share of a table's pages that its rows do not need, in percent.
    pub fn table_bloat(&self) -> f64 {
        let data = layout(&self.attributes);
        let bitmap = max_align(23.0 + (self.attributes.len() as f64 / 8.0).ceil());
        let header = (1.0 - data.any_null) * 24.0 + data.any_null * bitmap;
        let row = max_align_of(header + data.bytes, data.exact) + LINE_POINTER;
        let room = self.block - PAGE_HEADER - self.block * (100.0 - self.fillfactor) / 100.0;
        self.share_above(self.rows / per_page(room, row, data.exact))
    }

    /// The share of a B-tree's pages that its entries do not need when built anew with its fill factor, in percent.
    pub fn btree_bloat(&self) -> f64 {
        let (entry, per_row) = self.entry();
        let room = (self.block - PAGE_HEADER - BTREE_SPECIAL) * self.fillfactor / 100.0;
        let leaves = (self.rows * per_row / (room - entry).max(entry)).ceil();
        // Upper levels are built 70 % full.
        let upper = leaves * entry / (0.7 * self.block);
        self.share_above(leaves + upper + 1.0)
    }

    /// Bytes of one entry of a B-tree, and bytes per row once equal entries are kept together.
    fn entry(&self) -> (f64, f64) {
        let size = |attributes: &[Attribute]| {
            let data = layout(attributes);
            max_align_of(8.0 + 8.0 * data.any_null + data.bytes, data.exact) + LINE_POINTER
        };
        match &self.attributes[..] {
            entries if !self.deduplicates => (size(entries), size(entries)),
            // The NULLs of a single column are all equal.
            [one] => {
                let entry = size(&[Attribute { nulls: 0.0, ..*one }]);
                let others = deduplicated(entry, self.repeats() * (1.0 - one.nulls));
                (entry, one.nulls * (6.0 + entry / MOST_TOGETHER) + (1.0 - one.nulls) * others)
            }
            several => (size(several), deduplicated(size(several), self.repeats())),
        }
    }

    /// How often a value repeats on average.
    fn repeats(&self) -> f64 {
        let values = |attribute: &Attribute| match attribute.distinct {
            share if share < 0.0 => -share * self.table_rows,
            count => count.max(1.0),
        };
        let distinct: f64 = self.attributes.iter().map(values).product();
        (self.rows / distinct.clamp(1.0, self.rows.max(1.0))).max(1.0)
    }

    fn share_above(&self, needed: f64) -> f64 {
        (100.0 * (1.0 - needed.ceil() / self.pages.max(1.0))).max(0.0)
    }
}

/// At most a tenth of a page holds one list of rows with equal keys: about this many of 6 bytes each.
const MOST_TOGETHER: f64 = 130.0;

/// Bytes per row when equal entries are kept once, followed by 6 bytes for each row. Only the square root of the
/// repetition is believed: ANALYZE often sees far too few distinct values in a large table, and a wrong guess here
/// would invent bloat.
fn deduplicated(entry: f64, repeats: f64) -> f64 {
    let together = repeats.sqrt().min(MOST_TOGETHER);
    if together < 2.0 { entry } else { 6.0 + (entry / together) }
}

/// What the attributes of one row take.
struct Layout {
    bytes: f64,
    /// No attribute varies in length or is ever NULL.
    exact: bool,
    /// The chance that a row has a NULL.
    any_null: f64,
}

/// Walks over the attributes as `heap_compute_data_size` does, with averages where widths vary. Of the offset it knows
/// the remainder by `modulus`.
fn layout(attributes: &[Attribute]) -> Layout {
    let mut out = Layout { bytes: 0.0, exact: true, any_null: 0.0 };
    let (mut modulus, mut remainder, mut no_null) = (8usize, 0usize, 1.0);
    for attribute in attributes {
        if attribute.dropped || attribute.nulls >= 1.0 {
            no_null = 0.0;
            continue;
        }
        no_null *= 1.0 - attribute.nulls;
        let width = if attribute.length > 0.0 { attribute.length } else { attribute.width.unwrap_or(0.0) };
        // Short values of variable length are stored with one length byte and without alignment.
        let align = if attribute.length < 0.0 && width < 127.0 { 1 } else { attribute.align };
        let padding = if align <= modulus {
            ((align - remainder % align) % align) as f64
        } else {
            let gaps: Vec<usize> =
                (0..align / modulus).map(|at| (align - (remainder + at * modulus) % align) % align).collect();
            gaps.iter().sum::<usize>() as f64 / gaps.len() as f64
        };
        out.bytes += (1.0 - attribute.nulls) * (padding + width);
        if attribute.length < 0.0 || attribute.nulls > 0.0 {
            (modulus, remainder, out.exact) = (1, 0, false);
        } else {
            if align > modulus {
                (modulus, remainder) = (align, 0);
            } else {
                remainder = (remainder + padding as usize) % modulus;
            }
            remainder = (remainder + width as usize) % modulus;
        }
    }
    out.any_null = 1.0 - no_null;
    out
}

fn max_align(bytes: f64) -> f64 {
    (bytes / 8.0).ceil() * 8.0
}

/// Rows end at a multiple of 8; where lengths vary that costs 3.5 bytes on average.
fn max_align_of(bytes: f64, exact: bool) -> f64 {
    if exact { max_align(bytes) } else { bytes + 3.5 }
}

/// How many rows a page takes: whole rows where all are equal or large, else half a row is lost on average.
fn per_page(room: f64, row: f64, exact: bool) -> f64 {
    let most = if exact || row > 1000.0 { (room / row).floor() } else { room / row - 0.5 };
    most.clamp(1.0, 291.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(length: f64, align: usize) -> Attribute {
        Attribute { length, align, width: Some(length), nulls: 0.0, dropped: false, distinct: -1.0 }
    }

    #[test]
    fn padding_follows_the_page_layout() {
        // int4, int8, int4, int8: four bytes are lost before each int8.
        let mixed = [fixed(4.0, 4), fixed(8.0, 8), fixed(4.0, 4), fixed(8.0, 8)];
        assert_eq!(layout(&mixed).bytes, 32.0);
        let sorted = [fixed(8.0, 8), fixed(8.0, 8), fixed(4.0, 4), fixed(4.0, 4)];
        assert_eq!(layout(&sorted).bytes, 24.0);
        let text = Attribute { length: -1.0, width: Some(10.0), ..fixed(0.0, 4) };
        let behind_text = layout(&[text, fixed(8.0, 8), fixed(4.0, 4)]);
        assert_eq!((behind_text.bytes, behind_text.exact), (10.0 + 3.5 + 8.0 + 4.0, false));
    }

    #[test]
    fn a_page_holds_226_rows_of_two_integers() {
        let row = 24.0 + 8.0 + LINE_POINTER;
        assert_eq!(per_page(8192.0 - PAGE_HEADER, row, true), 226.0);
        assert_eq!(per_page(8192.0 - PAGE_HEADER, 8.0, true), 291.0);
    }

    #[test]
    fn deduplication_is_believed_with_care() {
        assert_eq!(deduplicated(20.0, 1.0), 20.0);
        assert_eq!(deduplicated(20.0, 100.0), 8.0);
    }
}
