//! The repository's places, its keys and its format, with real servers: a bucket behind a server that speaks S3, and
//! what a network does on the way to it.

mod backups;
mod bucket;
mod conformance;
mod golden;
mod network;
mod without_surus;
