//! A query written out tidily.

use crate::error::QueryError;

/// The query with one layout whatever it came in: long ones over several lines.
///
/// # Errors
/// When it is not valid.
pub fn format(query: &str) -> Result<String, QueryError> {
    crate::plan::bounds::check(query)?;
    Ok(promql_parser::parser::parse(query).map_err(QueryError::bad)?.prettify())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_written_out_tidily() {
        assert_eq!(format("foo  /bar").unwrap(), "foo / bar");
        assert!(format("foo /").is_err());
    }
}
