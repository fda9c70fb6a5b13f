//! What surus shows over HTTP: the Prometheus API, `/metrics`, pages.
//!
//! This room must not decide anything about a database: it asks the rooms below and shows what they say.
