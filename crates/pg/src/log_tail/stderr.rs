//! The stderr format: lines that begin as log_line_prefix says, then the severity, then the message.

use super::{Level, LogEntry, cut, time};
use jiff::{Timestamp, tz::TimeZone};

/// log_line_prefix, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// An escape such as %p, by its letter.
    Value(char),
    /// %q: processes without a session end here.
    SessionOnly,
}

/// What the prefix of a line says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Head<'a> {
    time: Option<&'a str>,
    epoch: Option<&'a str>,
    sqlstate: Option<&'a str>,
    client: Option<&'a str>,
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            // A width pads with blanks, which reading the value ignores.
            let letter = chars.by_ref().find(|c| !(c.is_ascii_digit() || *c == '-'));
            match letter {
                None => {}
                Some('%') => literal.push('%'),
                Some(letter) => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(if letter == 'q' { Part::SessionOnly } else { Part::Value(letter) });
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Self(parts)
    }

    /// Reads the text before a severity; `None` when it is not what the prefix produces.
    fn read<'a>(&self, text: &'a str) -> Option<Head<'a>> {
        let mut head = Head::default();
        take(&self.0, text, &mut head).then_some(head)
    }
}

/// Does the text match the parts to its end? Values end where the next literal begins, the shortest first.
fn take<'a>(parts: &[Part], text: &'a str, head: &mut Head<'a>) -> bool {
    let Some((part, rest)) = parts.split_first() else { return text.trim().is_empty() };
    match part {
        Part::Text(literal) => text.strip_prefix(literal.as_str()).is_some_and(|tail| take(rest, tail, head)),
        Part::SessionOnly => text.trim().is_empty() || take(rest, text, head),
        Part::Value(letter) => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            for end in ends {
                let value = text[..end].trim();
                let mut tried = head.clone();
                if fits(*letter, value) && take(rest, &text[end..], &mut tried) {
                    *head = tried;
                    keep(*letter, value, head);
                    return true;
                }
            }
            false
        }
    }
}

/// Could the escape have produced the value? What the values look like: documentation, log_line_prefix.
fn fits(letter: char, value: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match letter {
        't' | 'm' | 's' => {
            let words: Vec<&str> = value.split(' ').collect();
            words.len() == 3 && words[0].len() >= 10 && words[1].len() >= 8 && !words[2].is_empty()
        }
        'n' => value.split_once('.').is_some_and(|(s, ms)| digits(s) && ms.len() == 3 && digits(ms)),
        'p' | 'l' => digits(value),
        'e' => value.len() == 5,
        _ => true,
    }
}

fn keep<'a>(letter: char, value: &'a str, head: &mut Head<'a>) {
    let known = (!value.is_empty() && value != "[unknown]").then_some(value);
    match letter {
        't' | 'm' => head.time = known,
        'n' => head.epoch = known,
        'e' => head.sqlstate = known,
        'h' => head.client = known,
        'r' => head.client = known.map(|value| value.split_once('(').map_or(value, |(host, _)| host)),
        _ => {}
    }
}

const WORDS: &[&str] = &[
    "PANIC",
    "FATAL",
    "ERROR",
    "WARNING",
    "LOG",
    "INFO",
    "NOTICE",
    "DEBUG",
    "DEBUG1",
    "DEBUG2",
    "DEBUG3",
    "DEBUG4",
    "DEBUG5",
    "DETAIL",
    "HINT",
    "CONTEXT",
    "STATEMENT",
    "QUERY",
    "LOCATION",
    "BACKTRACE",
];

/// The entries of the text; of messages of several lines the further ones, which begin with a tab, are left out.
pub(super) fn entries(text: &str, prefix: &Prefix, zone: &TimeZone) -> Vec<LogEntry> {
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut in_context = false;
    for line in text.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(context) = entries.last_mut().and_then(|last| last.context.as_mut()).filter(|_| in_context) {
                *context = cut(&format!("{context}\n{more}"));
            }
            continue;
        }
        in_context = false;
        let Some((head, word, message)) = split(line, prefix) else { continue };
        if let Some(level) = Level::of(word) {
            entries.push(LogEntry {
                at: head.time.and_then(|text| time(text, zone)).or_else(|| head.epoch.and_then(epoch)),
                level,
                sqlstate: head.sqlstate.map(str::to_owned),
                client: head.client.map(str::to_owned),
                message: cut(message),
                statement: None,
                context: None,
            });
        } else if let Some(last) = entries.last_mut() {
            match word {
                "STATEMENT" => last.statement = Some(cut(message)),
                "CONTEXT" => (last.context, in_context) = (Some(cut(message)), true),
                _ => {}
            }
        }
    }
    entries
}

/// Prefix, severity and message of a line. The first severity word with a prefix before it that fits counts, so that a
/// word in an application's name or a message is none.
fn split<'a>(line: &'a str, prefix: &Prefix) -> Option<(Head<'a>, &'a str, &'a str)> {
    line.match_indices(":  ").take(4).find_map(|(at, mark)| {
        let before = &line[..at];
        let word = WORDS.iter().filter(|word| before.ends_with(**word)).max_by_key(|word| word.len())?;
        let head = prefix.read(&before[..before.len() - word.len()])?;
        Some((head, &before[before.len() - word.len()..], &line[at + mark.len()..]))
    })
}

fn epoch(text: &str) -> Option<Timestamp> {
    let (seconds, milliseconds) = text.split_once('.')?;
    Timestamp::from_millisecond(seconds.parse::<i64>().ok()? * 1000 + milliseconds.parse::<i64>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(prefix: &str, line: &str) -> Option<LogEntry> {
        entries(line, &Prefix::parse(prefix), &TimeZone::UTC).into_iter().next()
    }

    #[test]
    fn prefixes_are_read_back() {
        let entry = one("%m [%p] ", "2026-11-21 15:02:09.085 UTC [18397] LOG:  ready").unwrap();
        assert_eq!((entry.level, entry.message.as_str()), (Level::Log, "ready"));
        assert_eq!(entry.at.unwrap().to_string(), "2026-11-21T15:02:09.085Z");
        let line = "2026-11-21 15:02:09 UTC [7]: [3-1] user=app,db=shop,app=[unknown],client=10.0.0.7 FATAL:  no";
        let entry = one("%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ", line).unwrap();
        assert_eq!((entry.level, entry.client.as_deref()), (Level::Fatal, Some("10.0.0.7")));
        let prefix = "%m [%p] %q%u@%d %r %e ";
        let entry =
            one(prefix, "2026-11-21 15:02:09.085 UTC [7] app@shop 10.0.0.7(51234) 22012 ERROR:  division by zero")
                .unwrap();
        assert_eq!((entry.sqlstate.as_deref(), entry.client.as_deref()), (Some("22012"), Some("10.0.0.7")));
        assert_eq!(one(prefix, "2026-11-21 15:02:09.085 UTC [7] LOG:  checkpoint").unwrap().level, Level::Log);
        assert_eq!(one("", "PANIC:  bad").unwrap().level, Level::Panic);
        assert_eq!(one("%n ", "1780000000.123 LOG:  x").unwrap().at.unwrap().as_millisecond(), 1_780_000_000_123);
    }

    #[test]
    fn words_in_a_message_or_elsewhere_are_no_severity() {
        let prefix = "%m [%p] ";
        let entry = one(prefix, "2026-11-21 15:02:09.085 UTC [7] LOG:  statement: SELECT 'PANIC:  x'").unwrap();
        assert_eq!(entry.level, Level::Log);
        assert_eq!(one(prefix, "some output of an archive script with ERROR:  in it"), None);
        let text = "2026-11-21 15:02:09.085 UTC [7] ERROR:  a\n\tPANIC:  b\n2026-11-21 15:02:09.085 UTC [7] STATEMENT:  SELECT 1";
        let all = entries(text, &Prefix::parse(prefix), &TimeZone::UTC);
        assert_eq!((all.len(), all[0].statement.as_deref()), (1, Some("SELECT 1")));
        let text = "2026-11-21 15:02:09.085 UTC [7] ERROR:  a\n2026-11-21 15:02:09.085 UTC [7] CONTEXT:  b\n\tc\n\
                    2026-11-21 15:02:09.085 UTC [7] LOG:  d\n\te";
        let all = entries(text, &Prefix::parse(prefix), &TimeZone::UTC);
        assert_eq!((all.len(), all[0].context.as_deref(), all[1].context.as_deref()), (2, Some("b\nc"), None));
    }
}
