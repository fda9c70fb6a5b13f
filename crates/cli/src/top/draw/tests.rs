//! The pages as cells, at the smallest size and at a usual one.

use super::*;
use crate::top::screen::Screen;
use insta::assert_snapshot;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use std::time::Duration;
use surus_observe::live::{
    Frame as Seen, Statement,
    overview::{Overview, Pace},
    replication::{Node, Replication, Slot},
    sessions::{LiveSession, Sessions},
};

fn session(pid: i64, application: &str, state_s: f64, query: &str) -> LiveSession {
    LiveSession {
        pid,
        database: "shop".into(),
        user: "app_writer".into(),
        application: application.into(),
        client: "10.0.1.17".into(),
        backend_type: "client backend".into(),
        state: "active".into(),
        state_s,
        transaction_s: Some(state_s + 1.0),
        query: query.into(),
        ..LiveSession::default()
    }
}

fn seen() -> Seen {
    let mut idle = session(4711, "billing-job", 754.0, "UPDATE invoices SET paid = true WHERE id = 7");
    idle.state = "idle in transaction".into();
    let mut waiting = session(4712, "web", 3.4, "ALTER TABLE public.invoices\n  ADD COLUMN note text");
    (waiting.wait_event_type, waiting.wait_event) = ("Lock".into(), "relation".into());
    waiting.blocked_by = vec![4711];
    let mut vacuum = session(900, "", 12.0, "");
    (vacuum.backend_type, vacuum.client) = ("autovacuum worker".into(), String::new());
    vacuum.query = "autovacuum: VACUUM public.orders".into();
    let busy =
        session(4713, "web", 0.2, "SELECT * FROM orders WHERE customer_id = 42 ORDER BY created_at DESC LIMIT 20");
    Seen {
        overview: Overview {
            at_s: 1_790_000_000.0,
            uptime_s: 266_400.0,
            connections: 37,
            max_connections: 100,
            ..Overview::default()
        },
        pace: Some(Pace {
            transactions: 1234.0,
            rollbacks: 3.0,
            changed_rows: 50.0,
            wal_bytes: 2_500_000.0,
            temp_bytes: 0.0,
            hit_percent: Some(99.43),
            deadlocks: 1.0,
        }),
        sessions: Sessions { all: vec![idle, waiting, vacuum, busy], truncated: false },
        statements_since_s: 754.0,
        statements: Some(Ok(vec![Statement {
            query_id: 1,
            database: "shop".into(),
            user: "app_writer".into(),
            calls: 12_345,
            rows: 24_690,
            exec_time_ms: 3_456.0,
            share_percent: 64.2,
            text: "SELECT * FROM orders WHERE customer_id = $1".into(),
            ..Statement::default()
        }])),
        replication: Some(Ok(Replication {
            nodes: vec![Node {
                name: "standby1".into(),
                address: "10.0.1.18".into(),
                state: "streaming".into(),
                sync_state: "async".into(),
                unsent_bytes: Some(0.0),
                unflushed_bytes: Some(4096.0),
                unreplayed_bytes: Some(20_480.0),
                lag_s: Some(0.4),
            }],
            slots: vec![Slot {
                name: "forgotten".into(),
                kind: "logical".into(),
                database: "shop".into(),
                active: false,
                wal_status: "extended".into(),
                retained_bytes: Some(5e9),
                xmin_age: Some(123_456),
            }],
        })),
    }
}

/// The screen after these keys.
fn drawn(width: u16, height: u16, keys: &str) -> String {
    let mut screen = Screen::new(Duration::from_secs(2));
    screen.show(seen());
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        screen.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    let subject = Subject { place: "db1.example:5432/shop".into(), version: "PostgreSQL 18.4".into(), colours: false };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, &screen, &subject)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn every_page_fits_80_by_24() {
    for (name, keys) in [("sessions", ""), ("blocking", "3"), ("statements", "4"), ("replication", "5"), ("help", "h")]
    {
        assert_snapshot!(name, drawn(80, 24, keys));
    }
    assert_snapshot!("detail", drawn(80, 24, "j\n"));
    assert_snapshot!("question", drawn(80, 24, "K"));
}

#[test]
fn a_wide_terminal_shows_more() {
    assert_snapshot!("sessions wide", drawn(140, 14, ""));
    assert_snapshot!("statements wide", drawn(140, 14, "4"));
}

#[test]
fn a_tiny_terminal_does_no_harm() {
    for (width, height) in [(1, 1), (10, 3), (20, 5), (40, 8)] {
        for keys in ["", "2", "3", "4", "5", "h", "K", "\n"] {
            drawn(width, height, keys);
        }
    }
}
