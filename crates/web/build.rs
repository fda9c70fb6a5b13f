//! Bundles the script and the style of the pages (`ui/`) into `OUT_DIR`, from where `src/assets.rs` embeds them.
//!
//! Packages come from npm under the lock file, into `OUT_DIR` and only when that file changed: the source tree stays as
//! it is. Without npm the build ends with one line that says what to install.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

const INSTALL: &str = "install it (Debian, Ubuntu: apt-get install npm), or run dev/setup";
/// What the bundle is made from, besides `src`.
const FILES: &[&str] = &["build.mjs", "package.json", "package-lock.json"];

fn main() -> ExitCode {
    for file in FILES.iter().chain(&["src"]) {
        println!("cargo::rerun-if-changed=ui/{file}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    match bundle() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error={}", why.replace(['\r', '\n'], " "));
            ExitCode::FAILURE
        }
    }
}

fn bundle() -> Result<(), String> {
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("ui");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let place = out.join("ui");
    copy(&source, &place).map_err(|error| format!("the sources of the pages were not copied to OUT_DIR: {error}"))?;
    install(&place)?;
    let mut node = Command::new("node");
    node.current_dir(&place).arg("build.mjs").arg(out.join("assets"));
    run(&mut node, "node", "the pages' script was not bundled")
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: this program is run by cargo"))
}

/// Copies what the bundle is made from, and takes away what is no longer there.
fn copy(source: &Path, place: &Path) -> io::Result<()> {
    let sources = place.join("src");
    if sources.exists() {
        fs::remove_dir_all(&sources)?;
    }
    copy_all(&source.join("src"), &sources)?;
    for file in FILES {
        fs::copy(source.join(file), place.join(file))?;
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_all(&path, &copy)?;
        } else {
            fs::copy(&path, &copy)?;
        }
    }
    Ok(())
}

/// Installs the packages when the lock file is another one than last time.
fn install(place: &Path) -> Result<(), String> {
    let (lock, mark) = (place.join("package-lock.json"), place.join("installed-lock.json"));
    let wanted = fs::read(&lock).map_err(|error| format!("{} was not read: {error}", lock.display()))?;
    if fs::read(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    // No package's own install script runs: esbuild's program comes as a package of its own for each platform.
    npm.current_dir(place).args([
        "ci",
        "--omit=dev",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
    ]);
    run(&mut npm, "npm", "the packages of the pages' script were not installed")?;
    fs::write(&mark, wanted).map_err(|error| format!("{} was not written: {error}", mark.display()))
}

fn run(command: &mut Command, name: &str, otherwise: &str) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{otherwise}: {name} said: {}", said(&output))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("{name} was not found; {INSTALL}")),
        Err(error) => Err(format!("{otherwise}: {name} did not start: {error}")),
    }
}

/// What went wrong, in one line: without the warnings that npm puts before it.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("npm warn")).collect();
    if lines.is_empty() {
        format!("nothing, and ended with {}", output.status)
    } else {
        lines[..lines.len().min(4)].join("; ")
    }
}
