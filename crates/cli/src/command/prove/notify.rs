//! Telling somebody of a proof that failed: a webhook, a command.

use super::restore::DrillArgs;
use crate::{config::ProveConfig, failure::Failure};
use serde_json::{Value, json};
use std::{io::Write, process::Stdio, time::Duration};
use surus_core::{clock, code, secret::masked};
use surus_prove::drill::Report;
use tokio::{io::AsyncWriteExt, process::Command};

/// How long each may take.
const WITHIN: Duration = Duration::from_secs(30);

/// A drill as JSON: what `--format json` prints, and what is sent.
pub fn message(report: &Report, entries: &[i64]) -> Value {
    json!({
        "kind": surus_prove::drill::KIND, "outcome": report.outcome, "summary": report.summary(),
        "ledger": entries, "report": report,
    })
}

/// A drill that could not be run.
pub fn refusal(args: &DrillArgs, failure: &Failure) -> Value {
    let message = masked(&failure.message).to_string();
    json!({
        "kind": surus_prove::drill::KIND, "outcome": "not run", "summary": message, "code": failure.code.id,
        "subject": args.of.name, "at": clock::now(),
    })
}

/// Tells of it as the configuration says. What cannot be told is said on standard error.
pub async fn failed(config: &ProveConfig, message: &Value) {
    let mut troubles = Vec::new();
    if let Some(url) = &config.webhook {
        match url.resolve() {
            Ok(url) => troubles.extend(post(url.reveal(), message).await.err()),
            Err(failure) => troubles.push(failure.message),
        }
    }
    if let Some(command) = &config.command {
        troubles.extend(run(command, message).await.err());
    }
    for trouble in troubles {
        let code = code::PROVE_NOTIFY;
        // Nothing can be done about a closed standard error.
        let _ = writeln!(anstream::stderr(), "warning[{}]: {}: {}", code.id, code.title, masked(&trouble));
    }
}

async fn post(url: &str, message: &Value) -> Result<(), String> {
    // Another one that is installed already is as good.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Its errors repeat the address, which may hold a token.
    let without = |error: reqwest::Error| format!("webhook: {}", error.without_url());
    let builder = match url.starts_with("http://") {
        true => reqwest::Client::builder().tls_certs_only([]),
        false => reqwest::Client::builder(),
    };
    let client = builder.timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build().map_err(without)?;
    let request = client.post(url).header("content-type", "application/json").body(message.to_string());
    let answer = request.send().await.map_err(without)?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("webhook: it answered {}", answer.status())) }
}

async fn run(command: &str, message: &Value) -> Result<(), String> {
    let odd = |what: &str| format!("command: {what}");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = shell.spawn().map_err(|error| odd(&error.to_string()))?;
    let given = async {
        if let Some(mut pipe) = child.stdin.take() {
            // A command that does not read it is as good.
            let _ = pipe.write_all(message.to_string().as_bytes()).await;
        }
        child.wait().await
    };
    match tokio::time::timeout(WITHIN, given).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(odd(&status.to_string())),
        Ok(Err(error)) => Err(odd(&error.to_string())),
        Err(_) => Err(odd(&format!("it took more than {} s and was ended", WITHIN.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    #[tokio::test]
    async fn a_webhook_gets_the_report_and_its_refusal_is_told_without_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook/secret-token", listener.local_addr().unwrap());
        for (status, wanted) in [("204 No Content", Ok(())), ("403 Forbidden", Err(()))] {
            let heard = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                while !text.contains("it broke") {
                    let mut part = [0; 4096];
                    let read = stream.read(&mut part).await.unwrap();
                    text += &String::from_utf8_lossy(&part[..read]);
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                text
            };
            let message = json!({ "summary": "it broke" });
            let (told, text) = tokio::join!(post(&url, &message), heard);
            assert!(text.starts_with("POST /hook/secret-token") && text.contains("application/json"), "{text}");
            assert!(told.as_ref().err().is_none_or(|why| why.contains("403") && !why.contains("secret")), "{told:?}");
            assert_eq!(told.map_err(drop), wanted);
        }
    }

    #[tokio::test]
    async fn a_command_gets_the_report_and_its_failure_is_told() {
        let message = json!({ "summary": "it broke" });
        assert_eq!(run("grep -q 'it broke'", &message).await, Ok(()));
        assert!(run("exit 3", &message).await.unwrap_err().contains('3'));
    }
}
