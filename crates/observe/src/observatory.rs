//! All targets together.

use crate::{
    desk::Desk,
    house::{self, House},
    own::{Checked, Protected},
    process,
    second::Place,
    settings::{Settings, Watched},
    snapshot::{Snapshot, TargetNow},
    watch::{Beside, Shown, Watch},
    why::Why,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use surus_core::{clock, code, proof::Proof};
use surus_pg::Target;
use surus_store::samples::SampleStore;
use tokio::{sync::watch, task::JoinHandle};

/// How long the store may take to write what is left at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);

/// Watches targets until it is stopped. Dropping it stops at once, without goodbye to the servers.
#[derive(Debug)]
pub struct Observatory {
    settings: Arc<Mutex<Arc<Settings>>>,
    desk: Desk,
    posts: Arc<Mutex<Vec<Post>>>,
    house: Arc<House>,
    /// Reads the machine and surus's own process.
    keeper: JoinHandle<()>,
}

/// A target and the task that watches it.
#[derive(Debug)]
struct Post {
    watched: Watched,
    shown: Arc<Shown>,
    beside: Arc<Beside>,
    stop: watch::Sender<bool>,
    /// None for a target whose connection string cannot be understood.
    task: Option<JoinHandle<()>>,
}

impl Observatory {
    /// Begins to watch. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When the system has no thread for writing to the store.
    pub fn start(targets: Vec<Watched>, settings: Settings, store: Arc<SampleStore>) -> std::io::Result<Self> {
        let desk = Desk::open(store, settings.remote_write.clone())?;
        let settings = Arc::new(Mutex::new(Arc::new(settings)));
        let (posts, house) = (Arc::<Mutex<Vec<Post>>>::default(), Arc::<House>::default());
        let (theirs, how) = (posts.clone(), settings.clone());
        let look = Box::new(move || {
            let posts = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            let targets = posts.iter().map(|post| (post.watched.clone(), post.shown.get())).collect();
            (how.lock().unwrap_or_else(PoisonError::into_inner).clone(), targets)
        });
        let keeper = tokio::spawn(house::keep(desk.clone(), house.clone(), look));
        let observatory = Self { settings, desk, posts, house, keeper };
        let posts = targets.into_iter().map(|watched| observatory.begin(watched, Arc::default())).collect();
        *observatory.posts() = posts;
        Ok(observatory)
    }

    fn posts(&self) -> MutexGuard<'_, Vec<Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, watched: Watched, beside: Arc<Beside>) -> Post {
        let (stop, stopped) = watch::channel(false);
        let target = Target::parse(&watched.dsn);
        let shown = Arc::new(Shown::new(at_first(&watched, target.as_ref().err().map(Why::from))));
        let task = match target {
            Ok(target) => {
                let (settings, desk) = (self.settings(), self.desk.clone());
                let watch = Watch::new(watched.clone(), target, settings, desk, shown.clone(), beside.clone());
                Some(tokio::spawn(watch.run(stopped)))
            }
            Err(error) => {
                tracing::error!(target = %watched.name, code = error.code.id, "not watched: {error}");
                None
            }
        };
        Post { watched, shown, beside, stop, task }
    }

    /// The newest answers of all targets. Asks nobody.
    pub fn snapshot(&self) -> Snapshot {
        let own = Arc::new(process::told(&self.desk));
        Snapshot { at_ms: clock::now_ms(), targets: self.targets(), own, host: self.house.host() }
    }

    /// Why nothing is remembered now, if nothing is.
    pub fn store_trouble(&self) -> Option<String> {
        self.desk.trouble()
    }

    /// Each target's state, in the order of the configuration.
    pub fn targets(&self) -> Vec<Arc<TargetNow>> {
        self.posts().iter().map(|post| post.shown.get()).collect()
    }

    /// Watches these targets from now on, at this pace. One whose description has not changed is watched on without a
    /// gap, unless the pace is another. The store and what sends on from it stay as they were.
    pub async fn reload(&self, targets: Vec<Watched>, settings: Settings) {
        let same_pace = self.settings().same_pace(&settings);
        let gone = {
            let mut posts = self.posts();
            let stays = |post: &Post| same_pace && targets.contains(&post.watched);
            let (kept, gone): (Vec<Post>, Vec<Post>) = std::mem::take(&mut *posts).into_iter().partition(stays);
            *posts = kept;
            gone
        };
        for post in &gone {
            post.stop.send_replace(true);
        }
        let besides: Vec<(Watched, Arc<Beside>)> =
            gone.iter().map(|post| (post.watched.clone(), post.beside.clone())).collect();
        // Before its successor begins: never more connections than two.
        for post in gone {
            post.end().await;
        }
        let settings = Settings { remote_write: self.settings().remote_write.clone(), ..settings };
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        let mut posts = self.posts();
        let mut before = std::mem::take(&mut *posts);
        for watched in targets {
            let kept = before.iter().position(|post| post.watched == watched).map(|at| before.swap_remove(at));
            // Whoever has its second session now still has it afterwards.
            let same = |(old, _): &&(Watched, _)| old.dsn == watched.dsn || old.name == watched.name;
            let beside = besides.iter().find(same).map(|(_, beside)| beside.clone()).unwrap_or_default();
            let post = kept.unwrap_or_else(|| self.begin(watched, beside));
            posts.push(post);
        }
    }

    /// Waits for the place of the second session with a target that is up, and keeps trips from opening theirs. `what`
    /// is said to those who find it taken.
    ///
    /// # Errors
    /// When there is no such target, when it is down, and when the place is not free in time.
    pub async fn second_place(&self, target: &str, what: &'static str, patience: Duration) -> Result<Place, Why> {
        let found = {
            let posts = self.posts();
            let post = posts.iter().find(|post| post.watched.name == target);
            post.map(|post| (post.watched.dsn.clone(), post.shown.get(), post.beside.clone()))
        };
        let Some((dsn, now, beside)) = found else {
            return Err(Why::error(code::CONFIG_TARGET, format!("surus watches no target of the name \"{target}\"")));
        };
        if !now.up {
            let not_yet = || Why::error(code::CONNECT_OTHER, format!("{target} has not been reached yet"));
            return Err(now.trouble.clone().unwrap_or_else(not_yet));
        }
        let target = Target::parse(&dsn).map_err(|error| Why::from(&error))?;
        Place::wait(&beside.second, target, what, patience).await
    }

    /// What a run of the checks found and cost becomes series of the target.
    pub fn note_checked(&self, target: &str, checked: Checked) {
        if let Some(post) = self.posts().iter().find(|post| post.watched.name == target) {
            post.beside.note_checked(checked);
        }
    }

    /// What repositories hold for a target becomes its series.
    pub fn note_protected(&self, target: &str, protected: Protected) {
        if let Some(post) = self.posts().iter().find(|post| post.watched.name == target) {
            post.beside.note_protected(protected);
        }
    }

    /// What the ledger holds for a target becomes its series: the newest proof of each kind and subject.
    pub fn note_proofs(&self, target: &str, proofs: Vec<Proof>) {
        if let Some(post) = self.posts().iter().find(|post| post.watched.name == target) {
            post.beside.note_proofs(proofs);
        }
    }

    /// What repositories held for a target when they were last looked at.
    pub fn protected(&self, target: &str) -> Vec<Protected> {
        let posts = self.posts();
        posts.iter().find(|post| post.watched.name == target).map_or_else(Vec::new, |post| post.beside.protected())
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all sessions and hands over what is left.
    pub async fn stop(&self) {
        self.keeper.abort();
        let posts = std::mem::take(&mut *self.posts());
        for post in &posts {
            post.stop.send_replace(true);
        }
        for post in posts {
            post.end().await;
        }
        let desk = self.desk.clone();
        // A store that hangs must not keep surus from ending.
        let _flushed = tokio::task::spawn_blocking(move || desk.flush(FLUSH_WITHIN)).await;
    }
}

impl Post {
    async fn end(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(target = %self.watched.name, "watching broke off: {error}");
        }
    }
}

impl Drop for Observatory {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn at_first(watched: &Watched, trouble: Option<Why>) -> TargetNow {
    TargetNow {
        name: watched.name.clone(),
        cluster: watched.cluster.clone(),
        server: String::new(),
        up: false,
        since_ms: clock::now_ms(),
        trouble,
        version: None,
        role: None,
        system_identifier: None,
        places: None,
        connections: 0,
        skipped: 0,
        answers: Vec::new(),
        collectors: Vec::new(),
        missing: Vec::new(),
    }
}
