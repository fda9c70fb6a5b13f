//! One PostgreSQL as surus sees it.
//!
//! The only room that opens a connection to PostgreSQL, finds its programs, starts a local server, or knows that two
//! majors differ. It must not know what a check, a proof or a report is, and it never prints.

pub mod ask;
pub mod connect;
pub mod quote;
pub mod rows;
pub mod session;

pub use ask::{AskError, AskErrorKind};
pub use connect::{ConnectError, Target};
pub use rows::{Row, RowError, Rows};
pub use session::{Manners, Session};
