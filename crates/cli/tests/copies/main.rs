//! `surus at`, `surus diff` and `surus clone` as programs, on copies of real servers.

mod back;
mod past;
mod reach;
mod room;
mod staging;
