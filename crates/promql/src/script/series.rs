//! A series as scripts describe it: labels, then values in expanding notation.

use crate::number::{number_text, read_number};
use std::fmt;
use surus_core::series::Labels;

/// What is at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item {
    Value(f64),
    /// `_`: nothing.
    Missing,
    /// `stale`: the series ends.
    Stale,
    /// `{{…}}`: a native histogram, whose contents are not read.
    Histogram,
}

/// A series with what is at each step.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    pub labels: Labels,
    pub items: Vec<Item>,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.write_str(&number_text(*value)),
            Self::Missing => f.write_str("_"),
            Self::Stale => f.write_str("stale"),
            Self::Histogram => f.write_str("{{}}"),
        }
    }
}

/// As [`described`] reads it.
impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (name, value) in self.labels.iter() {
            write!(f, "{}={},", quoted(name), quoted(value))?;
        }
        f.write_str("}")?;
        self.items.iter().try_for_each(|item| write!(f, " {item}"))
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Reads a line such as `up{job="a"} 1 0+1x5 _ stale`.
///
/// # Errors
/// With what is wrong.
pub fn described(line: &str) -> Result<Described, String> {
    let (labels, rest) = labels(line.trim())?;
    Ok(Described { labels, items: items(rest)? })
}

fn labels(text: &str) -> Result<(Labels, &str), String> {
    let end = text.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !name.is_empty() {
        pairs.push(("__name__".to_owned(), name.to_owned()));
    }
    if rest.starts_with('{') && !rest.starts_with("{{") {
        rest = rest[1..].trim_start();
        while !rest.starts_with('}') {
            let (label, after) = label_name(rest)?;
            let after = after.trim_start();
            match after.strip_prefix('=') {
                Some(after) => {
                    let (value, after) = string(after.trim_start())?;
                    pairs.push((label, value));
                    rest = after.trim_start();
                }
                // A quoted name on its own is the metric's.
                None => {
                    pairs.push(("__name__".to_owned(), label));
                    rest = after;
                }
            }
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.starts_with('}') => {}
                None => return Err(format!("`,` or `}}` was expected before {rest:?}")),
            }
        }
        rest = &rest[1..];
    }
    Ok((Labels::new(pairs).map_err(|error| error.to_string())?, rest))
}

fn label_name(text: &str) -> Result<(String, &str), String> {
    if text.starts_with(['"', '\'', '`']) {
        return string(text);
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '.')).unwrap_or(text.len());
    match end {
        0 => Err(format!("a label was expected before {text:?}")),
        end => Ok((text[..end].to_owned(), &text[end..])),
    }
}

/// Reads a string in any of the three kinds of quotes.
pub(super) fn string(text: &str) -> Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let quote = match chars.next() {
        Some((_, quote @ ('"' | '\'' | '`'))) => quote,
        _ => return Err(format!("a quoted text was expected before {text:?}")),
    };
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((value, &text[at + c.len_utf8()..])),
            '\\' if quote != '`' => {
                let escaped = chars.next().map(|(_, escaped)| escaped);
                value.push(match escaped {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(other @ ('\\' | '"' | '\'')) => other,
                    Some(kind @ ('x' | 'u' | 'U')) => {
                        let length = match kind {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let digits: String = chars.by_ref().take(length).map(|(_, digit)| digit).collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        code.ok_or_else(|| format!("\\{kind}{digits} is no character"))?
                    }
                    _ => return Err(format!("an escape that is not known in {text:?}")),
                });
            }
            c => value.push(c),
        }
    }
    Err(format!("a quote is missing in {text:?}"))
}

fn items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = token_end(rest);
        expand(&rest[..end], &mut items)?;
        rest = rest[end..].trim_start();
    }
    Ok(items)
}

/// The end of a token; blanks inside a histogram's braces are part of it.
fn token_end(text: &str) -> usize {
    let mut inside = false;
    for (at, c) in text.char_indices() {
        inside = (inside || text[at..].starts_with("{{")) && !text[..at].ends_with("}}");
        if c.is_whitespace() && !inside {
            return at;
        }
    }
    text.len()
}

fn expand(token: &str, items: &mut Vec<Item>) -> Result<(), String> {
    let wrong = || format!("{token:?} is no value");
    let (what, times) = match token.rsplit_once('x') {
        Some((what, times)) if !what.is_empty() && times.parse::<usize>().is_ok() => {
            (what, times.parse::<usize>().ok())
        }
        _ => (token, None),
    };
    if times.is_some_and(|times| times > 1_000_000) {
        return Err(format!("{token:?} repeats more than a million times"));
    }
    let again = times.map_or(1, |times| times + 1);
    if what.contains("{{") {
        items.extend(std::iter::repeat_n(Item::Histogram, again));
        return Ok(());
    }
    match what {
        // Only the missing value is repeated as often as it says; all others stand once more.
        "_" => items.extend(std::iter::repeat_n(Item::Missing, times.unwrap_or(1))),
        "stale" => items.extend(std::iter::repeat_n(Item::Stale, again)),
        _ => {
            let (first, change) = number_and_change(what).ok_or_else(wrong)?;
            let change = change.unwrap_or(0.0);
            let mut value = first;
            for _ in 0..again {
                items.push(Item::Value(value));
                value += change;
            }
        }
    }
    Ok(())
}

/// `1`, `1+2` or `1-2`; a sign after an exponent's `e` belongs to the number.
fn number_and_change(text: &str) -> Option<(f64, Option<f64>)> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let split = (1..bytes.len()).find(|&at| {
        let exponent = matches!(bytes[at - 1], b'e' | b'E') && (at >= 2 && (digit(at - 2) || bytes[at - 2] == b'.'));
        matches!(bytes[at], b'+' | b'-') && !exponent
    });
    match split {
        None => Some((read_number(text)?, None)),
        Some(at) => Some((read_number(&text[..at])?, Some(read_number(&text[at..])?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> String {
        let items = described(&format!("x {text}")).unwrap().items;
        items.iter().map(Item::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_notation_expands() {
        assert_eq!(values("1 2.5 -3"), "1 2.5 -3");
        assert_eq!(values("0+10x3 7x2"), "0 10 20 30 7 7 7");
        assert_eq!(values("1-1x2 _x2 _ stale"), "1 0 -1 _ _ _ stale");
        assert_eq!(values("1e+2-1e1x1 -Inf NaN Inf .5"), "100 90 -Inf NaN +Inf 0.5");
        assert_eq!(values("{{sum:1 count:1}}+{{sum:2 count:1}}x2 1"), "{{}} {{}} {{}} 1");
        assert!(described("x 1y").is_err());
    }

    #[test]
    fn labels_are_read() {
        let labels = |text: &str| described(text).unwrap().labels.to_string();
        assert_eq!(labels("up 1"), "up");
        assert_eq!(labels("up{a='x', b=\"y\\\"\",} 1"), "up{a=\"x\", b=\"y\\\"\"}");
        assert_eq!(labels("{\"a.b\", \"c d\"=`e`} 1"), "a.b{c d=\"e\"}");
        assert_eq!(labels("{} 1"), "{}");
        assert!(described("up{a=1} 1").is_err() && described("up{a=\"1} 1").is_err());
    }
}
