//! A text that must never be shown: passwords and private keys.

use std::fmt;

/// Holds a secret; `Debug` and `Display` print `***`, so it cannot slip into a log, an error or a report.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that hands it to the server.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The text with the password of every connection string in it, URI or key=value, replaced by `***`. For texts that
/// repeat what a user wrote: the wrong word in the wrong place is often a connection string.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = next_password(rest) {
        out.push_str(&rest[..start]);
        out.push_str("***");
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Where the next password is, in bytes.
fn next_password(text: &str) -> Option<(usize, usize)> {
    let found = [password_of_uri(text), password_of_pair(text)];
    found.into_iter().flatten().min()
}

/// The password in `scheme://user:password@host`.
fn password_of_uri(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let start = from + at + "://".len();
        let word = &text[start..];
        let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\'' | '"');
        let word = &word[..word.find(ends).unwrap_or(word.len())];
        let password = word.rfind('@').and_then(|end| Some((word[..end].find(':')? + 1, end)));
        match password {
            Some((begin, end)) if begin < end => return Some((start + begin, start + end)),
            _ => from = start,
        }
    }
    None
}

/// The value in `password=value`, `sslpassword = 'value'` or `?password=value&`.
fn password_of_pair(text: &str) -> Option<(usize, usize)> {
    const KEY: &str = "password";
    // Only ASCII letters change, so that positions stay the same.
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    while let Some(at) = lower[from..].find(KEY) {
        from += at + KEY.len();
        let Some(value) = text[from..].trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start();
        let start = text.len() - value.len();
        let length = match value.strip_prefix('\'') {
            Some(quoted) => 2 + quoted_length(quoted),
            None => value
                .find(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '&' | '\'' | '"'))
                .unwrap_or(value.len()),
        };
        let end = (start + length).min(text.len());
        if start < end && &text[start..end] != "***" {
            return Some((start, end));
        }
    }
    None
}

/// How long the text is before the quote that ends it; a backslash takes the next character's meaning away.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.find(|c: char| {
        let ends = c == '\'' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_lose_their_passwords() {
        let cases = [
            ("no match for 'postgresql://u:pw@h/db' found", "no match for 'postgresql://u:***@h/db' found"),
            ("postgres://u:p@w/x:y@h:1/db then", "postgres://u:***@h:1/db then"),
            ("postgresql://u@h/db?password=pw&x=1", "postgresql://u@h/db?password=***&x=1"),
            ("host=h password=pw user=u", "host=h password=*** user=u"),
            ("dsn = \"host=h sslpassword = 'p w\\' x' user=u\"", "dsn = \"host=h sslpassword = *** user=u\""),
            ("PASSWORD='never closed", "PASSWORD=***"),
            ("a:pw@x and http://h:80/p, password authentication", "a:pw@x and http://h:80/p, password authentication"),
            (
                "postgresql://a:1@h postgresql://b:2@h password=3",
                "postgresql://a:***@h postgresql://b:***@h password=***",
            ),
            (
                "\u{1b}[33mpostgresql://u:pw@h\u{1b}[0m é password=é",
                "\u{1b}[33mpostgresql://u:***@h\u{1b}[0m é password=***",
            ),
        ];
        for (text, safe) in cases {
            assert_eq!(masked(text), safe);
            assert_eq!(masked(safe), safe);
        }
    }

    #[test]
    fn never_shows_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
