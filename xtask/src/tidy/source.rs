//! A Rust file taken apart just far enough for the rules: what is code, what a comment, what text, what a test.

use std::collections::BTreeSet;

use crate::tree::Found;

/// What a character belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    /// Inside a string or character literal; its quotes are code.
    Text,
}

/// A file, seen by the rules.
#[derive(Debug)]
pub struct Source {
    pub path: String,
    pub lines: Vec<Line>,
    /// The code alone, as characters: everything else is blank, lines are kept.
    pub code: Vec<char>,
    /// The whole file is test code.
    pub is_test: bool,
}

#[derive(Debug)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The code of the line, with blanks for all else.
    pub code: String,
    /// The comment of the line, with blanks for all else.
    pub comment: String,
    /// Characters in the line that are not text in a literal.
    pub width_without_text: usize,
    /// Part of a test.
    pub in_test: bool,
}

/// Takes files apart. Modules that another file declares under `#[cfg(test)]` are test code as well.
pub fn all(files: Vec<Found>) -> Vec<Source> {
    let mut sources: Vec<Source> = files.into_iter().map(|file| Source::new(&file.path, &file.text)).collect();
    let tests: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if tests.iter().any(|test| stem == test || stem.starts_with(&format!("{test}/"))) {
            source.is_test = true;
        }
    }
    sources
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        let kinds = kinds(&text);
        let only = |wanted: Kind| -> Vec<char> {
            let show = |(&char, &kind): (&char, &Kind)| if kind == wanted || char == '\n' { char } else { ' ' };
            text.iter().zip(&kinds).map(show).collect()
        };
        let code = only(Kind::Code);
        let mut lines = Vec::new();
        let mut start = 0;
        let comments = only(Kind::Comment);
        let ends = text.iter().enumerate().filter(|(_, char)| **char == '\n').map(|(at, _)| at);
        for (index, end) in ends.chain([text.len()]).enumerate() {
            lines.push(Line {
                number: index + 1,
                code: code[start..end].iter().collect(),
                comment: comments[start..end].iter().collect(),
                width_without_text: kinds[start..end].iter().filter(|kind| **kind != Kind::Text).count(),
                in_test: false,
            });
            start = (end + 1).min(text.len());
        }
        let is_test = path.split('/').any(|name| ["tests", "benches", "examples", "tests.rs"].contains(&name));
        let mut source = Self { path: path.to_owned(), lines, code, is_test };
        for (from, to) in source.test_regions() {
            source.lines.iter_mut().filter(|line| (from..=to).contains(&line.number)).for_each(|l| l.in_test = true);
        }
        source
    }

    /// The crate's directory, such as `crates/pg` or `xtask`.
    pub fn room(&self) -> &str {
        match self.path.match_indices('/').nth(usize::from(self.path.starts_with("crates/"))) {
            Some((end, _)) => &self.path[..end],
            None => "",
        }
    }

    /// The line of a character of `code`.
    pub fn line_at(&self, at: usize) -> usize {
        1 + self.code[..at].iter().filter(|char| **char == '\n').count()
    }

    /// First and last line of each item under `#[cfg(test)]`.
    fn test_regions(&self) -> Vec<(usize, usize)> {
        let starts = self.find("#[cfg(test)]").into_iter().chain(self.find("#[cfg(all(test"));
        starts.map(|start| (self.line_at(start), self.line_at(self.item_end(start)))).collect()
    }

    /// Where in `code` a word stands.
    pub fn find(&self, word: &str) -> Vec<usize> {
        let word: Vec<char> = word.chars().collect();
        let windows = self.code.windows(word.len()).enumerate();
        windows.filter(|(_, window)| *window == word.as_slice()).map(|(at, _)| at).collect()
    }

    /// Where the item that starts here ends: at its `;`, or at the brace that closes its body.
    pub fn item_end(&self, start: usize) -> usize {
        let mut depth = 0_i32;
        for (at, char) in self.code.iter().enumerate().skip(start) {
            match char {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                ';' if depth == 0 => return at,
                '{' if depth == 0 => return self.closing_brace(at),
                _ => {}
            }
        }
        self.code.len()
    }

    fn closing_brace(&self, open: usize) -> usize {
        let mut depth = 0_i32;
        for (at, char) in self.code.iter().enumerate().skip(open) {
            match char {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => continue,
            }
            if depth == 0 {
                return at;
            }
        }
        self.code.len()
    }

    /// The paths, without ending, of the modules in other files that this one declares under `#[cfg(test)]`.
    fn test_modules(&self) -> Vec<String> {
        let own = self.path.trim_end_matches(".rs");
        let (parent, name) = own.rsplit_once('/').unwrap_or(("", own));
        let base = if ["lib", "main", "mod"].contains(&name) { parent } else { own };
        let mut modules = Vec::new();
        for start in self.find("#[cfg(test)]") {
            let end = self.item_end(start);
            let item: String = self.code[start..end].iter().collect();
            if self.code.get(end) == Some(&';')
                && let Some((_, module)) = item.rsplit_once("mod ")
            {
                modules.push(format!("{base}/{}", module.trim()));
            }
        }
        modules
    }
}

/// Tells code, comments and text apart, by the lexical rules of the Rust reference.
fn kinds(text: &[char]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let (kind, from, to) = next_token(text, at);
        kinds[from.min(text.len())..to.min(text.len())].fill(kind);
        // After text comes its closing quote.
        at = to + usize::from(kind == Kind::Text);
    }
    kinds
}

/// The kind of what starts here, and the range that it fills. A literal's range is what is between its quotes.
fn next_token(text: &[char], at: usize) -> (Kind, usize, usize) {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => (Kind::Comment, at, find_char(text, at, '\n')),
        '/' if next == Some('*') => (Kind::Comment, at, block_comment_end(text, at)),
        '"' => (Kind::Text, at + 1, string_end(text, at + 1, '"')),
        '\'' if next == Some('\\') => (Kind::Text, at + 1, string_end(text, at + 1, '\'')),
        '\'' if text.get(at + 2) == Some(&'\'') => (Kind::Text, at + 1, at + 2),
        'r' if !continues_a_word(text, at) => match raw_string(text, at) {
            Some((from, to)) => (Kind::Text, from, to),
            None => (Kind::Code, at, at + 1),
        },
        _ => (Kind::Code, at, at + 1),
    }
}

/// Is the `r` here part of a longer word? `br"` and `cr"` start raw strings too.
fn continues_a_word(text: &[char], at: usize) -> bool {
    let word = |at: usize| text.get(at).is_some_and(|char| char.is_alphanumeric() || *char == '_');
    match at.checked_sub(1) {
        None => false,
        Some(before) if ['b', 'c'].contains(&text[before]) => before > 0 && word(before - 1),
        Some(before) => word(before),
    }
}

fn find_char(text: &[char], from: usize, wanted: char) -> usize {
    text.iter().skip(from).position(|char| *char == wanted).map_or(text.len(), |offset| from + offset)
}

/// Block comments nest.
fn block_comment_end(text: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn string_end(text: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at
}

/// The range between the quotes of a raw string that starts with the `r` here.
fn raw_string(text: &[char], at: usize) -> Option<(usize, usize)> {
    let hashes = text.iter().skip(at + 1).take_while(|char| **char == '#').count();
    let open = at + 1 + hashes;
    if text.get(open) != Some(&'"') {
        return None;
    }
    let closes = |end: usize| text[end] == '"' && (1..=hashes).all(|offset| text.get(end + offset) == Some(&'#'));
    let end = (open + 1..text.len()).find(|&end| closes(end)).unwrap_or(text.len());
    Some((open + 1, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("crates/x/src/a.rs", text).code.into_iter().collect::<String>().split_whitespace().collect()
    }

    #[test]
    fn comments_and_text_are_not_code() {
        assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "acg");
        assert_eq!(code(r##"a("b // c", 'd', '\'', r#"e"f"#, b"g\"h", br"i")"##), r##"a("",'','',r#""#,b"",br"")"##);
        assert_eq!(code("fn f<'a>(x: &'a str) { '{' }"), "fnf<'a>(x:&'astr){''}");
        assert_eq!(code("for r in bar { }"), "forrinbar{}");
        assert_eq!(code("\"a\\\\\" b \"\" c"), "\"\"b\"\"c");
    }

    #[test]
    fn tests_are_recognised() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nuse x::{y};\nfn d() {}";
        let source = Source::new("crates/x/src/a.rs", text);
        let tests: Vec<usize> = source.lines.iter().filter(|line| line.in_test).map(|line| line.number).collect();
        assert_eq!(tests, [2, 3, 4, 5, 7, 8]);
        assert!(Source::new("crates/x/tests/a.rs", "").is_test);
    }

    #[test]
    fn modules_in_other_files_are_recognised_as_tests() {
        let file = |path: &str, text: &str| Found { path: path.to_owned(), text: text.to_owned() };
        let sources = all(vec![
            file("crates/x/src/lib.rs", "mod a;\n#[cfg(test)]\npub(crate) mod testing;"),
            file("crates/x/src/a.rs", "#[cfg(test)]\nmod inner;"),
            file("crates/x/src/a/inner.rs", ""),
            file("crates/x/src/testing.rs", ""),
            file("crates/x/src/testing/deep.rs", ""),
        ]);
        let tests: Vec<bool> = sources.iter().map(|source| source.is_test).collect();
        assert_eq!(tests, [false, false, true, true, true]);
    }

    #[test]
    fn rooms_are_named() {
        assert_eq!(Source::new("crates/pg/src/a/b.rs", "").room(), "crates/pg");
        assert_eq!(Source::new("xtask/src/main.rs", "").room(), "xtask");
    }
}
