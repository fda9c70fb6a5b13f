//! Words that must not stand in the code, or only in one place of it.

use super::Breach;
use super::source::{Line, Source};

/// Rooms whose code only ever runs in tests or on a developer's machine.
const ASIDE: &[&str] = &["crates/testkit", "xtask"];

/// Lines of the program itself: no tests, nothing aside.
fn product_lines(source: &Source) -> impl Iterator<Item = &Line> {
    let aside = source.is_test || ASIDE.contains(&source.room());
    source.lines.iter().filter(move |line| !aside && !line.in_test)
}

fn breaches<'a>(source: &Source, lines: impl Iterator<Item = &'a Line>, words: &[&str], instead: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for line in lines {
        for word in words.iter().filter(|word| has_word(&line.code, word)) {
            breaches.push(Breach::new(&source.path, line.number, format!("`{word}`: {instead}")));
        }
    }
    breaches
}

/// Does the word stand in the text, not as part of a longer one?
fn has_word(text: &str, word: &str) -> bool {
    let part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    let (starts, ends) = (part(word.chars().next()), part(word.chars().last()));
    text.match_indices(word).any(|(at, _)| {
        let continues = starts && part(text[..at].chars().last());
        let goes_on = ends && part(text[at + word.len()..].chars().next());
        !continues && !goes_on
    })
}

pub fn panicking(source: &Source) -> Vec<Breach> {
    let words = [".unwrap()", ".expect(", ".unwrap_err()", "panic!", "todo!", "unimplemented!"];
    breaches(source, product_lines(source), &words, "return an error, or write it so that it cannot happen")
}

pub fn printing(source: &Source) -> Vec<Breach> {
    // A build script speaks to cargo on standard output.
    if source.room() == "crates/cli" || source.path.ends_with("/build.rs") {
        return Vec::new();
    }
    let words = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
    breaches(source, product_lines(source), &words, "only the cli prints; give what there is to say to the caller")
}

pub fn clock(source: &Source) -> Vec<Breach> {
    if source.path == "crates/core/src/clock.rs" {
        return Vec::new();
    }
    let words = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];
    breaches(source, product_lines(source), &words, "surus_core::clock is the only clock")
}

pub fn confined_dependency(source: &Source) -> Vec<Breach> {
    let confined = [("tokio_postgres", "crates/pg"), ("postgres_protocol", "crates/pg"), ("rusqlite", "crates/store")];
    let mut found = Vec::new();
    for (word, room) in confined {
        if source.room() != room {
            found.extend(breaches(source, source.lines.iter(), &[word], &format!("only {room} knows it")));
        }
    }
    found
}

/// Marks of unfinished work. Put together so that this file does not break its own rule.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

pub fn unfinished(source: &Source) -> Vec<Breach> {
    let lines = source.lines.iter().flat_map(|line| [(line.number, &line.code), (line.number, &line.comment)]);
    unfinished_lines(&source.path, lines)
}

/// The same for files in other languages.
pub fn unfinished_text(path: &str, text: &str) -> Vec<Breach> {
    unfinished_lines(path, text.lines().enumerate().map(|(index, line)| (index + 1, line)))
}

fn unfinished_lines<T: AsRef<str>>(path: &str, lines: impl Iterator<Item = (usize, T)>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (number, line) in lines {
        for word in UNFINISHED.iter().filter(|word| has_word(line.as_ref(), word)) {
            breaches.push(Breach::new(path, number, format!("{word}: finish it, or write an issue")));
        }
    }
    breaches
}

pub fn ignored_without_reason(source: &Source) -> Vec<Breach> {
    breaches(source, source.lines.iter(), &["#[ignore]"], "say why: #[ignore = \"…\"]")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<Breach>;

    fn lines_in(path: &str, rule: Rule, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text)).into_iter().map(|breach| breach.line).collect()
    }

    fn lines(rule: Rule, text: &str) -> Vec<usize> {
        lines_in("crates/check/src/a.rs", rule, text)
    }

    #[test]
    fn panicking_is_for_tests() {
        let text = "fn a() {\n    b.unwrap();\n    c.expect(\"d\");\n    panic!(\"e\");\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn f() { g.unwrap() }\n}";
        assert_eq!(lines(panicking, text), [2, 3, 4]);
        assert_eq!(lines_in("crates/pg/tests/a.rs", panicking, text), [0; 0]);
        assert_eq!(lines_in("crates/testkit/src/a.rs", panicking, text), [0; 0]);
        assert_eq!(lines(panicking, "a.unwrap_or(b);\n// .unwrap()\nc(\".unwrap()\");\nstd::panic::catch()"), [0; 0]);
    }

    #[test]
    fn printing_is_for_the_cli() {
        assert_eq!(lines(printing, "println!(\"a\");\neprintln!();\nprint!(\"b\");"), [1, 2, 3]);
        assert_eq!(lines_in("crates/cli/src/main.rs", printing, "println!(\"a\");"), [0; 0]);
        assert_eq!(lines_in("crates/web/build.rs", printing, "println!(\"a\");"), [0; 0]);
        assert_eq!(lines(printing, "writeln!(out);\n/// println!()"), [0; 0]);
    }

    #[test]
    fn there_is_one_clock() {
        assert_eq!(lines(clock, "let a = Instant::now();\nlet b = jiff::Timestamp::now();"), [1, 2]);
        assert_eq!(lines_in("crates/core/src/clock.rs", clock, "Instant::now()"), [0; 0]);
    }

    #[test]
    fn dependencies_stay_in_their_room() {
        assert_eq!(lines(confined_dependency, "use tokio_postgres::Row;\nuse rusqlite::Row;"), [1, 2]);
        assert_eq!(lines_in("crates/pg/src/a.rs", confined_dependency, "use tokio_postgres::Row;"), [0; 0]);
        assert_eq!(lines_in("crates/pg/src/a.rs", confined_dependency, "use rusqlite::Row;"), [1]);
    }

    #[test]
    fn unfinished_work_is_a_breach() {
        let [first, second, third] = UNFINISHED else { panic!("three words") };
        assert_eq!(lines(unfinished, &format!("// {first}: a\n/* {second} */\nlet {third} = 1;")), [1, 2, 3]);
        assert_eq!(lines(unfinished, &format!("// {first}S\nmktemp(\"{third}\")")), [0; 0]);
        assert_eq!(unfinished_text("a.md", &format!("a\n{first}\n{third}{third}")).len(), 1);
    }

    #[test]
    fn an_ignored_test_says_why() {
        assert_eq!(lines(ignored_without_reason, "#[test]\n#[ignore]\nfn a() {}"), [2]);
        assert_eq!(lines(ignored_without_reason, "#[test]\n#[ignore = \"needs a server\"]\nfn a() {}"), [0; 0]);
    }
}
