//! Reading a server's log for lines that should not be there.

/// Says less than an error of the server's own: it was told to end, or somebody connected while it started.
const ALWAYS_EXPECTED: &[&str] = &[
    "the database system is starting up",
    // The same of a standby, or after a crash, from 14 on.
    "the database system is not yet accepting connections",
    "the database system is shutting down",
    "terminating connection due to administrator command",
];

/// What marks a line that a healthy server does not write. A crashed backend is reported at level LOG.
const BAD: &[&str] = &["ERROR:  ", "FATAL:  ", "PANIC:  ", " was terminated by signal "];

/// The ERROR, FATAL, PANIC and crash lines that none of the patterns (substrings) covers.
pub(crate) fn unexpected<'a>(log: &'a str, expected: &[String]) -> Vec<&'a str> {
    let bad = |line: &&str| BAD.iter().any(|level| line.contains(level));
    let known = |line: &str| {
        ALWAYS_EXPECTED.iter().any(|pattern| line.contains(pattern))
            || expected.iter().any(|pattern| line.contains(pattern.as_str()))
    };
    log.lines().filter(bad).filter(|line| !known(line)).collect()
}

/// The last `count` lines.
pub(crate) fn tail(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_not_announced() {
        let log = "2026-01-01 [1] LOG:  ready\n2026-01-01 [2] ERROR:  relation \"x\" does not exist\n\
                   2026-01-01 [2] FATAL:  terminating connection due to administrator command\n\
                   2026-01-01 [3] PANIC:  could not write\n";
        assert_eq!(unexpected(log, &[]).len(), 2);
        assert_eq!(unexpected(log, &["does not exist".into()]), ["2026-01-01 [3] PANIC:  could not write"]);
        assert_eq!(tail(log, 1), "2026-01-01 [3] PANIC:  could not write");
    }
}
