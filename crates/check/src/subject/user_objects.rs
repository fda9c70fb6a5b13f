//! Which catalog rows are the user's own: pieces of SQL for the WHERE clause of checks.

/// `$n` is an alias of pg_namespace: not a schema of PostgreSQL itself, nor of temporary objects.
macro_rules! user_schema {
    ($n:literal) => {
        concat!($n, ".nspname <> 'information_schema' AND left(", $n, ".nspname, 3) <> 'pg_'")
    };
}
pub(crate) use user_schema;

/// The object `$oid` of catalog `$catalog` does not belong to an extension. Naming the side of the extension lets the
/// server begin there, with few rows.
macro_rules! no_extension_owns {
    ($catalog:literal, $oid:literal) => {
        concat!(
            "NOT EXISTS (SELECT FROM pg_depend own WHERE own.refclassid = 'pg_extension'::regclass AND own.classid = '",
            $catalog,
            "'::regclass AND own.objid = ",
            $oid,
            " AND own.deptype = 'e')"
        )
    };
}
pub(crate) use no_extension_owns;

/// `a`, `a and b`, `a, b and 3 more`: a list for a title, of at most `most` items out of `total`.
pub(crate) fn listed(items: &[String], total: i64, most: usize) -> String {
    let shown = &items[..items.len().min(most)];
    let more = total - shown.len() as i64;
    match (shown, more) {
        (shown, 1..) => format!("{} and {more} more", shown.join(", ")),
        ([rest @ .., last], _) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        (shown, _) => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn lists_read_as_a_sentence() {
        let items: Vec<String> = ["a", "b", "c"].map(String::from).into();
        assert_eq!(listed(&items, 3, 5), "a, b and c");
        assert_eq!(listed(&items, 9, 2), "a, b and 7 more");
        assert_eq!(listed(&items[..1], 1, 2), "a");
    }
}
