//! Whose backups are meant: the one place where the command line becomes an engine.

use super::restore::DrillArgs;
use crate::{command::restore, config::Config, failure::Failure, repository::RepoArgs};
use surus_core::code;
use surus_pg::{Manners, Target};
use surus_prove::engine::{Engine, Surus};

/// Opens what the command line, else the configuration, names.
pub async fn open(args: &DrillArgs, config: &Config) -> Result<Box<dyn Engine>, Failure> {
    let repo = repository(args, config).await?;
    let cluster = tokio::task::block_in_place(|| repo.open_cluster())?;
    let fetch = restore::fetch(&repo, cluster.names.system_identifier)?;
    Ok(Box::new(Surus::new(cluster, fetch)))
}

/// The repository of surus: the flag's, that of the target's backups, or the only one there is.
async fn repository(args: &DrillArgs, config: &Config) -> Result<RepoArgs, Failure> {
    let of_target = || {
        let target = args.name.as_ref()?;
        config.backup.iter().find(|backup| backup.target == *target).map(|backup| backup.repository.clone())
    };
    let repo = match (&args.repo, of_target(), config.repository.as_slice()) {
        (Some(repo), ..) => repo.clone(),
        (None, Some(repo), _) => repo,
        (None, None, [only]) => only.name.clone(),
        _ => {
            let text = "nothing was restored: give --repo PLACE, or --engine with its options";
            return Err(Failure::new(code::PROVE_ENGINE, text));
        }
    };
    let mut repo = RepoArgs { repo, key: args.key.clone(), cluster: args.cluster };
    if repo.cluster.is_none()
        && let Some(named) = args.name.as_ref().and_then(|name| config.target.iter().find(|one| one.name == *name))
        && tokio::task::block_in_place(|| repo.open())?.clusters()?.len() > 1
    {
        // Several clusters are in there: the running one says which it is.
        repo.cluster = Some(identifier(&named.resolved_dsn()?).await?);
    }
    Ok(repo)
}

async fn identifier(dsn: &str) -> Result<u64, Failure> {
    let odd =
        |text: String| Failure::new(code::REPO_CLUSTER, format!("nothing was restored: {text}; give --cluster N"));
    let session = Target::parse(dsn)?.connect(&Manners::looking()).await?;
    let sql = "SELECT system_identifier::text AS id FROM pg_control_system()";
    let rows = session.ask(sql).await.map_err(|error| odd(error.to_string()))?;
    let id = rows.first().and_then(|row| row.text("id")).map_err(|error| odd(error.to_string()))?;
    session.close().await;
    id.parse().map_err(|_| odd(format!("{id:?} is no system identifier")))
}
