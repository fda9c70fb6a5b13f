//! What power cuts, full disks and buckets do to backups and WAL, with the program as its users run it: whatever is
//! killed or refused, what was called done is there and comes back.

mod bucket;
mod full_disk;
mod kills;
mod load;
mod room;
