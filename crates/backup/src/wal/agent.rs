//! The agent: a process behind `surus wal push` and `surus wal get` that works ahead of the server.
//!
//! A server asks for one file at a time. The agent knows which ones come next: segments that are ready to be archived,
//! or those that recovery will want. It works on several of them at once and answers when the server comes to them. It
//! speaks over a Unix socket in a private directory, acknowledges nothing that is not durable, and can be killed at any
//! moment: the command then does the work itself.

pub mod ahead;
pub mod ask;
pub mod fetching;
pub mod home;
pub mod pushing;
pub mod serve;
pub mod words;

pub use ask::ask;
pub use home::Home;
pub use serve::{Limits, serve};
