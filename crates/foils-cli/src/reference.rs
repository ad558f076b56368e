//! The book's page of commands is what clap knows of them. `FOILS_UPDATE=1 cargo test --release --workspace reference` writes it anew.

use crate::Cli;
use clap::{Arg, Command, CommandFactory};
use std::fmt::Write;
use std::path::Path;

const COLUMNS: &str = "Columns";

#[test]
fn the_page_of_commands_is_as_the_commands_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/reference/commands.md");
    let page = page();
    if std::env::var_os("FOILS_UPDATE").is_some() {
        std::fs::write(&path, page).unwrap();
    } else {
        let there = std::fs::read_to_string(&path).unwrap();
        assert!(there == page, "{} is not what the commands are; FOILS_UPDATE=1 writes it anew", path.display());
    }
}

fn page() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut page =
        String::from("<!-- Written by a test, crates/foils-cli/src/reference.rs: change the commands, not this page. -->\n# Commands\n\n");
    page +=
        "What `foils COMMAND --help` says, in one place. An argument in `[ ]` may be left out.\n\n| command | what it does |\n|---|---|\n";
    let commands: Vec<&Command> = cli.get_subcommands().filter(|c| c.get_name() != "help").collect();
    for command in &commands {
        let name = command.get_name();
        writeln!(page, "| [`{name}`](#foils-{name}) | {} |", cell(&command.get_about().unwrap_or_default().to_string())).unwrap();
    }
    commands.iter().for_each(|command| section(command, "foils", &mut page));
    let columns = commands.iter().flat_map(|c| c.get_arguments()).filter(|a| a.get_help_heading() == Some(COLUMNS));
    let mut columns: Vec<&Arg> = columns.collect();
    let mut seen = std::collections::HashSet::new();
    columns.retain(|a| seen.insert(a.get_id()));
    page += "\n## Columns\n\nThe same for every command that reads examples. Which names are recognised: [Formats](formats.md#columns).\n";
    table(&columns, &mut page);
    page
}

fn section(command: &Command, parent: &str, page: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).unwrap_or_default().to_string();
    writeln!(page, "\n## {name}\n\n{}", about.replace('<', "\\<")).unwrap();
    let inner: Vec<&Command> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
    if !inner.is_empty() {
        inner.iter().for_each(|command| section(command, &name, page));
        return;
    }
    let positionals: String =
        command.get_positionals().map(|a| format!(" {}", if a.is_required_set() { shown(a) } else { format!("[{}]", shown(a)) })).collect();
    writeln!(page, "\n`{name} [OPTIONS]{positionals}`").unwrap();
    let all: Vec<&Arg> = command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())).collect();
    let (columns, own): (Vec<&Arg>, Vec<&Arg>) = all.into_iter().partition(|a| a.get_help_heading() == Some(COLUMNS));
    table(&own, page);
    if !columns.is_empty() {
        page.push_str("\nAnd the options about [columns](#columns).\n");
    }
}

fn table(arguments: &[&Arg], page: &mut String) {
    page.push_str("\n| argument | what it does |\n|---|---|\n");
    for argument in arguments {
        let mut text = cell(&argument.get_long_help().or(argument.get_help()).unwrap_or_default().to_string());
        let values = argument.get_possible_values();
        let takes_value = argument.get_action().takes_values();
        if takes_value && !values.is_empty() {
            let described = |v: &clap::builder::PossibleValue| v.get_help().map_or(String::new(), |h| format!(" ({h})"));
            let listed: Vec<String> =
                values.iter().filter(|v| !v.is_hide_set()).map(|v| format!("`{}`{}", v.get_name(), cell(&described(v)))).collect();
            write!(text, ". One of {}", listed.join(", ")).unwrap();
        }
        let defaults: Vec<String> = argument.get_default_values().iter().map(|v| format!("`{}`", v.display())).collect();
        if takes_value && !defaults.is_empty() {
            write!(text, ". Default: {}", defaults.join(" ")).unwrap();
        }
        if argument.is_required_set() && !argument.is_positional() {
            text.push_str(". **Required**");
        }
        writeln!(page, "| `{}` | {text} |", shown(argument)).unwrap();
    }
}

/// `-o, --output <FILE>`, or `<FILE>`.
fn shown(argument: &Arg) -> String {
    let names: Vec<String> =
        argument.get_short().map(|s| format!("-{s}")).into_iter().chain(argument.get_long().map(|l| format!("--{l}"))).collect();
    if !argument.get_action().takes_values() {
        return names.join(", ");
    }
    let values = argument.get_value_names().unwrap_or_default().iter().map(|v| format!("<{v}>")).collect::<Vec<_>>().join(" ");
    if names.is_empty() { values } else { format!("{} {values}", names.join(", ")) }
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "\\<")
}
