//! Reading a connection string: `postgresql://…` or `host=… user=…`, with libpq's rules.
//!
//! Source: PostgreSQL documentation, 34.1.1 "Connection Strings", and `conninfo_parse`/`conninfo_uri_parse_options` in
//! `fe-connect.c`. A message never repeats a piece of the string that could be part of a password.

use crate::connect::ConnectError;
use std::{collections::BTreeMap, fmt};
use surus_core::code;

/// A connection option that libpq knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyword {
    /// Its name in connection strings and service files.
    pub name: &'static str,
    /// The environment variable that gives its default.
    pub variable: Option<&'static str>,
    /// Must its value never be shown?
    pub secret: bool,
}

const fn keyword(name: &'static str, variable: &'static str) -> Keyword {
    Keyword { name, variable: Some(variable), secret: false }
}
const fn plain(name: &'static str) -> Keyword {
    Keyword { name, variable: None, secret: false }
}
const fn secret(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword { name, variable, secret: true }
}

/// All of libpq's keywords up to PostgreSQL 18. Source: `PQconninfoOptions` in `fe-connect.c`.
pub const KEYWORDS: &[Keyword] = &[
    keyword("service", "PGSERVICE"),
    keyword("servicefile", "PGSERVICEFILE"),
    keyword("user", "PGUSER"),
    secret("password", Some("PGPASSWORD")),
    keyword("passfile", "PGPASSFILE"),
    keyword("channel_binding", "PGCHANNELBINDING"),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT"),
    keyword("dbname", "PGDATABASE"),
    keyword("host", "PGHOST"),
    keyword("hostaddr", "PGHOSTADDR"),
    keyword("port", "PGPORT"),
    keyword("client_encoding", "PGCLIENTENCODING"),
    keyword("options", "PGOPTIONS"),
    keyword("application_name", "PGAPPNAME"),
    plain("fallback_application_name"),
    plain("keepalives"),
    plain("keepalives_idle"),
    plain("keepalives_interval"),
    plain("keepalives_count"),
    plain("tcp_user_timeout"),
    keyword("sslmode", "PGSSLMODE"),
    keyword("sslnegotiation", "PGSSLNEGOTIATION"),
    keyword("sslcompression", "PGSSLCOMPRESSION"),
    keyword("sslcert", "PGSSLCERT"),
    keyword("sslkey", "PGSSLKEY"),
    keyword("sslcertmode", "PGSSLCERTMODE"),
    secret("sslpassword", None),
    keyword("sslrootcert", "PGSSLROOTCERT"),
    keyword("sslcrl", "PGSSLCRL"),
    keyword("sslcrldir", "PGSSLCRLDIR"),
    keyword("sslsni", "PGSSLSNI"),
    keyword("requirepeer", "PGREQUIREPEER"),
    keyword("require_auth", "PGREQUIREAUTH"),
    keyword("min_protocol_version", "PGMINPROTOCOLVERSION"),
    keyword("max_protocol_version", "PGMAXPROTOCOLVERSION"),
    keyword("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    keyword("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    keyword("gssencmode", "PGGSSENCMODE"),
    keyword("krbsrvname", "PGKRBSRVNAME"),
    keyword("gsslib", "PGGSSLIB"),
    keyword("gssdelegation", "PGGSSDELEGATION"),
    plain("replication"),
    keyword("target_session_attrs", "PGTARGETSESSIONATTRS"),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    secret("scram_client_key", None),
    secret("scram_server_key", None),
    plain("sslkeylogfile"),
    plain("oauth_issuer"),
    plain("oauth_client_id"),
    secret("oauth_client_secret", None),
    plain("oauth_scope"),
];

/// The known keyword with this name.
pub fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// Connection options by keyword, as somebody wrote them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<&'static str, String>);

impl Options {
    /// The value given for a keyword.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// As [`Options::get`]; an empty value counts as none.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Sets a keyword's value, whatever it was before.
    ///
    /// # Errors
    /// When libpq does not know the keyword; the message suggests a similar one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<(), ConnectError> {
        let Some(known) = find(name) else { return Err(unknown(name)) };
        self.0.insert(known.name, value.into());
        Ok(())
    }

    /// Takes over what `weaker` gives and this does not.
    pub fn fill_from(&mut self, weaker: &Options) {
        for (name, value) in &weaker.0 {
            self.0.entry(name).or_insert_with(|| value.clone());
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |name: &str| find(name).is_some_and(|keyword| keyword.secret);
        f.debug_map()
            .entries(self.0.iter().map(|(name, value)| (name, if secret(name) { "***" } else { value.as_str() })))
            .finish()
    }
}

fn invalid(message: impl Into<String>) -> ConnectError {
    ConnectError::new(code::CONNECT_STRING, message)
}

/// The error for a keyword that libpq does not know.
fn unknown(name: &str) -> ConnectError {
    match nearest(name) {
        Some(known) => invalid(format!("there is no connection option \"{name}\"; did you mean \"{known}\"?")),
        None => invalid(format!("there is no connection option \"{name}\"")),
    }
}

/// The known keyword that is most like a mistyped one.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let synonym = match name.as_str() {
        "database" | "db" => Some("dbname"),
        "username" => Some("user"),
        "hostname" | "server" => Some("host"),
        "pass" | "passwd" | "pwd" => Some("password"),
        "timeout" => Some("connect_timeout"),
        _ => None,
    };
    synonym.or_else(|| {
        KEYWORDS
            .iter()
            .map(|keyword| (edits(&name, keyword.name), keyword.name))
            .filter(|(edits, known)| *edits <= 2.max(known.len() / 4))
            .min()
            .map(|(_, known)| known)
    })
}

/// How many letters have to be added, removed or replaced (Levenshtein's distance).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (b_at, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[b_at + 1];
            row[b_at + 1] = replaced.min(diagonal + 1).min(row[b_at] + 1);
        }
    }
    row[to.len()]
}

/// Reads a connection string. A single word without `=` is a database name, as for `psql`.
///
/// # Errors
/// `SURUS-C001` when it is not valid.
pub fn parse(text: &str) -> Result<Options, ConnectError> {
    if let Some(rest) = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        return uri(rest);
    }
    let word = text.trim();
    if word.is_empty() || word.contains('=') {
        return key_values(text);
    }
    if word.contains(|c: char| c.is_whitespace() || matches!(c, ':' | '/' | '@')) {
        return Err(invalid("the connection string is neither a postgresql:// URI nor made of keyword=value pairs"));
    }
    let mut options = Options::default();
    options.set("dbname", word)?;
    Ok(options)
}

/// Reads `keyword = value` pairs; values may be quoted with `'`, and `\` escapes the next character.
fn key_values(text: &str) -> Result<Options, ConnectError> {
    let mut options = Options::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(value_text) = after.trim_start().strip_prefix('=') else {
            // After a password the word may be the password's second half, written without quotes.
            return Err(if options.get("password").is_some() || options.get("sslpassword").is_some() {
                invalid("a word without \"=\" follows; a value with spaces must stand in single quotes")
            } else {
                invalid(format!("\"=\" is missing after \"{name}\""))
            });
        };
        let (value, after) = value(value_text.trim_start())?;
        refuse_pieces(&options, name)?;
        options.set(name, value)?;
        rest = after.trim_start();
    }
    Ok(options)
}

/// An unknown option after a password may be a piece of the password, and must not be repeated.
fn refuse_pieces(options: &Options, name: &str) -> Result<(), ConnectError> {
    let secret_given = options.get("password").is_some() || options.get("sslpassword").is_some();
    // Percent-encoded names are known only once they are decoded; libpq's own are never written so.
    if secret_given && find(name).is_none() && name != "ssl" {
        return Err(invalid(
            "an unknown option follows the password; a password with special characters must be quoted, or in a URI \
             percent-encoded",
        ));
    }
    Ok(())
}

/// One value and what follows it.
fn value(text: &str) -> Result<(String, &str), ConnectError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted { Err(invalid("a quoted value has no closing quote")) } else { Ok((value, "")) }
}

/// Reads what follows `postgresql://`.
fn uri(text: &str) -> Result<Options, ConnectError> {
    let mut options = Options::default();
    let authority_end = text.find(['@', '/', '?']).unwrap_or(text.len());
    let mut rest = text;
    if text[authority_end..].starts_with('@') {
        let (user, password) = match text[..authority_end].split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (&text[..authority_end], None),
        };
        set_decoded(&mut options, "user", user)?;
        set_decoded(&mut options, "password", password.unwrap_or_default())?;
        rest = &text[authority_end + 1..];
    }
    rest = hosts(rest, &mut options)?;
    if let Some(after) = rest.strip_prefix('/') {
        let end = after.find('?').unwrap_or(after.len());
        set_decoded(&mut options, "dbname", &after[..end])?;
        rest = &after[end..];
    }
    if let Some(parameters) = rest.strip_prefix('?') {
        query(parameters, &mut options)?;
    }
    Ok(options)
}

/// Reads `host:port,host:port` and returns what follows.
fn hosts<'a>(text: &'a str, options: &mut Options) -> Result<&'a str, ConnectError> {
    let mut rest = text;
    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        let host;
        if let Some(address) = rest.strip_prefix('[') {
            let Some(end) = address.find(']') else {
                return Err(invalid("an IPv6 address in the URI has no closing \"]\""));
            };
            if end == 0 {
                return Err(invalid("the IPv6 address in the URI is empty"));
            }
            (host, rest) = (&address[..end], &address[end + 1..]);
            if !rest.is_empty() && !rest.starts_with([':', '/', '?', ',']) {
                return Err(invalid("after an IPv6 address in the URI only \":\", \"/\", \"?\" or \",\" may follow"));
            }
        } else {
            let end = rest.find([':', '/', '?', ',']).unwrap_or(rest.len());
            (host, rest) = rest.split_at(end);
        }
        hosts.push_str(host);
        if let Some(after) = rest.strip_prefix(':') {
            let end = after.find(['/', '?', ',']).unwrap_or(after.len());
            ports.push_str(&after[..end]);
            rest = &after[end..];
        }
        let Some(after) = rest.strip_prefix(',') else { break };
        hosts.push(',');
        ports.push(',');
        rest = after;
    }
    // A password with an unescaped "@", "/" or "?" ends up here; nothing of it may be shown.
    let misplaced = hosts.contains('@') || !ports.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '%');
    if misplaced || (rest.contains('@') && !rest[..rest.find('@').unwrap_or(0)].contains('?')) {
        return Err(invalid(
            "host and port cannot be told apart from the rest of the URI; in a user name or password write \"@\" as %40, \
             \"/\" as %2F, \"?\" as %3F and \"#\" as %23",
        ));
    }
    if !hosts.is_empty() {
        set_decoded(options, "host", &hosts)?;
    }
    if ports.chars().any(|c| c != ',') {
        set_decoded(options, "port", &ports)?;
    }
    Ok(rest)
}

/// Reads `key=value&key=value`.
fn query(text: &str, options: &mut Options) -> Result<(), ConnectError> {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(invalid("a parameter after \"?\" in the URI has no \"=\""));
        };
        refuse_pieces(options, name)?;
        if value.contains('=') {
            return Err(invalid(format!("the URI parameter \"{name}\" has a second \"=\"; write it as %3D")));
        }
        let (name, value) = (decoded(name)?, decoded(value)?);
        // As libpq does, for strings that were written for the Java driver.
        if name == "ssl" && value == "true" {
            options.set("sslmode", "require")?;
        } else {
            options.set(&name, value)?;
        }
    }
    Ok(())
}

/// Sets a keyword to a percent-encoded value; an empty one sets nothing.
fn set_decoded(options: &mut Options, name: &str, value: &str) -> Result<(), ConnectError> {
    if value.is_empty() { Ok(()) } else { options.set(name, decoded(value)?) }
}

/// Undoes percent-encoding. As for libpq, `+` stays `+`.
fn decoded(text: &str) -> Result<String, ConnectError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.filter(|two| !two.starts_with('+')).and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(0) => return Err(invalid("%00 is not allowed in the URI")),
            Some(byte) => bytes.push(byte),
            None => {
                return Err(invalid("in the URI \"%\" must be followed by two hexadecimal digits; write it as %25"));
            }
        }
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid("a percent-encoded part of the URI is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As libpq's own test program prints it: the options in the order of the keywords.
    fn shown(text: &str) -> Result<String, String> {
        let options = parse(text).map_err(|error| error.message)?;
        let pairs = ["user", "password", "dbname", "host", "hostaddr", "port", "sslmode", "options"];
        let known: Vec<_> =
            pairs.iter().filter_map(|name| options.get(name).map(|value| format!("{name}='{value}'"))).collect();
        Ok(known.join(" "))
    }

    /// Cases of PostgreSQL's `src/interfaces/libpq/t/001_uri.pl`.
    #[test]
    fn reads_uris_as_libpq_does() {
        let cases = [
            (
                "postgresql://uri-user:secret@host:12345/db",
                "user='uri-user' password='secret' dbname='db' host='host' port='12345'",
            ),
            ("postgresql://uri-user@host:12345/db", "user='uri-user' dbname='db' host='host' port='12345'"),
            ("postgresql://uri-user@host/db", "user='uri-user' dbname='db' host='host'"),
            ("postgresql://host:12345/db", "dbname='db' host='host' port='12345'"),
            ("postgresql://uri-user@host:12345/", "user='uri-user' host='host' port='12345'"),
            ("postgresql://uri-user@", "user='uri-user'"),
            ("postgresql://host:12345", "host='host' port='12345'"),
            ("postgresql:///db", "dbname='db'"),
            ("postgresql://", ""),
            ("postgresql://hostname", "host='hostname'"),
            ("postgresql://%68ostname", "host='hostname'"),
            (
                "postgresql://host/db?u%73er=someotheruser&port=12345",
                "user='someotheruser' dbname='db' host='host' port='12345'",
            ),
            ("postgresql://host:12345?user=uri-user", "user='uri-user' host='host' port='12345'"),
            ("postgresql://host?user=uri-user", "user='uri-user' host='host'"),
            ("postgresql:///?host=/path/to/socket&user=uri-user", "user='uri-user' host='/path/to/socket'"),
            ("postgresql://[::1]:12345/db", "dbname='db' host='::1' port='12345'"),
            ("postgresql://[2001:db8::1234]/", "host='2001:db8::1234'"),
            ("postgres://", ""),
            ("postgres:///tmp", "dbname='tmp'"),
            ("postgresql://host?hostaddr=127.0.0.1", "host='host' hostaddr='127.0.0.1'"),
            ("postgres://%2Fvar%2Flib%2Fpostgresql/dbname", "dbname='dbname' host='/var/lib/postgresql'"),
            ("postgresql://a:1,b,[::1]:3/db", "dbname='db' host='a,b,::1' port='1,,3'"),
            ("postgresql://a,b/", "host='a,b'"),
            ("postgresql://:pass:word@host", "password='pass:word' host='host'"),
            ("postgresql://host/db?ssl=true", "dbname='db' host='host' sslmode='require'"),
            ("postgresql://host/?options=-c%20geqo%3Doff", "host='host' options='-c geqo=off'"),
        ];
        for (uri, wanted) in cases {
            assert_eq!(shown(uri).as_deref(), Ok(wanted), "{uri}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_uri() {
        let cases = [
            (
                "postgresql://host/db?u%7aer=someotheruser",
                "there is no connection option \"uzer\"; did you mean \"user\"?",
            ),
            ("postgresql://host?uzer=", "\"uzer\""),
            ("postgresql://host?zzz", "has no \"=\""),
            ("postgresql://host?key=key=value", "second \"=\""),
            ("postgres://host?dbname=%XXfoo", "two hexadecimal digits"),
            ("postgresql://a%00b", "%00"),
            ("postgresql://%zz", "two hexadecimal digits"),
            ("postgresql://%+1", "two hexadecimal digits"),
            ("postgresql://%1", "two hexadecimal digits"),
            ("postgresql://%", "two hexadecimal digits"),
            ("postgresql://%ff", "not UTF-8"),
            ("postgres://[::1", "no closing"),
            ("postgres://[]", "empty"),
            ("postgres://[::1]z", "only"),
            ("postgresql://host:port/", "cannot be told apart"),
            ("postgresql://u:p@ss@host/db", "write \"@\" as %40"),
            ("postgresql://u:12/34@host/db", "write \"@\" as %40"),
            ("http://host/db", "neither"),
        ];
        for (uri, wanted) in cases {
            let message = shown(uri).unwrap_err();
            assert!(message.contains(wanted), "{uri}: {message}");
        }
    }

    #[test]
    fn reads_pairs_as_libpq_does() {
        let cases = [
            ("", ""),
            ("   ", ""),
            ("sales", "dbname='sales'"),
            ("host=h port = 5433  dbname\t=\td", "dbname='d' host='h' port='5433'"),
            ("password='it\\'s \\\\ here' user=a\\ b", "user='a b' password='it's \\ here'"),
            ("host='' user=x", "user='x' host=''"),
            ("user=first user=second", "user='second'"),
            ("options=-cgeqo=off", "options='-cgeqo=off'"),
        ];
        for (text, wanted) in cases {
            assert_eq!(shown(text).as_deref(), Ok(wanted), "{text}");
        }
        let wrong = [
            ("host", "dbname"),
            ("host=h port", "missing after \"port\""),
            ("host='h", "no closing quote"),
            ("hots=h", "did you mean \"host\"?"),
            ("database=d", "did you mean \"dbname\"?"),
            ("ssl_mode=require", "did you mean \"sslmode\"?"),
            ("quite_another_thing=1", "there is no connection option \"quite_another_thing\""),
            ("a b", "neither"),
        ];
        for (text, wanted) in wrong {
            let said = shown(text).unwrap_or_else(|message| message);
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }

    #[test]
    fn half_a_password_is_not_repeated() {
        for text in ["password=hunter two", "password=hunter two=x", "sslpassword=hunter two"] {
            let error = parse(text).unwrap_err();
            assert!(!error.message.contains("two") && !error.message.contains("hunter"), "{}", error.message);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = parse("user=anna password=hunter2 sslpassword=hunter3").unwrap();
        let shown = format!("{options:?}");
        assert!(shown.contains("anna") && !shown.contains("hunter"), "{shown}");
    }

    fn quoted(value: &str) -> String {
        format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    }

    fn encoded(value: &str) -> String {
        value.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    proptest! {
        #[test]
        fn a_quoted_value_comes_back(user in "\\PC*", password in "\\PC*", host in "\\PC*") {
            let text = format!("user={} password = {} host={}", quoted(&user), quoted(&password), quoted(&host));
            let options = parse(&text).unwrap();
            prop_assert_eq!(options.get("user"), Some(user.as_str()));
            prop_assert_eq!(options.get("password"), Some(password.as_str()));
            prop_assert_eq!(options.get("host"), Some(host.as_str()));
        }

        #[test]
        fn an_encoded_value_comes_back(user in "[^\0]+", password in "[^\0]+", db in "[^\0]+", name in "[^\0]*") {
            let text = format!(
                "postgresql://{}:{}@host:1/{}?application_name={}",
                encoded(&user), encoded(&password), encoded(&db), encoded(&name)
            );
            let options = parse(&text).unwrap();
            prop_assert_eq!(options.get("user"), Some(user.as_str()));
            prop_assert_eq!(options.get("password"), Some(password.as_str()));
            prop_assert_eq!(options.get("dbname"), Some(db.as_str()));
            prop_assert_eq!(options.get("application_name"), Some(name.as_str()));
        }

        #[test]
        fn nothing_makes_it_fall_over(text in "\\PC*", uri in "[a-z0-9:/@%?&=,\\[\\]]*") {
            let _ = parse(&text);
            let _ = parse(&format!("postgresql://{uri}"));
        }

        /// Whatever stands unencoded where a password belongs is in no error.
        #[test]
        fn no_error_repeats_a_password(password in "[A-Z]{4}[@/:?=& '%\\[\\]][A-Z]{4}") {
            for text in [
                format!("postgresql://u:{password}@host:1/db"),
                format!("host=h password={password} user=u"),
                format!("postgresql://h/db?password={password}&user=u"),
            ] {
                if let Err(error) = parse(&text) {
                    for piece in password.split(|c: char| !c.is_ascii_uppercase()) {
                        prop_assert!(!error.message.contains(piece), "{}: {}", text, error.message);
                    }
                }
            }
        }
    }
}
