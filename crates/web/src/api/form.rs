//! Parameters: of the query string, and of the body of a POST, which come first as in Go's `Form`.

use super::answer::{ApiError, ErrorType};
use crate::Site;
use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::header,
};
use std::{sync::Arc, time::Duration};
use surus_core::{clock, series::Window};
use surus_promql::duration_ms;

/// Parameters of one request. Any may be there several times.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl FromRequest<Arc<Site>> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, site: &Arc<Site>) -> Result<Self, ApiError> {
        let in_path = request.uri().query().unwrap_or_default().as_bytes().to_vec();
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_form = kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let body = match is_form {
            true => Bytes::from_request(request, site)
                .await
                .map_err(|error| ApiError::new(ErrorType::BadData, error.to_string()))?,
            false => Bytes::new(),
        };
        Ok(Self::parse([&body, &in_path]))
    }
}

impl Form {
    fn parse(parts: [&[u8]; 2]) -> Self {
        Self(parts.into_iter().flat_map(|part| form_urlencoded::parse(part).into_owned()).collect())
    }

    /// From the query string of an address.
    pub fn of(query: &str) -> Self {
        Self::parse([query.as_bytes(), b""])
    }

    /// All parameters that have a value.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As the query string of an address, with these parameters set, or taken away.
    pub fn with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let kept = self.pairs().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let set = changes.iter().filter_map(|(name, value)| value.map(|value| (*name, value)));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(set)).finish()
    }

    /// The first value of a parameter; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub fn need(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| ApiError::parameter(name, "it is missing"))
    }

    /// A time in milliseconds since 1970.
    pub fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let read = |text| {
            time_ms(text)
                .ok_or_else(|| ApiError::parameter(name, format!("cannot parse {text:?} to a valid timestamp")))
        };
        self.get(name).map(read).transpose()
    }

    /// The same; now, if it is not there.
    pub fn time_or_now(&self, name: &str) -> Result<i64, ApiError> {
        Ok(self.time(name)?.unwrap_or_else(|| clock::now().as_millisecond()))
    }

    /// A duration in milliseconds.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let read = |text| {
            duration_ms(text)
                .ok_or_else(|| ApiError::parameter(name, format!("cannot parse {text:?} to a valid duration")))
        };
        self.get(name).map(read).transpose()
    }

    /// How long the answer may take.
    pub fn timeout(&self, longest: Duration) -> Result<Duration, ApiError> {
        let asked = self.duration("timeout")?.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        Ok(asked.map_or(longest, |asked| asked.min(longest)))
    }

    /// The most entries that are wanted; 0 means all.
    pub fn limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let read = |text: &str| {
            text.parse::<usize>().map_err(|_| ApiError::parameter(name, "limit must be a number that is not negative"))
        };
        Ok(self.get(name).map(read).transpose()?.filter(|limit| *limit > 0))
    }

    /// From `start` to `end`, both included; without them, all times.
    pub fn window(&self) -> Result<Window, ApiError> {
        self.window_named("start", "end")
    }

    /// The same, by other names.
    pub fn window_named(&self, start: &str, end: &str) -> Result<Window, ApiError> {
        let until_ms = self.time(end)?.unwrap_or(i64::MAX);
        let start = self.time(start)?.unwrap_or(i64::MIN + 1);
        if until_ms < start {
            return Err(ApiError::parameter(end, "end timestamp must not be before start time"));
        }
        Ok(Window { after_ms: start.saturating_sub(1), until_ms })
    }
}

/// A time as seconds since 1970, with or without a fraction, or as RFC 3339 has it.
fn time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        return (ms.abs() < 9.2e18).then_some(ms as i64);
    }
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        Form::parse([text.as_bytes(), b"query=from_path&match[]=c"])
    }

    #[test]
    fn the_body_comes_first() {
        let form = form("query=up%20%2B+1&match[]=a&match%5B%5D=b&empty=");
        assert_eq!(form.get("query"), Some("up + 1"));
        assert_eq!(form.all("match[]").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((form.get("empty"), form.get("none")), (None, None));
        assert!(form.need("none").is_err());
    }

    #[test]
    fn times_are_seconds_or_dates() {
        assert_eq!(time_ms("1435781451.781"), Some(1_435_781_451_781));
        assert_eq!(time_ms("1435781451"), Some(1_435_781_451_000));
        assert_eq!(time_ms("2015-07-01T20:10:51.781Z"), Some(1_435_781_451_781));
        assert_eq!(time_ms("2015-07-01T22:10:51.781+02:00"), Some(1_435_781_451_781));
        for bad in ["", "now", "2015-07-01", "NaN", "Inf", "1e300"] {
            assert_eq!(time_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_window_includes_both_ends() {
        let window = form("start=1&end=2").window().unwrap();
        assert!(window.holds(1000) && window.holds(2000) && !window.holds(999) && !window.holds(2001));
        assert!(form("start=2&end=1").window().is_err());
        assert!(form("").window().unwrap().holds(0));
    }

    #[test]
    fn limits_and_timeouts() {
        assert_eq!(form("limit=0").limit("limit").unwrap(), None);
        assert_eq!(form("limit=5").limit("limit").unwrap(), Some(5));
        assert!(form("limit=-1").limit("limit").is_err());
        let longest = Duration::from_secs(120);
        assert_eq!(form("timeout=5s").timeout(longest).unwrap(), Duration::from_secs(5));
        assert_eq!(form("timeout=1h").timeout(longest).unwrap(), longest);
        assert!(form("timeout=soon").timeout(longest).is_err());
    }
}
