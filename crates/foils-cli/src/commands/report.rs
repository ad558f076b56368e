//! `foils report`.

use crate::Status;
use foils::{Error, Result};

/// Not here yet.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args) -> Result<Status> {
    Err(Error::invalid("`foils report` is not built yet"))
}
