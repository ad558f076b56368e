//! What the steps of a tuning run share: the data, the encoder and how it was before, and its vectors of the training texts.

use super::super::checkpoint::run_digest;
use super::{Strategy, TuneData, TuneSettings};
use crate::data::{Collection, Embeddings, Example};
use crate::diagnostics::{ScoreReport, ScoreSettings, gather, score_embedded};
use crate::metrics::{EvaluateSettings, Evaluated, Vectors, evaluate};
use crate::models::{self, Encoder, LoadOptions, Trainable, embed_collection};
use crate::negatives::{MineSummary, Miner};
use crate::train::teacher::load_teacher;
use crate::train::{RunFiles, TrainSettings, TrainSummary, fit};
use crate::{Error, Result};

/// An encoder and the data it is tuned on. Every training starts from the encoder as it was loaded.
pub struct Tuner<'a> {
    data: &'a TuneData,
    settings: &'a TuneSettings,
    encoder: Box<dyn Trainable>,
    untuned: Vec<u8>,
    training: Collection,
    queries: Embeddings,
    documents: Embeddings,
    /// A teacher's vectors of the same queries and documents.
    teacher: Option<(Embeddings, Embeddings)>,
}

impl<'a> Tuner<'a> {
    /// Loads the encoder and the teacher, if it is an encoder too, and embeds the training queries and documents with them, once.
    ///
    /// # Errors
    /// When the encoder cannot be loaded, or a text cannot be embedded.
    pub fn new(data: &'a TuneData, settings: &'a TuneSettings) -> Result<Self> {
        settings.mine.validate()?;
        settings.train.check()?;
        let loss = settings.train.objective()?;
        settings.train.check_negatives(&*loss, !settings.in_batch_only)?;
        let options = LoadOptions {
            seed: settings.seed,
            lora: settings.lora.clone(),
            precision: settings.train.precision,
            embedding_cache: settings.embedding_cache.clone(),
            query_prompt: settings.query_prompt.clone(),
            document_prompt: settings.document_prompt.clone(),
            ..LoadOptions::default()
        };
        let (encoder, training) = rayon::join(|| models::load_with(&settings.encoder, &options), || Collection::from_examples(&data.train));
        let (mut encoder, training) = (encoder?, training?);
        encoder.to_device(&settings.train.device.open()?);
        let (queries, documents) = embed_collection(&*encoder, &training)?;
        let teacher = load_teacher(&of_the_run(&settings.train, settings))?.map(|t| embed_collection(&*t, &training)).transpose()?;
        Ok(Self { data, settings, untuned: encoder.snapshot(), encoder, training, queries, documents, teacher })
    }

    /// A digest of what the results of these settings depend on: they, the data and the encoder.
    pub(super) fn digest(&self, settings: &TuneSettings) -> Result<u128> {
        let settings = serde_json::to_value(settings).map_err(|e| Error::invalid(format!("the settings have no JSON form: {e}")))?;
        let held_out = run_digest(&settings, &[], &self.data.test, &*self.encoder);
        Ok(run_digest(&held_out.to_string().into(), &self.data.train, &self.data.validation, &*self.encoder))
    }

    /// The encoder as the last training left it.
    pub fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }

    /// The settings of the run.
    pub fn settings(&self) -> &TuneSettings {
        self.settings
    }

    /// The training pairs with the negatives that a strategy gives them, and the account of the mining. Without mining they are the
    /// pairs as they were read, with the negatives that the file had.
    ///
    /// # Errors
    /// As [`Miner::run`], and when the teacher is scores that mined negatives do not have.
    pub fn examples(&self, strategy: &Strategy) -> Result<(Vec<Example>, Option<MineSummary>)> {
        let Some(settings) = &strategy.mine else { return Ok((self.data.train.clone(), None)) };
        if self.settings.train.teacher.as_deref() == Some(TrainSettings::SCORES_OF_THE_FILE) {
            let message = "the teacher `file` is the scores of the pairs that were given, and mined negatives are others: train in-batch only, \
                           or with an encoder as the teacher";
            return Err(Error::invalid(message));
        }
        let mut miner = Miner::new(&self.training, settings).with_vectors(&self.queries, &self.documents);
        if let Some((queries, documents)) = &self.teacher {
            miner = miner.with_teacher_vectors(queries, documents);
        }
        let mut mined = miner.run()?;
        if self.teacher.is_some() {
            mined.summary.settings["teacher"] = self.settings.train.teacher.clone().into();
        }
        Ok((mined.examples(&self.training).collect(), Some(mined.summary)))
    }

    /// Scores sets of negatives for the training queries with the untuned encoder.
    ///
    /// # Errors
    /// As [`score_embedded`].
    pub fn score<E: AsRef<[Example]>>(&self, sets: &[(String, E)]) -> Result<ScoreReport> {
        // The training pairs come first, so that the collection's texts have the places that the vectors have.
        let (collection, sets) = gather(Some(&self.data.train), sets)?;
        score_embedded(&collection, &sets, &self.queries, &self.documents, &ScoreSettings::default())
    }

    /// Trains the untuned encoder on `examples`.
    ///
    /// # Errors
    /// As [`fit`].
    pub fn train(&mut self, examples: &[Example], settings: &TrainSettings, files: &RunFiles) -> Result<TrainSummary> {
        self.encoder.restore(&self.untuned)?;
        let loss = settings.objective()?;
        let settings = of_the_run(settings, self.settings);
        fit(&mut *self.encoder, examples, &self.data.validation, &*loss, &settings, files)
    }

    /// Evaluates the encoder as it is against the untuned one.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(&mut self, collection: &Collection) -> Result<Evaluated> {
        let after = self.vectors(collection)?;
        let tuned = self.encoder.snapshot();
        self.encoder.restore(&self.untuned)?;
        let before = self.vectors(collection)?;
        self.encoder.restore(&tuned)?;
        let [before, after] = [&before, &after].map(|(queries, documents)| Vectors { queries, documents });
        evaluate(collection, Some(before), after, &EvaluateSettings::default())
    }

    fn vectors(&self, collection: &Collection) -> Result<(Embeddings, Embeddings)> {
        embed_collection(&*self.encoder, collection)
    }
}

/// The settings of a training with the seed and the cache of the run.
fn of_the_run(train: &TrainSettings, run: &TuneSettings) -> TrainSettings {
    TrainSettings { seed: run.seed, embedding_cache: run.embedding_cache.clone(), ..train.clone() }
}
