//! The tests of the pages' script, run by node as `build.rs` runs the bundler.

use std::{fs, path::Path, process::Command};

#[test]
fn the_script_of_the_pages() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    // The packages are there, not in the source tree.
    let place = Path::new(env!("OUT_DIR")).join("ui");
    let tests = place.join("test");
    if tests.exists() {
        fs::remove_dir_all(&tests).unwrap();
    }
    fs::create_dir(&tests).unwrap();
    fs::copy(source.join("test.mjs"), place.join("test.mjs")).unwrap();
    for entry in fs::read_dir(source.join("test")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), tests.join(entry.file_name())).unwrap();
    }
    let out = tempfile::tempdir().unwrap();
    let ran = Command::new("node").current_dir(&place).arg("test.mjs").arg(out.path()).output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{text}\n{}", String::from_utf8_lossy(&ran.stderr));
    let passed = text.lines().find_map(|line| line.split_once("pass ")).map(|(_, count)| count.trim());
    assert!(passed.is_some_and(|count| count.parse::<u32>().is_ok_and(|count| count > 10)), "{text}");
}
