//! The ranking losses of baselines-mining.

use super::autodiff::{array, by_both_paths, constant, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use burn::tensor::{Gradients, Tensor};
use foils::losses::{MultipleNegativesRanking, Similarity, Targets};
use foils::train::{Chunk, ChunkEncoder, Side, cached_gradients};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("multiple_negatives_ranking_loss", multiple_negatives_ranking_loss),
    ("cached_multiple_negatives_ranking_loss", cached_multiple_negatives_ranking_loss),
];

fn multiple_negatives_ranking_loss(case: &Case) -> Result<Outputs> {
    let loss = MultipleNegativesRanking::new(case.param("scale")?)?.similarity(similarity(case)?);
    let [k, b, d]: [usize; 3] = case.input("negatives")?.dims()?;
    by_both_paths(case, |options| {
        let (anchor, positive) = (leaf::<2>(case, "anchor")?, leaf(case, "positive")?);
        let mut inputs = vec![("anchor", &anchor), ("positive", &positive)];
        if k == 0 {
            let value = loss.options(options).tuples(anchor.clone(), positive.clone(), vec![])?;
            return Ok(loss_and_gradients(value, &inputs)?.with("grad_negatives", Array::new([0, b, d], [])));
        }
        // A tensor has one gradient: the negatives are a leaf of rank 2 whose rows are column after column.
        let negatives = leaf::<3>(case, "negatives")?.inner().reshape([k * b, d]).autodiff().require_grad();
        inputs.push(("negatives", &negatives));
        let columns = negatives.clone().chunk(k, 0);
        let outputs = loss_and_gradients(loss.options(options).tuples(anchor.clone(), positive.clone(), columns)?, &inputs)?;
        let gradient = outputs.get("grad_negatives").map(|g| g.data.clone()).unwrap_or_default();
        Ok(outputs.with("grad_negatives", Array::new([k, b, d], gradient)))
    })
}

fn similarity(case: &Case) -> Result<Similarity> {
    let name: String = case.param("similarity")?;
    serde_json::from_value(name.clone().into()).map_err(|_| Error::invalid(format!("there is no similarity `{name}`")))
}

fn cached_multiple_negatives_ranking_loss(case: &Case) -> Result<Outputs> {
    let loss = MultipleNegativesRanking::new(case.param("scale")?)?;
    let [k, b, features]: [usize; 3] = case.input("x_negatives")?.dims()?;
    let positives = constant::<2>(case, "x_positive")?;
    let candidates =
        if k == 0 { positives } else { Tensor::cat(vec![positives, constant::<3>(case, "x_negatives")?.reshape([k * b, features])], 0) };
    let rows = candidates.dims()[0];
    by_both_paths(case, |options| {
        let weight = leaf(case, "weight")?;
        let gradient = weight.clone().inner().zeros_like();
        let mut encoder = Linear { anchors: constant(case, "x_anchor")?, candidates: candidates.clone(), weight, gradient };
        let targets = Targets::new((0..encoder.anchors.dims()[0] as u32).collect(), vec![]);
        let value = cached_gradients(&loss.options(options), &mut encoder, &targets, rows, case.param("chunk_size")?)?;
        Ok(Outputs::new().with("loss", Array::scalar(value)).with("grad_weight", array(encoder.gradient)))
    })
}

/// z = x W.
struct Linear {
    anchors: Tensor<2>,
    candidates: Tensor<2>,
    weight: Tensor<2>,
    gradient: Tensor<2>,
}

impl ChunkEncoder for Linear {
    fn embed(&mut self, chunk: &Chunk, graph: bool) -> Result<Tensor<2>> {
        let x = if chunk.side == Side::Anchors { &self.anchors } else { &self.candidates };
        let weight = if graph { self.weight.clone() } else { self.weight.clone().inner() };
        Ok(x.clone().slice([chunk.rows.clone()]).matmul(weight))
    }

    fn collect(&mut self, gradients: Gradients) -> Result<()> {
        let gradient = self.weight.grad(&gradients).ok_or_else(|| Error::invalid("the loss does not depend on the weight"))?;
        self.gradient = self.gradient.clone() + gradient;
        Ok(())
    }
}
