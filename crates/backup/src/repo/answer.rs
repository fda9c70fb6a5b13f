//! What an object store's failure means: whether the object is there, whether asking again may help, what to tell
//! people.

use super::place::Trouble;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error;

/// What a request that did not succeed came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The service says that there is no such object.
    Absent,
    /// A condition does not hold: to a create, there is one already; to a read, it is no longer the one that was meant.
    Exists,
    /// The object has no such bytes.
    OutOfRange,
    /// Asking again may help. Was it perhaps carried out?
    Again { carried_out: bool },
    /// It will not change by itself.
    Final(Trouble),
}

impl Answer {
    /// May it be another one the next time?
    pub(super) fn may_change(self) -> bool {
        matches!(self, Self::Again { .. } | Self::Exists)
    }

    /// What a caller may branch on.
    pub(super) fn trouble(self) -> Trouble {
        match self {
            Self::Final(trouble) => trouble,
            Self::Again { .. } | Self::Exists => Trouble::Unreachable,
            Self::Absent | Self::OutOfRange => Trouble::Broken,
        }
    }
}

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) answer: Answer,
    /// Without credentials.
    pub(super) text: String,
}

impl Failed {
    /// Nothing that time would change.
    pub(super) fn broken(text: impl Into<String>) -> Self {
        Self { answer: Answer::Final(Trouble::Broken), text: text.into() }
    }

    /// The answer was lost.
    pub(super) fn again(text: impl Into<String>) -> Self {
        Self { answer: Answer::Again { carried_out: true }, text: text.into() }
    }

    /// The same, saying how often it was tried.
    pub(super) fn after(self, attempts: u32) -> Self {
        let text = if attempts > 1 { format!("{} ({attempts} attempts)", self.text) } else { self.text };
        Self { text, ..self }
    }
}

/// What an error of the crate means. It says a status only in its text; the tests hold it to that.
pub(super) fn judged(error: &object_store::Error) -> Failed {
    let whole = error.to_string();
    let status = whole.split_once("status code: ").and_then(|(_, rest)| Some((rest.get(..3)?.parse().ok()?, rest)));
    if let Some((status, rest)) = status {
        return of_status(status, rest);
    }
    let mut sources = std::iter::successors(error.source(), |error| (*error).source());
    if let Some(http) = sources.find_map(|source| source.downcast_ref::<HttpError>()) {
        // A connection that was never made carried nothing out. Whatever else broke may have.
        let carried_out = http.kind() != HttpErrorKind::Connect;
        return Failed { answer: Answer::Again { carried_out }, text: deepest(http) };
    }
    match error {
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            Failed::broken("the service cannot do that")
        }
        other => Failed::broken(without_query(&deepest(other))),
    }
}

/// `text` begins with the status; the answer's body follows.
fn of_status(status: u16, text: &str) -> Failed {
    let code = element(text, "Code").unwrap_or_default();
    let has = |codes: &[&str]| codes.contains(&code);
    let answer = match status {
        404 if has(&["NoSuchKey", "BlobNotFound"]) || text.contains("No such object") => Answer::Absent,
        409 if has(&["BlobAlreadyExists"]) => Answer::Exists,
        412 | 304 => Answer::Exists,
        416 => Answer::OutOfRange,
        507 => Answer::Final(Trouble::NoRoom),
        _ if has(&["QuotaExceeded", "XMinioStorageFull"]) => Answer::Final(Trouble::NoRoom),
        401 | 403 => Answer::Final(Trouble::Denied),
        400 if has(&["ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed"]) => Answer::Final(Trouble::Denied),
        // Two writers at the same moment: refused without saying who won.
        409 => Answer::Again { carried_out: false },
        408 | 429 => Answer::Again { carried_out: true },
        501 | 505 => Answer::Final(Trouble::Broken),
        500..=599 => Answer::Again { carried_out: true },
        _ => Answer::Final(Trouble::Broken),
    };
    let said = match (code, element(text, "Message")) {
        ("", _) => text.lines().next().unwrap_or_default().chars().take(200).collect(),
        (code, Some(message)) => format!("{status} {code}: {message}"),
        (code, None) => format!("{status} {code}"),
    };
    Failed { answer, text: said }
}

/// The content of the first such element of an XML answer.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(&format!("<{name}>"))? + name.len() + 2;
    let end = text[start..].find("</")?;
    Some(text[start..start + end].trim())
}

/// The innermost reason, which says most in fewest words.
fn deepest(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| (*error).source()).last().map_or_else(String::new, ToString::to_string)
}

/// A query string may hold a signature.
fn without_query(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((address, _)) if address.contains("://") => address,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str) -> Answer {
        let body = format!("{status} X: <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
        of_status(status, &body).answer
    }

    #[test]
    fn only_the_word_of_the_service_makes_an_object_absent() {
        assert_eq!(of(404, "NoSuchKey"), Answer::Absent);
        assert_eq!(of(404, "BlobNotFound"), Answer::Absent);
        for code in ["NoSuchBucket", "ContainerNotFound", "AccountNotFound", ""] {
            assert_eq!(of(404, code), Answer::Final(Trouble::Broken), "{code}");
        }
        assert_eq!(of_status(404, "404 Not Found: <html>nginx</html>").answer, Answer::Final(Trouble::Broken));
    }

    #[test]
    fn each_status_has_its_meaning() {
        let again = |carried_out| Answer::Again { carried_out };
        for (status, code, answer) in [
            (412, "PreconditionFailed", Answer::Exists),
            (409, "BlobAlreadyExists", Answer::Exists),
            (409, "ConditionalRequestConflict", again(false)),
            (503, "SlowDown", again(true)),
            (500, "InternalError", again(true)),
            (429, "", again(true)),
            (408, "RequestTimeout", again(true)),
            (501, "NotImplemented", Answer::Final(Trouble::Broken)),
            (403, "AccessDenied", Answer::Final(Trouble::Denied)),
            (403, "SignatureDoesNotMatch", Answer::Final(Trouble::Denied)),
            (403, "QuotaExceeded", Answer::Final(Trouble::NoRoom)),
            (507, "XMinioStorageFull", Answer::Final(Trouble::NoRoom)),
            (416, "InvalidRange", Answer::OutOfRange),
            (301, "PermanentRedirect", Answer::Final(Trouble::Broken)),
        ] {
            assert_eq!(of(status, code), answer, "{status} {code}");
        }
        assert_eq!(of_status(503, "503 X: <Error><Code>SlowDown</Code></Error>").text, "503 SlowDown");
    }

    #[test]
    fn a_signature_in_an_address_is_not_shown() {
        let text = without_query("GET https://a.example/c/b?sv=1&sig=hunter2 failed?");
        assert_eq!(text, "GET https://a.example/c/b failed?");
    }
}
