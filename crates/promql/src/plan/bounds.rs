//! What must not reach the parser: it panics on durations beyond what Rust's can hold, and trees that are nested too
//! deep would use up the stack.

use super::places::{Token, tokens};
use crate::error::QueryError;

/// How deep a query may be nested; also how many operators may stand one after the other.
pub(super) const DEEPEST: usize = 250;
/// Operators that a query may have.
const MOST_OPERATORS: usize = 2000;
/// Bytes that a query may have.
const MOST_BYTES: usize = 256 << 10;
/// The longest duration in seconds: more than any store keeps.
const LONGEST: f64 = 1e10;

/// Checks a query before it is parsed.
pub(crate) fn check(query: &str) -> Result<(), QueryError> {
    if query.len() > MOST_BYTES {
        return Err(QueryError::bad(format!("the query has more than {MOST_BYTES} bytes")));
    }
    let (mut depth, mut in_brackets, mut operators) = (0_usize, 0_usize, 0_usize);
    let mut after_offset = false;
    for (_, token) in tokens(query) {
        match token {
            Token::Mark(b'(' | b'{') => depth += 1,
            Token::Mark(b')' | b'}') => depth = depth.saturating_sub(1),
            Token::Mark(b'[') => in_brackets += 1,
            Token::Mark(b']') => in_brackets = in_brackets.saturating_sub(1),
            Token::Mark(b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'=' | b'<' | b'>') => operators += 1,
            Token::Word(word) => {
                let operator = ["and", "or", "unless", "atan2"].iter().any(|own| word.eq_ignore_ascii_case(own));
                operators += usize::from(operator);
            }
            _ => {}
        }
        if depth > DEEPEST || operators > MOST_OPERATORS {
            return Err(too_deep());
        }
        if let Token::Number(text) | Token::Word(text) = token
            && (in_brackets > 0 || after_offset)
            && text
                .split(':')
                .any(|part| part.parse::<f64>().is_ok_and(|seconds| seconds.is_nan() || seconds >= LONGEST))
        {
            return Err(QueryError::bad(format!("duration out of range: {text}")));
        }
        after_offset = match token {
            Token::Word(word) => word.eq_ignore_ascii_case("offset"),
            Token::Mark(b'+' | b'-' | b'(') => after_offset,
            _ => false,
        };
    }
    Ok(())
}

/// The error of a query that is nested too deep.
pub(super) fn too_deep() -> QueryError {
    QueryError::bad(format!(
        "the query is nested more than {DEEPEST} deep, or has more than {MOST_OPERATORS} operators"
    ))
}
