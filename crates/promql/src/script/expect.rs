//! What a script expects of a query.

use super::series::Described;
use regex::Regex;

/// A text that is expected.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl Text {
    pub(super) fn fits(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(exactly) => exactly == text,
            Self::Matching(regex) => regex.is_match(text),
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Exactly(text) => format!("{text:?}"),
            Self::Matching(regex) => format!("/{regex}/"),
        }
    }
}

/// What is expected of a query.
#[derive(Debug, Clone, Default)]
pub(super) struct Expectation {
    pub fail: Option<Text>,
    pub ordered: bool,
    pub warnings: Vec<Text>,
    pub infos: Vec<Text>,
    pub no_warning: bool,
    pub no_info: bool,
    pub text: Option<String>,
    pub scalar: Option<f64>,
    pub series: Vec<Described>,
    /// Start, end and step of the points of a range vector.
    pub range_vector: Option<(i64, i64, i64)>,
}

impl Expectation {
    /// Reads what stands after `expect`.
    pub(super) fn read(&mut self, line: &str) -> Result<(), String> {
        let (what, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let text = text.trim();
        match what {
            "ordered" => self.ordered = true,
            "fail" if self.fail.is_some() => return Err("more than one `expect fail`".to_owned()),
            "fail" => self.fail = Some(wanted(text)?),
            "warn" => self.warnings.push(wanted(text)?),
            "info" => self.infos.push(wanted(text)?),
            "no_warn" => self.no_warning = true,
            "no_info" => self.no_info = true,
            "string" => self.text = Some(super::series::string(text)?.0),
            "range" => {
                let words: Vec<&str> = text.split_whitespace().collect();
                let ["vector", "from", from, "to", to, "step", step] = words[..] else {
                    return Err(format!("`vector from … to … step …` was expected, not {text:?}"));
                };
                let times = [from, to, step].map(crate::number::duration_ms);
                let [Some(from), Some(to), Some(step)] = times else {
                    return Err(format!("a time in {text:?} cannot be read"));
                };
                self.range_vector = Some((from, to, step));
            }
            _ => return Err(format!("`expect {what}` is not known")),
        }
        match (self.no_warning && !self.warnings.is_empty()) || (self.no_info && !self.infos.is_empty()) {
            true => Err("an annotation and none of it are expected together".to_owned()),
            false => Ok(()),
        }
    }

    /// Checks warnings and infos.
    pub(super) fn check_annotations(&self, warnings: &[String], infos: &[String]) -> Result<(), String> {
        check("warning", &self.warnings, self.no_warning, warnings)?;
        check("info", &self.infos, self.no_info, infos)
    }
}

fn wanted(text: &str) -> Result<Text, String> {
    match text.split_once(':') {
        _ if text.is_empty() => Ok(Text::Any),
        Some(("msg", text)) => Ok(Text::Exactly(text.trim().to_owned())),
        Some(("regex", text)) => Regex::new(text.trim()).map(Text::Matching).map_err(|error| error.to_string()),
        _ => Err(format!("`msg:` or `regex:` was expected, not {text:?}")),
    }
}

fn check(kind: &str, expected: &[Text], none: bool, actual: &[String]) -> Result<(), String> {
    if none && !actual.is_empty() {
        return Err(format!("no {kind} was expected, and these came: {actual:?}"));
    }
    if expected.is_empty() {
        return Ok(());
    }
    if let Some(missing) = expected.iter().find(|expected| !actual.iter().any(|text| expected.fits(text))) {
        return Err(format!("the {kind} {} was expected; there are {actual:?}", missing.shown()));
    }
    match actual.iter().find(|text| !expected.iter().any(|expected| expected.fits(text))) {
        Some(unexpected) => Err(format!("an unexpected {kind}: {unexpected:?}")),
        None => Ok(()),
    }
}
