//! Tasks of the workspace: `cargo xtask <task>`.

mod docs;
mod format;
mod pg_fetch;
mod tidy;
mod tree;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask tidy             check the house rules
cargo xtask fmt [--check]    format every Rust file, or say which are not
cargo xtask docs [--check]   write the generated pages, or say which are old
cargo xtask pg fetch [--majors 16,17,18]
                             fetch PostgreSQL for tests, from public packages, into a cache
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["tidy"] => tidy::run(),
        ["fmt"] => format::run(false),
        ["fmt", "--check"] => format::run(true),
        ["docs"] => docs::run(false),
        ["docs", "--check"] => docs::run(true),
        ["pg", "fetch", ..] => pg_fetch::run(&arguments[2..]),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
