//! `foils embed`: texts to vectors.

use super::device::DeviceArg;
use crate::Status;
use foils::data::formats::vectors;
use foils::models::Role;
use foils::{Error, Result, files};
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Embed the lines of a text file, or a field of a JSONL file, with any encoder.
#[derive(clap::Args)]
pub struct Args {
    /// One text a line (.txt), or one JSON object a line (.jsonl); also with .gz or .zst.
    input: PathBuf,
    /// The encoder: wordllama, static-random, minilm, or a saved model's folder.
    #[arg(long, value_name = "DIR")]
    model: String,
    /// Where to write the vectors: .npy or .safetensors, a row for each line.
    #[arg(short, long)]
    output: PathBuf,
    /// The field of the JSON objects that holds the text.
    #[arg(long, default_value = "text")]
    field: String,
    /// Put before every text what the encoder wants to see before queries, or before documents.
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
    /// Divide every vector by its length.
    #[arg(long)]
    normalize: bool,
    /// For static-random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum RoleArg {
    Query,
    Document,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    if !vectors::is_vectors(&args.output) {
        return Err(Error::file(&args.output, None, "vectors are written as .npy or .safetensors"));
    }
    let texts = texts_of(&args.input, &args.field)?.collect::<Result<Vec<_>>>()?;
    let model = args.device.load(&args.model, args.seed)?;
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    // A line is a text, so the position that an error names is the line.
    let embedded = match args.role {
        None => model.embed(&refs),
        Some(RoleArg::Query) => model.embed_as(Role::Query, &refs),
        Some(RoleArg::Document) => model.embed_as(Role::Document, &refs),
    };
    let mut embeddings = embedded.map_err(|e| match e {
        Error::Invalid(message) => Error::file(&args.input, None, message),
        of_another_file => of_another_file,
    })?;
    if args.normalize {
        if let Some(row) = embeddings.first_zero_row() {
            return Err(Error::file(&args.input, row as u64 + 1, "the vector of this text is 0 and has no direction to normalise"));
        }
        embeddings = embeddings.normalized();
    }
    vectors::write(&args.output, &embeddings)?;
    println!("{} vectors of {} values in {}", embeddings.rows(), embeddings.dim(), args.output.display());
    Ok(Status::Ok)
}

/// The texts of a file, one a line, as they are read.
pub(super) fn texts_of(path: &Path, field: &str) -> Result<impl Iterator<Item = Result<String>>> {
    let (path, field, json) = (path.to_owned(), field.to_owned(), is_jsonl(path));
    let mut lines = (1u64..).zip(files::open(&path)?.lines()).peekable();
    if lines.peek().is_none() {
        return Err(Error::file(&path, None, "is empty; there are no texts to read"));
    }
    Ok(lines.map(move |(at, line)| {
        let line = line.map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => Error::file(&path, at, "is not UTF-8 text"),
            _ => Error::io("read", &path)(e),
        })?;
        let text = if json { json_field(&path, at, &line, &field)? } else { line };
        if text.trim().is_empty() { Err(Error::file(&path, at, "is an empty text")) } else { Ok(text) }
    }))
}

fn is_jsonl(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    let name = [".gz", ".zst", ".zstd"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(&name);
    [".jsonl", ".ndjson", ".json"].iter().any(|s| name.ends_with(s))
}

fn json_field(path: &Path, at: u64, line: &str, field: &str) -> Result<String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|e| Error::file(path, at, format!("is not a JSON object: {e}")))?;
    match value.get(field) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Error::file(path, at, format!("the field {field:?} is {other}, not a text"))),
        None => {
            let names = value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default();
            Err(Error::file(path, at, format!("has no field {field:?}; it has {names} (choose one with --field)")))
        }
    }
}
