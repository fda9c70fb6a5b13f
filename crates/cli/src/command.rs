//! One module per command.

mod check;

use crate::{
    args::{Args, Command},
    failure::Failure,
};

/// Runs the command; the number is the exit status.
pub async fn run(args: Args) -> Result<u8, Failure> {
    match args.command {
        Command::Check(check) => check::run(&args.global, check).await,
    }
}
