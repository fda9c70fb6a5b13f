//! What the repositories that are known hold, for checks and readiness.

use crate::{config::RepositoryConfig, failure::Failure, repository};
use std::collections::BTreeMap;
use surus_backup::{Repo, protection};
use surus_check::options::Repository;

/// Looks at repositories: those of the configuration, and one that was given. Blocks. One that cannot be read says why,
/// and hides none of the others.
pub fn look(configured: &[RepositoryConfig], given: Option<&str>) -> Vec<Repository> {
    let given = given.map(|place| (place.to_owned(), repository::open_place(place)));
    let configured = configured.iter().map(|one| (one.name.clone(), repository::open_configured(one)));
    given.into_iter().chain(configured).map(|(address, repo)| of(address, repo)).collect()
}

fn of(address: String, repo: Result<Repo, Failure>) -> Repository {
    let clusters = repo.and_then(|repo| {
        let look = |cluster: surus_backup::Cluster| {
            let seen = protection::look(&cluster)?;
            Ok((cluster.names.system_identifier.to_string(), seen))
        };
        repo.clusters()?.into_iter().map(look).collect::<Result<BTreeMap<_, _>, Failure>>()
    });
    Repository { address, clusters: clusters.map_err(|failure| failure.message) }
}
