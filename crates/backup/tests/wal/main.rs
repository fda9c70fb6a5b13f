//! WAL into a repository and back, with made-up segments, places that fail, and the agent in this process.

mod ahead;
mod get;
mod place;
mod push;
mod segment;
