//! The engine against real servers.

mod scene;
mod standing;
