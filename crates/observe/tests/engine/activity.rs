//! Samples of the activity.

use crate::scene::{EVER, settings, values, watch, watched};
use std::time::Duration;
use surus_observe::{Settings, Watched};
use surus_pg::Manners;
use surus_testkit::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_whom_is_remembered() {
    for major in surus_testkit::majors().into_iter().filter(|major| [13, 15].contains(major) || *major >= 18) {
        let server = Server::builder().major(major).start();
        server.sql("CREATE TABLE t (id int)");
        let holder = server.session("postgres", &Manners::changing()).await;
        holder.run("BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let manners = Manners { lock_timeout: Duration::ZERO, ..Manners::changing() };
        let waiter = server.session("postgres", &manners).await;
        let (blocker, blocked) = (holder.backend_pid().unwrap(), waiter.backend_pid().unwrap());
        let waiting = tokio::spawn(async move { waiter.run("SELECT FROM public.t").await });
        let site = watch(vec![watched(&server)], settings());
        let sample = site
            .found("the waiter", |store| {
                let samples = store.activity("main", EVER).unwrap();
                samples.into_iter().find(|sample| sample.sessions.iter().any(|one| !one.blocked_by.is_empty()))
            })
            .await;
        let one = |pid: u32| sample.sessions.iter().find(|one| u32::try_from(one.pid) == Ok(pid)).unwrap();
        assert_eq!(one(blocked).blocked_by, [i32::try_from(blocker).unwrap()]);
        assert_eq!(
            (one(blocked).wait_event_type.as_deref(), one(blocked).state.as_deref()),
            (Some("Lock"), Some("active"))
        );
        assert_eq!(one(blocker).state.as_deref(), Some("idle in transaction"));
        assert!(one(blocker).transaction_age_ms.is_some() && one(blocker).blocked_by.is_empty());
        site.until("the average is told", |now| {
            values(now, "surus_active_sessions").iter().any(|(labels, v)| labels.contains(r#""Lock""#) && *v > 0.0)
        })
        .await;
        holder.run("ROLLBACK").await.unwrap();
        waiting.await.unwrap().unwrap();
        site.observatory.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_sample_says_so() {
    let server = Server::start();
    let mut open = Vec::new();
    for _ in 0..3 {
        let session = server.session("postgres", &Manners::changing()).await;
        session.run("BEGIN").await.unwrap();
        open.push(session);
    }
    let site = watch(vec![watched(&server)], Settings { sessions_at_most: 2, ..settings() });
    let now = site.until("it is truncated", |now| !now.missing.is_empty()).await;
    assert!(now.missing[0].text.contains("more than 2 sessions"), "{:?}", now.missing);
    let samples =
        site.found("a sample", |store| store.activity("main", EVER).ok().filter(|found| !found.is_empty())).await;
    assert_eq!(samples[0].sessions.len(), 2);
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_targets_share_a_process_and_nothing_else() {
    let (one, other) = (Server::start(), Server::start());
    let second = Watched { name: "second".into(), ..watched(&other) };
    let site = watch(vec![watched(&one), second], settings());
    site.found("both", |_| {
        let snapshot = site.observatory.snapshot();
        snapshot.targets.iter().all(|now| now.up && !values(now, "test_backends").is_empty()).then_some(())
    })
    .await;
    site.observatory.reload(vec![watched(&one)], settings()).await;
    let names: Vec<String> = site.observatory.targets().iter().map(|now| now.name.clone()).collect();
    assert_eq!(names, ["main"]);
    assert_eq!(
        other.value(
            "SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'surus' AND pid <> pg_backend_pid()"
        ),
        "0"
    );
    site.observatory.stop().await;
}
