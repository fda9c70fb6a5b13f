//! PromQL.

use super::{
    answer::{Answer, ApiError, ErrorType},
    form::Form,
    json, work,
};
use crate::Site;
use axum::extract::State;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use surus_promql::{Kind, Options, QueryError, Value};

/// Points of one series in a range, Prometheus's own limit.
const MAX_POINTS: i64 = 11_000;

/// `/api/v1/query`
pub async fn instant(State(site): State<Arc<Site>>, form: Form) -> Result<Answer, ApiError> {
    let query = form.need("query")?.to_owned();
    let at_ms = form.time_or_now("time")?;
    let (limit, lookback) = (form.limit("limit")?, lookback(&form)?);
    work::run(&site, form.timeout(work::LONGEST)?, move |source, options| {
        let options = with_lookback(options, lookback);
        let answer = surus_promql::instant(source, &query, at_ms, &options)?;
        Ok(rendered(answer, limit))
    })
    .await
}

/// `/api/v1/query_range`
pub async fn range(State(site): State<Arc<Site>>, form: Form) -> Result<Answer, ApiError> {
    let query = form.need("query")?.to_owned();
    let needed = |name| form.need(name).map(|_| ());
    needed("start").and(needed("end")).and(needed("step"))?;
    let (start_ms, end_ms) = (form.time_or_now("start")?, form.time_or_now("end")?);
    let step_ms = form.duration("step")?.unwrap_or_default();
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    if step_ms <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", why));
    }
    if end_ms.saturating_sub(start_ms) / step_ms > MAX_POINTS {
        let why = "exceeded maximum resolution of 11,000 points per timeseries. \
                   Try decreasing the query resolution (?step=XX)";
        return Err(ApiError::new(ErrorType::BadData, why));
    }
    let (limit, lookback) = (form.limit("limit")?, lookback(&form)?);
    work::run(&site, form.timeout(work::LONGEST)?, move |source, options| {
        let options = with_lookback(options, lookback);
        let answer = surus_promql::range(source, &query, start_ms, end_ms, step_ms, &options)?;
        Ok(rendered(answer, limit))
    })
    .await
}

/// `/api/v1/query_exemplars`: surus keeps none.
pub async fn exemplars(form: Form) -> Result<Answer, ApiError> {
    form.need("query")?;
    Ok(Answer::data(&json!([])))
}

/// `/api/v1/format_query`
pub async fn format(form: Form) -> Result<Answer, ApiError> {
    Ok(Answer::data(&surus_promql::format(form.need("query")?)?))
}

fn lookback(form: &Form) -> Result<Option<Duration>, ApiError> {
    Ok(form
        .duration("lookback_delta")?
        .and_then(|ms| u64::try_from(ms).ok())
        .filter(|ms| *ms > 0)
        .map(Duration::from_millis))
}

fn with_lookback(options: &Options, lookback: Option<Duration>) -> Options {
    let lookback = lookback.unwrap_or(options.lookback);
    Options { lookback, ..options.clone() }
}

/// Also rendered on the thread that may block: it takes as long as the query.
fn rendered(mut answer: surus_promql::Answer, limit: Option<usize>) -> Answer {
    let cut = limit.is_some_and(|limit| match &mut answer.value {
        Value::Vector(all) => cut(all, limit),
        Value::Matrix(all) => cut(all, limit),
        Value::Scalar { .. } | Value::Text { .. } => false,
    });
    if cut {
        answer.warnings.push("results truncated due to limit".to_owned());
    }
    Answer::raw(&json::value(&answer.value), &answer.warnings, &answer.infos)
}

/// Were there more?
pub fn cut<T>(all: &mut Vec<T>, limit: usize) -> bool {
    let more = all.len() > limit;
    all.truncate(limit);
    more
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let kind = match error.kind {
            Kind::BadData => ErrorType::BadData,
            Kind::Execution => ErrorType::Execution,
            Kind::Timeout | Kind::Cancelled => ErrorType::Timeout,
        };
        Self::new(kind, error.message)
    }
}
