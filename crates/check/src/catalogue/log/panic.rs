use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope},
    scene::{Scene, prove_page},
    server_log,
    verdict::Verdict,
};
use surus_core::{clock, finding::Finding, plan::Plan};
use surus_pg::log_tail::{Level, LogEntry};

pub static CHECK: Check = Check {
    id: "log.panic",
    title: "the log tells of a crash, lost memory, damaged data or a full disk",
    inspects: "the last 4 MB of the current log file, up to 24 hours back",
    why: "Each of these is rare, ends sessions or loses data, and comes back unless somebody looks for its cause. The server \
          restarts itself after a crash, so that nobody may notice.",
    remedy: "Read the log around the line and treat it as an incident; for damaged pages check the newest backup first.",
    source: "pganalyze log insights, classes of server crash, out of memory and data corruption",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Custom(look),
};

/// What a class of lines means and what to do first.
struct Class {
    name: &'static str,
    what: &'static str,
    means: &'static str,
    first: &'static str,
    is: fn(&LogEntry) -> bool,
}

/// The first class that an entry belongs to counts.
const CLASSES: &[Class] = &[
    Class {
        name: "corruption",
        what: "damaged pages or files",
        means: "A page on disk is not what the server wrote. Reading on, and backing up on, may spread the loss.",
        first: "stop writing to the table if you can, verify that the newest backup restores, then check the storage; surus prove \
                page finds damaged pages and shows the way back",
        is: |entry| {
            let has = |text: &str| entry.message.contains(text);
            matches!(entry.sqlstate.as_deref(), Some("XX001" | "XX002"))
                || has("page verification failed")
                || has("invalid page in block")
                || has("missing chunk number")
                || has("could not read block")
        },
    },
    Class {
        name: "disk_full",
        what: "a full disk",
        means: "Writes failed for lack of room; without room for WAL the server stops.",
        first: "make room on the filesystem, WAL and data first; host.disk shows which",
        is: |entry| entry.sqlstate.as_deref() == Some("53100") || entry.message.contains("No space left on device"),
    },
    Class {
        name: "panic",
        what: "a PANIC",
        means: "The server could not go on safely and ended all sessions.",
        first: "read the lines before it; a PANIC about WAL or fsync points to the storage",
        is: |entry| entry.level == Level::Panic,
    },
    Class {
        name: "crash",
        what: "a server process that was killed or crashed",
        means: "All sessions were ended and the server recovered from WAL. Signal 9 is mostly the kernel's out-of-memory killer, \
                11 and 6 a bug in the server or an extension.",
        first: "signal 9: dmesg | grep -i oom, then work_mem and max_connections; 11 or 6: the extensions and the newest minor version",
        is: |entry| entry.message.contains("(PID ") && entry.message.contains("was terminated by signal"),
    },
    Class {
        name: "out_of_memory",
        what: "memory that the system refused",
        means: "A query or a new session failed because the machine had no memory left for it.",
        first: "lower work_mem or the number of sessions; host.memory shows what is left",
        is: |entry| {
            entry.level >= Level::Error
                && (entry.message == "out of memory" || entry.message.contains("Cannot allocate memory"))
        },
    },
];

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let tail = server_log::tail(scene, access).await?;
        let recent: Vec<&LogEntry> = tail.since(clock::now(), server_log::DAY).collect();
        let found = judge(scene.target, &recent);
        Ok(Verdict::of(found.into_iter().map(|finding| server_log::from_log(finding, &tail)).collect()))
    })
}

fn judge(target: &str, entries: &[&LogEntry]) -> Vec<Finding> {
    let class_of = |entry: &LogEntry| CLASSES.iter().position(|class| (class.is)(entry));
    let mut findings = Vec::new();
    for (at, class) in CLASSES.iter().enumerate() {
        let mine: Vec<&&LogEntry> = entries.iter().filter(|entry| class_of(entry) == Some(at)).collect();
        let Some(last) = mine.last() else { continue };
        let message: String = last.message.chars().take(300).collect();
        // A message that names a page leads to it.
        let page = mine.iter().rfind(|entry| entry.message.contains(" in block ") || entry.message.contains(" block "));
        let first = match page.filter(|_| class.name == "corruption") {
            Some(entry) => format!("{}; {}", prove_page(target, &["--log", &entry.message]), class.first),
            None => class.first.to_owned(),
        };
        findings.push(
            Finding::crit(class.name, format!("the log tells of {}, last {}", class.what, server_log::when(last)))
                .detail(class.means)
                .measured("lines", mine.len(), "lines")
                .saw("last line", message)
                .fix(Plan::advice(first)),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{CHECK, judge};
    use crate::testing::*;
    use surus_pg::log_tail::{Level, LogEntry};

    check_tests!(CHECK);

    #[test]
    fn sees_a_killed_backend() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), []);
            for text in ["was terminated by signal 9", "in recovery mode", "not yet accepting connections"] {
                on.server.expect_log(text);
            }
            on.kill_backend();
            let found = on.soon_finds();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["log.panic:crash"]);
            assert!(found[0].title.contains(" ago"), "{}", found[0].title);
        });
    }

    /// What a test server cannot be brought to write.
    #[test]
    fn tells_the_classes_apart() {
        let entry = |level, message: &str| LogEntry {
            at: None,
            level,
            sqlstate: None,
            client: None,
            message: message.into(),
            statement: None,
            context: None,
        };
        let entries = [
            entry(Level::Panic, "could not write to file \"pg_wal/xlogtemp.7\": No space left on device"),
            entry(Level::Warning, "page verification failed, calculated checksum 1 but expected 2"),
            entry(Level::Error, "out of shared memory"),
            entry(Level::Log, "archive command was terminated by signal 15: Terminated"),
            entry(Level::Error, "out of memory"),
            entry(Level::Panic, "could not locate a valid checkpoint record"),
        ];
        let found = judge("shop", &entries.iter().collect::<Vec<_>>());
        assert_eq!(
            found.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(),
            ["corruption", "disk_full", "panic", "out_of_memory"]
        );
        let page = entry(Level::Error, "invalid page in block 7 of relation base/5/16384");
        let advice = serde_json::to_string(&judge("shop", &[&page])[0].fix).unwrap();
        let command = "surus prove page shop --log 'invalid page in block 7 of relation base/5/16384'";
        assert!(advice.contains(command), "{advice}");
    }
}
