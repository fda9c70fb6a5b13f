//! Reading scripts.

use super::expect::{Expectation, Text};
use super::series::described;
use super::{Command, Eval, Times};
use crate::number::{duration_ms, read_number};
use regex::Regex;
use std::fmt;

/// A script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ScriptError {}

/// The lines of a script from one place on; comments count as empty lines, which end a block.
struct Lines<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Lines<'a> {
    /// The next line of a block.
    fn in_block(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.next).copied().filter(|line| !line.is_empty())?;
        self.next += 1;
        Some(line)
    }
}

/// Reads a script.
///
/// # Errors
/// At the first line that is not understood.
pub fn read(text: &str) -> Result<Vec<Command>, ScriptError> {
    let trimmed = text.lines().map(|line| match line.trim() {
        comment if comment.starts_with('#') => "",
        line => line,
    });
    let mut lines = Lines { lines: trimmed.collect(), next: 0 };
    let mut commands = Vec::new();
    while lines.next < lines.lines.len() {
        let line = lines.lines[lines.next];
        lines.next += 1;
        if line.is_empty() {
            continue;
        }
        let start = lines.next;
        let command = command(line, start, &mut lines);
        commands.push(command.map_err(|message| ScriptError { line: lines.next.max(start), message })?);
    }
    Ok(commands)
}

fn command(line: &str, number: usize, lines: &mut Lines<'_>) -> Result<Command, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word.to_ascii_lowercase().as_str() {
        "clear" => Ok(Command::Clear),
        "load" => load(rest, false, lines),
        "load_with_nhcb" => load(rest, true, lines),
        "eval" => eval(rest, "", number, lines),
        other => match other.strip_prefix("eval_") {
            Some(how @ ("fail" | "warn" | "info" | "ordered")) => eval(rest, how, number, lines),
            _ => Err(format!("{word:?} is no command")),
        },
    }
}

fn load(rest: &str, with_native: bool, lines: &mut Lines<'_>) -> Result<Command, String> {
    let step_ms = duration_ms(rest.trim()).ok_or_else(|| format!("{rest:?} is no step"))?;
    let mut series = Vec::new();
    while let Some(line) = lines.in_block() {
        if line.split_whitespace().next().is_some_and(|word| word.ends_with("@st")) {
            return Err("start timestamps are experimental and not supported".to_owned());
        }
        series.push(described(line)?);
    }
    Ok(Command::Load { step_ms, with_native, series })
}

fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.trim_start().split_once(char::is_whitespace).unwrap_or((text.trim_start(), ""));
    (word, rest.trim_start())
}

fn eval(rest: &str, how: &str, line: usize, lines: &mut Lines<'_>) -> Result<Command, String> {
    let time = |text: &str| duration_ms(text).ok_or_else(|| format!("{text:?} is no time"));
    let (kind, rest) = word(rest);
    let (times, query) = match kind {
        "instant" => {
            let (at, query) = rest.strip_prefix("at").map(word).ok_or("`at` is missing")?;
            (Times::At(time(at)?), query)
        }
        "range" => {
            let mut rest = rest;
            let mut given = [0; 3];
            for (name, given) in ["from", "to", "step"].into_iter().zip(&mut given) {
                let (value, after) = rest.strip_prefix(name).map(word).ok_or_else(|| format!("`{name}` is missing"))?;
                (*given, rest) = (time(value)?, after);
            }
            (Times::Range { start_ms: given[0], end_ms: given[1], step_ms: given[2] }, rest)
        }
        _ => return Err("`instant` or `range` was expected".to_owned()),
    };
    let mut expected = Expectation::default();
    match how {
        "fail" => expected.fail = Some(Text::Any),
        "warn" => expected.warnings.push(Text::Any),
        "info" => expected.infos.push(Text::Any),
        "ordered" => expected.ordered = true,
        _ => {}
    }
    while let Some(line) = lines.in_block() {
        expectation(line, &mut expected)?;
    }
    Ok(Command::Eval(Box::new(Eval { line, query: query.to_owned(), times, expected })))
}

fn expectation(line: &str, expected: &mut Expectation) -> Result<(), String> {
    let (first, rest) = word(line);
    match first {
        "expect" => expected.read(rest),
        "expected_fail_message" => {
            expected.fail = Some(Text::Exactly(rest.to_owned()));
            Ok(())
        }
        "expected_fail_regexp" => {
            expected.fail = Some(Text::Matching(Regex::new(rest).map_err(|error| error.to_string())?));
            Ok(())
        }
        _ => {
            match read_number(line) {
                Some(number) => expected.scalar = Some(number),
                None => expected.series.push(described(line)?),
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read() {
        let text = "load 5m\n  up{a=\"b\"} 1x3\n  # comment\n\nclear\neval instant at 5m up\n  {a=\"b\"} 1\n\n\
                    eval_fail range from 0 to 1m step 10s up + \n  expected_fail_message x y\n";
        let commands = read(text).unwrap();
        assert_eq!(commands.len(), 4);
        let Command::Eval(eval) = &commands[3] else { panic!("{commands:?}") };
        assert_eq!(eval.times, Times::Range { start_ms: 0, end_ms: 60_000, step_ms: 10_000 });
        assert!(eval.expected.fail.as_ref().unwrap().fits("x y"));
        assert_eq!(read("load 5m\n  up 1y\n").unwrap_err().line, 2);
        assert_eq!(read("\nfoo\n").unwrap_err().line, 2);
    }
}
