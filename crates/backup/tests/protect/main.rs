//! Backups of real servers, and what becomes of them.

mod faults;
mod native;
mod scene;
mod stream;
mod take;
mod unreadable;
mod verify;
