//! For as long as a server is in trouble: two sessions at most, the rest goes on, and what is missing has its reason.

use crate::scene::{Site, collector, settings, values, watch, watched};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_observe::{Settings, State, Watched, collectors};
use surus_pg::{Manners, Session};
use surus_testkit::Server;
use tokio::task::JoinHandle;

/// How long the server stays in trouble; `SURUS_TEST_TROUBLE_SECONDS` makes it minutes.
fn trouble() -> Duration {
    let said = std::env::var("SURUS_TEST_TROUBLE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(said.unwrap_or(20))
}

fn tester(manners: Manners) -> Manners {
    Manners { application_name: "tester".into(), ..manners }
}

/// Counts the sessions of surus, all the time.
struct Watchman {
    most: Arc<AtomicI64>,
    looks: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Watchman {
    async fn begin(server: &Server) -> Self {
        let session: Session = server.session("postgres", &tester(Manners::looking())).await;
        let (most, looks, stop) = (Arc::<AtomicI64>::default(), Arc::<AtomicI64>::default(), Arc::default());
        let (highest, count, end): (_, _, Arc<AtomicBool>) = (most.clone(), looks.clone(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let sql = "SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'surus'";
            while !end.load(Ordering::Relaxed) {
                let rows = session.ask(sql).await.unwrap();
                highest.fetch_max(rows.first().unwrap().i64("v").unwrap(), Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { most, looks, stop, task }
    }

    /// The most sessions at once.
    async fn end(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        assert!(self.looks.load(Ordering::Relaxed) > 100, "it hardly looked");
        self.most.load(Ordering::Relaxed)
    }
}

/// How often something new was told while the trouble lasted.
async fn news(site: &Site, lasting: Duration, what: &str) -> usize {
    let (limit, mut times) = (Deadline::after(lasting), Vec::new());
    while !limit.passed() {
        let now = site.observatory.targets().remove(0);
        let at = now.answers.iter().find(|answer| answer.collector == what).map(|answer| answer.at_ms);
        times.extend(at.filter(|at| times.last() != Some(at)));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    times.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_held_for_long_costs_its_own_numbers_only() {
    let server = Server::start();
    server.sql(
        "CREATE TABLE held (id int PRIMARY KEY); CREATE TABLE free (id int PRIMARY KEY); \
         INSERT INTO held SELECT generate_series(1, 1000); INSERT INTO free SELECT generate_series(1, 1000); ANALYZE",
    );
    let watchman = Watchman::begin(&server).await;
    // Every collector that surus has, in tiers of seconds.
    let pace = Settings { collectors: collectors::ALL, slow: Duration::from_secs(2), ..settings() };
    let site = watch(vec![watched(&server)], pace);
    let size = "pg_stat_user_tables_table_size_bytes";
    let of = |now: &_, table: &str| values(now, size).iter().filter(|(labels, _)| labels.contains(table)).count();
    site.until("both are known", |now| of(now, "\"held\"") == 1 && of(now, "\"free\"") == 1).await;
    let holder = server.session("postgres", &tester(Manners::changing())).await;
    holder.run("BEGIN; LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let skipped = |now: &_, collector: &str| {
        let all = values(now, "surus_collector_skipped_relations");
        all.iter().filter(|(labels, _)| labels.contains(collector)).map(|(_, count)| *count).sum::<f64>()
    };
    site.until("the gap is said", |now| of(now, "\"held\"") == 0 && skipped(now, "table_size") == 1.0).await;
    let cycles = news(&site, trouble(), "stat_database").await;
    let expected = trouble().as_millis() / 400;
    assert!(cycles as u128 * 2 > expected, "{cycles} cycles of {expected}");
    let now = site.observatory.targets().remove(0);
    assert!(now.up && of(&now, "\"free\"") == 1 && of(&now, "\"held\"") == 0);
    let resting: Vec<_> = now.collectors.iter().filter(|one| one.state == State::Resting).collect();
    assert!(resting.is_empty(), "no collector waits for the lock: {resting:?}");
    holder.run("ROLLBACK").await.unwrap();
    site.until("it is back", |now| of(now, "\"held\"") == 1).await;
    assert!((1..=2).contains(&watchman.end().await));
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_is_not_pressed() {
    let server = Server::start();
    server.sql("CREATE ROLE guest LOGIN; GRANT pg_monitor TO guest");
    server.expect_log("pg_hba.conf rejects connection");
    server.expect_log("terminating connection due to administrator command");
    let watchman = Watchman::begin(&server).await;
    let first =
        Watched { name: "main".into(), dsn: server.dsn_as("guest", "", "postgres"), cluster: None, heartbeat: None };
    let site = watch(vec![first], settings());
    site.until("it is up", |now| now.up && !values(now, "test_backends").is_empty()).await;
    let rules = |text: &str| {
        let file = "current_setting('hba_file')";
        server.sql(&format!(
            "DO $$ BEGIN EXECUTE format('COPY (SELECT unnest(ARRAY[{text}])) TO %L', {file}); END $$; \
             SELECT pg_reload_conf(); \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guest'"
        ));
    };
    rules("''local all guest reject'', ''local all all trust''");
    let now = site
        .until("it is refused", |now| now.trouble.as_ref().is_some_and(|why| why.text.contains("pg_hba.conf")))
        .await;
    assert!(!now.up && now.trouble.as_ref().is_some_and(|why| why.code.is_some()), "{:?}", now.trouble);
    let told = news(&site, trouble() / 2, "target").await;
    let expected = (trouble() / 2).as_millis() / 400;
    assert!(told as u128 * 2 > expected, "that it is down is told {told} times, of {expected}");
    rules("''local all all trust''");
    site.until("it is up again", |now| now.up && !values(now, "test_backends").is_empty()).await;
    assert!(collector(&site.observatory.targets()[0], "backends", None).is_some_and(|one| one.state == State::Fine));
    assert!((1..=2).contains(&watchman.end().await));
    site.observatory.stop().await;
}
