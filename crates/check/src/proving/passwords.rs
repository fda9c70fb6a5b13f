//! Item 1: no common password fits any verifier. Nothing is sent anywhere: the verifiers are read and computed against.

use super::Experiment;
use std::time::Duration;
use surus_core::{
    clock::Deadline,
    proof::{Outcome, Proof},
};
use surus_pg::verifier::Verifier;

/// How long may be spent on guessing; a SCRAM verifier of 4096 iterations takes a millisecond or two.
const BUDGET: Duration = Duration::from_secs(6);

/// Passwords that every attacker tries first: the well-known favourites, and what goes with PostgreSQL.
const COMMON: &[&str] = &[
    "password",
    "postgres",
    "secret",
    "changeme",
    "123456",
    "12345678",
    "123456789",
    "1234567890",
    "12345",
    "1234",
    "admin",
    "root",
    "test",
    "guest",
    "user",
    "app",
    "demo",
    "default",
    "qwerty",
    "qwerty123",
    "abc123",
    "password1",
    "password123",
    "passw0rd",
    "p@ssw0rd",
    "P@ssw0rd",
    "Password1",
    "Password123",
    "letmein",
    "welcome",
    "welcome1",
    "iloveyou",
    "monkey",
    "dragon",
    "master",
    "111111",
    "000000",
    "123123",
    "654321",
    "1q2w3e4r",
    "1qaz2wsx",
    "zaq12wsx",
    "asdfgh",
    "trustno1",
    "sunshine",
    "princess",
    "football",
    "admin123",
    "root123",
    "test123",
    "postgres123",
    "postgresql",
    "pgsql",
    "database",
    "oracle",
    "mysql",
    "sa",
    "toor",
    "pass",
    "pass123",
    "secret123",
    "strong_password",
    "another_strong_password",
    "strong_random_password",
    "strong-password",
    "example",
    "mysecretpassword",
    "docker",
];

/// A login role with its stored password.
pub(crate) struct Account {
    pub role: String,
    pub stored: String,
    pub superuser: bool,
}

/// What guessing gave.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Guessed {
    /// Roles whose password was guessed; the password itself is not kept.
    pub weak: Vec<String>,
    /// Roles whose stored password has a form that surus does not know.
    pub unreadable: Vec<String>,
    pub tries: u64,
    /// Was every candidate tried on every role?
    pub complete: bool,
}

/// Tries every candidate on every account until the time is up; the likeliest candidates come first.
pub(crate) fn guess(accounts: &[Account]) -> Guessed {
    let deadline = Deadline::after(BUDGET);
    let mut guessed = Guessed { complete: true, ..Guessed::default() };
    let mut open = Vec::new();
    for account in accounts {
        match Verifier::parse(&account.stored) {
            Ok(verifier) => open.push((account, verifier)),
            Err(_) => guessed.unreadable.push(account.role.clone()),
        }
    }
    let rounds = open.iter().map(|(account, _)| candidates(&account.role).len()).max().unwrap_or(0);
    for round in 0..rounds {
        open.retain(|(account, verifier)| {
            let all = candidates(&account.role);
            let Some(candidate) = all.get(round) else { return true };
            if deadline.passed() {
                guessed.complete = false;
                return true;
            }
            guessed.tries += 1;
            let fits = verifier.fits(&account.role, candidate);
            if fits {
                guessed.weak.push(account.role.clone());
            }
            !fits
        });
    }
    guessed
}

/// The role's own name in the usual dress, then the favourites.
fn candidates(role: &str) -> Vec<String> {
    let own =
        [role.to_owned(), format!("{role}123"), format!("{role}1"), format!("{role}_password"), format!("{role}!")];
    own.into_iter().chain(COMMON.iter().map(|word| (*word).to_owned())).collect()
}

/// The proof of a complete search, passed when nothing was guessed and every verifier is SCRAM.
pub(crate) fn proof(accounts: &[Account], guessed: &Guessed, cluster: &str, subject: &str) -> Option<Proof> {
    // Without any password there was nothing to try, and nothing is proven.
    if accounts.is_empty() || !guessed.complete || !guessed.unreadable.is_empty() {
        return None;
    }
    let mut experiment = Experiment::begin("passwords", 1);
    let (roles, tries) = (accounts.len(), guessed.tries);
    experiment.measure("roles with a password", roles as f64, "roles");
    experiment.measure("passwords tried", tries as f64, "tries");
    let old = accounts.iter().filter(|account| account.stored.starts_with("md5")).count();
    experiment.step("read the verifiers of login roles", format!("{roles} roles, {old} of them md5"));
    let weak = guessed.weak.len();
    let outcome = if weak == 0 && old == 0 { Outcome::Passed } else { Outcome::Failed };
    let result = match outcome {
        Outcome::Passed => format!("{tries} guesses against {roles} SCRAM verifiers: none fits"),
        Outcome::Failed => format!("{weak} passwords guessed, {old} stored as md5"),
    };
    experiment.step("try common passwords against them", result);
    Some(experiment.end(outcome, cluster, subject))
}
