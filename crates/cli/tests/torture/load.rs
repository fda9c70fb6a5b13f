//! A load like pgbench's: small transactions that move money, with bursts of WAL between them, and what a restored copy
//! must show of it.

use crate::room::{Random, ask, value};
use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use surus_pg::{Manners, Target};
use surus_testkit::Server;

pub const CLIENTS: usize = 2;
const ACCOUNTS: u64 = 20_000;

/// What was committed, by client: `history` numbers each client's transactions from 1 without a gap.
pub struct Load {
    committed: [AtomicU64; CLIENTS],
    stop: AtomicBool,
}

/// How far each client had come.
pub type Seen = [u64; CLIENTS];

impl Load {
    pub fn prepare(server: &Server) -> Arc<Self> {
        server.sql(&format!(
            "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, filler text NOT NULL); \
             INSERT INTO accounts SELECT g, 0, repeat(md5(g::text), 3) FROM generate_series(1, {ACCOUNTS}) g; \
             CREATE TABLE tellers (id int PRIMARY KEY, balance bigint NOT NULL); \
             INSERT INTO tellers SELECT g, 0 FROM generate_series(1, 10) g; \
             CREATE TABLE history (client int, number bigint, delta bigint, note text, PRIMARY KEY (client, number))"
        ));
        Arc::new(Self { committed: Default::default(), stop: AtomicBool::new(false) })
    }

    /// Begins to work: the clients, and one that writes bursts, so that segments wait now and then.
    pub fn begin(self: &Arc<Self>, dsn: &str, seed: u64) -> Working {
        self.stop.store(false, Ordering::SeqCst);
        let (load, dsn) = (self.clone(), dsn.to_owned());
        let work = move || {
            thread::scope(|scope| {
                for client in 0..CLIENTS {
                    let (load, dsn) = (&load, &dsn);
                    scope.spawn(move || load.transfer(dsn, client, Random::new(seed + client as u64)));
                }
                while !load.stopped() {
                    burst(&dsn);
                    thread::sleep(Duration::from_millis(2000));
                }
            });
        };
        Working { load: self.clone(), thread: Some(thread::spawn(work)) }
    }

    fn transfer(&self, dsn: &str, client: usize, mut random: Random) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = Target::parse(dsn).unwrap().connect(&Manners::changing()).await.unwrap();
            session.run("RESET ALL").await.unwrap();
            let mut number = self.committed[client].load(Ordering::SeqCst);
            while !self.stopped() {
                number += 1;
                let (account, teller) = (1 + random.below(ACCOUNTS), 1 + random.below(10));
                let delta = random.below(10_000) as i64 - 5_000;
                let note = "n".repeat(random.below(400) as usize);
                let sql = format!(
                    "BEGIN; UPDATE accounts SET balance = balance + {delta} WHERE id = {account}; \
                     UPDATE tellers SET balance = balance + {delta} WHERE id = {teller}; \
                     INSERT INTO history VALUES ({client}, {number}, {delta}, '{note}'); COMMIT"
                );
                session.run(&sql).await.unwrap();
                self.committed[client].store(number, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            session.close().await;
        });
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Seen {
        std::array::from_fn(|client| self.committed[client].load(Ordering::SeqCst))
    }
}

/// A load that is at work; it ends when this goes.
pub struct Working {
    load: Arc<Load>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.load.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        if let (Err(panic), false) = (ended, thread::panicking()) {
            resume_unwind(panic);
        }
    }
}

/// Some segments at once.
pub fn burst(dsn: &str) {
    ask(
        dsn,
        "SELECT pg_logical_emit_message(false, 'load', string_agg(md5(random()::text), ''))::text \
         FROM generate_series(1, 70000)",
    );
}

/// What was restored is a state that the load was in: money is neither made nor lost, no transaction is missing in
/// between, and none of those in `seen`.
pub fn sound(dsn: &str, seen: &Seen) {
    let money = "SELECT ((SELECT sum(balance) FROM accounts) = (SELECT coalesce(sum(delta), 0) FROM history) \
                 AND (SELECT sum(balance) FROM tellers) = (SELECT coalesce(sum(delta), 0) FROM history))::text AS v";
    assert_eq!(value(dsn, money), "true");
    let rows = ask(dsn, "SELECT client, count(*) AS count, max(number) AS last FROM history GROUP BY client");
    let mut there: Seen = [0; CLIENTS];
    for row in rows.iter() {
        let (count, last) = (row.i64("count").unwrap(), row.i64("last").unwrap());
        assert_eq!(count, last, "transactions are missing in between");
        there[row.i64("client").unwrap() as usize] = last as u64;
    }
    let all = there.iter().zip(seen).all(|(there, seen)| there >= seen);
    assert!(all, "{seen:?} were committed and archived, {there:?} came back");
}
