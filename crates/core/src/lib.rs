//! The words of surus: what a version, a finding, a plan or a proof is.
//!
//! Everything here is plain data and pure functions. This room must not know that PostgreSQL is reached over a
//! network, that findings are stored, or that anybody prints them: no I/O, no async. The single exception is
//! [`clock`], the only place in surus that reads the time.

pub mod clock;
pub mod code;
pub mod evidence;
pub mod finding;
pub mod lsn;
pub mod monitor;
pub mod plan;
pub mod proof;
pub mod protection;
pub mod readiness;
pub mod release;
pub mod secret;
pub mod series;
pub mod size;
pub mod version;
