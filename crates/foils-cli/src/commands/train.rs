//! `foils train`: an encoder on pairs and their negatives.

use super::convert::ColumnArgs;
use super::device::{CacheArg, LoraArgs, PrecisionArg, PromptArgs, TeacherArgs, seconds};
use crate::{Status, output};
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser};
use foils::data::Collection;
use foils::data::formats::{Columns, beir, read_all};
use foils::device::DeviceName;
use foils::losses::{ELSEWHERE, NAMES};
use foils::models::{self, FolderWriter, Head, LoadOptions};
use foils::train::{Checkpoints, Decay, RunFiles, TrainSettings, TrainSummary, fit};
use foils::{Error, Result, files};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The names of losses; those of others are let through to the error that says what there is instead.
pub(super) fn losses() -> PossibleValuesParser {
    let hidden = ELSEWHERE.into_iter().map(|(name, _)| PossibleValue::new(name).hide(true));
    PossibleValuesParser::new(NAMES.into_iter().map(PossibleValue::new).chain(hidden))
}

/// Train an encoder on pairs, with in-batch and mined negatives, and keep the checkpoint that ranks the validation queries best.
///
/// Writes a sentence-transformers folder with train.json (what happened) and train.toml (the settings) in it.
#[derive(clap::Args)]
pub struct Args {
    /// Training examples (.jsonl, .csv, .tsv, .parquet): pairs, or with negatives, as `foils mine` writes them.
    examples: PathBuf,
    /// Examples, or a BEIR folder, to choose the checkpoint by nDCG@10; their documents are what is searched.
    #[arg(long, value_name = "FILE")]
    validation: PathBuf,
    /// The encoder to start from: wordllama, static-random, minilm, or a saved model's folder.
    #[arg(long, default_value = "wordllama")]
    encoder: String,
    /// Where to write the trained model.
    #[arg(short, long, value_name = "MODEL_DIR")]
    output: PathBuf,
    /// Leave the encoder as it is and train dense layers on top of it.
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "lora")]
    adapter: Option<HeadArg>,
    /// Settings as TOML, by the names of the options below with _ for -; options given here win.
    #[arg(long, value_name = "TOML")]
    config: Option<PathBuf>,
    /// Where TensorBoard event files go [default: MODEL_DIR with "-logs" behind it].
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Seconds between checkpoints, from which the same command goes on when it is started again; they are kept beside MODEL_DIR
    /// until the model is written.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    checkpoint_every: Duration,
    /// How many of the last checkpoints are kept; 0: none are written.
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep_checkpoints: usize,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    teacher: TeacherArgs,
    #[command(flatten)]
    cache: CacheArg,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Print what happened as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum HeadArg {
    /// One linear layer.
    Linear,
    /// Two layers with ReLU between them.
    Relu,
    /// Two layers with GELU between them.
    Gelu,
}

impl From<HeadArg> for Head {
    fn from(head: HeadArg) -> Self {
        match head {
            HeadArg::Linear => Self::Linear,
            HeadArg::Relu => Self::Relu,
            HeadArg::Gelu => Self::Gelu,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum DecayArg {
    Constant,
    Linear,
    Cosine,
}

impl From<DecayArg> for Decay {
    fn from(decay: DecayArg) -> Self {
        match decay {
            DecayArg::Constant => Self::Constant,
            DecayArg::Linear => Self::Linear,
            DecayArg::Cosine => Self::Cosine,
        }
    }
}

/// Training settings, each over a settings file over the default.
#[derive(clap::Args, Clone, Default)]
pub struct SettingArgs {
    /// The objective; weighted-infonce, bce-infonce, kl-infonce, margin-mse and kl learn a teacher's scores [default: mnrl].
    #[arg(long, help_heading = "Training", value_parser = losses())]
    loss: Option<String>,
    /// A hyper-parameter of the loss or of the weights, such as alpha=0.1 or weights.alpha=0.5; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Training")]
    loss_setting: Vec<String>,
    /// How much a candidate counts that may be related to the anchor: soft-infonce (less weight), cancel-top-k, cancel-ratio (none), each
    /// with where the relevance is from: soft-infonce:bm25, soft-infonce:ENCODER, soft-infonce:queries:ENCODER.
    #[arg(long, value_name = "HOW:RELEVANCE", help_heading = "Training")]
    weights: Option<String>,
    /// Which negatives beside those of the batch: mined (those of the file, the default), in-batch (no others), queue:N (the last N
    /// candidates of earlier batches, too); separated by commas.
    #[arg(long, value_name = "SOURCES", value_delimiter = ',', help_heading = "Training")]
    negatives: Vec<NegativesArg>,
    /// Softmax temperature [default: 0.05].
    #[arg(long, help_heading = "Training")]
    temperature: Option<f64>,
    /// Passes over the examples [default: 3].
    #[arg(long, help_heading = "Training")]
    epochs: Option<usize>,
    /// Examples in a batch [default: 256].
    #[arg(long, help_heading = "Training")]
    batch_size: Option<usize>,
    /// The peak learning rate [default: 0.03 for a token table, 0.001 for an adapter, 0.00003 for a transformer, 0.0003 for its low-rank updates].
    #[arg(long, help_heading = "Training")]
    learning_rate: Option<f64>,
    /// Share of the steps in which the learning rate rises [default: 0.1].
    #[arg(long, help_heading = "Training")]
    warmup: Option<f64>,
    /// How the learning rate falls afterwards [default: linear].
    #[arg(long, value_enum, help_heading = "Training")]
    decay: Option<DecayArg>,
    /// Mined negatives used for each anchor in each epoch; 0: in-batch negatives only [default: 3].
    #[arg(long, help_heading = "Training")]
    negatives_per_anchor: Option<usize>,
    /// Steps between validations; 0: ten over the run [default: 0].
    #[arg(long, help_heading = "Training")]
    validate_every: Option<usize>,
    /// Stop after this many validations without a new best; 0: never [default: 4].
    #[arg(long, help_heading = "Training")]
    patience: Option<usize>,
    /// Fixes the batches and all that is drawn [default: 0].
    #[arg(long, help_heading = "Training")]
    seed: Option<u64>,
    /// Stop after this many minutes; 0: no limit [default: 0].
    #[arg(long, help_heading = "Training")]
    max_minutes: Option<f64>,
    /// Where vectors, losses and dense layers are computed: cpu, cuda, vulkan, metal, wgpu (each needs a build with
    /// that feature), or cuda:1 and so on [default: cpu].
    #[arg(long, help_heading = "Training")]
    device: Option<DeviceName>,
    #[command(flatten)]
    precision: PrecisionArg,
}

/// One source of negatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NegativesArg {
    Mined,
    InBatch,
    Queue(usize),
}

impl FromStr for NegativesArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let known = "the sources are mined, in-batch and queue:N, as queue:4096";
        match text.split_once(':') {
            None if text == "mined" => Ok(Self::Mined),
            None if text == "in-batch" => Ok(Self::InBatch),
            Some(("queue", n)) => match n.parse() {
                Ok(n) if n > 0 => Ok(Self::Queue(n)),
                _ => Err(format!("a queue of {n:?} candidates; {known}")),
            },
            _ => Err(known.into()),
        }
    }
}

/// Puts NAME=VALUE over a table of settings.
fn set_one<T: Serialize + DeserializeOwned>(table: &mut T, name: &str, value: &str) -> Result<()> {
    let invalid = |e: serde_json::Error| Error::invalid(format!("--loss-setting {name}={value}: {e}"));
    let mut all = serde_json::to_value(&*table).map_err(invalid)?;
    all[name] = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    *table = serde_json::from_value(all).map_err(invalid)?;
    Ok(())
}

impl SettingArgs {
    /// Puts the given options over `settings`.
    ///
    /// # Errors
    /// On a setting of the loss that there is not, or that has another kind of value.
    pub fn apply(&self, settings: &mut TrainSettings) -> Result<()> {
        for given in &self.loss_setting {
            let (name, value) = given
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("--loss-setting {given}: a name and a value are needed, as alpha=0.1")))?;
            match name.strip_prefix("weights.") {
                Some(name) => set_one(&mut settings.weight_settings, name, value)?,
                None => set_one(&mut settings.loss_settings, name, value)?,
            }
        }
        for source in &self.negatives {
            match source {
                NegativesArg::Mined => {}
                NegativesArg::InBatch => settings.negatives_per_anchor = 0,
                NegativesArg::Queue(n) => settings.queue = *n,
            }
        }
        settings.weights = self.weights.clone().or(settings.weights.take());
        fn set<T: Clone>(target: &mut T, option: &Option<T>) {
            if let Some(value) = option {
                *target = value.clone();
            }
        }
        set(&mut settings.loss, &self.loss);
        set(&mut settings.temperature, &self.temperature);
        set(&mut settings.epochs, &self.epochs);
        set(&mut settings.batch_size, &self.batch_size);
        set(&mut settings.learning_rate, &self.learning_rate);
        set(&mut settings.warmup, &self.warmup);
        set(&mut settings.decay, &self.decay.map(Decay::from));
        set(&mut settings.negatives_per_anchor, &self.negatives_per_anchor);
        set(&mut settings.validate_every, &self.validate_every);
        set(&mut settings.patience, &self.patience);
        set(&mut settings.seed, &self.seed);
        set(&mut settings.max_minutes, &self.max_minutes);
        set(&mut settings.device, &self.device);
        settings.precision = self.precision.precision.or(settings.precision);
        Ok(())
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    crate::memory::keep_what_is_freed();
    let mut settings = TrainSettings::default();
    if let Some(path) = &args.config {
        settings = read_toml(path)?;
    }
    args.settings.apply(&mut settings)?;
    args.teacher.apply(&mut settings);
    settings.embedding_cache = args.cache.folder()?;
    settings.check()?;
    let device = settings.device.open()?;
    let loss = settings.objective()?;
    // Not after an hour of training: can the model be written where it is to go?
    drop(FolderWriter::create(&args.output)?);

    let columns = Columns::from(&args.columns);
    let train = read_all(&args.examples, &columns)?;
    let validation = read_collection(&args.validation, &columns)?;
    let PromptArgs { query_prompt, document_prompt } = args.prompts.clone();
    let (lora, adapter) = (args.lora.settings(), args.adapter.map(Head::from));
    let (seed, precision) = (settings.seed, settings.precision);
    let options = LoadOptions { seed, lora, adapter, precision, embedding_cache: None, query_prompt, document_prompt };
    let mut model = models::load_with(&args.encoder, &options)?;
    model.to_device(&device);
    let logs = args.log_dir.clone().unwrap_or_else(|| files::with_suffix(&args.output, "-logs"));
    let checkpoints =
        Checkpoints { folder: files::with_suffix(&args.output, "-checkpoints"), every: args.checkpoint_every, keep: args.keep_checkpoints };
    let run_files = RunFiles { logs: Some(&logs), checkpoints: Some(&checkpoints) };
    let summary = fit(model.as_mut(), &train, &validation, loss.as_ref(), &settings, &run_files)?;

    model.save(&args.output)?;
    files::write_json(args.output.join("train.json"), &summary)?;
    let text = toml::to_string(&settings).map_err(|e| Error::invalid(format!("the settings have no TOML form: {e}")))?;
    files::write(args.output.join("train.toml"), text)?;
    checkpoints.forget()?;
    if args.json {
        output::json(&summary)?
    } else {
        print(&summary, &args.output, &logs)
    }
    Ok(Status::Ok)
}

/// Settings from a TOML file.
fn read_toml(path: &Path) -> Result<TrainSettings> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    toml::from_str(&text).map_err(|e: toml::de::Error| {
        let line = e.span().map(|s| text[..s.start].matches('\n').count() as u64 + 1);
        Error::file(path, line, e.message())
    })
}

/// A BEIR folder, or examples in a file.
fn read_collection(path: &Path, columns: &Columns) -> Result<Collection> {
    if path.is_dir() { beir::read(path) } else { Collection::from_examples(&read_all(path, columns)?) }
}

fn print(summary: &TrainSummary, model: &Path, logs: &Path) {
    let mut curve = output::table(&["step", "epoch", "nDCG@10 (validation)"]);
    for v in &summary.validations {
        let mark = if v.step == summary.best_step { " ← kept" } else { "" };
        curve.add_row([v.step.to_string(), format!("{:.2}", v.epoch), format!("{:.4}{mark}", v.ndcg)]);
    }
    println!("{curve}");
    let n = &summary.negatives;
    let queued = if n.queued > 0.0 { format!(", {:.1} of earlier batches", n.queued) } else { String::new() };
    println!(
        "each anchor saw {:.1} negatives: {:.1} in-batch, {:.1} mined for it, {:.1} mined for others{queued}; {:.2} masked because they equal a positive of it",
        n.effective, n.in_batch, n.own, n.others, n.masked
    );
    if n.masked_by_teacher > 0.0 {
        let who = if summary.settings.get("teacher").is_some() { "the teacher" } else { "the weights" };
        println!("{who} turned {:.2} more away", n.masked_by_teacher);
    }
    if summary.left_out > 0 {
        println!("{} of {} examples found no batch without a text of theirs (last epoch)", summary.left_out, summary.examples);
    }
    if summary.improved {
        let gain = 100.0 * (summary.best_ndcg / summary.untuned_ndcg - 1.0);
        println!(
            "validation nDCG@10 {:.4} → {:.4} ({gain:+.1} %), stopped by: {}",
            summary.untuned_ndcg, summary.best_ndcg, summary.stopped
        );
    } else {
        println!("no checkpoint beat the untuned encoder on validation data: {} holds the untuned one", model.display());
    }
    let seconds: f64 = summary.seconds.values().sum();
    println!("{seconds:.1} s; model in {}, curves in {}", model.display(), logs.display());
}
