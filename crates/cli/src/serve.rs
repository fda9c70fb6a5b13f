//! What `surus serve` is made of, besides the rooms below: settings, the lock, the log, what systemd is told.

pub mod lock;
pub mod log;
pub mod notify;
pub mod running;
pub mod settings;
