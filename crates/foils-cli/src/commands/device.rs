//! How the commands that compute vectors load their encoder, and what they take for a teacher.

use super::mine::choice;
use foils::data::registry::cache_folder;
use foils::device::DeviceName;
use foils::models::{self, LoadOptions, LoraSettings, LoraTarget, Trainable};
use foils::nn::Precision;
use foils::train::{MarginKind, TrainSettings};
use foils::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// A second encoder, or scores, to train by.
#[derive(clap::Args, Clone, Default)]
pub struct TeacherArgs {
    /// A second encoder (wordllama, static-random, minilm, a folder), or `file` for the scores of the examples (`foils mine` writes
    /// them). margin-mse and kl learn its scores; with other losses, what it finds nearer to an anchor than the positive does not
    /// count against the anchor.
    #[arg(long, value_name = "ENCODER", help_heading = "Teacher")]
    teacher: Option<String>,
    /// A candidate must be this much farther than the positive by the teacher's similarities to count [default: 0].
    #[arg(long, value_name = "MARGIN", allow_negative_numbers = true, help_heading = "Teacher")]
    teacher_margin: Option<f64>,
    /// What the margin is: a difference (absolute), or a share of the positive's similarity (relative) [default: absolute].
    #[arg(long, value_name = "KIND", value_parser = choice::<MarginKind>(&MARGIN_KINDS), help_heading = "Teacher")]
    teacher_margin_kind: Option<MarginKind>,
    /// margin-mse and kl divide the teacher's scores by this [default: 1 for margin-mse, the temperature for kl].
    #[arg(long, value_name = "TEMPERATURE", help_heading = "Teacher")]
    teacher_temperature: Option<f64>,
}

const MARGIN_KINDS: [&str; 2] = ["absolute", "relative"];

impl TeacherArgs {
    /// Puts the given options over `settings`.
    pub fn apply(&self, settings: &mut TrainSettings) {
        settings.teacher = self.teacher.clone().or(settings.teacher.take());
        settings.teacher_margin = self.teacher_margin.or(settings.teacher_margin);
        settings.teacher_margin_kind = self.teacher_margin_kind.unwrap_or(settings.teacher_margin_kind);
        settings.teacher_temperature = self.teacher_temperature.or(settings.teacher_temperature);
    }
}

/// What the encoder gets to see before texts.
#[derive(clap::Args, Clone, Default)]
pub struct PromptArgs {
    /// What comes before queries, such as "query: " [default: what the encoder's folder says].
    #[arg(long, value_name = "TEXT")]
    pub query_prompt: Option<String>,
    /// What comes before documents, such as "passage: " [default: what the encoder's folder says].
    #[arg(long, value_name = "TEXT")]
    pub document_prompt: Option<String>,
}

/// Low-rank updates.
#[derive(clap::Args)]
pub struct LoraArgs {
    /// Train only low-rank updates of this rank (LoRA) of a transformer's weights; they are saved merged, and as peft has them in the
    /// folder's `lora`.
    #[arg(long, value_name = "RANK")]
    lora: Option<usize>,
    /// The factor of the updates, times the rank [default: twice the rank].
    #[arg(long, value_name = "ALPHA", requires = "lora")]
    lora_alpha: Option<f64>,
    /// Which linear layers get updates: query, key, value, out, wide, narrow [default: all].
    #[arg(long, value_name = "TARGETS", value_delimiter = ',', requires = "lora")]
    lora_targets: Vec<LoraTarget>,
}

impl LoraArgs {
    /// The settings, if LoRA is asked for.
    pub fn settings(&self) -> Option<LoraSettings> {
        let mut settings = LoraSettings { rank: self.lora?, alpha: self.lora_alpha.unwrap_or(0.0), ..LoraSettings::default() };
        if !self.lora_targets.is_empty() {
            settings.targets.clone_from(&self.lora_targets);
        }
        Some(settings)
    }
}

/// A length of time.
pub fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|e| format!("{e}: a number of seconds is needed"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// How exactly transformers compute.
#[derive(clap::Args, Clone, Default)]
pub struct PrecisionArg {
    /// How exactly transformers multiply f32 on a processor with AMX: as they are (highest), each as two bf16 (high), or as one
    /// (medium); others multiply them as they are [default: high].
    #[arg(long, value_name = "PRECISION", value_parser = choice::<Precision>(&PRECISIONS))]
    pub precision: Option<Precision>,
}

const PRECISIONS: [&str; 3] = ["highest", "high", "medium"];

/// Where vectors are computed, and from what.
#[derive(clap::Args)]
pub struct DeviceArg {
    /// Where to compute dense layers: cpu, cuda, vulkan, metal, wgpu (each needs a build with that feature), or cuda:1 and so on.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    #[command(flatten)]
    precision: PrecisionArg,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    cache: CacheArg,
}

/// Whether vectors of transformers are kept.
#[derive(clap::Args)]
pub struct CacheArg {
    /// Compute a transformer's vectors anew, and do not keep them in the cache folder (`foils data` says where that is).
    #[arg(long)]
    no_embedding_cache: bool,
}

impl CacheArg {
    /// The folder to keep them in.
    pub fn folder(&self) -> Result<Option<PathBuf>> {
        if self.no_embedding_cache { Ok(None) } else { Ok(Some(cache_folder()?.join("embeddings"))) }
    }
}

impl DeviceArg {
    /// The encoder `name` ([`models::load`]) on the device.
    pub fn load(&self, name: &str, seed: u64) -> Result<Box<dyn Trainable>> {
        self.load_with(name, seed, self.prompts.clone())
    }

    /// A teacher, whose prompts are those of its folder.
    pub fn load_teacher(&self, name: &str, seed: u64) -> Result<Box<dyn Trainable>> {
        self.load_with(name, seed, PromptArgs::default()).map_err(|e| Error::invalid(format!("the teacher: {e}")))
    }

    fn load_with(&self, name: &str, seed: u64, prompts: PromptArgs) -> Result<Box<dyn Trainable>> {
        let device = self.device.open()?;
        let PromptArgs { query_prompt, document_prompt } = prompts;
        let embedding_cache = self.cache.folder()?;
        let precision = self.precision.precision;
        let options = LoadOptions { seed, precision, embedding_cache, query_prompt, document_prompt, ..LoadOptions::default() };
        let mut encoder = models::load_with(name, &options)?;
        encoder.to_device(&device);
        Ok(encoder)
    }
}
