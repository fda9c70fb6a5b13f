//! `surus report instance`: a range of one target as a file to send. The `surus serve` that runs makes it.

use super::query::moment;
use crate::{
    args::{Global, ReportArgs, ReportFormat},
    config::Config,
    failure::Failure,
    output::{NewFile, json, print},
    remote::{Remote, unreachable},
};
use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::Value;
use std::path::{Path, PathBuf};
use surus_core::{clock, code, size::Bytes};

/// surus's own API.
const API: [&str; 3] = ["api", "surus", "v1"];

/// Runs the command.
pub async fn run(global: &Global, args: ReportArgs) -> Result<u8, Failure> {
    let now_ms = clock::now_ms();
    let (from_ms, to_ms) = (moment(&args.from, now_ms)?, moment(&args.to, now_ms)?);
    if to_ms <= from_ms {
        return Err(Failure::new(code::PROMQL_TIME, "no report was made: the range ends before it begins"));
    }
    // What is there already is found out before anybody works.
    let early = args.output.as_deref().map(|path| place(path, args.force)).transpose()?;
    let remote = match &args.server {
        Some(url) => Remote::new(url, "--server")?,
        None => Remote::running(&Config::load(global.config.as_deref())?, "--server")?,
    };
    let target = match &args.target {
        Some(target) => target.clone(),
        None => only(targets(&remote).await?)?,
    };
    let place = match early {
        Some(place) => place,
        None if args.format == ReportFormat::Json => Place::StandardOutput,
        None => place(&default_name(&target, from_ms, to_ms), args.force)?,
    };
    let range = [("from", from_ms.to_string()), ("to", to_ms.to_string())];
    let text = match args.format {
        ReportFormat::Html => page(&remote, &target, &range).await?,
        ReportFormat::Json => json(&data(&remote, &target, &range).await?)?,
    };
    match place {
        Place::StandardOutput => print(&text)?,
        Place::File(file) => {
            let told = format!("{} written ({}).\n", file.path().display(), Bytes(text.len() as u64));
            file.write(&text)?;
            if !global.quiet {
                print(&told)?;
            }
        }
    }
    Ok(0)
}

/// Where the report goes.
enum Place {
    StandardOutput,
    File(NewFile),
}

fn place(path: &Path, force: bool) -> Result<Place, Failure> {
    if path == Path::new("-") {
        return Ok(Place::StandardOutput);
    }
    Ok(Place::File(NewFile::at(path, force)?))
}

fn default_name(target: &str, from_ms: i64, to_ms: i64) -> PathBuf {
    let time = |at_ms: i64| match Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.strftime("%Y%m%dT%H%MZ").to_string(),
        Err(_) => at_ms.to_string(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let target: String = target.chars().map(plain).collect();
    format!("surus-{target}-{}-{}.html", time(from_ms), time(to_ms)).into()
}

fn failed(code: code::Code, why: impl std::fmt::Display) -> Failure {
    Failure::new(code, format!("no report was made: {why}"))
}

/// The HTML; when there is none, the API is asked why.
async fn page(remote: &Remote, target: &str, range: &[(&'static str, String)]) -> Result<String, Failure> {
    let (status, text) = remote.text(&["t", target, "report"], range).await?;
    if status == StatusCode::OK && text.starts_with("<!DOCTYPE html>") {
        return Ok(text);
    }
    if status == StatusCode::UNAUTHORIZED {
        return Err(login());
    }
    data(remote, target, range).await?;
    Err(unreachable(format!("what came is no report of a surus (HTTP status {status}); is --server right?")))
}

/// The view as JSON.
async fn data(remote: &Remote, target: &str, range: &[(&'static str, String)]) -> Result<Value, Failure> {
    let [api, surus, version] = API;
    let (status, text) = remote.text(&[api, surus, version, "targets", target, "report"], range).await?;
    match answer(status, &text) {
        Err(Refused { kind, why }) if kind == "not_found" => {
            let known = targets(remote).await?;
            if known.iter().any(|one| one == target) {
                return Err(unreachable(format!("{why}; that surus is older than this one")));
            }
            Err(failed(code::REPORT_TARGET, format!("no target is called {target:?}; {}", named(&known))))
        }
        other => other.map_err(Failure::from),
    }
}

/// Who is watched.
async fn targets(remote: &Remote) -> Result<Vec<String>, Failure> {
    let [api, surus, version] = API;
    let (status, text) = remote.text(&[api, surus, version, "fleet"], &[]).await?;
    let fleet = answer(status, &text)?;
    let cards = fleet["targets"].as_array().ok_or_else(|| unreachable("the answer has a shape that is not known"))?;
    let mut names: Vec<String> = cards.iter().filter_map(|card| card["name"].as_str().map(str::to_owned)).collect();
    names.sort_unstable();
    Ok(names)
}

fn only(mut names: Vec<String>) -> Result<String, Failure> {
    match names.len() {
        1 => Ok(names.remove(0)),
        _ => Err(failed(code::REPORT_TARGET, format!("which target? {}", named(&names)))),
    }
}

fn named(names: &[String]) -> String {
    match names {
        [] => "none is watched there".to_owned(),
        [name] => format!("the only one is {name}"),
        names => format!("there are {}", names.join(", ")),
    }
}

fn login() -> Failure {
    failed(code::SERVE_LOGIN, "a password or token is needed, or the one that was given is wrong")
}

/// An answer of the API that is none.
#[derive(Debug)]
struct Refused {
    kind: String,
    why: String,
}

impl From<Refused> for Failure {
    fn from(Refused { kind, why }: Refused) -> Self {
        match kind.as_str() {
            "login" => login(),
            "bad_data" => failed(code::PROMQL_TIME, why),
            _ => failed(code::PROMQL_REMOTE, why),
        }
    }
}

/// The data of an answer.
fn answer(status: StatusCode, text: &str) -> Result<Value, Refused> {
    let refused = |kind: &str, why: String| Err(Refused { kind: kind.to_owned(), why });
    if status == StatusCode::UNAUTHORIZED {
        return refused("login", String::new());
    }
    let mut answer: Value = serde_json::from_str(text).unwrap_or_default();
    if status == StatusCode::OK && answer["status"] == "success" {
        return Ok(answer["data"].take());
    }
    match (answer["errorType"].as_str(), answer["error"].as_str()) {
        (Some(kind), Some(why)) => refused(kind, why.to_owned()),
        _ => refused("", format!("what came is no answer of a surus (HTTP status {status}); is --server right?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_what_it_is_about() {
        let name = default_name("db1:5432/../x y", 1_790_000_000_000, 1_790_003_600_000);
        assert_eq!(name, PathBuf::from("surus-db1_5432_.._x_y-20260921T1413Z-20260921T1513Z.html"));
    }

    #[test]
    fn without_a_name_there_must_be_one() {
        assert_eq!(only(vec!["a".into()]).unwrap(), "a");
        let error = only(vec!["a".into(), "b".into()]).unwrap_err();
        assert_eq!((error.code.id, error.message.contains("a, b")), (code::REPORT_TARGET.id, true));
        assert!(only(Vec::new()).unwrap_err().message.contains("none is watched"));
    }

    #[test]
    fn an_error_keeps_its_reason() {
        let of = |status: u16, text: &str| {
            Failure::from(answer(StatusCode::from_u16(status).unwrap(), text).unwrap_err()).code.id
        };
        let error = |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"why"}}"#);
        assert_eq!(of(400, &error("bad_data")), code::PROMQL_TIME.id);
        assert_eq!(of(503, &error("timeout")), code::PROMQL_REMOTE.id);
        assert_eq!(of(401, "A password or a token is needed."), code::SERVE_LOGIN.id);
        assert_eq!(of(200, "<html>"), code::PROMQL_REMOTE.id);
    }
}
