//! The store against real files: chain, concurrency, killed processes, damage, formats.

mod damage;
mod durability;
mod golden;
mod ledger;
mod sample;
mod tamper;
