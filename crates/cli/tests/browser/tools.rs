//! node, npm's packages and Chromium, and a script that they run.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
};
use surus_core::clock::Stopwatch;
use surus_testkit::peer::program;

/// The packages, and a copy of the scripts beside them: nothing is written into the source tree.
const PLACE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/browser-packages");
const SHOTS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/browser");
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// What it takes to drive a browser.
pub struct Tools {
    chromium: PathBuf,
}

impl Tools {
    /// None, said by the test's name, where something is missing.
    ///
    /// # Panics
    /// When it is missing where it must not be, and when the packages cannot be installed.
    pub fn get() -> Option<&'static Self> {
        static TOOLS: OnceLock<Result<Tools, String>> = OnceLock::new();
        match TOOLS.get_or_init(Self::find) {
            Ok(tools) => Some(tools),
            Err(missing) => {
                let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
                assert!(!set("SURUS_BROWSER_REQUIRE") && !set("CI"), "{missing}, and it is required here");
                let test = thread::current().name().unwrap_or("test").to_owned();
                eprintln!("skipped: {test}: {missing} (apt-get install chromium nodejs npm, or dev/setup)");
                None
            }
        }
    }

    fn find() -> Result<Self, String> {
        let wanted = ["chromium", "node", "npm"];
        let missing: Vec<&str> = wanted.into_iter().filter(|name| program(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(format!("{} is not installed", missing.join(", ")));
        }
        install();
        fs::create_dir_all(SHOTS).unwrap();
        eprintln!("screenshots go to {SHOTS}");
        Ok(Self { chromium: program("chromium").unwrap_or_default() })
    }

    /// Runs a script with node, and shows what it said.
    ///
    /// # Panics
    /// When it ends with another status than 0.
    pub fn run(&self, story: &str, arguments: &[&str], environment: &[(&str, &str)]) {
        let watch = Stopwatch::start();
        let mut node = Command::new("node");
        node.current_dir(PLACE).arg(story).args(arguments).envs(environment.iter().copied());
        node.env("SURUS_CHROMIUM", &self.chromium).env("SURUS_SHOTS", SHOTS);
        let output = node.output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = format!("{}{}", said(&output.stdout), said(&output.stderr));
        let seconds = watch.elapsed_ms() / 1000.0;
        assert!(output.status.success(), "{story} {arguments:?}, after {seconds:.1} s:\n{told}");
        eprintln!("{story} {arguments:?}: {seconds:.1} s\n{told}");
    }
}

/// Copies the scripts, and installs the packages when the lock file is another one than last time.
fn install() {
    let place = Path::new(PLACE);
    fs::create_dir_all(place).unwrap();
    for entry in fs::read_dir(SOURCE).unwrap() {
        let path = entry.unwrap().path();
        let is_wanted =
            path.extension().is_some_and(|ending| [OsStr::new("mjs"), OsStr::new("json")].contains(&ending));
        if is_wanted {
            fs::copy(&path, place.join(path.file_name().unwrap())).unwrap();
        }
    }
    let (wanted, mark) = (fs::read(place.join("package-lock.json")).unwrap(), place.join("installed-lock.json"));
    if fs::read(&mark).is_ok_and(|installed| installed == wanted) {
        return;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(place).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]);
    let output = npm.output().unwrap();
    assert!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&mark, wanted).unwrap();
}
