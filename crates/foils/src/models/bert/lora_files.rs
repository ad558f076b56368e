//! Low-rank updates as the files of the Python library peft.

use super::BertEncoder;
use super::lora::{LoraParams, LoraSettings, LoraTarget};
use crate::models::folder::{Tensors, write_tensors};
use crate::models::host::{host, transpose};
use crate::{Error, Result, files};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;

/// The file by which a folder of updates is known.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What of peft's settings matters here.
#[derive(Deserialize)]
struct AdapterConfig {
    base_model_name_or_path: Option<String>,
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    bias: Option<String>,
}

/// The model that a folder of updates was made for: a name or a folder.
///
/// # Errors
/// When the file is damaged, names no model, or describes another kind of updates.
pub(crate) fn base_model(folder: &Path) -> Result<String> {
    let base = read_config(folder)?.base_model_name_or_path;
    base.ok_or_else(|| Error::file(folder.join(ADAPTER_CONFIG), None, "base_model_name_or_path is missing: which model is it for?"))
}

fn read_config(folder: &Path) -> Result<AdapterConfig> {
    let path = folder.join(ADAPTER_CONFIG);
    let config: AdapterConfig = files::read_json(&path)?;
    let wrong = |message: String| Err(Error::file(&path, None, message));
    if config.peft_type != "LORA" {
        return wrong(format!("peft_type is {:?}; only \"LORA\" is known here", config.peft_type));
    }
    if config.use_dora || config.use_rslora || config.bias.as_deref().is_some_and(|b| b != "none") {
        return wrong("use_dora, use_rslora and a trained bias are not supported: plain LoRA is".into());
    }
    Ok(config)
}

fn name(layer: usize, target: LoraTarget, part: char) -> String {
    format!("base_model.model.encoder.layer.{layer}.{}.lora_{part}.weight", target.module())
}

impl BertEncoder {
    /// The same model with the updates of a folder that peft or [`Encoder::save`](crate::models::Encoder::save) wrote.
    ///
    /// # Errors
    /// Names the file that is missing, damaged, or for a model of other sizes.
    pub(crate) fn with_lora_files(mut self, folder: &Path) -> Result<Self> {
        let config = read_config(folder)?;
        let path = folder.join(WEIGHTS);
        let tensors = Tensors::open(&path)?;
        let names = tensors.names()?;
        let targets: Vec<LoraTarget> =
            LoraTarget::ALL.map(|(target, _)| target).into_iter().filter(|t| names.contains(&name(0, *t, 'A'))).collect();
        if targets.is_empty() || names.len() != 2 * targets.len() * self.shape.layers {
            let known = LoraTarget::ALL.map(|(target, _)| target.module()).join(", ");
            let message =
                format!("has {} tensors; two are needed for each of {} layers and each of some of {known}", names.len(), self.shape.layers);
            return Err(Error::file(&path, None, message));
        }
        let settings = LoraSettings { rank: config.r, alpha: config.lora_alpha, targets };
        settings.check().map_err(|e| Error::file(&path, None, e.to_string()))?;
        let lora = LoraParams::build(&settings, &self.shape, &self.device, |layer, target, [from, to]| {
            let read = |part: char, needed: [usize; 2]| {
                let name = name(layer, target, part);
                let (found, values) = tensors.get::<2>(&name)?;
                match found == needed {
                    true => Ok(transpose(&values, needed[0], needed[1])),
                    false => Err(Error::file(&path, None, format!("{name:?} has the shape {found:?}, but {needed:?} is needed"))),
                }
            };
            Ok([read('A', [config.r, from])?, read('B', [to, config.r])?])
        })?;
        self.set_lora(lora);
        Ok(self)
    }

    /// Writes the updates for peft; `base` is the model without them.
    pub(super) fn write_lora(&self, lora: &LoraParams, base: &str, folder: &Path) -> Result<()> {
        let settings = lora.settings();
        // By whole names: "output.dense" alone would mean the attention's output too.
        let modules: Vec<String> = settings.targets.iter().map(|t| t.module().replace('.', "\\.")).collect();
        let config = json!({
            "peft_type": "LORA",
            "task_type": "FEATURE_EXTRACTION",
            "base_model_name_or_path": base,
            "r": settings.rank,
            "lora_alpha": settings.effective_alpha(),
            "target_modules": format!("(.*\\.)?encoder\\.layer\\.\\d+\\.({})", modules.join("|")),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
        });
        files::write_json(folder.join(ADAPTER_CONFIG), &config)?;
        let mut tensors: Vec<(String, [usize; 2], Vec<f32>)> = Vec::new();
        for layer in 0..self.shape.layers {
            for (target, pair) in lora.of_layer(layer) {
                for (part, param) in [('A', &pair.down), ('B', &pair.up)] {
                    let [rows, columns] = param.dims();
                    tensors.push((name(layer, target, part), [columns, rows], transpose(&host(param.val()), rows, columns)));
                }
            }
        }
        let all: Vec<(&str, &[usize], &[f32])> = tensors.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
        write_tensors(&folder.join(WEIGHTS), &all)
    }
}
