//! The command `foils`: parses, calls the library, prints. No method lives here.

#[macro_use]
mod output;
mod commands;
mod memory;
#[cfg(test)]
mod reference;
mod report;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Learn from negatives: mine them, clean them, score them before training, train on them, and see what they did.
#[derive(Parser)]
#[command(name = "foils", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)] // One is made, once.
enum Command {
    Tune(commands::tune::Args),
    Mine(commands::mine::Args),
    Score(commands::score::Args),
    Train(commands::train::Args),
    Eval(commands::eval::Args),
    Report(commands::report::Args),
    Embed(commands::embed::Args),
    Convert(commands::convert::Args),
    Data(commands::data::Args),
    Papers(commands::papers::Args),
    Reproduce(commands::reproduce::Args),
    Conformance(commands::conformance::Args),
}

/// What a command ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All well.
    Ok,
    /// It ran, and what it checked does not hold (a failed conformance case): exit code 1.
    Failed,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Tune(args) => commands::tune::run(&args),
        Command::Mine(args) => commands::mine::run(&args),
        Command::Score(args) => commands::score::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Embed(args) => commands::embed::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Data(args) => commands::data::run(&args),
        Command::Papers(args) => commands::papers::run(&args),
        Command::Reproduce(args) => commands::reproduce::run(&args),
        Command::Conformance(args) => commands::conformance::run(&args),
    };
    match result {
        Ok(Status::Ok) => ExitCode::SUCCESS,
        Ok(Status::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
