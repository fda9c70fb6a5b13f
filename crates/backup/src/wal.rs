//! WAL: the names of its files, what a segment says of itself, and its way into a repository and back.

pub mod name;
pub mod push;
pub mod segment;
