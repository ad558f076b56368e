//! How the commands that compute vectors load their encoder.

use foils::Result;
use foils::device::DeviceName;
use foils::models::{self, LoadOptions, LoraSettings, LoraTarget, Trainable};

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

/// Where vectors are computed, and from what.
#[derive(clap::Args)]
pub struct DeviceArg {
    /// Where to compute dense layers: cpu, cuda, vulkan, metal, wgpu (each needs a build with that feature), or cuda:1 and so on.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    #[command(flatten)]
    prompts: PromptArgs,
}

impl DeviceArg {
    /// The encoder `name` ([`models::load`]) on the device.
    pub fn load(&self, name: &str, seed: u64) -> Result<Box<dyn Trainable>> {
        let device = self.device.open()?;
        let PromptArgs { query_prompt, document_prompt } = self.prompts.clone();
        let mut encoder = models::load_with(name, &LoadOptions { seed, query_prompt, document_prompt, ..LoadOptions::default() })?;
        encoder.to_device(&device);
        Ok(encoder)
    }
}
