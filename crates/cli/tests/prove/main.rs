//! `surus prove restore` as a program, from a backup to the ledger.

mod crashes;
mod damage;
mod interrupted;
mod others;
mod page;
mod proven;
mod room;
mod scheduled;
mod unread;
