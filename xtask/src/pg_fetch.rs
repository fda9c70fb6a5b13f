//! `cargo xtask pg fetch`: PostgreSQL majors that the distribution does not have, from public packages, for tests.
//!
//! One directory `<cache>/<major>` with `bin`, `lib` and `share`. The server comes from one package; where another
//! package has the client programs of the same release they are put beside it, with the libraries they need in
//! `lib/clients`, which [`surus_pg::Programs`] then gives to the dynamic linker.

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use surus_pg::{
    account::Account,
    programs::{LIBRARIES, Programs, cache_dir},
};

const PACKAGES: &str = include_str!("pg_packages.tsv");
/// What is fetched without `--majors`: what a Debian 12 lacks of the majors in wide use.
const MAJORS: &[u16] = &[16, 17, 18];
/// Programs that are not taken over: they would answer for another installation.
const LEFT_OUT: &[&str] = &["pg_config", "ecpg"];
/// Programs that crash as packaged: pg_verifybackup 18.4 ends with a segmentation fault.
const BROKEN: &[(u16, &str)] = &[(18, "pg_verifybackup")];
/// Beside what is fetched: the packages that it came from.
const STAMP: &str = "packages.tsv";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    line: &'static str,
    major: u16,
    part: &'static str,
    from: &'static str,
    name: &'static str,
    version: &'static str,
    folder: &'static str,
    sha256: &'static str,
}

/// Fetches the majors that `arguments` name (`--majors 16,17`), or the usual ones.
pub fn run(arguments: &[String]) -> Result<()> {
    let majors = match arguments {
        [] => MAJORS.to_vec(),
        [flag, list] if flag == "--majors" => list
            .split(',')
            .map(|item| item.trim().parse().with_context(|| format!("\"{item}\" is no major")))
            .collect::<Result<_>>()?,
        _ => bail!("usage: cargo xtask pg fetch [--majors 12,13,14,16,17,18]"),
    };
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the packages are for Linux on x86-64; install PostgreSQL otherwise and set SURUS_PG_BIN to its bin directories"
    );
    let cache = cache_dir().context("neither HOME nor SURUS_PG_CACHE says where the cache is")?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let account = Account::unprivileged()?;
    account.can_enter(&cache).context("choose another cache with SURUS_PG_CACHE")?;
    let packages = packages()?;
    for major in majors {
        let parts: Vec<&Package> = packages.iter().filter(|package| package.major == major).collect();
        ensure!(!parts.is_empty(), "no package of PostgreSQL {major} is known; the table is xtask/src/pg_packages.tsv");
        fetch(major, &parts, &cache, &account).with_context(|| format!("PostgreSQL {major} was not fetched"))?;
    }
    Ok(())
}

fn fetch(major: u16, parts: &[&Package], cache: &Path, account: &Account) -> Result<()> {
    let home = cache.join(major.to_string());
    let stamp: String = parts.iter().map(|package| format!("{}\n", package.line)).collect();
    if fs::read_to_string(home.join(STAMP)).is_ok_and(|text| text == stamp)
        && let Ok(version) = verify(&home, account)
    {
        println!("PostgreSQL {version} is here: {}", home.display());
        return Ok(());
    }
    let fresh = cache.join(format!(".{major}.new"));
    let unpacked = cache.join(format!(".{major}.unpacked"));
    for left_over in [&fresh, &unpacked] {
        remove(left_over)?;
        fs::create_dir(left_over)?;
    }
    for package in parts {
        let file = download(package, &cache.join("downloads"))?;
        unpack(package, &file, &unpacked)?;
        match package.part {
            "server" => place_server(package, &unpacked, &fresh)?,
            _ => place_clients(package, &unpacked, &fresh)?,
        }
    }
    open_to_all(&fresh)?;
    fs::write(fresh.join(STAMP), &stamp)?;
    fs::set_permissions(fresh.join(STAMP), fs::Permissions::from_mode(0o644))?;
    remove(&unpacked)?;
    remove(&home)?;
    fs::rename(&fresh, &home)?;
    let version = verify(&home, account)?;
    let kind = if parts.len() > 1 { "server and client programs" } else { "server only" };
    println!("PostgreSQL {version} ({kind}): {}", home.display());
    Ok(())
}

fn packages() -> Result<Vec<Package>> {
    let lines = PACKAGES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let fields: Vec<&'static str> = line.split('\t').collect();
            let &[major, part, from, name, version, folder, sha256] = fields.as_slice() else {
                bail!("not seven fields: {line}");
            };
            Ok(Package { line, major: major.parse()?, part, from, name, version, folder, sha256 })
        })
        .collect()
}

/// The package's file, with the hash that the table gives; from an earlier download if that is still good.
fn download(package: &Package, downloads: &Path) -> Result<PathBuf> {
    let dir = downloads.join(package.sha256);
    if let Some(file) = only_file(&dir)?
        && sha256(&file)? == package.sha256
    {
        return Ok(file);
    }
    remove(&dir)?;
    fs::create_dir_all(&dir)?;
    println!("fetching {} {} ({})", package.name, package.version, package.from);
    let mut client = match package.from {
        "npm" => {
            let mut npm = Command::new("npm");
            npm.args(["pack", "--silent", "--pack-destination"]).arg(&dir);
            npm.arg(format!("{}@{}", package.name, package.version));
            npm
        }
        _ => {
            // The wheels differ by interpreter only in a module that is not used here: take one, whatever runs here.
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"])
                .arg(&dir);
            pip.args(["--only-binary=:all:", "--python-version=311", "--implementation=cp", "--abi=cp311"]);
            pip.arg("--platform=manylinux_2_28_x86_64").arg(format!("{}=={}", package.name, package.version));
            pip
        }
    };
    run_program(&mut client, missing_client(package.from))?;
    let file = only_file(&dir)?.context("the download left no file")?;
    let found = sha256(&file)?;
    if found != package.sha256 {
        remove(&dir)?;
        bail!("{} has SHA-256 {found}, the table says {}; it was removed", package.name, package.sha256);
    }
    Ok(file)
}

fn missing_client(from: &str) -> &'static str {
    match from {
        "npm" => "npm is needed to fetch it: sudo apt-get install npm",
        _ => "pip is needed to fetch it: sudo apt-get install python3-pip",
    }
}

/// Unpacks it to `<dir>/<part>`.
fn unpack(package: &Package, file: &Path, dir: &Path) -> Result<()> {
    let to = dir.join(package.part);
    fs::create_dir(&to)?;
    if package.from == "npm" {
        run_program(Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(&to), "tar is needed to unpack it")
    } else {
        run_program(
            Command::new("python3").args(["-m", "zipfile", "-e"]).arg(file).arg(&to),
            "python3 is needed to unpack it",
        )
    }
}

fn place_server(package: &Package, unpacked: &Path, home: &Path) -> Result<()> {
    let from = unpacked.join(package.part).join(package.folder);
    for folder in ["bin", "lib", "share"] {
        fs::rename(from.join(folder), home.join(folder)).with_context(|| format!("the package has no {folder}"))?;
    }
    // A package of this registry cannot hold symbolic links; it lists them instead, as paths from above its folder.
    let above = from.file_name().context("the folder has a name")?;
    let list = fs::read_to_string(from.join("pg-symlinks.json")).context("the package has no list of its links")?;
    let links: Vec<Link> = serde_json::from_str(&list).context("the list of links has an unknown form")?;
    for link in links {
        let inside = |path: &str| -> Result<PathBuf> {
            let path = Path::new(path).strip_prefix(above)?.to_owned();
            ensure!(
                path.components().all(|part| matches!(part, std::path::Component::Normal(_))),
                "{} leads out",
                path.display()
            );
            Ok(path)
        };
        let (source, target) = (inside(&link.source)?, inside(&link.target)?);
        ensure!(source.parent() == target.parent(), "the link {} leaves its directory", link.target);
        let name = source.file_name().context("the link leads to a file")?;
        match symlink(name, home.join(&target)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Link {
    source: String,
    target: String,
}

fn place_clients(package: &Package, unpacked: &Path, home: &Path) -> Result<()> {
    let from = unpacked.join(package.part);
    for entry in fs::read_dir(from.join(package.folder).join("bin"))? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let to = home.join("bin").join(&name);
        let wanted = !LEFT_OUT.iter().any(|left_out| name == *left_out)
            && !BROKEN.iter().any(|(major, broken)| package.major == *major && name == *broken);
        if wanted && !to.exists() {
            fs::rename(entry, to)?;
        }
    }
    // Their libraries have names of their own, so they shadow nothing on the search path.
    let libraries = home.join(LIBRARIES);
    fs::create_dir_all(&libraries)?;
    let package_folder = package.folder.split('/').next().unwrap_or_default();
    for entry in fs::read_dir(from.join(format!("{package_folder}.libs")))? {
        let entry = entry?;
        fs::rename(entry.path(), libraries.join(entry.file_name()))?;
    }
    Ok(())
}

/// Runs what was assembled as the account that servers will run as, and returns the version.
fn verify(home: &Path, account: &Account) -> Result<String> {
    let programs = Programs::in_bin(&home.join("bin")).context("its postgres does not run")?;
    for entry in fs::read_dir(programs.bin_dir())? {
        let mut command = account.command(&entry?.path(), Path::new("/"));
        if let Some(libraries) = programs.library_path() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let output = command.arg("--version").stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
        ensure!(
            output.status.success() && text.ends_with(&format!(" {}", programs.version())),
            "{:?} answered to --version: {text} ({})",
            command.get_program(),
            output.status
        );
    }
    Ok(programs.version().to_string())
}

/// Everybody may read, enter and run: the servers' account is not the one that fetched.
fn open_to_all(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let runs = meta.is_dir() || path.parent().is_some_and(|dir| dir.ends_with("bin"));
    fs::set_permissions(path, fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}

fn run_program(command: &mut Command, missing: &'static str) -> Result<()> {
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(missing),
        output => output?,
    };
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!text.contains("No module named pip"), missing);
    ensure!(output.status.success(), "{:?} failed ({}): {}", command.get_program(), output.status, text.trim());
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(fs::read(path)?);
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn only_file(dir: &Path) -> Result<Option<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        entries => Ok(entries?.next().transpose()?.map(|entry| entry.path())),
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        let packages = packages().unwrap();
        for package in &packages {
            assert!(["server", "clients"].contains(&package.part), "{}", package.line);
            assert!(["npm", "pip"].contains(&package.from), "{}", package.line);
            assert!(
                package.sha256.len() == 64 && package.sha256.bytes().all(|b| b.is_ascii_hexdigit()),
                "{}",
                package.line
            );
        }
        for major in MAJORS {
            assert!(packages.iter().any(|package| package.major == *major && package.part == "server"));
        }
    }
}
