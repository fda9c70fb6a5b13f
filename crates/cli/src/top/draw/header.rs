//! The four lines at the top: who, how many, how fast, what active sessions wait for.

use super::{Look, Subject, short_time, shown_at};
use crate::top::screen::Screen;
use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};
use surus_core::size::Bytes;
use surus_observe::live::{Frame as Seen, overview::Pace};

pub fn draw(frame: &mut Frame<'_>, area: Rect, screen: &Screen, subject: &Subject, look: Look) {
    let Some(seen) = &screen.frame else {
        frame.render_widget(Line::raw(format!("surus top  {}  looking …", subject.place)), area);
        return;
    };
    let lines = vec![
        who(screen, seen, subject, look),
        how_many(seen, look),
        how_fast(seen, look),
        waits(seen, area.width, look),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn who<'a>(screen: &Screen, seen: &Seen, subject: &'a Subject, look: Look) -> Line<'a> {
    let overview = &seen.overview;
    let role = if overview.in_recovery { "standby" } else { "primary" };
    let mut spans = vec![
        Span::styled(subject.place.as_str(), look.strong()),
        Span::raw(format!("  {} {role}  up {}  ", subject.version, short_time(overview.uptime_s))),
        Span::styled(shown_at(screen), look.faint()),
    ];
    if let Some(behind) = overview.behind_s {
        let style = if behind > 10.0 { look.bad() } else { look.good() };
        spans.push(Span::styled(format!("  {} behind", short_time(behind)), style));
    }
    if screen.paused {
        spans.push(Span::styled("  paused", look.warn()));
    } else if screen.stale {
        spans.push(Span::styled("  old", look.bad()));
    }
    Line::from(spans)
}

fn how_many(seen: &Seen, look: Look) -> Line<'static> {
    let overview = &seen.overview;
    let full = overview.connections * 10 >= overview.max_connections * 9;
    let all = &seen.sessions.all;
    let count = |wanted: fn(&surus_observe::live::sessions::LiveSession) -> bool| {
        all.iter().filter(|session| wanted(session)).count()
    };
    let waiting = count(|session| session.waits_for_lock());
    let idle = count(|session| session.is_idle_in_transaction());
    let bad = |is: bool| if is { look.bad() } else { look.strong() };
    let mut spans = vec![
        Span::styled(format!("{}/{}", overview.connections, overview.max_connections), bad(full)),
        Span::raw(" sessions · "),
        Span::styled(count(|session| session.is_active() && session.is_client()).to_string(), look.strong()),
        Span::raw(" active · "),
        Span::styled(idle.to_string(), if idle > 0 { look.warn() } else { look.strong() }),
        Span::raw(" idle in tx · "),
        Span::styled(waiting.to_string(), bad(waiting > 0)),
        Span::raw(" wait for locks"),
    ];
    if overview.hidden > 0 {
        spans.push(Span::styled(format!(" · {} hidden (pg_monitor)", overview.hidden), look.warn()));
    }
    if seen.sessions.truncated {
        spans.push(Span::styled(format!(" · only {} shown", all.len()), look.warn()));
    }
    Line::from(spans)
}

fn how_fast(seen: &Seen, look: Look) -> Line<'static> {
    match &seen.pace {
        Some(pace) => Line::raw(paced(pace)),
        None => Line::styled("rates come with the second look", look.faint()),
    }
}

fn paced(pace: &Pace) -> String {
    let bytes = |value: f64| Bytes(value as u64);
    let mut parts = vec![format!("{:.0} transactions/s", pace.transactions)];
    if pace.rollbacks > 0.0 {
        parts.push(format!("{:.0} rolled back", pace.rollbacks));
    }
    parts.extend(pace.hit_percent.map(|hit| format!("cache {hit:.1} %")));
    parts.push(format!("WAL {}/s", bytes(pace.wal_bytes)));
    if pace.temp_bytes > 0.0 {
        parts.push(format!("temp {}/s", bytes(pace.temp_bytes)));
    }
    if pace.deadlocks > 0.0 {
        parts.push(crate::command::fix::counted(pace.deadlocks as usize, "deadlock"));
    }
    parts.join(" · ")
}

/// A bar of active sessions by what they wait for, one mark each as long as there is room.
fn waits(seen: &Seen, width: u16, look: Look) -> Line<'static> {
    let counts = seen.sessions.active_by_wait();
    if counts.is_empty() {
        return Line::styled("nobody is active", look.faint());
    }
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    let names: usize = counts.iter().map(|(name, count)| name.len() + count.to_string().len() + 3).sum();
    let room = usize::from(width).saturating_sub(names + 8).max(counts.len());
    let mut spans = vec![Span::raw("active ")];
    for (name, count) in &counts {
        let marks = if all <= room { *count } else { (count * room / all).max(1) };
        let style = match *name {
            "CPU" => look.good(),
            "Lock" => look.bad(),
            "IO" | "LWLock" | "BufferPin" => look.warn(),
            _ => look.mark(),
        };
        spans.push(Span::styled("■".repeat(marks), style));
        spans.push(Span::raw(format!(" {name} {count}  ")));
    }
    Line::from(spans)
}
