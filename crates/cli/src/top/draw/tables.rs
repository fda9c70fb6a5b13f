//! The pages.

use super::{Look, one_line, short_time};
use crate::top::screen::{Page, Screen};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    widgets::{Cell, Paragraph, Row, Table, TableState},
};
use surus_core::size::{Bytes, human_count};
use surus_observe::live::sessions::LiveSession;

/// Columns beside the last one, which takes the rest: title and width.
type Columns = Vec<(&'static str, u16)>;

fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &Columns,
    last: &str,
    rows: Vec<Row<'_>>,
    screen: &Screen,
    look: Look,
) {
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width)).chain([Constraint::Min(10)]);
    let titles = columns.iter().map(|(title, _)| *title).chain([last]).map(|title| Cell::from(title.to_owned()));
    let table = Table::new(rows, widths)
        .header(Row::new(titles).style(look.strong()))
        .column_spacing(1)
        .row_highlight_style(look.selected());
    let mut state = TableState::default().with_selected(Some(screen.selected));
    frame.render_stateful_widget(table, area, &mut state);
}

/// What the last column has.
fn rest(area: Rect, columns: &Columns) -> usize {
    let taken: u16 = columns.iter().map(|(_, width)| width + 1).sum();
    usize::from(area.width.saturating_sub(taken).max(10))
}

fn empty(frame: &mut Frame<'_>, area: Rect, why: &str, look: Look) {
    frame.render_widget(Paragraph::new(format!("\n  {why}")).style(look.faint()), area);
}

pub fn sessions(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: Look) {
    let found = screen.sessions();
    if found.is_empty() {
        let why = match (screen.frame.is_some(), screen.filter.is_empty(), screen.page) {
            (false, ..) => "looking …",
            (true, false, _) => "no session matches the filter; Esc clears it",
            (true, true, Page::Waiting) => "nobody waits for anything",
            _ => "every session is idle",
        };
        return empty(frame, area, why, look);
    }
    let wide = area.width >= 120;
    let (name, waits) = if wide { (12, 24) } else { (8, 13) };
    let mut columns: Columns = vec![("PID", 7), ("DATABASE", name), ("USER", name)];
    if wide {
        columns.extend([("APPLICATION", 16), ("CLIENT", 15), ("TX", 6)]);
    }
    columns.extend([("TIME", 6), ("STATE", 7), ("WAIT", waits)]);
    let (name, waits) = (usize::from(name), usize::from(waits));
    let width = rest(area, &columns);
    let rows = found.iter().map(|session| {
        let mut cells = vec![
            Cell::from(session.pid.to_string()),
            Cell::from(one_line(&session.database, name)),
            Cell::from(one_line(&session.user, name)),
        ];
        if wide {
            cells.push(Cell::from(one_line(&session.application, 16)));
            let client = if session.client.is_empty() { "local" } else { &session.client };
            cells.push(Cell::from(one_line(client, 15)));
            cells.push(Cell::from(session.transaction_s.map(short_time).unwrap_or_default()));
        }
        cells.extend([
            Cell::from(short_time(session.state_s)),
            Cell::from(state(session)).style(state_style(session, look)),
            Cell::from(one_line(&wait(session), waits)).style(wait_style(session, look)),
            Cell::from(one_line(&what(session), width)),
        ]);
        Row::new(cells)
    });
    table(frame, area, &columns, "QUERY", rows.collect(), screen, look);
}

/// The state in seven characters.
fn state(session: &LiveSession) -> &'static str {
    match session.state.as_str() {
        "active" => "active",
        "idle in transaction" => "idle tx",
        "idle in transaction (aborted)" => "aborted",
        "idle" => "idle",
        "fastpath function call" => "call",
        "" => "",
        _ => "?",
    }
}

fn state_style(session: &LiveSession, look: Look) -> Style {
    match session.state_s {
        age if session.is_idle_in_transaction() && age > 60.0 => look.bad(),
        _ if session.is_idle_in_transaction() => look.warn(),
        age if session.is_active() && session.is_client() && age > 60.0 => look.warn(),
        _ => Style::new(),
    }
}

fn wait(session: &LiveSession) -> String {
    match (session.wait_event_type.as_str(), session.is_idle_in_transaction()) {
        ("", _) | ("Client", true) => String::new(),
        ("Lock", _) => format!("Lock:{}", session.wait_event),
        (kind, _) => format!("{kind}:{}", session.wait_event),
    }
}

fn wait_style(session: &LiveSession, look: Look) -> Style {
    match session.wait_event_type.as_str() {
        "Lock" => look.bad(),
        "IO" | "LWLock" | "BufferPin" => look.warn(),
        _ => look.faint(),
    }
}

/// What it does, as far as it is known.
fn what(session: &LiveSession) -> String {
    match (session.is_client(), session.query.is_empty()) {
        (true, _) => session.query.clone(),
        (false, true) => session.backend_type.clone(),
        (false, false) => format!("{}: {}", session.backend_type, session.query),
    }
}

pub fn blocking(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: Look) {
    let tree = screen.tree();
    if tree.is_empty() {
        return empty(frame, area, "nobody blocks anybody", look);
    }
    let columns: Columns = vec![("PID", 14), ("BEHIND", 6), ("TIME", 6), ("USER", 8), ("STATE", 7), ("WAIT", 13)];
    let width = rest(area, &columns);
    let rows = tree.iter().map(|branch| {
        let indent = "  ".repeat(branch.depth.min(4));
        let mark = if branch.depth > 0 { "└ " } else { "" };
        let behind = if branch.behind > 0 { branch.behind.to_string() } else { String::new() };
        let pid = if branch.pid == 0 { "prepared".to_owned() } else { branch.pid.to_string() };
        let first = Cell::from(format!("{indent}{mark}{pid}"));
        let first = if branch.depth == 0 { first.style(look.bad()) } else { first };
        match branch.session {
            Some(session) => Row::new([
                first,
                Cell::from(behind),
                Cell::from(short_time(session.state_s)),
                Cell::from(one_line(&session.user, 8)),
                Cell::from(state(session)).style(state_style(session, look)),
                Cell::from(one_line(&wait(session), 13)).style(wait_style(session, look)),
                Cell::from(one_line(&what(session), width)),
            ]),
            None => {
                let who = if branch.pid == 0 {
                    "a prepared transaction: see pg_prepared_xacts"
                } else {
                    "idle, ended meanwhile, or hidden from this role"
                };
                let none = || Cell::from("");
                Row::new([first, Cell::from(behind), none(), none(), none(), none(), Cell::from(who)])
            }
        }
    });
    table(frame, area, &columns, "QUERY", rows.collect(), screen, look);
}

pub fn statements(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: Look) {
    let found = match screen.statements() {
        Err(why) => return empty(frame, area, why, look),
        Ok(found) if found.is_empty() => {
            return empty(frame, area, "no statement has ended since this page was opened", look);
        }
        Ok(found) => found,
    };
    let wide = area.width >= 120;
    let mut columns: Columns = vec![("LOAD", 6), ("CALLS", 8), ("MEAN", 9), ("ROWS", 8)];
    if wide {
        columns.extend([("READ", 9), ("WAL", 9), ("USER", 12)]);
    }
    columns.push(("DATABASE", 10));
    let width = rest(area, &columns);
    let rows = found.iter().map(|statement| {
        let mean = statement.exec_time_ms / (statement.calls.max(1) as f64);
        let mut cells = vec![
            Cell::from(format!("{:>4.1} %", statement.share_percent)),
            Cell::from(human_count(statement.calls)),
            Cell::from(format!("{mean:.2} ms")),
            Cell::from(human_count(statement.rows)),
        ];
        if wide {
            cells.push(Cell::from(format!("{} blk", human_count(statement.shared_blocks_read))));
            cells.push(Cell::from(Bytes(statement.wal_bytes.max(0) as u64).to_string()));
            cells.push(Cell::from(one_line(&statement.user, 12)));
        }
        cells.push(Cell::from(one_line(&statement.database, 10)));
        let text = if statement.text.is_empty() { "(its text is hidden or gone)" } else { &statement.text };
        cells.push(Cell::from(one_line(text, width)));
        Row::new(cells)
    });
    let since = screen.frame.as_ref().map_or(0.0, |seen| seen.statements_since_s);
    table(frame, area, &columns, &format!("STATEMENT (in {})", short_time(since)), rows.collect(), screen, look);
}

pub fn replication(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: Look) {
    let found = match screen.frame.as_ref().and_then(|frame| frame.replication.as_ref()) {
        None => return empty(frame, area, "looking …", look),
        Some(Err(why)) => return empty(frame, area, why, look),
        Some(Ok(found)) => found,
    };
    if found.nodes.is_empty() && found.slots.is_empty() {
        return empty(frame, area, "no standby is connected, and there is no replication slot", look);
    }
    let bytes = |value: Option<f64>| value.map(|bytes| Bytes(bytes.max(0.0) as u64).to_string()).unwrap_or_default();
    let nodes_high = u16::try_from(found.nodes.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height / 2 + 1);
    let [upper, lower] = Layout::vertical([Constraint::Length(nodes_high), Constraint::Min(2)]).areas(area);
    let nodes = found.nodes.iter().map(|node| {
        Row::new([
            one_line(&node.name, 18),
            one_line(&node.address, 15),
            node.state.clone(),
            node.sync_state.clone(),
            bytes(node.unsent_bytes),
            bytes(node.unreplayed_bytes),
            node.lag_s.map(short_time).unwrap_or_default(),
        ])
    });
    let widths = [18, 15, 9, 9, 8, 10].map(Constraint::Length).into_iter().chain([Constraint::Min(6)]);
    let titles = ["STANDBY", "ADDRESS", "STATE", "SYNC", "UNSENT", "UNREPLAYED", "LAG"];
    frame.render_widget(Table::new(nodes, widths).header(Row::new(titles).style(look.strong())), upper);
    let slots = found.slots.iter().map(|slot| {
        let idle = Style::new();
        let style = if slot.active { idle } else { look.warn() };
        Row::new([
            one_line(&slot.name, 20),
            slot.kind.clone(),
            if slot.active { "active" } else { "inactive" }.to_owned(),
            slot.wal_status.clone(),
            bytes(slot.retained_bytes),
            slot.xmin_age.map(human_count).unwrap_or_default(),
            slot.database.clone(),
        ])
        .style(style)
    });
    let widths = [20, 8, 8, 10, 8, 9].map(Constraint::Length).into_iter().chain([Constraint::Min(6)]);
    let titles = ["SLOT", "KIND", "", "WAL", "RETAINED", "XMIN AGE", "DATABASE"];
    frame.render_widget(Table::new(slots, widths).header(Row::new(titles).style(look.strong())), lower);
}
