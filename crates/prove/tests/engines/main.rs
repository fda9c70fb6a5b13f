//! Backups that others made, by their own real programs: proven, and refused when something is wrong with them.

mod barman;
mod basebackup;
mod dump;
mod pgbackrest;
mod scene;
