//! One target: its checks, over at most two connections, or over one at a time where no more are allowed.

use super::{
    Reached, gate, manners,
    outcome::{Outcomes, Settled},
};
use crate::{
    catalogue,
    options::{Options, Thresholds},
    proving,
    readiness::{self, Standing},
    report::{Query, TargetReport},
    rule::{Access, Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Trouble, Verdict},
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};
use surus_core::{clock::Deadline, finding::Reason, proof::Proof};
use surus_pg::{Facts, Session, Target};

/// What the two workers of a target share.
struct Work<'a> {
    name: &'a str,
    target: &'a Target,
    facts: &'a Facts,
    siblings: Vec<(String, Facts)>,
    options: &'a Options,
    thresholds: Thresholds,
    deadline: Deadline,
    outcomes: Mutex<Outcomes>,
    queries: Mutex<Vec<Query>>,
    /// Database checks of the database that the first session is connected to; both workers take from it.
    own: Mutex<VecDeque<&'static Check>>,
    proofs: Mutex<Vec<Proof>>,
    autovacuum: Mutex<Vec<proving::autovacuum::Seen>>,
}

/// A database as a check meets it.
#[derive(Clone, Copy)]
struct Place<'a> {
    session: &'a Session,
    database: Option<&'a str>,
    extensions: &'a BTreeSet<String>,
}

pub(super) async fn look(
    reached: Reached,
    known: &[(String, Facts)],
    options: &Options,
    deadline: Deadline,
) -> TargetReport {
    let Reached { name, target, session, facts } = reached;
    let same_cluster = |other: &&(String, Facts)| {
        other.0 != name && other.1.system_identifier.is_some() && other.1.system_identifier == facts.system_identifier
    };
    let work = Work {
        name: &name,
        target: &target,
        facts: &facts,
        siblings: known.iter().filter(same_cluster).cloned().collect(),
        options,
        thresholds: Thresholds::new(options.config.thresholds.clone()),
        deadline,
        outcomes: Mutex::default(),
        queries: Mutex::default(),
        own: Mutex::default(),
        proofs: Mutex::default(),
        autovacuum: Mutex::default(),
    };
    work.record("facts", None, &session);
    let snapshot = work.begin_proofs(&session).await;
    if options.one_session {
        work.all_checks_in_one(session, snapshot).await;
    } else {
        work.all_checks(&session).await;
        work.end_proofs(&session, snapshot).await;
    }
    let Settled { findings, unknown, ok, not_applicable, suppressed, proofs } =
        locked(&work.outcomes, std::mem::take).settle(&options.config);
    let mut report = TargetReport {
        version: Some(facts.version.to_string()),
        role: Some(facts.replication_role()),
        cluster: facts.system_identifier.clone(),
        findings,
        unknown,
        ok,
        not_applicable,
        suppressed,
        queries: locked(&work.queries, std::mem::take),
        proofs,
        standing: Some(Standing::of(&facts)),
        ..TargetReport::empty(&name)
    };
    let (cluster, autovacuum) = (readiness::cluster_name(&report), locked(&work.autovacuum, std::mem::take));
    report.proofs.extend(locked(&work.proofs, std::mem::take));
    proving::settle_passwords(&mut report);
    report.proofs.extend(proving::autovacuum::judge(&report, &autovacuum, &cluster, &report.name));
    report.readiness = readiness::assess(&report, &[]);
    report
}

fn locked<T, R>(slot: &Mutex<T>, with: impl FnOnce(&mut T) -> R) -> R {
    let mut guard: MutexGuard<'_, T> = slot.lock().unwrap_or_else(PoisonError::into_inner);
    with(&mut guard)
}

impl Work<'_> {
    /// The checks that mean something here: of the instance, and of databases.
    fn selected(&self) -> (Vec<&'static Check>, VecDeque<&'static Check>) {
        let mut instance = Vec::new();
        let mut database = VecDeque::new();
        for check in catalogue::CHECKS.iter().filter(|check| self.options.selects(check)) {
            if let Some(why) = self.elsewhere(check) {
                self.add(check, None, Ok(Verdict::not_applicable(why)));
                continue;
            }
            match check.scope {
                Scope::Instance => instance.push(*check),
                Scope::Database => database.push_back(*check),
            }
        }
        (instance, database)
    }

    /// Runs everything with never more than one session open: what needs this one first, then what logs in anew, then
    /// the other databases.
    async fn all_checks_in_one(&self, session: Session, snapshot: Option<proving::statements::Snapshot>) {
        let (instance, database) = self.selected();
        let (anew, here): (Vec<_>, Vec<_>) = instance.into_iter().partition(|c| matches!(c.look, Look::Anew(_)));
        let extensions = self.extensions(&session).await;
        let place = Place { session: &session, database: None, extensions: &extensions };
        self.each(&here, &place).await;
        let (mine, databases) = self.databases();
        let checks: Vec<_> = database.iter().copied().collect();
        if mine {
            locked(&self.own, |own| *own = database);
            self.take_own(&session, &extensions).await;
        }
        self.end_proofs(&session, snapshot).await;
        let place = self.target.at(session.endpoint());
        session.close().await;
        for check in anew {
            self.anew(check, &place, &extensions).await;
        }
        for name in &databases {
            self.other_database(name, &checks).await;
        }
    }

    /// Runs everything, over two sessions.
    async fn all_checks(&self, session: &Session) {
        let (instance, database) = self.selected();
        // Custom looks may open a session of their own, so they come before the second worker has one.
        let (customs, others): (Vec<_>, Vec<_>) =
            instance.into_iter().partition(|c| matches!(c.look, Look::Custom(_) | Look::Anew(_)));
        let (pausing, plain): (Vec<_>, Vec<_>) = others.into_iter().partition(|c| matches!(c.look, Look::Pausing(_)));
        let extensions = self.extensions(session).await;
        let place = Place { session, database: None, extensions: &extensions };
        self.each(&customs, &place).await;
        let (mine, databases) = self.databases();
        let checks: Vec<_> = database.iter().copied().collect();
        if mine {
            locked(&self.own, |own| *own = database);
        }
        let mut helper = if pausing.is_empty() { None } else { self.target.connect(&manners()).await.ok() };
        let (by_first, by_second) = if helper.is_some() { (vec![], pausing) } else { (pausing, vec![]) };
        let first = async {
            self.each(&plain, &place).await;
            self.each(&by_first, &place).await;
            self.take_own(session, &extensions).await;
        };
        let second = async {
            if let Some(session) = &helper {
                self.each(&by_second, &Place { session, ..place }).await;
            }
            if !databases.is_empty()
                && let Some(session) = helper.take()
            {
                session.close().await;
            }
            for name in &databases {
                self.other_database(name, &checks).await;
            }
            // A long list is worth a second session; a short one is not.
            if locked(&self.own, |own| own.len()) > 8 {
                let session = match helper.take() {
                    Some(session) => Ok(session),
                    None => self.target.connect(&manners()).await,
                };
                if let Ok(session) = session {
                    self.take_own(&session, &extensions).await;
                }
            }
        };
        futures_util::future::join(first, second).await;
    }

    /// These checks, one after the other.
    async fn each(&self, checks: &[&'static Check], place: &Place<'_>) {
        for check in checks {
            self.one(check, place).await;
        }
    }

    /// Experiments are part of a whole look only, not of one for a few checks.
    fn proves(&self) -> bool {
        self.options.only.is_empty()
    }

    async fn begin_proofs(&self, session: &Session) -> Option<proving::statements::Snapshot> {
        let snapshot = if self.proves() { proving::statements::begin(session).await } else { None };
        self.record("proof", None, session);
        snapshot
    }

    async fn end_proofs(&self, session: &Session, snapshot: Option<proving::statements::Snapshot>) {
        let cluster = self.facts.system_identifier.clone().unwrap_or_else(|| self.name.to_owned());
        if let Some(snapshot) = snapshot {
            let proof = proving::statements::end(snapshot, session, &cluster, self.name).await;
            locked(&self.proofs, |proofs| proofs.extend(proof));
        }
        self.see_autovacuum(session).await;
        // A standby's repository is its primary's, and the primary proves it.
        if self.proves()
            && !self.facts.in_recovery
            && let Ok(protection) = crate::options::protection(&self.options.repositories, &cluster)
        {
            let sending = proving::backup::sending(session).await;
            let proof = proving::backup::prove(protection, sending.as_ref(), &cluster, self.name);
            locked(&self.proofs, |proofs| proofs.push(proof));
        }
        self.record("proof", None, session);
    }

    async fn see_autovacuum(&self, session: &Session) {
        if self.proves() && !self.facts.in_recovery {
            let seen = proving::autovacuum::look(session).await;
            locked(&self.autovacuum, |all| all.extend(seen));
        }
    }

    /// Takes checks of the own database until none is left.
    async fn take_own(&self, session: &Session, extensions: &BTreeSet<String>) {
        let place = Place { session, database: Some(&self.facts.database), extensions };
        while let Some(check) = locked(&self.own, VecDeque::pop_front) {
            self.one(check, &place).await;
        }
    }

    async fn other_database(&self, name: &str, checks: &[&'static Check]) {
        let target = self.target.with_database(name);
        match target.connect(&manners()).await {
            Ok(session) => {
                let extensions = self.extensions(&session).await;
                let place = Place { session: &session, database: Some(name), extensions: &extensions };
                for check in checks {
                    self.one(check, &place).await;
                }
                self.see_autovacuum(&session).await;
                self.record("proof", Some(name), &session);
                // Two sessions are the limit, and the next database takes one.
                session.close().await;
            }
            Err(error) => {
                for check in checks {
                    self.add(check, Some(name), Ok(Verdict::unknown(Reason::Unreachable(error.message.clone()))));
                }
            }
        }
    }

    /// The databases to look into: is the session's own among them, and which others. Those that cannot be entered
    /// or do not exist are reported as unknown.
    fn databases(&self) -> (bool, Vec<String>) {
        let wanted =
            |name: &str| self.options.databases.is_empty() || self.options.databases.iter().any(|one| one == name);
        let mut others = Vec::new();
        for database in self.facts.databases.iter().filter(|db| !db.is_template && wanted(&db.name)) {
            let why = match (database.allows_connections, database.may_connect) {
                _ if database.name == self.facts.database => continue,
                (true, true) => {
                    others.push(database.name.clone());
                    continue;
                }
                (false, _) => Reason::Unreachable("the database does not allow connections (datallowconn)".into()),
                (true, false) => {
                    Reason::Privilege(format!("the role {} has no CONNECT privilege", self.facts.role.name))
                }
            };
            for check in self.database_checks() {
                self.add(check, Some(&database.name), Ok(Verdict::unknown(why.clone())));
            }
        }
        for name in
            self.options.databases.iter().filter(|name| !self.facts.databases.iter().any(|db| db.name == **name))
        {
            let why = Reason::Unreachable("the server has no database of this name".into());
            for check in self.database_checks() {
                self.add(check, Some(name), Ok(Verdict::unknown(why.clone())));
            }
        }
        (wanted(&self.facts.database), others)
    }

    /// The selected checks that look into databases and mean something here.
    fn database_checks(&self) -> impl Iterator<Item = &'static Check> {
        let of_databases = catalogue::CHECKS.iter().copied().filter(|check| check.scope == Scope::Database);
        of_databases.filter(|check| self.options.selects(check) && self.elsewhere(check).is_none())
    }

    /// Why the check means nothing on this side of replication.
    fn elsewhere(&self, check: &Check) -> Option<&'static str> {
        match (check.runs_on, self.facts.in_recovery) {
            (RunsOn::Primary, true) => Some("this is a standby; the primary is asked"),
            (RunsOn::Standby, false) => Some("this is a primary; a standby is asked"),
            _ => None,
        }
    }

    async fn extensions(&self, session: &Session) -> BTreeSet<String> {
        let rows = session.ask("SELECT extname FROM pg_extension").await;
        self.record("facts", None, session);
        rows.map(|rows| rows.iter().filter_map(|row| row.text("extname").ok()).collect()).unwrap_or_default()
    }

    fn scene<'a>(&'a self, check: &'static Check, database: Option<&'a str>) -> Scene<'a> {
        Scene {
            check,
            target: self.name,
            facts: self.facts,
            siblings: &self.siblings,
            database,
            thresholds: &self.thresholds,
            repositories: &self.options.repositories,
            declared: &self.options.config.declared,
        }
    }

    /// One check at one place.
    async fn one(&self, check: &'static Check, place: &Place<'_>) {
        let scene = self.scene(check, place.database);
        let judged = self.in_time(check, place.extensions, self.judge(check, &scene, place)).await;
        self.record(check.id, place.database, place.session);
        self.add(check, place.database, judged);
    }

    /// One that logs in anew, while no other session is open.
    async fn anew(&self, check: &'static Check, target: &Target, extensions: &BTreeSet<String>) {
        let Look::Anew(look) = &check.look else { return };
        let scene = self.scene(check, None);
        let judged = self.in_time(check, extensions, look(&scene, target)).await;
        self.add(check, None, judged);
    }

    /// The verdict, if the check can look at all and does not take too long.
    async fn in_time(
        &self,
        check: &Check,
        extensions: &BTreeSet<String>,
        judging: impl Future<Output = Judged>,
    ) -> Judged {
        let late = || Ok(Verdict::unknown(Reason::Timeout("the run's time was up".into())));
        match gate::missing(check, self.facts, extensions) {
            Some(reason) => Ok(Verdict::unknown(reason)),
            None if self.deadline.passed() => late(),
            None => tokio::time::timeout(self.deadline.remaining(), judging).await.unwrap_or_else(|_| late()),
        }
    }

    async fn judge(&self, check: &'static Check, scene: &Scene<'_>, place: &Place<'_>) -> Judged {
        match &check.look {
            Look::Facts(judge) => judge(scene),
            Look::Later(reason) => Ok(Verdict::unknown(reason())),
            Look::Repository(judge) => judge(scene, scene.protection()?),
            Look::Custom(look) | Look::Pausing(look) => {
                let target = (!self.options.one_session).then_some(self.target);
                look(scene, Access { session: place.session, target }).await
            }
            Look::Anew(look) => look(scene, &self.target.at(place.session.endpoint())).await,
            Look::Query(_, judge) => {
                // An unknown newer major is asked as the newest known one.
                let major = self.facts.version.major().min(surus_core::version::NEWEST_MAJOR);
                let Some(sql) = check.sql(major) else {
                    let text = format!("PostgreSQL {} does not show it", self.facts.version);
                    return Err(Trouble::Unknown(Reason::Version(text)));
                };
                judge(scene, &place.session.ask(sql).await?)
            }
        }
    }

    fn add(&self, check: &'static Check, database: Option<&str>, judged: Judged) {
        locked(&self.outcomes, |outcomes| outcomes.add(check, database, judged));
    }

    fn record(&self, id: &'static str, database: Option<&str>, session: &Session) {
        let asked = session.take_asked().into_iter().map(|asked| Query {
            id,
            database: database.map(str::to_owned),
            sql: asked.sql,
            duration_ms: asked.duration_ms,
            rows: asked.rows,
            bytes: asked.bytes,
        });
        locked(&self.queries, |queries| queries.extend(asked));
    }
}
