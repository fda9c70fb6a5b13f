//! How long files, functions and lines may be.

use super::Breach;
use super::source::Source;

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;
const LINE_CHARACTERS: usize = 120;

pub fn file_length(source: &Source) -> Vec<Breach> {
    // A last line feed starts no line.
    let lines = source.lines.len() - usize::from(source.lines.last().is_some_and(|line| line.code.is_empty()));
    if lines <= FILE_LINES {
        return Vec::new();
    }
    vec![Breach::new(&source.path, 0, format!("{lines} lines; a file has at most {FILE_LINES}"))]
}

/// A function is counted from its `fn` to the brace that closes it.
pub fn function_length(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for start in source.find("fn ") {
        let before = start.checked_sub(1).map(|at| source.code[at]);
        let named = source.code.get(start + 3).is_some_and(|char| char.is_alphabetic() || *char == '_');
        if !named || before.is_some_and(|char| char.is_alphanumeric() || char == '_') {
            continue;
        }
        let first = source.line_at(start);
        let lines = source.line_at(source.item_end(start)) - first + 1;
        if lines > FUNCTION_LINES {
            let name: String =
                source.code[start + 3..].iter().take_while(|char| char.is_alphanumeric() || **char == '_').collect();
            let what = format!("fn {name} has {lines} lines; a function has at most {FUNCTION_LINES}");
            breaches.push(Breach::new(&source.path, first, what));
        }
    }
    breaches
}

/// Text in literals does not count, nor does an address in a comment: neither can be broken without harm.
pub fn line_width(source: &Source) -> Vec<Breach> {
    let wide =
        source.lines.iter().filter(|line| line.width_without_text > LINE_CHARACTERS && !line.comment.contains("://"));
    wide.map(|line| {
        let what = format!("{} characters; a line has at most {LINE_CHARACTERS}", line.width_without_text);
        Breach::new(&source.path, line.number, what)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Source) -> Vec<Breach>, text: &str) -> Vec<usize> {
        rule(&Source::new("crates/x/src/a.rs", text)).into_iter().map(|breach| breach.line).collect()
    }

    #[test]
    fn a_long_file_is_a_breach() {
        assert_eq!(lines(file_length, &"\n".repeat(800)), [0; 0]);
        assert_eq!(lines(file_length, &"\n".repeat(801)), [0]);
    }

    #[test]
    fn a_long_function_is_a_breach() {
        let function =
            |body: usize| format!("\nfn f(a: [u8; 4]) -> fn() {{\n{}}}\nfn g();\n", "    a(\"}\");\n".repeat(body));
        assert_eq!(lines(function_length, &function(68)), [0; 0]);
        assert_eq!(lines(function_length, &function(69)), [2]);
    }

    #[test]
    fn a_wide_line_is_a_breach_unless_text_makes_it_so() {
        assert_eq!(lines(line_width, &format!("a\n{}", "x".repeat(121))), [2]);
        assert_eq!(lines(line_width, &format!("// {}", "x ".repeat(60))), [1]);
        assert_eq!(lines(line_width, &format!("// https://x.org/{}", "x".repeat(120))), [0; 0]);
        assert_eq!(lines(line_width, &format!("a(\"{}\")", "x".repeat(200))), [0; 0]);
        assert_eq!(lines(line_width, &format!("\"\n{}\n\"", "x".repeat(200))), [0; 0]);
    }
}
