//! What `surus serve` is made of, besides the rooms below: settings, the lock, the log, what systemd is told.

mod by_hand;
pub mod checking;
mod drilling;
pub mod lock;
pub mod log;
pub mod notify;
mod protecting;
pub mod running;
pub mod settings;

/// Once for the process: what remote write over TLS uses. Had somebody else installed it, that would do as well.
pub fn install_cryptography() {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
