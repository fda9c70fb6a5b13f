//! WAL: the names of its files, what a segment says of itself, and its way into a repository and back.

pub mod agent;
pub mod fetch;
pub mod gaps;
pub mod hole;
pub mod name;
pub mod owner;
pub mod pack;
pub mod push;
pub mod ready;
pub mod receive;
pub mod segment;
pub mod spaces;
pub mod survey;
pub mod timeline;
