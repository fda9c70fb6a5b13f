//! What the screen shows and what a key does to it. No terminal here: keys come in, wishes go out.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm;
use std::time::Duration;
use surus_observe::live::{
    Besides, Frame, Statement,
    sessions::{Branch, LiveSession},
};

/// The pages, by their keys 1 to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Sessions,
    Waiting,
    Blocking,
    Statements,
    Replication,
}

impl Page {
    pub const ALL: [(Page, &'static str); 5] = [
        (Page::Sessions, "sessions"),
        (Page::Waiting, "waiting"),
        (Page::Blocking, "blocking"),
        (Page::Statements, "statements"),
        (Page::Replication, "replication"),
    ];

    /// What a look must bring for it.
    pub fn needs(self) -> Besides {
        match self {
            Page::Statements => Besides::Statements,
            Page::Replication => Besides::Replication,
            Page::Sessions | Page::Waiting | Page::Blocking => Besides::Nothing,
        }
    }
}

/// By what the rows are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Time,
    Transaction,
    User,
    Database,
    Pid,
}

impl Sort {
    const ALL: [(Sort, &'static str); 5] = [
        (Sort::Time, "time"),
        (Sort::Transaction, "transaction"),
        (Sort::User, "user"),
        (Sort::Database, "database"),
        (Sort::Pid, "pid"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(sort, _)| *sort == self).map_or("", |(_, name)| name)
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|(sort, _)| *sort == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()].0
    }
}

/// By what statements are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementSort {
    Time,
    Calls,
    Mean,
    Reads,
    Wal,
}

impl StatementSort {
    const ALL: [(StatementSort, &'static str); 5] = [
        (StatementSort::Time, "total time"),
        (StatementSort::Calls, "calls"),
        (StatementSort::Mean, "mean time"),
        (StatementSort::Reads, "blocks read"),
        (StatementSort::Wal, "WAL"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(sort, _)| *sort == self).map_or("", |(_, name)| name)
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|(sort, _)| *sort == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()].0
    }

    fn of(self, statement: &Statement) -> f64 {
        match self {
            Self::Time => statement.exec_time_ms,
            Self::Calls => statement.calls as f64,
            Self::Mean => statement.exec_time_ms / (statement.calls.max(1) as f64),
            Self::Reads => statement.shared_blocks_read as f64,
            Self::Wal => statement.wal_bytes as f64,
        }
    }
}

/// What stands over the page.
#[derive(Debug, Clone, PartialEq)]
pub enum Over {
    Nothing,
    Help,
    /// The selected row, in full.
    Detail,
    /// Typing a filter.
    Filter,
    /// Shall this session be cancelled or, with `whole`, terminated?
    Confirm {
        session: Box<LiveSession>,
        whole: bool,
    },
}

/// What the loop is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    Nothing,
    Quit,
    /// Look now.
    Look,
    /// Count statements anew, and look.
    Forget,
    /// End this session's statement or, with `whole`, the session: the user has confirmed it.
    End {
        session: Box<LiveSession>,
        whole: bool,
    },
}

/// The shortest and the longest time between looks, in seconds.
const INTERVALS: [u64; 8] = [1, 2, 3, 5, 10, 20, 30, 60];

/// Everything that decides what is seen.
#[derive(Debug)]
pub struct Screen {
    pub page: Page,
    pub sort: Sort,
    pub statement_sort: StatementSort,
    pub over: Over,
    pub paused: bool,
    pub interval: Duration,
    pub filter: String,
    pub selected: usize,
    /// The selected session stays selected when rows move.
    pub selected_pid: Option<i64>,
    pub frame: Option<Frame>,
    /// The last thing that happened: an answer, or why there is no new frame.
    pub message: Option<String>,
    /// Since the last look failed, what is shown is old.
    pub stale: bool,
}

impl Screen {
    pub fn new(interval: Duration) -> Self {
        Self {
            page: Page::Sessions,
            sort: Sort::Time,
            statement_sort: StatementSort::Time,
            over: Over::Nothing,
            paused: false,
            interval,
            filter: String::new(),
            selected: 0,
            selected_pid: None,
            frame: None,
            message: None,
            stale: false,
        }
    }

    /// A new look.
    pub fn show(&mut self, frame: Frame) {
        self.frame = Some(frame);
        self.stale = false;
        if let Some(pid) = self.selected_pid
            && let Some(at) = self.pids().iter().position(|other| *other == pid)
        {
            self.selected = at;
        }
        self.keep_selection();
    }

    /// There is none, and why.
    pub fn fail(&mut self, why: String) {
        self.stale = true;
        self.message = Some(why);
    }

    /// The sessions of the page that are wanted, in order.
    pub fn sessions(&self) -> Vec<&LiveSession> {
        let all = self.frame.as_ref().map(|frame| frame.sessions.all.as_slice()).unwrap_or_default();
        let on_page = |session: &&LiveSession| match self.page {
            Page::Waiting => session.waits_for_lock() || !session.wait_event_type.is_empty() && session.is_active(),
            _ => true,
        };
        let mut rows: Vec<&LiveSession> = all.iter().filter(on_page).filter(|one| self.wants(one)).collect();
        rows.sort_by(|a, b| {
            let by_time = b.state_s.total_cmp(&a.state_s);
            match self.sort {
                Sort::Time => b.is_client().cmp(&a.is_client()).then(by_time),
                Sort::Transaction => {
                    b.transaction_s.unwrap_or(-1.0).total_cmp(&a.transaction_s.unwrap_or(-1.0)).then(by_time)
                }
                Sort::User => a.user.cmp(&b.user).then(by_time),
                Sort::Database => a.database.cmp(&b.database).then(by_time),
                Sort::Pid => a.pid.cmp(&b.pid),
            }
        });
        rows
    }

    /// The tree of blockers.
    pub fn tree(&self) -> Vec<Branch<'_>> {
        self.frame.as_ref().map(|frame| frame.sessions.blocking_tree()).unwrap_or_default()
    }

    /// The statements that are wanted, in order; or why there are none.
    pub fn statements(&self) -> Result<Vec<&Statement>, &str> {
        match self.frame.as_ref().and_then(|frame| frame.statements.as_ref()) {
            None => Err("looking …"),
            Some(Err(why)) => Err(why),
            Some(Ok(all)) => {
                let needle = self.filter.to_lowercase();
                let wanted = |one: &&Statement| {
                    [&one.text, &one.user, &one.database].iter().any(|text| text.to_lowercase().contains(&needle))
                };
                let mut rows: Vec<&Statement> = all.iter().filter(wanted).collect();
                rows.sort_by(|a, b| self.statement_sort.of(b).total_cmp(&self.statement_sort.of(a)));
                Ok(rows)
            }
        }
    }

    fn wants(&self, session: &LiveSession) -> bool {
        let needle = self.filter.to_lowercase();
        let texts = [
            &session.query,
            &session.user,
            &session.database,
            &session.application,
            &session.client,
            &session.state,
            &session.wait_event,
        ];
        needle.is_empty()
            || session.pid.to_string() == needle
            || texts.iter().any(|text| text.to_lowercase().contains(&needle))
    }

    fn pids(&self) -> Vec<i64> {
        match self.page {
            Page::Sessions | Page::Waiting => self.sessions().iter().map(|session| session.pid).collect(),
            Page::Blocking => self.tree().iter().map(|branch| branch.pid).collect(),
            Page::Statements | Page::Replication => Vec::new(),
        }
    }

    fn rows(&self) -> usize {
        match self.page {
            Page::Statements => self.statements().map_or(0, |rows| rows.len()),
            Page::Replication => 0,
            _ => self.pids().len(),
        }
    }

    /// The session that is selected, where the page shows sessions.
    pub fn selected_session(&self) -> Option<&LiveSession> {
        let pid = *self.pids().get(self.selected)?;
        self.frame.as_ref()?.sessions.all.iter().find(|session| session.pid == pid)
    }

    /// The statement that is selected, where the page shows statements.
    pub fn selected_statement(&self) -> Option<&Statement> {
        if self.page != Page::Statements {
            return None;
        }
        self.statements().ok()?.get(self.selected).copied()
    }

    fn keep_selection(&mut self) {
        self.selected = self.selected.min(self.rows().saturating_sub(1));
        self.selected_pid = self.pids().get(self.selected).copied();
    }

    fn select(&mut self, at: usize) {
        self.selected = at;
        self.keep_selection();
    }

    /// A key was pressed.
    pub fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Wish::Quit;
        }
        match std::mem::replace(&mut self.over, Over::Nothing) {
            Over::Filter => self.type_filter(key),
            Over::Confirm { session, whole } => match key.code {
                KeyCode::Char('y' | 'Y') => Wish::End { session, whole },
                _ => {
                    self.message = Some("nothing was done".into());
                    Wish::Nothing
                }
            },
            Over::Help | Over::Detail => match key.code {
                KeyCode::Char('q') => Wish::Quit,
                _ => Wish::Nothing,
            },
            Over::Nothing => self.command(key),
        }
    }

    fn type_filter(&mut self, key: KeyEvent) -> Wish {
        match key.code {
            KeyCode::Enter => {}
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Backspace => {
                self.filter.pop();
                self.over = Over::Filter;
            }
            KeyCode::Char(letter) => {
                if self.filter.chars().count() < 60 {
                    self.filter.push(letter);
                }
                self.over = Over::Filter;
            }
            _ => self.over = Over::Filter,
        }
        self.keep_selection();
        Wish::Nothing
    }

    fn command(&mut self, key: KeyEvent) -> Wish {
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char(digit @ '1'..='5') => return self.turn_to(digit as usize - '1' as usize),
            KeyCode::Tab => {
                let at = Page::ALL.iter().position(|(page, _)| *page == self.page).unwrap_or_default();
                return self.turn_to((at + 1) % Page::ALL.len());
            }
            KeyCode::Char(' ') => {
                self.paused = !self.paused;
                if !self.paused {
                    return Wish::Look;
                }
            }
            KeyCode::Char('s') if self.page == Page::Statements => self.statement_sort = self.statement_sort.next(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.over = Over::Filter,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('h' | '?') | KeyCode::F(1) => self.over = Over::Help,
            KeyCode::Enter if self.selected_session().is_some() || self.selected_statement().is_some() => {
                self.over = Over::Detail;
            }
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected + 1),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::PageDown => self.select(self.selected + 10),
            KeyCode::PageUp => self.select(self.selected.saturating_sub(10)),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX - 1),
            KeyCode::Char('+') => self.change_interval(1),
            KeyCode::Char('-') => self.change_interval(-1),
            KeyCode::Char('R') if self.page == Page::Statements => return Wish::Forget,
            KeyCode::Char('C') => self.ask(false),
            KeyCode::Char('K') => self.ask(true),
            _ => {}
        }
        Wish::Nothing
    }

    fn turn_to(&mut self, at: usize) -> Wish {
        self.page = Page::ALL[at].0;
        self.message = None;
        self.select(0);
        Wish::Look
    }

    fn change_interval(&mut self, by: isize) {
        let now = self.interval.as_secs();
        let at = INTERVALS.iter().position(|seconds| *seconds >= now).unwrap_or(INTERVALS.len() - 1);
        let next = at.saturating_add_signed(by).min(INTERVALS.len() - 1);
        self.interval = Duration::from_secs(INTERVALS[next]);
        self.message = Some(format!("a look every {} s", INTERVALS[next]));
    }

    fn ask(&mut self, whole: bool) {
        match self.selected_session().cloned() {
            Some(session) if session.is_client() => {
                self.over = Over::Confirm { session: Box::new(session), whole };
            }
            Some(session) => {
                self.message = Some(format!("{} {} is no client's session", session.backend_type, session.pid));
            }
            None => self.message = Some("no session is selected".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_observe::live::{overview::Overview, sessions::Sessions};

    fn session(pid: i64, user: &str, state_s: f64, blocked_by: &[i64]) -> LiveSession {
        LiveSession {
            pid,
            user: user.into(),
            state: "active".into(),
            backend_type: "client backend".into(),
            wait_event_type: if blocked_by.is_empty() { String::new() } else { "Lock".into() },
            state_s,
            blocked_by: blocked_by.to_vec(),
            ..LiveSession::default()
        }
    }

    fn screen() -> Screen {
        let all = vec![session(1, "ann", 5.0, &[]), session(2, "bob", 9.0, &[1]), session(3, "cid", 1.0, &[])];
        let mut screen = Screen::new(Duration::from_secs(2));
        screen.show(Frame {
            overview: Overview::default(),
            pace: None,
            sessions: Sessions { all, truncated: false },
            statements_since_s: 0.0,
            statements: None,
            replication: None,
        });
        screen
    }

    fn press(screen: &mut Screen, keys: &str) -> Wish {
        let press = |screen: &mut Screen, code| screen.press(KeyEvent::new(code, KeyModifiers::NONE));
        keys.chars().fold(Wish::Nothing, |_, letter| match letter {
            '\n' => press(screen, KeyCode::Enter),
            letter => press(screen, KeyCode::Char(letter)),
        })
    }

    fn pids(screen: &Screen) -> Vec<i64> {
        screen.sessions().iter().map(|session| session.pid).collect()
    }

    #[test]
    fn sorted_filtered_and_the_selection_follows_its_session() {
        let mut screen = screen();
        assert_eq!(pids(&screen), [2, 1, 3]);
        press(&mut screen, "j");
        assert_eq!(screen.selected_pid, Some(1));
        press(&mut screen, "sss");
        assert_eq!((screen.sort, pids(&screen)), (Sort::Database, vec![2, 1, 3]));
        press(&mut screen, "s");
        assert_eq!(pids(&screen), [1, 2, 3]);
        let again = screen.frame.clone().unwrap();
        screen.show(again);
        assert_eq!((screen.selected, screen.selected_pid), (0, Some(1)));
        press(&mut screen, "/bo\n");
        assert_eq!(pids(&screen), [2]);
        press(&mut screen, "2");
        assert_eq!(pids(&screen), [2]);
    }

    #[test]
    fn a_session_is_ended_only_after_a_yes() {
        let mut screen = screen();
        assert_eq!(press(&mut screen, "C"), Wish::Nothing);
        assert!(matches!(&screen.over, Over::Confirm { session, whole: false } if session.pid == 2));
        assert_eq!(press(&mut screen, "n"), Wish::Nothing);
        assert_eq!(screen.message.as_deref(), Some("nothing was done"));
        assert!(matches!(press(&mut screen, "Ky"), Wish::End { session, whole: true } if session.pid == 2));
        // A new look between question and answer does not change who is meant.
        press(&mut screen, "C");
        screen.frame.as_mut().unwrap().sessions.all.retain(|session| session.pid != 2);
        assert!(matches!(press(&mut screen, "y"), Wish::End { session, .. } if session.pid == 2));
    }

    #[test]
    fn the_servers_own_processes_are_left_alone() {
        let mut screen = screen();
        screen.frame.as_mut().unwrap().sessions.all[1].backend_type = "autovacuum worker".into();
        press(&mut screen, "ssss");
        press(&mut screen, "jC");
        assert_eq!(screen.over, Over::Nothing);
        assert!(screen.message.as_deref().unwrap().contains("no client's session"));
    }

    #[test]
    fn pages_pause_and_interval() {
        let mut screen = screen();
        assert_eq!(press(&mut screen, "4"), Wish::Look);
        assert_eq!((screen.page, screen.page.needs()), (Page::Statements, Besides::Statements));
        assert_eq!(press(&mut screen, " "), Wish::Nothing);
        assert!(screen.paused);
        assert_eq!(press(&mut screen, " "), Wish::Look);
        press(&mut screen, "+++++++++");
        assert_eq!(screen.interval, Duration::from_secs(60));
        press(&mut screen, "---------");
        assert_eq!(screen.interval, Duration::from_secs(1));
        assert_eq!(press(&mut screen, "q"), Wish::Quit);
    }
}
