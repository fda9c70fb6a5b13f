//! One PostgreSQL as surus sees it.
//!
//! The only room that opens a connection to PostgreSQL, finds its programs, starts a local server, or knows that two
//! majors differ. It must not know what a check, a proof or a report is, and it never prints.

pub mod account;
pub mod ask;
pub mod bloat;
pub mod connect;
pub mod facts;
pub mod hba;
pub mod hba_file;
pub mod host;
pub mod local;
pub mod log_tail;
pub mod programs;
pub mod quote;
pub mod replication;
pub mod rows;
pub mod server;
pub mod session;
pub mod settings;
pub mod sql;
pub mod trial;
pub mod verifier;

pub use ask::{AskError, AskErrorKind};
pub use connect::{
    ConnectError, Target, certificate::Certificate, environment::Environment, settings::Endpoint, tls::TlsInfo,
    tls_settings::SslMode, trust::Verification, wire::AuthMethod,
};
pub use facts::{Facts, FactsError};
pub use local::LocalError;
pub use programs::Programs;
pub use replication::Replication;
pub use rows::{Row, RowError, Rows};
pub use server::LocalServer;
pub use session::{Asked, Manners, Session, Warning};
pub use sql::{Scope, Sql};
