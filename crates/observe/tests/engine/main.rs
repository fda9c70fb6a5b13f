//! The engine against real servers.

mod activity;
mod events;
mod full_disk;
mod guest;
mod host;
mod limits;
mod scene;
mod standing;
mod statements;
