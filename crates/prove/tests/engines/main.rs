//! Backups that others made, by their own real programs: proven, and refused when something is wrong with them.

mod basebackup;
mod pgbackrest;
mod scene;
