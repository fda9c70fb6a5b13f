//! The application at work: a few workers over TLS, with pauses, so that a small machine stays usable.

use super::{
    link::{APPLICATION, LAB, Link},
    schema::Sizes,
};
use crate::failure::Failure;
use std::time::Duration;
use surus_core::clock::Stopwatch;
use surus_pg::Session;
use tokio::task::JoinSet;

/// Workers of each kind.
const WORKERS: u64 = 2;
/// A worker's pause between two transactions.
const PAUSE: Duration = Duration::from_millis(60);
/// After an error: a server that restarts, a session that was ended.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// A session's life, as a pool of connections has it.
const SESSION_LIFE: Duration = Duration::from_secs(300);

/// The statement whose foreign key has no index: what a user sees when he opens "my tasks".
pub const MY_TASKS: &str = "SELECT id, title, status, priority FROM public.tasks WHERE assigned_to = ";

/// Where the application connects to, and how much is in there.
#[derive(Debug, Clone)]
pub struct Place {
    pub link: Link,
    pub port: u16,
    pub sizes: Sizes,
}

/// Starts the workers; they end when the set is dropped.
pub fn start(place: &Place, workers: &mut JoinSet<()>) {
    for number in 0..WORKERS {
        workers.spawn(work(place.clone(), "lab-web", number + 1, browse));
        workers.spawn(work(place.clone(), "lab-worker", number + 101, change));
    }
    workers.spawn(work(place.clone(), "lab-cron", 201, clean));
}

/// Numbers that look random and are the same in every run. Source: Marsaglia, "Xorshift RNGs" (2003).
struct Dice(u64);

impl Dice {
    /// From 1 to `most`.
    fn roll(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        1 + self.0 % most.max(1)
    }
}

/// A kind of work: its statements for the next transaction, and the pause after it.
type Work = fn(&mut Dice, &Sizes) -> (Vec<String>, Duration);

async fn work(place: Place, name: &'static str, number: u64, work: Work) {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    loop {
        // What fails is part of a real application's life: it tries again with a new session.
        let _ = one_session(&place, name, &mut dice, work).await;
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}

async fn one_session(place: &Place, name: &str, dice: &mut Dice, work: Work) -> Result<(), Failure> {
    let session: Session = place.link.session(APPLICATION, place.port, LAB, name).await?;
    let life = Stopwatch::start();
    while life.elapsed() < SESSION_LIFE {
        let (statements, pause) = work(dice, &place.sizes);
        for sql in statements {
            session.run(&sql).await.map_err(super::link::asked)?;
        }
        tokio::time::sleep(pause).await;
    }
    session.close().await;
    Ok(())
}

/// Reads pages.
fn browse(dice: &mut Dice, sizes: &Sizes) -> (Vec<String>, Duration) {
    let user = dice.roll(sizes.users);
    let sql = match dice.roll(10) {
        1..=3 => format!("{MY_TASKS}{user}"),
        4..=6 => format!("SELECT id, total, status FROM public.orders WHERE user_id = {user} ORDER BY created_at DESC"),
        7..=8 => format!(
            "SELECT t.id, t.title, u.username FROM public.tasks t LEFT JOIN public.users u ON u.id = t.assigned_to \
             WHERE t.project_id = {} ORDER BY t.priority DESC LIMIT 50",
            dice.roll(sizes.projects)
        ),
        9 => "SELECT status, count(*) FROM public.orders WHERE created_at > now() - interval '1 day' GROUP BY status"
            .into(),
        _ => format!("SELECT username, email FROM public.users WHERE id = {user}"),
    };
    (vec![sql], PAUSE)
}

/// Changes tasks (the trigger writes the audit log), takes orders, signs users in.
fn change(dice: &mut Dice, sizes: &Sizes) -> (Vec<String>, Duration) {
    let (user, task) = (dice.roll(sizes.users), dice.roll(sizes.tasks));
    let status = ["open", "in_progress", "blocked", "closed"][(dice.roll(4) - 1) as usize];
    let statements = match dice.roll(10) {
        1..=4 => vec![
            "BEGIN".into(),
            format!("SELECT status FROM public.tasks WHERE id = {task} FOR UPDATE"),
            format!("UPDATE public.tasks SET status = '{status}' WHERE id = {task}"),
            "COMMIT".into(),
        ],
        5..=7 => vec![format!(
            "INSERT INTO public.orders (user_id, total, status) VALUES ({user}, {}.{:02}, 'new')",
            dice.roll(900),
            dice.roll(99)
        )],
        8..=9 => vec![format!("UPDATE public.users SET last_seen_at = now() WHERE id = {user}")],
        _ => vec![format!("UPDATE public.login_sessions SET seen_at = clock_timestamp() WHERE user_id = {user}")],
    };
    (statements, PAUSE * 2)
}

/// Keeps the tables from growing without end.
fn clean(_: &mut Dice, sizes: &Sizes) -> (Vec<String>, Duration) {
    let newest = |table: &str, keep: u64| {
        format!("DELETE FROM public.{table} WHERE id < (SELECT max(id) FROM public.{table}) - {keep}")
    };
    (vec![newest("audit_logs", sizes.audit_logs + 20_000), newest("orders", sizes.orders + 20_000)], HOUSEKEEPING)
}
