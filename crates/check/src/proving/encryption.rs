//! Item 2: a TLS connection with a verified certificate was made, and a plaintext one was refused.

use super::Experiment;
use surus_core::proof::{Outcome, Proof};
use surus_pg::{
    Target,
    trial::{self, Trial, VerifyFull},
};

/// Both trials of a target.
pub(crate) struct Trials {
    pub plaintext: Trial,
    pub verified: VerifyFull,
    experiment: Experiment,
}

/// Makes both connections, one after the other.
pub(crate) async fn attempt(target: &Target) -> Trials {
    let mut experiment = Experiment::begin("tls", 2);
    let verified = trial::verify_full(target).await;
    let seen = match &verified {
        VerifyFull::Verified(info) => {
            format!("connected; the certificate is valid until {}", info.certificate.not_after)
        }
        VerifyFull::Failed(error) => error.message.clone(),
        VerifyFull::Unknown(why) => why.clone(),
    };
    experiment.step("connect with sslmode=verify-full", seen);
    let plaintext = trial::plaintext_refused(target).await;
    experiment.step("connect with sslmode=disable", plaintext.how.clone());
    Trials { plaintext, verified, experiment }
}

impl Trials {
    /// The proof, when both could be seen.
    pub fn proof(self, cluster: &str, subject: &str) -> Option<Proof> {
        let Self { plaintext, verified, mut experiment } = self;
        let outcome = match (&verified, plaintext.outcome) {
            (VerifyFull::Unknown(_), _) | (_, trial::Outcome::Unknown) => return None,
            (VerifyFull::Verified(_), trial::Outcome::Refused) => Outcome::Passed,
            _ => Outcome::Failed,
        };
        let result = match outcome {
            Outcome::Passed => "a verified TLS connection was made and a plaintext one was refused",
            Outcome::Failed => "TLS is not verified, or plaintext is accepted",
        };
        experiment.step("compare", result);
        Some(experiment.end(outcome, cluster, subject))
    }
}
