//! Where in a query its calls and their arguments stand. The parser does not say; annotations need it. Calls are found
//! in the text in the order in which the tree has them.

use crate::function::Function;

/// A call, or an aggregation, in the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the name, in bytes.
    pub start: usize,
    /// Of each argument.
    pub arguments: Vec<usize>,
}

/// The aggregations' names.
const AGGREGATIONS: [&str; 14] = [
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "limitk",
    "quantile",
    "count_values",
    "limit_ratio",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Mark(u8),
    /// A number, or a duration.
    Number(&'a str),
    Other,
}

/// Calls in the order in which they stand in the text.
pub(crate) fn places(query: &str) -> Vec<Place> {
    let tokens = tokens(query);
    let mut places = Vec::new();
    for (at, &(start, token)) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let held = at > 0 && tokens[at - 1].1 == Token::Mark(b'@');
        let aggregation = AGGREGATIONS.contains(&word.to_ascii_lowercase().as_str());
        if held || !(aggregation || Function::named(word).is_some()) {
            continue;
        }
        let next = |at: usize| tokens.get(at).map(|(_, token)| *token);
        let open = match next(at + 1) {
            Some(Token::Mark(b'(')) => at + 1,
            Some(Token::Word(by)) if aggregation && ["by", "without"].contains(&by.to_ascii_lowercase().as_str()) => {
                match close(&tokens, at + 2) {
                    Some(end) if next(end + 1) == Some(Token::Mark(b'(')) => end + 1,
                    _ => continue,
                }
            }
            _ => continue,
        };
        places.push(Place { start, arguments: arguments(&tokens, open) });
    }
    places
}

/// The token that closes the parenthesis here.
fn close(tokens: &[(usize, Token<'_>)], open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, (_, token)) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Mark(b'(' | b'[' | b'{') => depth += 1,
            Token::Mark(b')' | b']' | b'}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn arguments(tokens: &[(usize, Token<'_>)], open: usize) -> Vec<usize> {
    let (mut starts, mut depth, mut wanted) = (Vec::new(), 0_i32, true);
    for (start, token) in tokens.iter().skip(open + 1) {
        // Parentheses around an argument are not part of it.
        if wanted && !matches!(token, Token::Mark(b'(' | b')')) {
            starts.push(*start);
            wanted = false;
        }
        match token {
            Token::Mark(b'(' | b'[' | b'{') => depth += 1,
            Token::Mark(b')') if depth == 0 => break,
            Token::Mark(b')' | b']' | b'}') => depth -= 1,
            Token::Mark(b',') if depth == 0 => wanted = true,
            _ => {}
        }
    }
    starts
}

/// What in a query that the parser refuses is experimental in Prometheus too.
pub(crate) fn experimental(query: &str) -> Option<String> {
    let tokens = tokens(query);
    let token = |at: usize| tokens.get(at).map(|(_, token)| *token);
    let computed = |at: usize| {
        let at = at + usize::from(matches!(token(at), Some(Token::Mark(b'+' | b'-'))));
        matches!(token(at), Some(Token::Mark(b'(') | Token::Word(_)))
    };
    let mut in_brackets = false;
    for (at, &(_, token)) in tokens.iter().enumerate() {
        match token {
            Token::Mark(b'[') => in_brackets = true,
            Token::Mark(b']') => in_brackets = false,
            Token::Mark(b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'(') if in_brackets => {
                return Some("arithmetic in durations".to_owned());
            }
            Token::Word(word) if word.eq_ignore_ascii_case("offset") && computed(at + 1) => {
                return Some("arithmetic in durations".to_owned());
            }
            Token::Word(word @ ("anchored" | "smoothed")) => return Some(format!("the modifier {word}")),
            Token::Word(word) if Function::named(word) == Some(Function::Unsupported) => {
                return Some(format!("the function {word}"));
            }
            _ => {}
        }
    }
    None
}

/// The first quoted string whose escapes make bytes that are no UTF-8. Labels are text here, so that such a string
/// could only be mistaken for another.
pub(crate) fn not_text(query: &str) -> Option<&str> {
    let starts = tokens(query).into_iter().map(|(start, _)| start);
    let quoted = starts.filter(|&start| query[start..].starts_with(['"', '\'']));
    quoted.map(|start| &query[start..string_end(query, start).min(query.len())]).find(|text| {
        let mut bytes = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let escaped = if c == '\\' { rest.next() } else { None };
            let (digits, radix) = match escaped {
                Some('x') => (rest.by_ref().take(2).collect::<String>(), 16),
                Some(first @ '0'..='3') => (std::iter::once(first).chain(rest.by_ref().take(2)).collect(), 8),
                _ => {
                    bytes.extend(escaped.unwrap_or(c).to_string().bytes());
                    continue;
                }
            };
            bytes.extend(u8::from_str_radix(&digits, radix));
        }
        std::str::from_utf8(&bytes).is_err()
    })
}

/// Where the string ends that starts here, its quotes with it.
fn string_end(query: &str, start: usize) -> usize {
    let bytes = query.as_bytes();
    let quote = bytes[start];
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' && quote != b'`' { 2 } else { 1 };
    }
    at + 1
}

/// Where the number ends that starts here; the sign of an exponent belongs to it.
fn number_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        let exponent = matches!(byte, b'+' | b'-')
            && matches!(bytes[at - 1], b'e' | b'E')
            && !matches!(bytes.get(start + 1), Some(b'x' | b'X'));
        if !(byte.is_ascii_alphanumeric() || byte == b'.' || (exponent && at > start)) {
            break;
        }
        at += 1;
    }
    at
}

/// The words and marks of a query, with where they start; strings, numbers and comments hold none.
pub(super) fn tokens(query: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = query.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' | b'\'' | b'`' => {
                at = string_end(query, start);
                tokens.push((start, Token::Other));
            }
            b'#' => at += query[at..].find('\n').unwrap_or(bytes.len() - at),
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte == b':' => {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b':';
                at += bytes[at..].iter().take_while(|byte| word(byte)).count();
                tokens.push((start, Token::Word(&query[start..at])));
            }
            byte if byte.is_ascii_digit() || (byte == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)) => {
                at = number_end(bytes, at);
                tokens.push((start, Token::Number(&query[start..at])));
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            // Letters beyond ASCII are part of no name that is looked for; a piece of one is no place to cut.
            byte if !byte.is_ascii() => at += query[at..].chars().next().map_or(1, char::len_utf8),
            byte => {
                at += 1;
                tokens.push((start, Token::Mark(byte)));
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str) -> Vec<(usize, Vec<usize>)> {
        places(query).into_iter().map(|place| (place.start, place.arguments)).collect()
    }

    #[test]
    fn strings_that_are_no_text_are_found() {
        assert_eq!(not_text(r#"f("a\xff", "b")"#), Some(r#""a\xff""#));
        assert_eq!(not_text(r#"f("\xc3\xa4 \\xff \303\244", `\xff`, 'ä')"#), None);
        assert_eq!(not_text(r#"f("\"#), None);
    }

    #[test]
    fn calls_and_their_arguments_are_found() {
        assert_eq!(found("irate(x[5m])"), [(0, vec![6])]);
        assert_eq!(found("sum by (rate) (rate(x{a=\"sum(\"}[5m])) / sum"), [(0, vec![15]), (15, vec![20])]);
        assert_eq!(found("SUM(rate((x)[5m:])) BY (a)"), [(0, vec![4]), (4, vec![10])]);
        assert_eq!(found("histogram_quantile(0.9, sum(x))"), [(0, vec![19, 24]), (24, vec![28])]);
        assert_eq!(found("x @ end() + time()"), [(12, vec![])]);
    }
}
