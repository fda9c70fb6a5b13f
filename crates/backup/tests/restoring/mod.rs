//! What tests of restores share.

pub mod room;
