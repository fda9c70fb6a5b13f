//! Backups of real servers, and what becomes of them.

mod scene;
mod stream;
mod take;
mod verify;
