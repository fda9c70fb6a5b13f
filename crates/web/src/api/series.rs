//! Which series there are.

use super::{
    answer::{Answer, ApiError, ErrorType},
    form::Form,
    json,
    query::cut,
    work,
};
use crate::Site;
use axum::extract::{Path, State};
use std::{collections::BTreeSet, sync::Arc};
use surus_core::series::{Labels, Matcher, SourceError, is_label_name};

/// `/api/v1/series`
pub async fn series(State(site): State<Arc<Site>>, form: Form) -> Result<Answer, ApiError> {
    if form.all("match[]").next().is_none() {
        return Err(ApiError::new(ErrorType::BadData, "no match[] parameter provided"));
    }
    let limit = form.limit("limit")?;
    let mut found = matching(&site, &form).await?;
    let cut = limit.is_some_and(|limit| cut(&mut found, limit));
    Ok(Answer::raw(&json::label_sets(&found), &cut_note(cut), &[]))
}

/// `/api/v1/labels`
pub async fn labels(State(site): State<Arc<Site>>, form: Form) -> Result<Answer, ApiError> {
    let found = matching(&site, &form).await?;
    let names: BTreeSet<&str> = found.iter().flat_map(Labels::iter).map(|(name, _)| name).collect();
    names_answer(names, &form)
}

/// `/api/v1/label/{name}/values`
pub async fn label_values(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    form: Form,
) -> Result<Answer, ApiError> {
    if !is_label_name(&name) {
        return Err(ApiError::new(ErrorType::BadData, format!("invalid label name: {name:?}")));
    }
    let found = matching(&site, &form).await?;
    let values: BTreeSet<&str> = found.iter().filter_map(|labels| labels.get(&name)).collect();
    names_answer(values, &form)
}

fn names_answer(names: BTreeSet<&str>, form: &Form) -> Result<Answer, ApiError> {
    let mut names: Vec<&str> = names.into_iter().collect();
    let cut = form.limit("limit")?.is_some_and(|limit| cut(&mut names, limit));
    Ok(Answer::raw(&serde_json::json!(names).to_string(), &cut_note(cut), &[]))
}

fn cut_note(cut: bool) -> Vec<String> {
    cut.then(|| "results truncated due to limit".to_owned()).into_iter().collect()
}

/// The series of any of the selectors `match[]`, sorted, each once; all series without a selector.
async fn matching(site: &Arc<Site>, form: &Form) -> Result<Vec<Labels>, ApiError> {
    let window = form.window()?;
    let mut sets = form.all("match[]").map(selector).collect::<Result<Vec<_>, _>>()?;
    if sets.is_empty() {
        sets.push(Vec::new());
    }
    work::run(site, form.timeout(work::LONGEST)?, move |source, _| {
        let mut found = Vec::new();
        for matchers in &sets {
            found.extend(source.series(matchers, window)?);
        }
        if sets.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        Ok(found)
    })
    .await
}

fn selector(text: &str) -> Result<Vec<Matcher>, ApiError> {
    surus_promql::select_matchers(text).map_err(|error| ApiError::parameter("match[]", error))
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        Self::new(ErrorType::Execution, error.to_string())
    }
}
