//! A drill that is killed leaves nothing running; the next one removes the rest and says so, or goes on with it.

use crate::room::{Room, step, text_of};
use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};
use surus_testkit::require_major;

/// Processes that work below a directory.
fn working_below(dir: &Path) -> Vec<String> {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let of = |entry: fs::DirEntry| {
        let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        let lives = fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
        let ours = cwd.starts_with(&dir) || command.contains(&dir.display().to_string());
        (ours && lives && !command.is_empty()).then(|| format!("{} {command}", entry.file_name().to_string_lossy()))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn begin(room: &Room) -> Child {
    let scratch = room.path("copies");
    let mut command = room.surus(&["prove", "restore", "shop", "--reserve", "1kB", "--format", "json", "--scratch"]);
    command.arg(scratch).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_killed_drill_leaves_nothing_running_and_the_next_one_sweeps() {
    let room = Room::new(require_major(15).unwrap_or(15));
    room.back_up();
    room.switch_wal();
    let copies = room.path("copies");
    for pause_ms in [60, 250, 500, 800, 1200, 1800, 2500] {
        let mut drill = begin(&room);
        thread::sleep(Duration::from_millis(pause_ms));
        drill.kill().unwrap();
        drill.wait().unwrap();
        wait_until("something of the copy still runs", || working_below(&copies).is_empty());
    }
    // The last one while its copy is there for sure: its server runs.
    let mut drill = begin(&room);
    wait_until("no server was started", || working_below(&copies).iter().any(|line| line.contains("postgres")));
    drill.kill().unwrap();
    drill.wait().unwrap();
    wait_until("something of the copy still runs", || working_below(&copies).is_empty());
    assert!(!room.scratch_is_empty(), "what is on disk stays for the next one");
    let (code, value) = room.drill(&[]);
    assert_eq!(code, Some(0), "{value:#}");
    assert!(step(&value, "sweep")["result"].as_str().unwrap().contains("of interrupted runs removed"), "{value:#}");
    assert!(!value["report"]["swept"].as_array().unwrap().is_empty() && room.scratch_is_empty());
}

#[test]
fn an_interrupted_drill_cleans_up_and_records_nothing() {
    let room = Room::new(require_major(15).unwrap_or(15));
    room.back_up();
    room.switch_wal();
    let drill = begin(&room);
    wait_until("no copy was begun", || !room.scratch_is_empty());
    let pid = rustix::process::Pid::from_raw(i32::try_from(drill.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = drill.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(4), "{}", text_of(&ended));
    wait_until("the copy stays", || room.scratch_is_empty());
    assert_eq!(working_below(&room.path("copies")), Vec::<String>::new());
    let list = room.run(&["proof", "list", "--kind", "restore", "--format", "json"]);
    assert!(!text_of(&list).contains("\"outcome\""), "{}", text_of(&list));
}

#[test]
fn an_interrupted_restore_is_gone_on_with_when_that_is_asked_for() {
    let room = Room::new(require_major(15).unwrap_or(15));
    room.back_up();
    room.switch_wal();
    let journal = || {
        let places = fs::read_dir(room.path("copies")).ok()?;
        places.flatten().map(|place| place.path().join("data/surus_restore.json")).find(|journal| journal.exists())
    };
    for _ in 0..20 {
        let mut drill = begin(&room);
        wait_until("no restore was begun", || journal().is_some() || drill.try_wait().unwrap().is_some());
        thread::sleep(Duration::from_millis(100));
        let _ = drill.kill();
        drill.wait().unwrap();
        if journal().is_some() {
            break;
        }
    }
    let left = journal().expect("no restore was killed before it was done");
    wait_until("something still runs", || working_below(&room.path("copies")).is_empty());
    let (code, value) = room.drill(&["--resume"]);
    assert_eq!(code, Some(0), "{value:#}");
    let notes = step(&value, "choice")["evidence"].to_string();
    assert!(notes.contains("goes on with what an interrupted drill"), "{notes}");
    let commands = value["report"]["commands"].to_string();
    assert!(commands.contains(left.parent().unwrap().to_str().unwrap()), "the same place: {commands}");
    assert!(room.scratch_is_empty());
}
