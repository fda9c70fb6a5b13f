//! Connecting to real servers, and to real peers that are none.

mod certificates;
mod pooler;
mod reach;
mod refusals;
mod tls;
mod trials;

use surus_pg::{ConnectError, Environment, Manners, Session, Target};

/// An environment that does not depend on who runs the tests.
pub fn nobody() -> Environment {
    Environment::empty().with_user("postgres")
}

/// Connects, reading nothing from this process's environment.
pub async fn connect(dsn: &str) -> Result<Session, ConnectError> {
    connect_in(dsn, &nobody()).await
}

pub async fn connect_in(dsn: &str, environment: &Environment) -> Result<Session, ConnectError> {
    Target::parse_in(dsn, environment)?.connect(&Manners::looking()).await
}

/// The error of a connection that must not succeed.
pub async fn refused(dsn: &str) -> ConnectError {
    match connect(dsn).await {
        Ok(_) => panic!("connected to {dsn}"),
        Err(error) => error,
    }
}
