//! Asking series questions: PromQL with the meaning that Prometheus 3 gives it, over any
//! [`surus_core::series::Source`].
//!
//! This room must not know where series come from, that answers travel over HTTP, or that PostgreSQL exists. No I/O.
