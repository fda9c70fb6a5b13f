//! `surus prove restore` as a program, from a backup to the ledger.

mod damage;
mod interrupted;
mod proven;
mod room;
