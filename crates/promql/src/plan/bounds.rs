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

/// Where a query goes wrong, in Prometheus's words, when that can be seen from its pieces: the parser often says only
/// that it does.
pub(super) fn explained(query: &str, why: &str) -> String {
    if why != "invalid promql query" {
        return why.to_owned();
    }
    let tokens = tokens(query);
    let mut open = Vec::new();
    for &(at, token) in &tokens {
        match token {
            Token::Mark(mark @ (b'(' | b'[' | b'{')) => open.push((at, mark)),
            Token::Mark(mark @ (b')' | b']' | b'}')) => match (open.pop(), mark) {
                (Some((_, b'(')), b')') | (Some((_, b'[')), b']') | (Some((_, b'{')), b'}') => {}
                _ => return format!("{}: parse error: unexpected {:?}", place(query, at), char::from(mark)),
            },
            _ => {}
        }
    }
    if let Some(&(at, mark)) = open.first() {
        return format!("{}: parse error: {:?} is not closed", place(query, at), char::from(mark));
    }
    match tokens.last() {
        None => "parse error: no expression found in input".to_owned(),
        Some((_, Token::Mark(b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'=' | b'<' | b'>' | b',' | b'@'))) => {
            format!("{}: parse error: unexpected end of input", place(query, query.len()))
        }
        Some((_, Token::Word("and" | "or" | "unless" | "offset" | "by" | "without" | "on" | "bool" | "ignoring"))) => {
            format!("{}: parse error: unexpected end of input", place(query, query.len()))
        }
        Some(_) => why.to_owned(),
    }
}

/// A place in the query as line and column, both counted from 1.
fn place(query: &str, at: usize) -> String {
    let before = query.get(..at).unwrap_or(query);
    let line = before.matches('\n').count() + 1;
    format!("{line}:{}", before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1)
}

/// The error of a query that is nested too deep.
pub(super) fn too_deep() -> QueryError {
    QueryError::bad(format!(
        "the query is nested more than {DEEPEST} deep, or has more than {MOST_OPERATORS} operators"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where() {
        let why = |query: &str| explained(query, "invalid promql query");
        assert_eq!(why("sum(rate(x[5m])"), "1:4: parse error: '(' is not closed");
        assert_eq!(why("a +\n b)"), "2:3: parse error: unexpected ')'");
        assert_eq!(why("up +"), "1:5: parse error: unexpected end of input");
        assert_eq!(why("up and"), "1:7: parse error: unexpected end of input");
        assert_eq!(why(" "), "parse error: no expression found in input");
        assert_eq!(explained("up(", "something else"), "something else");
    }

    #[test]
    fn durations_are_bounded() {
        for wrong in ["x[1e30]", "x[5m:99999999999999999999]", "x offset 1e300", "x offset -1e300", "x[NaN]"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        for right in ["x[5m] offset 3w", "x offset -5m + 1e300", "x[1h:5m] * 99999999999999999999", "x @ 1e12"] {
            assert!(check(right).is_ok(), "{right}");
        }
    }
}
