//! What pages show and our JSON API says: each view is one file that gathers its data from the newest answers and the
//! store. No server is asked, nothing is decided that a check or a collector decides, and nothing is drawn here.

pub mod activity;
pub mod backups;
pub mod blocking;
pub mod explore;
pub mod findings;
pub mod fleet;
pub mod host;
pub mod indexes;
pub mod instance;
pub mod now;
pub mod plot;
pub mod proofs;
pub mod queries;
pub mod query;
pub mod replication;
pub mod report;
pub mod runbook;
pub mod tables;
pub mod timeline;
pub mod tree;
pub mod vacuum;
pub mod worries;

use crate::{
    Site,
    access::Login,
    api::{
        answer::{ApiError, ErrorType},
        form::Form,
        work,
    },
    range::Range,
};
use axum::{
    extract::{FromRequestParts, OriginalUri, RawPathParams},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Response},
};
use std::{collections::BTreeMap, sync::Arc};
use surus_core::{clock, series::Source};
use surus_observe::{Snapshot, TargetNow};
use surus_promql::{Line, Options, Sample, Value};

/// What a request brings besides its parameters.
#[derive(Debug)]
pub struct Request {
    /// Without its parameters.
    pub path: String,
    /// What the path has in the place of `{names}`.
    pub named: BTreeMap<String, String>,
    pub headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Request {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let named = RawPathParams::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        let named = named.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let OriginalUri(at) =
            OriginalUri::from_request_parts(parts, state).await.unwrap_or_else(|never| match never {});
        Ok(Self { path: at.path().to_owned(), named, headers: parts.headers.clone() })
    }
}

/// What a request is about: everything that a page's frame needs to know.
#[derive(Debug, Clone)]
pub struct Scene {
    pub now_ms: i64,
    pub range: Range,
    pub form: Arc<Form>,
    pub snapshot: Snapshot,
    /// The target that the address names.
    pub target: Option<Arc<TargetNow>>,
    /// The address, without its parameters.
    pub path: String,
    /// What the address has in the place of `{names}`.
    pub named: Arc<BTreeMap<String, String>>,
    pub login: Login,
}

impl Scene {
    /// What a request to this address is about.
    ///
    /// # Errors
    /// When its range cannot be read, or the target is not watched.
    pub fn of(site: &Site, request: Request, form: Form) -> Result<Self, ApiError> {
        let Request { path, named, headers } = request;
        let (now_ms, snapshot) = (clock::now_ms(), site.observatory.snapshot());
        let target = named.get("target").map(|name| {
            let found = snapshot.target(name).cloned();
            found.ok_or_else(|| {
                let text = format!("no target is called {name:?}; the first page names those that are watched");
                ApiError::new(ErrorType::NotFound, text)
            })
        });
        Ok(Self {
            now_ms,
            range: Range::read(&form, now_ms)?,
            form: Arc::new(form),
            target: target.transpose()?,
            path,
            login: site.access.login(&headers),
            named: Arc::new(named),
            snapshot,
        })
    }

    /// What the address has in the place of this name.
    pub fn named(&self, name: &str) -> &str {
        self.named.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The newest moment that is shown.
    pub fn at_ms(&self) -> i64 {
        self.range.to_ms.min(self.now_ms)
    }
}

/// A scene, and what can be asked about it. Blocks: for threads that may.
pub struct Asking<'a> {
    pub scene: Scene,
    pub site: &'a Site,
    source: &'a dyn Source,
    options: &'a Options,
}

impl Asking<'_> {
    /// The target that the address names.
    ///
    /// # Errors
    /// When it names none.
    pub fn target(&self) -> Result<&Arc<TargetNow>, ApiError> {
        let missing = || ApiError::new(ErrorType::Internal, "the address names no target");
        self.scene.target.as_ref().ok_or_else(missing)
    }

    /// A query's series at one moment.
    ///
    /// # Errors
    /// As PromQL has them.
    pub fn vector_at(&self, query: &str, at_ms: i64) -> Result<Vec<Sample>, ApiError> {
        match surus_promql::instant(self.source, query, at_ms, self.options)?.value {
            Value::Vector(samples) => Ok(samples),
            other => Err(ApiError::new(ErrorType::Internal, format!("{query} is a {}", other.kind()))),
        }
    }

    /// Any query's series with their values at the end of the range; a number or a text is one without labels.
    ///
    /// # Errors
    /// As PromQL has them.
    pub fn any(&self, query: &str) -> Result<Vec<(String, f64)>, ApiError> {
        let at_ms = self.scene.at_ms();
        Ok(match surus_promql::instant(self.source, query, at_ms, self.options)?.value {
            Value::Vector(all) => all.into_iter().map(|sample| (sample.labels.to_string(), sample.value)).collect(),
            Value::Scalar { value, .. } => vec![("scalar".to_owned(), value)],
            Value::Text { text, .. } => vec![(text, f64::NAN)],
            Value::Matrix(all) => {
                let newest = all.into_iter().filter_map(|line| Some((line.labels.to_string(), line.points.last()?.1)));
                newest.collect()
            }
        })
    }

    /// A query's series at the end of the range.
    ///
    /// # Errors
    /// As PromQL has them.
    pub fn vector(&self, query: &str) -> Result<Vec<Sample>, ApiError> {
        self.vector_at(query, self.scene.at_ms())
    }

    /// A query's only value at the end of the range; none when there is none, or it is no number.
    ///
    /// # Errors
    /// As PromQL has them.
    pub fn number(&self, query: &str) -> Result<Option<f64>, ApiError> {
        Ok(self.vector(query)?.first().map(|sample| sample.value).filter(|value| !value.is_nan()))
    }

    /// A query's series over the range.
    ///
    /// # Errors
    /// As PromQL has them.
    pub fn lines(&self, query: &str, step_ms: i64) -> Result<Vec<Line>, ApiError> {
        let range = &self.scene.range;
        let answer = surus_promql::range(self.source, query, range.from_ms, range.to_ms, step_ms, self.options)?;
        match answer.value {
            Value::Matrix(lines) => Ok(lines),
            other => Err(ApiError::new(ErrorType::Internal, format!("{query} is a {}", other.kind()))),
        }
    }
}

/// What makes a view of a scene.
pub type Look<T> = fn(&Asking<'_>) -> Result<T, ApiError>;

/// Looks, on a thread that may block, when it is its turn.
///
/// # Errors
/// What the view says, or that it took too long.
pub async fn look<T: Send + 'static>(site: &Arc<Site>, scene: Scene, look: Look<T>) -> Result<T, ApiError> {
    let at = Arc::clone(site);
    work::run(site, work::LONGEST, move |source, options| look(&Asking { scene, site: &at, source, options })).await
}

/// A value of a label in a PromQL selector, in quotes.
pub fn quoted(value: &str) -> String {
    format!("{value:?}").replace("\\'", "'")
}
