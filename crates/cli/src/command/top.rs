//! `surus top`: the live view of one server.

use crate::{
    args::{DataFormat, Global, TopArgs},
    config::Config,
    failure::Failure,
    ledger,
    output::print,
    top::{
        draw::{self, Subject},
        screen::{Screen, Wish},
    },
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use std::{io::IsTerminal, time::Duration};
use surus_core::{clock, code};
use surus_observe::live::{
    Besides, Eye, LookError,
    ending::{Act, Ending},
    sessions::LiveSession,
};
use surus_pg::{Facts, Manners, Session, Target};
use tokio::sync::mpsc;

/// A look may take so long; after that the server is too busy to be asked.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the command.
pub async fn run(global: &Global, args: TopArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let given = super::given(args.target.as_slice(), &config)?;
    let [one] = given.as_slice() else {
        return Err(Failure::new(code::CONFIG_TARGET, "surus top looks at one server; name it: surus top <DSN>"));
    };
    let target = one.target.clone().map_err(Failure::from)?;
    let mut eyes = Eyes::open(target).await?;
    if args.once {
        let result = once(&mut eyes, args.interval, args.format).await;
        eyes.close().await;
        return result;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            code::OUTPUT_TERMINAL,
            "nothing was shown: standard input and output are no terminal",
        ));
    }
    let subject = Subject {
        place: format!("{}/{}", eyes.session.endpoint(), eyes.facts.database),
        version: format!("PostgreSQL {}", eyes.facts.version),
        colours: !global.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let terminal = ratatui::try_init()
        .map_err(|error| Failure::new(code::OUTPUT_TERMINAL, format!("the terminal cannot be used: {error}")))?;
    let screen = Screen::new(Duration::from_secs(args.interval));
    let result = watch(terminal, screen, &mut eyes, &subject, global, &config).await;
    ratatui::restore();
    eyes.close().await;
    result.map(|()| 0)
}

/// The session that looks. It is opened anew when it is lost.
struct Eyes {
    target: Target,
    session: Session,
    facts: Facts,
    eye: Eye,
}

impl Eyes {
    async fn open(target: Target) -> Result<Self, Failure> {
        let (session, facts) = connect(&target).await?;
        Ok(Self { target, session, facts, eye: Eye::open(STATEMENT_TIMEOUT) })
    }

    async fn look(&mut self, besides: Besides) -> Result<surus_observe::live::Frame, String> {
        if !self.session.is_open() {
            let (session, facts) = connect(&self.target).await.map_err(|failure| failure.message)?;
            (self.session, self.facts) = (session, facts);
        }
        self.eye.look(&self.session, &self.facts, besides).await.map_err(|error: LookError| error.to_string())
    }

    async fn close(self) {
        self.session.close().await;
    }
}

async fn connect(target: &Target) -> Result<(Session, Facts), Failure> {
    let manners = Manners { application_name: "surus top".into(), ..Manners::looking() };
    let session = target.connect(&manners).await.map_err(Failure::from)?;
    let facts = Facts::gather(&session)
        .await
        .map_err(|error| Failure::new(error.code(), format!("nothing was shown: {error}")))?;
    Ok((session, facts))
}

/// Two looks, so that there is a pace; then the text or the data of the second.
async fn once(eyes: &mut Eyes, interval: u64, format: DataFormat) -> Result<u8, Failure> {
    let failed = |why: String| Failure::new(code::QUERY_FAILED, format!("nothing was shown: {why}"));
    eyes.look(Besides::Statements).await.map_err(failed)?;
    tokio::time::sleep(Duration::from_secs(interval)).await;
    let mut frame = eyes.look(Besides::Statements).await.map_err(failed)?;
    frame.replication = eyes.look(Besides::Replication).await.map_err(failed)?.replication;
    let text = match format {
        DataFormat::Json => {
            serde_json::to_string_pretty(&frame).map_err(|error| Failure::bug(error.to_string()))? + "\n"
        }
        DataFormat::Text => plain(&frame),
    };
    print(&text)?;
    Ok(0)
}

/// One look as lines, for a pipe or a log.
fn plain(frame: &surus_observe::live::Frame) -> String {
    let overview = &frame.overview;
    let mut out = format!(
        "{} of {} sessions · {} active · {} wait for locks\n",
        overview.connections,
        overview.max_connections,
        frame.sessions.all.iter().filter(|session| session.is_active() && session.is_client()).count(),
        frame.sessions.all.iter().filter(|session| session.waits_for_lock()).count(),
    );
    for session in &frame.sessions.all {
        let wait = match session.wait_event_type.as_str() {
            "" => String::new(),
            kind => format!("  {kind}:{}", session.wait_event),
        };
        let blocked = match session.blocked_by.as_slice() {
            [] => String::new(),
            pids => format!("  blocked by {}", pids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
        };
        out.push_str(&format!(
            "{:>7}  {}  {}  {}  {}{wait}{blocked}  {}\n",
            session.pid,
            session.user,
            session.database,
            draw::short_time(session.state_s),
            session.state,
            draw::one_line(&session.query, 200),
        ));
    }
    out
}

/// Until somebody quits.
async fn watch(
    mut terminal: DefaultTerminal,
    mut screen: Screen,
    eyes: &mut Eyes,
    subject: &Subject,
    global: &Global,
    config: &Config,
) -> Result<(), Failure> {
    let mut keys = keys();
    let mut due = clock::Deadline::after(Duration::ZERO);
    loop {
        if !screen.paused && due.passed() {
            match eyes.look(screen.page.needs()).await {
                Ok(frame) => {
                    if screen.stale {
                        screen.message = None;
                    }
                    screen.show(frame);
                }
                Err(why) => screen.fail(why),
            }
            due = clock::Deadline::after(screen.interval);
        }
        terminal
            .draw(|frame| draw::draw(frame, &screen, subject))
            .map_err(|error| Failure::new(code::OUTPUT_TERMINAL, format!("the terminal cannot be written: {error}")))?;
        let pressed = tokio::select! {
            event = keys.recv() => match event {
                Some(event) => event,
                None => return Ok(()),
            },
            () = tokio::time::sleep(due.remaining()), if !screen.paused => continue,
        };
        let Event::Key(key) = pressed else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        if !screen.stale {
            screen.message = None;
        }
        match screen.press(key) {
            Wish::Nothing => {}
            Wish::Quit => return Ok(()),
            Wish::Look => due = clock::Deadline::after(Duration::ZERO),
            Wish::Forget => {
                eyes.eye.forget_statements();
                due = clock::Deadline::after(Duration::ZERO);
            }
            Wish::End { session, whole } => {
                screen.message = Some(end(eyes, &session, whole, global, config).await);
                due = clock::Deadline::after(Duration::ZERO);
            }
        }
    }
}

/// Keys, read by a thread of their own: reading them blocks.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Ends a statement or a session, writes it down, and says what came of it.
async fn end(eyes: &Eyes, session: &LiveSession, whole: bool, global: &Global, config: &Config) -> String {
    let (began, watch) = (clock::now(), clock::Stopwatch::start());
    let ending = Ending {
        act: if whole { Act::Terminate } else { Act::Cancel },
        pid: session.pid,
        backend_start: session.backend_start.clone(),
        query_start: None,
        user: session.user.clone(),
        database: session.database.clone(),
        query: session.query.clone(),
    };
    let ended = ending.came(&eyes.session.ask(&ending.sql()).await);
    let cluster = eyes.facts.system_identifier.clone().unwrap_or_else(|| eyes.session.endpoint().to_string());
    let entry = ending.entry(&cluster, began, &ended, watch.elapsed_ms());
    let said = ended.said;
    // In an emergency the ledger must not stand in the way; that it was not written is said.
    match ledger::open(global, config).and_then(|store| store.append(&entry).map_err(Failure::from)) {
        Ok(entry) => format!("{said} (entry {} of the ledger)", entry.number),
        Err(failure) => format!("{said}; not recorded: {}", failure.message),
    }
}
