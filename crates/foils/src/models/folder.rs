//! The folder form of sentence-transformers: `modules.json` names the modules, each with a folder of its own.

use super::Prompts;
use crate::{Error, Result, files};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// One line of `modules.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleEntry {
    idx: usize,
    name: String,
    path: String,
    /// The Python class, dotted.
    #[serde(rename = "type")]
    class: String,
}

impl ModuleEntry {
    /// The class without the Python module it lives in, which has moved between versions of sentence-transformers.
    pub fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or(&self.class)
    }

    /// The module's folder inside the model's; empty when it is the model's own.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// A model folder being written under a temporary name beside its place; [`FolderWriter::commit`] renames it there.
/// Dropped without a commit it leaves nothing behind.
pub struct FolderWriter {
    temporary: tempfile::TempDir,
    target: PathBuf,
    modules: Vec<ModuleEntry>,
    prompts: Prompts,
}

impl FolderWriter {
    /// Starts writing `target`; missing parents are made.
    ///
    /// # Errors
    /// When `target` is a file, or a folder with something in it that is no model, or its parent cannot be written.
    pub fn create(target: &Path) -> Result<Self> {
        if target.exists() && !is_model_or_empty(target)? {
            return Err(Error::file(target, None, "exists and is not a saved model (no modules.json in it); choose another name"));
        }
        let parent = files::folder_of(target);
        std::fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(files::TEMPORARY_PREFIX)
            .suffix(".tmp")
            .tempdir_in(parent)
            .map_err(Error::io("write in the folder", parent))?;
        Ok(Self { temporary, target: target.to_owned(), modules: Vec::new(), prompts: Prompts::default() })
    }

    /// Makes the folder of the next module; `kind` is its class in `sentence_transformers.models` (`StaticEmbedding`, `Dense`).
    /// Files are written into the folder that this returns.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn add_module(&mut self, kind: &str) -> Result<PathBuf> {
        let idx = self.modules.len();
        let path = format!("{idx}_{kind}");
        let folder = self.temporary.path().join(&path);
        std::fs::create_dir(&folder).map_err(Error::io("create the folder", &folder))?;
        self.modules.push(ModuleEntry { idx, name: idx.to_string(), path, class: format!("sentence_transformers.models.{kind}") });
        Ok(folder)
    }

    /// Makes a folder beside the modules that no module is in.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn add_folder(&mut self, name: &str) -> Result<PathBuf> {
        let folder = self.temporary.path().join(name);
        std::fs::create_dir(&folder).map_err(Error::io("create the folder", &folder))?;
        Ok(folder)
    }

    /// What the model wants to see before texts.
    pub fn set_prompts(&mut self, prompts: Prompts) {
        self.prompts = prompts;
    }

    /// Writes `modules.json` and `config_sentence_transformers.json` and renames the folder into place.
    ///
    /// # Errors
    /// When the disk is full or the rename fails; a model that was there before is then still there.
    pub fn commit(self) -> Result<()> {
        let folder = self.temporary.path();
        files::write_json(folder.join("modules.json"), &self.modules)?;
        let config = serde_json::json!({
            "__version__": { "foils": env!("CARGO_PKG_VERSION") },
            "model_type": "SentenceTransformer",
            "prompts": self.prompts.by_name(),
            "default_prompt_name": self.prompts.default_name(),
            "similarity_fn_name": "cosine",
        });
        files::write_json(folder.join("config_sentence_transformers.json"), &config)?;
        #[cfg(unix)]
        {
            // Temporary folders are made for their owner alone; this is an ordinary result.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).map_err(Error::io("write", folder))?;
        }
        let io = || Error::io("write", &self.target);
        // A folder cannot be renamed onto one that is not empty: the old model steps aside for the moment between two renames.
        let aside = folder.with_extension("old");
        let replaced = self.target.exists();
        if replaced {
            std::fs::rename(&self.target, &aside).map_err(io())?;
        }
        if let Err(error) = std::fs::rename(folder, &self.target) {
            if replaced {
                std::fs::rename(&aside, &self.target).map_err(io())?;
            }
            return Err(io()(error));
        }
        if replaced {
            std::fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
        }
        let _ = self.temporary.keep(); // it has moved: nothing is left to remove
        Ok(())
    }
}

fn is_model_or_empty(folder: &Path) -> Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let empty = std::fs::read_dir(folder).map_err(Error::io("read", folder))?.next().is_none();
    Ok(empty || folder.join("modules.json").is_file())
}

/// The modules of a saved model, in the order in which they run.
///
/// # Errors
/// When `modules.json` is missing or not what it should be, or a path leads out of the folder.
pub(super) fn read_modules(folder: &Path) -> Result<Vec<ModuleEntry>> {
    let path = folder.join("modules.json");
    if !path.is_file() {
        return Err(Error::file(folder, None, "is not a saved model: there is no modules.json in it"));
    }
    let mut modules: Vec<ModuleEntry> = files::read_json(&path)?;
    modules.sort_by_key(|m| m.idx);
    if modules.is_empty() {
        return Err(Error::file(&path, None, "names no module"));
    }
    for module in &modules {
        if !Path::new(&module.path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(Error::file(&path, None, format!("the module path {:?} leads out of the folder", module.path)));
        }
    }
    Ok(modules)
}

/// Tensors in memory on their way into a safetensors file: name, shape, row-major values.
pub(super) fn write_tensors(path: &Path, tensors: &[(&str, &[usize], &[f32])]) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, shape, values)| Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values))?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|e| Error::file(path, None, format!("cannot be written as safetensors: {e}")))?;
    files::write(path, bytes)
}

/// A safetensors file held in memory.
pub(super) struct Tensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Tensors {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let tensors = Self { path: path.to_owned(), bytes };
        tensors.parse()?;
        Ok(tensors)
    }

    /// The file that was read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn parse(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|e| Error::file(&self.path, None, format!("is not a whole safetensors file (truncated, or of another kind): {e}")))
    }

    pub(super) fn names(&self) -> Result<Vec<String>> {
        Ok(self.parse()?.names().into_iter().map(str::to_owned).collect())
    }

    /// The tensor `name`, widened or rounded to f32, with its shape of `D` axes.
    ///
    /// # Errors
    /// When it is missing, has another number of axes or another kind of number, or holds NaN or an infinity.
    pub(super) fn get<const D: usize>(&self, name: &str) -> Result<([usize; D], Vec<f32>)> {
        let wrong = |message: String| Error::file(&self.path, None, message);
        let tensors = self.parse()?;
        let view = tensors.tensor(name).map_err(|_| wrong(format!("has no tensor {name:?}; it has {:?}", tensors.names())))?;
        let shape: [usize; D] =
            view.shape().try_into().map_err(|_| wrong(format!("{name:?} has the shape {:?}; {D} axes are needed", view.shape())))?;
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F64 => {
                data.chunks_exact(8).map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32).collect()
            }
            Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => return Err(wrong(format!("{name:?} holds {other:?}; F16, BF16, F32 or F64 is needed"))),
        };
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(wrong(format!("{name:?} holds {} at position {at}: the weights are damaged", values[at])));
        }
        Ok((shape, values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_model_is_never_replaced_and_a_dropped_writer_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let precious = home.path().join("thesis");
        std::fs::create_dir(&precious).unwrap();
        std::fs::write(precious.join("chapter1.txt"), "…").unwrap();
        let message = FolderWriter::create(&precious).err().unwrap().to_string();
        assert!(message.contains("thesis") && message.contains("not a saved model"), "{message}");
        let mut dropped = FolderWriter::create(&home.path().join("model")).unwrap();
        dropped.add_module("Dense").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
        for round in 0..2 {
            let mut writer = FolderWriter::create(&home.path().join("model")).unwrap();
            std::fs::write(writer.add_module("Dense").unwrap().join("round"), round.to_string()).unwrap();
            writer.commit().unwrap();
            assert_eq!(std::fs::read_to_string(home.path().join("model/0_Dense/round")).unwrap(), round.to_string());
            assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2, "nothing temporary is left");
        }
    }

    #[test]
    fn module_paths_that_lead_out_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let json = r#"[{"idx": 0, "name": "0", "path": "../x", "type": "sentence_transformers.models.Dense"}]"#;
        std::fs::write(home.path().join("modules.json"), json).unwrap();
        assert!(read_modules(home.path()).unwrap_err().to_string().contains("leads out"));
        std::fs::write(home.path().join("modules.json"), "[{\n\"idx\": }]").unwrap();
        assert!(read_modules(home.path()).unwrap_err().to_string().contains("modules.json:2"));
    }
}
