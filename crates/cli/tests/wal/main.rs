//! The real `surus wal` behind real servers: what is acknowledged is in the archive whatever is killed, recovery ends
//! where WAL ends and nowhere else, and wrong use never looks like the end of WAL.

mod killed;
mod lost;
mod recovered;
mod scene;
mod standby;
mod usage;
