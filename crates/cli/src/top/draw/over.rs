//! What stands over a page: help, a row in full, a question.

use super::{Look, short_time};
use crate::top::screen::{Over, Screen};
use ratatui::{
    Frame,
    layout::{Constraint, Flex, Layout, Rect},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Wrap},
};
use surus_observe::live::sessions::LiveSession;

const HELP: [(&str, &str); 15] = [
    ("1 … 5, Tab", "pages"),
    ("↑ ↓ j k", "select; PgUp PgDn Home End"),
    ("Enter", "the selected row in full"),
    ("s", "sort by the next column"),
    ("/", "filter: text, user, database, application, state or pid; Esc clears"),
    ("space", "pause and go on"),
    ("+ −", "look less or more often"),
    ("C", "cancel the selected session's statement (asks)"),
    ("K", "terminate the selected session (asks)"),
    ("R", "statements: count from now on"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
    ("TIME", "of the statement, or in the state that is shown"),
    ("TX", "since its transaction began"),
    ("BEHIND", "sessions that wait for it, directly or not"),
];

pub fn draw(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: Look) {
    match &screen.over {
        Over::Nothing | Over::Filter => {}
        Over::Help => {
            let lines = HELP.iter().map(|(key, what)| {
                Line::from(vec![Span::styled(format!("{key:>11}  "), look.mark()), Span::raw(*what)])
            });
            window(frame, area, " keys ", lines.collect(), 2 + HELP.len(), look);
        }
        Over::Detail => {
            let lines = match (screen.selected_session(), screen.selected_statement()) {
                (Some(session), _) => of_session(session, look),
                (None, Some(statement)) => {
                    let mut lines = vec![
                        pair("query id", &statement.query_id.to_string(), look),
                        pair("database", &statement.database, look),
                        pair("user", &statement.user, look),
                        Line::default(),
                    ];
                    lines.extend(text(&statement.text));
                    lines
                }
                (None, None) => vec![Line::raw("it is gone")],
            };
            window(frame, area, " any key closes ", lines, usize::from(area.height), look);
        }
        Over::Confirm { session, whole } => {
            let what = if *whole { "Terminate this session?" } else { "Cancel this session's statement?" };
            let effect = match (whole, session.is_idle_in_transaction()) {
                (true, _) => "Its transaction is rolled back and its connection is closed.",
                (false, true) => "It runs no statement: cancelling does nothing. Terminating it (K) rolls it back.",
                (false, false) => "Its statement ends with an error; the application may try again.",
            };
            let mut lines = vec![Line::styled(what, look.bad()), Line::raw(effect), Line::default()];
            lines.extend(of_session(session, look));
            lines.push(Line::default());
            lines.push(Line::styled("y yes · any other key no", look.strong()));
            window(frame, area, " sure? ", lines, usize::from(area.height), look);
        }
    }
}

fn window(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>, height: usize, look: Look) {
    let [area] = Layout::horizontal([Constraint::Max(100)]).flex(Flex::Center).areas(area);
    let height = u16::try_from(height).unwrap_or(u16::MAX);
    let [area] = Layout::vertical([Constraint::Max(height)]).flex(Flex::Center).areas(area);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(title).border_style(look.mark());
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

fn pair(name: &str, value: &str, look: Look) -> Line<'static> {
    Line::from(vec![Span::styled(format!("{name:>12}  "), look.faint()), Span::raw(super::one_line(value, 200))])
}

fn of_session(session: &LiveSession, look: Look) -> Vec<Line<'_>> {
    let mut lines = vec![
        pair("process", &format!("{} · {}", session.pid, session.backend_type), look),
        pair("who", &format!("{} in {} · {}", session.user, session.database, session.application), look),
        pair("from", if session.client.is_empty() { "local" } else { &session.client }, look),
        pair("state", &format!("{} for {}", session.state, short_time(session.state_s)), look),
    ];
    if let Some(age) = session.transaction_s {
        lines.push(pair("transaction", &format!("open for {}", short_time(age)), look));
    }
    if !session.wait_event_type.is_empty() {
        lines.push(pair("waits for", &format!("{}:{}", session.wait_event_type, session.wait_event), look));
    }
    if !session.blocked_by.is_empty() {
        let pids: Vec<String> = session.blocked_by.iter().map(i64::to_string).collect();
        lines.push(pair("blocked by", &pids.join(", "), look));
    }
    if let Some(id) = session.query_id {
        lines.push(pair("query id", &id.to_string(), look));
    }
    lines.push(Line::default());
    lines.extend(text(&session.query));
    lines
}

/// A statement with its own line breaks.
fn text(query: &str) -> Vec<Line<'_>> {
    let clean =
        |line: &str| line.chars().map(|c| if c.is_control() && c != '\t' { '␦' } else { c }).collect::<String>();
    query.lines().take(200).map(|line| Line::raw(clean(&line.replace('\t', "    ")))).collect()
}
