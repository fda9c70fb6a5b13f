//! The envelope of every answer: `{"status": "success", "data": …}` or an error of one of Prometheus's types.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use surus_store::StoreError;

/// What went wrong, as Prometheus names it; clients choose by it whether to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// The question is wrong.
    BadData,
    /// The question is right and cannot be answered.
    Execution,
    /// It took too long, or too much else is being asked.
    Timeout,
    /// surus failed.
    Internal,
    /// There is no such thing.
    NotFound,
    /// It is not done for whoever asks.
    Forbidden,
}

impl ErrorType {
    fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
        }
    }

    /// The status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden => StatusCode::FORBIDDEN,
        }
    }
}

/// A finished answer.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: String,
}

/// Nothing was answered but why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub kind: ErrorType,
    pub message: String,
}

impl ApiError {
    pub fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A parameter that is not what it should be, in Prometheus's words.
    pub fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(ErrorType::BadData, format!("invalid parameter \"{name}\": {why}"))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let kind = if matches!(error, StoreError::TooMuch { .. }) { ErrorType::Execution } else { ErrorType::Internal };
        Self::new(kind, format!("{error} ({})", error.code()))
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        let body = serde_json::json!({
            "status": "error", "errorType": error.kind.as_str(), "error": error.message,
        });
        Self { status: error.kind.status(), body: body.to_string() }
    }
}

impl Answer {
    /// Success with this data.
    pub fn data(data: &impl Serialize) -> Self {
        match serde_json::to_string(data) {
            Ok(data) => Self::raw(&data, &[], &[]),
            Err(error) => ApiError::new(ErrorType::Internal, error.to_string()).into(),
        }
    }

    /// Success with data that is JSON already, and remarks.
    pub fn raw(data: &str, warnings: &[String], infos: &[String]) -> Self {
        let mut body = String::with_capacity(data.len() + 64);
        body.push_str(r#"{"status":"success","data":"#);
        body.push_str(data);
        for (name, remarks) in [("warnings", warnings), ("infos", infos)] {
            if !remarks.is_empty() {
                body.push_str(&format!(r#","{name}":{}"#, serde_json::json!(remarks)));
            }
        }
        body.push('}');
        Self { status: StatusCode::OK, body }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, "application/json")], self.body).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Answer::from(self).into_response()
    }
}
