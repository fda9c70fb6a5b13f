//! `surus at`, `surus diff` and `surus clone` as programs, on copies of real servers.

mod back;
mod past;
mod room;
mod staging;
