//! The engine against real servers.

mod activity;
mod events;
mod full_disk;
mod guest;
mod heartbeat;
mod host;
mod limits;
mod scene;
mod standing;
mod statements;
