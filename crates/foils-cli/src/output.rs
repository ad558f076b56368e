//! How commands print: tables for people, JSON for machines.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};

/// Prints a line on standard output. A reader that has seen enough (`foils … | head`) ends the command without a complaint.
pub fn line(text: Arguments) {
    if let Err(error) = writeln!(stdout().lock(), "{text}") {
        let enough = error.kind() == ErrorKind::BrokenPipe;
        if !enough {
            eprintln!("error: cannot print: {error}");
        }
        std::process::exit(if enough { 0 } else { 2 });
    }
}

/// `println!` by way of [`line`], which does not panic.
macro_rules! println {
    () => { $crate::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// A table that fits the terminal and can be pasted into Markdown.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Dynamic).set_header(header.to_vec());
    table
}

/// Prints `value` as one JSON object on standard output.
pub fn json(value: &impl Serialize) -> foils::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| foils::Error::invalid(format!("cannot print as JSON: {e}")))?;
    println!("{text}");
    Ok(())
}

/// The text on one line, white space folded, cut at `width` characters.
pub fn one_line(text: &str, width: usize) -> String {
    let folded = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if folded.chars().count() <= width { folded } else { folded.chars().take(width.saturating_sub(1)).chain(['…']).collect() }
}
