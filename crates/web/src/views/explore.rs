//! A query of the user's own, at the end of the range. The plot asks for the range itself.

use super::Asking;
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use surus_promql::number_text;

/// Series that are listed.
const ROWS: usize = 200;

/// What a query gave.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Explored {
    /// Empty when nothing was asked.
    pub query: String,
    /// What is wrong with it.
    pub error: Option<String>,
    pub rows: Vec<Row>,
    /// How many more series there are.
    pub more: usize,
}

/// A series and its value.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Row {
    /// As PromQL writes it.
    pub series: String,
    /// As PromQL writes it, so that NaN and infinities are told too.
    pub value: String,
}

/// Asks.
pub fn look(asking: &Asking<'_>) -> Result<Explored, ApiError> {
    let query = asking.scene.form.get("query").unwrap_or_default().trim().to_owned();
    let mut explored = Explored { query, error: None, rows: Vec::new(), more: 0 };
    if explored.query.is_empty() {
        return Ok(explored);
    }
    // What is wrong with the question is shown beside it.
    match asking.any(&explored.query) {
        Ok(rows) => {
            explored.more = rows.len().saturating_sub(ROWS);
            let row = |(series, value): (String, f64)| Row { series, value: number_text(value) };
            explored.rows = rows.into_iter().take(ROWS).map(row).collect();
        }
        Err(error) => explored.error = Some(error.message),
    }
    Ok(explored)
}
