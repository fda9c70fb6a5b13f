//! Asking a running surus, or any Prometheus, over its HTTP API.

use super::When;
use crate::failure::Failure;
use reqwest::{Client, Url, header::AUTHORIZATION, redirect::Policy};
use serde_json::Value as Json;
use std::time::Duration;
use surus_core::{code, secret::masked, series::Labels};
use surus_promql::{Answer, Kind, Line, QueryError, Sample, Value};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(130);
/// How large an answer may be.
const MOST_BYTES: usize = 256 << 20;

/// Who is asked.
pub struct Remote {
    client: Client,
    url: Url,
}

fn unreachable(why: impl std::fmt::Display) -> Failure {
    Failure::new(code::PROMQL_REMOTE, masked(&format!("the query was not answered: {why}")))
}

impl Remote {
    pub fn new(url: &str) -> Result<Self, Failure> {
        let url = Url::parse(url).map_err(|error| unreachable(format!("--url: {error}")))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(unreachable("--url begins with neither http:// nor https://"));
        }
        // Another one that is installed already is as good.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().timeout(WITHIN).redirect(Policy::none()).build().map_err(unreachable)?;
        Ok(Self { client, url })
    }

    /// Asks.
    pub async fn ask(&self, query: &str, when: When) -> Result<Answer, Failure> {
        let seconds = |at_ms: i64| format!("{}.{:03}", at_ms.div_euclid(1000), at_ms.rem_euclid(1000));
        let mut url = self.url.clone();
        let (path, times) = match when {
            When::At(at_ms) => ("api/v1/query", vec![("time", seconds(at_ms))]),
            When::Over(range) => (
                "api/v1/query_range",
                vec![
                    ("start", seconds(range.start_ms)),
                    ("end", seconds(range.end_ms)),
                    ("step", seconds(range.step_ms)),
                ],
            ),
        };
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        url.query_pairs_mut().clear().append_pair("query", query).extend_pairs(times);
        // A login stands in the address; it goes into a header and not into what is asked for.
        let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let mut request = self.client.get(url);
        if !user.is_empty() || password.is_some() {
            request = request.basic_auth(user, password);
        } else if let Ok(token) = std::env::var("SURUS_TOKEN") {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = request.send().await.map_err(|error| unreachable(because(&error)))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(because(&error)))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BYTES {
                return Err(unreachable(format!("the answer has more than {MOST_BYTES} bytes")));
            }
        }
        let answer: Json = serde_json::from_slice(&body)
            .map_err(|_| unreachable(format!("what came is no answer of Prometheus's API (HTTP status {status})")))?;
        read(&answer)
    }
}

/// An error with its causes.
fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn read(answer: &Json) -> Result<Answer, Failure> {
    if answer["status"] != "success" {
        let message = answer["error"].as_str().unwrap_or("no reason was given").to_owned();
        let kind = match answer["errorType"].as_str() {
            Some("bad_data") => Kind::BadData,
            Some("timeout") => Kind::Timeout,
            Some("canceled") => Kind::Cancelled,
            _ => Kind::Execution,
        };
        return Err(QueryError { kind, message }.into());
    }
    let texts = |name: &str| -> Vec<String> {
        let texts = answer[name].as_array().into_iter().flatten();
        texts.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let value = value(&answer["data"]).ok_or_else(|| unreachable("the answer has a shape that is not known"))?;
    Ok(Answer { value, warnings: texts("warnings"), infos: texts("infos") })
}

fn value(data: &Json) -> Option<Value> {
    let result = &data["result"];
    Some(match data["resultType"].as_str()? {
        "scalar" => {
            let (at_ms, value) = point(result)?;
            Value::Scalar { at_ms, value }
        }
        "string" => Value::Text { at_ms: time(&result[0])?, text: result[1].as_str()?.to_owned() },
        "vector" => {
            let sample = |series: &Json| {
                let (at_ms, value) = point(&series["value"])?;
                Some(Sample { labels: labels(&series["metric"])?, at_ms, value })
            };
            Value::Vector(result.as_array()?.iter().map(sample).collect::<Option<_>>()?)
        }
        "matrix" => {
            let line = |series: &Json| {
                let points = series["values"].as_array()?.iter().map(point).collect::<Option<_>>()?;
                Some(Line { labels: labels(&series["metric"])?, points })
            };
            Value::Matrix(result.as_array()?.iter().map(line).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn labels(metric: &Json) -> Option<Labels> {
    let pairs = metric.as_object()?.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Labels::new(pairs.collect::<Option<Vec<_>>>()?).ok()
}

fn time(seconds: &Json) -> Option<i64> {
    seconds.as_f64().map(|seconds| (seconds * 1000.0).round() as i64)
}

fn point(point: &Json) -> Option<(i64, f64)> {
    Some((time(&point[0])?, point[1].as_str()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let vector = serde_json::json!({ "status": "success", "warnings": ["w"], "data": { "resultType": "vector",
            "result": [{ "metric": { "__name__": "up" }, "value": [1.5, "+Inf"] }] } });
        let answer = read(&vector).unwrap();
        assert_eq!(answer.warnings, ["w"]);
        let Value::Vector(samples) = answer.value else { panic!("no vector") };
        assert_eq!((samples[0].at_ms, samples[0].value), (1500, f64::INFINITY));
        let error = serde_json::json!({ "status": "error", "errorType": "bad_data", "error": "no" });
        assert_eq!(read(&error).unwrap_err().code.id, code::PROMQL_QUERY.id);
        assert_eq!(read(&serde_json::json!({ "status": "success" })).unwrap_err().code.id, code::PROMQL_REMOTE.id);
    }
}
