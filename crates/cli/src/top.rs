//! `surus top`: the live view in the terminal. What is shown comes from `surus_observe::live`.

pub mod draw;
pub mod screen;
