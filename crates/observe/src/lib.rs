//! Watching: what is read from a target, how often, and what became of it.
//!
//! A collector is one file of `collectors/`: it declares its families and its query, and turns rows into points. It
//! never decides when it runs. The engine decides when, over at most two sessions per server, keeps the newest answer
//! of each collector for `/metrics`, and hands every cycle to the store. This room must not know what a rule or a page
//! is.

pub mod collector;
pub mod collectors;
