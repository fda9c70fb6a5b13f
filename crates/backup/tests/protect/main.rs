//! Backups of real servers, and what becomes of them.

mod scene;
mod take;
mod verify;
