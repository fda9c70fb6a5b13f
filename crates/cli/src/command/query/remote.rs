//! Asking a running surus, or any Prometheus, in PromQL over its HTTP API.

use super::When;
use crate::{
    failure::Failure,
    remote::{Remote, unreachable},
};
use serde_json::Value as Json;
use surus_core::series::Labels;
use surus_promql::{Answer, Kind, Line, QueryError, Sample, Value};

/// Asks.
pub async fn ask(remote: &Remote, query: &str, when: When) -> Result<Answer, Failure> {
    let seconds = |at_ms: i64| format!("{}.{:03}", at_ms.div_euclid(1000), at_ms.rem_euclid(1000));
    let mut pairs = vec![("query", query.to_owned())];
    let path = match when {
        When::At(at_ms) => {
            pairs.push(("time", seconds(at_ms)));
            "api/v1/query"
        }
        When::Over(range) => {
            let times = [("start", range.start_ms), ("end", range.end_ms), ("step", range.step_ms)];
            pairs.extend(times.map(|(name, ms)| (name, seconds(ms))));
            "api/v1/query_range"
        }
    };
    read(&remote.get(path, &pairs).await?)
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
    use surus_core::code;

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
