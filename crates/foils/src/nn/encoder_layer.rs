//! One layer of a BERT: attention and a network of two linear layers, a layer norm behind each.

use super::encoder_kernel::{EncoderKernel, Parameters};
use super::{Heads, Lengths, add_layer_norm, attention, gelu, linear, on_kernels};
use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foils_kernels::encoder as kernels;
use foils_kernels::matrix::Precision;

/// The parameters of a linear layer, on a graph or not.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `[from, to]`
    pub weight: Tensor<2>,
    /// `[to]`
    pub bias: Tensor<1>,
}

/// The parameters of a layer norm.
#[derive(Clone, Debug)]
pub struct Norm {
    /// The factor γ, `[width]`.
    pub gamma: Tensor<1>,
    /// The offset β, `[width]`.
    pub beta: Tensor<1>,
}

/// What an [`encoder_layer`] is beside its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSettings {
    /// Heads of attention, which divide the width.
    pub heads: usize,
    /// Of the norms.
    pub epsilon: f64,
    /// How exactly the kernels multiply f32; elsewhere the device decides.
    pub precision: Precision,
}

/// The parameters of an [`encoder_layer`] of `width` columns with `hidden` units.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// Queries, `[width, width]`.
    pub query: Affine,
    /// Keys, `[width, width]`.
    pub key: Affine,
    /// Values, `[width, width]`.
    pub value: Affine,
    /// From the heads' results, `[width, width]`.
    pub out: Affine,
    /// Behind attention.
    pub attention_norm: Norm,
    /// `[width, hidden]`, before GELU.
    pub wide: Affine,
    /// `[hidden, width]`, behind it.
    pub narrow: Affine,
    /// At the end.
    pub output_norm: Norm,
}

/// A whole layer of BERT (Devlin et al. 2019; Vaswani et al. 2017 with the norms behind the residuals):
/// `h = norm(x + out(attention(x)))`, `y = norm(h + narrow(gelu(wide(h))))`.
///
/// `x`, `[tokens, width]`, holds the tokens of all texts one after the other, and so does the result: there is no padding, and
/// linear layers, norms and GELU see real tokens only.
///
/// # Panics
/// When the shapes do not fit, or the heads do not divide the width.
pub fn encoder_layer(x: Tensor<2>, weights: LayerWeights, lengths: &Lengths, settings: LayerSettings) -> Tensor<2> {
    assert_eq!(x.dims()[0], lengths.tokens(), "rows for texts of {} tokens", lengths.tokens());
    if !on_kernels(&x) {
        return plain(x, weights, lengths, settings);
    }
    let LayerSettings { heads, epsilon, precision } = settings;
    let [width, hidden] = weights.wide.weight.dims();
    let layer = kernels::EncoderLayer { width, heads, hidden, epsilon, precision };
    let each = lengths.offsets().windows(2).map(|ends| ends[1] - ends[0]).collect();
    Tensor::from_dispatch(Dispatch::encoder_layer(x.into_dispatch(), weights.into_parameters(), layer, each))
}

/// [`encoder_layer`] step by step.
fn plain(x: Tensor<2>, weights: LayerWeights, lengths: &Lengths, settings: LayerSettings) -> Tensor<2> {
    let LayerSettings { heads, epsilon, .. } = settings;
    let affine = |x: Tensor<2>, layer: Affine| linear(x, layer.weight, Some(layer.bias));
    let norm = |x, residual, norm: Norm| add_layer_norm(x, residual, norm.gamma, norm.beta, epsilon);
    let [q, k, v] = [weights.query, weights.key, weights.value].map(|layer| affine(x.clone(), layer));
    let attended = ragged_attention(q, k, v, lengths, heads);
    let x = norm(affine(attended, weights.out), x, weights.attention_norm);
    let y = affine(gelu(affine(x.clone(), weights.wide)), weights.narrow);
    norm(y, x, weights.output_norm)
}

impl LayerWeights {
    fn into_parameters(self) -> Parameters<Dispatch> {
        let affine = |layer: Affine| (layer.weight.into_dispatch(), layer.bias.into_dispatch());
        let norm = |norm: Norm| (norm.gamma.into_dispatch(), norm.beta.into_dispatch());
        let [(query, query_bias), (key, key_bias), (value, value_bias), (out, out_bias)] =
            [self.query, self.key, self.value, self.out].map(affine);
        let [(attention_gamma, attention_beta), (output_gamma, output_beta)] = [self.attention_norm, self.output_norm].map(norm);
        let [(wide, wide_bias), (narrow, narrow_bias)] = [self.wide, self.narrow].map(affine);
        Parameters {
            query,
            query_bias,
            key,
            key_bias,
            value,
            value_bias,
            out,
            out_bias,
            attention_gamma,
            attention_beta,
            wide,
            wide_bias,
            narrow,
            narrow_bias,
            output_gamma,
            output_beta,
        }
    }
}

/// [`attention`] within each text.
fn ragged_attention(queries: Tensor<2>, keys: Tensor<2>, values: Tensor<2>, lengths: &Lengths, heads: usize) -> Tensor<2> {
    let shape = Heads { batch: lengths.texts(), tokens: lengths.longest(), heads };
    if lengths.are_equal() {
        return attention(queries, keys, values, shape, None);
    }
    let padding = lengths.padding(&queries.device(), queries.dtype());
    let [q, k, v] = [queries, keys, values].map(|x| x.select(0, padding.rows.clone()));
    attention(q, k, v, shape, Some(padding.mask)).select(0, padding.places)
}

/// [`Affine`] as a module.
#[derive(Module, Debug)]
pub struct AffineParams {
    /// `[from, to]`
    pub weight: Param<Tensor<2>>,
    /// `[to]`
    pub bias: Param<Tensor<1>>,
}

/// [`Norm`] as a module.
#[derive(Module, Debug)]
pub struct NormParams {
    /// `[width]`
    pub gamma: Param<Tensor<1>>,
    /// `[width]`
    pub beta: Param<Tensor<1>>,
}

/// [`LayerWeights`] as a module.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// `[width, width]`
    pub query: AffineParams,
    /// `[width, width]`
    pub key: AffineParams,
    /// `[width, width]`
    pub value: AffineParams,
    /// `[width, width]`
    pub out: AffineParams,
    /// Behind attention.
    pub attention_norm: NormParams,
    /// `[width, hidden]`
    pub wide: AffineParams,
    /// `[hidden, width]`
    pub narrow: AffineParams,
    /// At the end.
    pub output_norm: NormParams,
}

impl AffineParams {
    /// The current values.
    pub fn val(&self) -> Affine {
        Affine { weight: self.weight.val(), bias: self.bias.val() }
    }
}

impl NormParams {
    /// The current values.
    pub fn val(&self) -> Norm {
        Norm { gamma: self.gamma.val(), beta: self.beta.val() }
    }
}

impl EncoderLayer {
    /// The current values.
    pub fn weights(&self) -> LayerWeights {
        LayerWeights {
            query: self.query.val(),
            key: self.key.val(),
            value: self.value.val(),
            out: self.out.val(),
            attention_norm: self.attention_norm.val(),
            wide: self.wide.val(),
            narrow: self.narrow.val(),
            output_norm: self.output_norm.val(),
        }
    }

    /// [`encoder_layer`] with the current values.
    ///
    /// # Panics
    /// As [`encoder_layer`].
    pub fn forward(&self, x: Tensor<2>, lengths: &Lengths, settings: LayerSettings) -> Tensor<2> {
        encoder_layer(x, self.weights(), lengths, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, TensorData};

    const WIDTH: usize = 6;
    const HIDDEN: usize = 10;
    const LENGTHS: [usize; 3] = [3, 1, 4];

    /// x, then the weights in the order of their fields.
    fn shapes() -> Vec<Vec<usize>> {
        let square = || [vec![WIDTH, WIDTH], vec![WIDTH]];
        let norm = || [vec![WIDTH], vec![WIDTH]];
        let mut shapes = vec![vec![LENGTHS.iter().sum(), WIDTH]];
        (0..4).for_each(|_| shapes.extend(square()));
        shapes.extend(norm());
        shapes.extend([vec![WIDTH, HIDDEN], vec![HIDDEN], vec![HIDDEN, WIDTH], vec![WIDTH]]);
        shapes.extend(norm());
        shapes
    }

    fn numbers() -> Vec<Vec<f64>> {
        let mut n = 0;
        let mut next = |_| {
            n += 1;
            (n as f64 * 1.37).sin() + 0.3 * (n as f64 * 0.11).cos()
        };
        shapes().iter().map(|shape| (0..shape.iter().product()).map(&mut next).collect()).collect()
    }

    type Layer = fn(Tensor<2>, LayerWeights, &Lengths, LayerSettings) -> Tensor<2>;

    fn layer(layer: Layer, x: Tensor<2>, tensors: &[Tensor<1>], lengths: &Lengths) -> Tensor<2> {
        let mut rest = tensors.iter();
        let mut affine = |from: usize, to: usize| Affine {
            weight: rest.next().unwrap().clone().reshape([from, to]),
            bias: rest.next().unwrap().clone(),
        };
        let norm = |affine: Affine| Norm { gamma: affine.weight.reshape([WIDTH]), beta: affine.bias };
        let weights = LayerWeights {
            query: affine(WIDTH, WIDTH),
            key: affine(WIDTH, WIDTH),
            value: affine(WIDTH, WIDTH),
            out: affine(WIDTH, WIDTH),
            attention_norm: norm(affine(1, WIDTH)),
            wide: affine(WIDTH, HIDDEN),
            narrow: affine(HIDDEN, WIDTH),
            output_norm: norm(affine(1, WIDTH)),
        };
        layer(x, weights, lengths, LayerSettings { heads: 2, epsilon: 1e-5, precision: Precision::default() })
    }

    fn loss(of: Layer, numbers: &[Vec<f64>], device: &Device) -> (Tensor<1>, Vec<Tensor<1>>) {
        let flat = |values: &Vec<f64>| {
            let tensor = Tensor::<1>::from_data(TensorData::new(values.clone(), [values.len()]), (device, DType::F64));
            if device.is_autodiff() { tensor.require_grad() } else { tensor }
        };
        let leaves: Vec<Tensor<1>> = numbers.iter().map(flat).collect();
        let rows = LENGTHS.iter().sum();
        let y = layer(of, leaves[0].clone().reshape([rows, WIDTH]), &leaves[1..], &Lengths::new(LENGTHS));
        let above: Vec<f64> = (0..rows * WIDTH).map(|i| (i as f64 * 0.71).cos()).collect();
        ((y * Tensor::from_data(TensorData::new(above, [rows, WIDTH]), (device, DType::F64))).sum(), leaves)
    }

    #[test]
    fn gradients_are_those_of_central_differences_in_one_piece_and_step_by_step() {
        let run = |of: Layer| {
            let (value, leaves) = loss(of, &numbers(), &Device::flex().autodiff());
            let gradients = value.clone().backward();
            let all: Vec<f64> =
                leaves.iter().flat_map(|leaf| leaf.grad(&gradients).unwrap().into_data().iter::<f64>().collect::<Vec<_>>()).collect();
            (value.into_scalar::<f64>(), all)
        };
        let ((fused, fused_gradients), (plain, plain_gradients)) = (run(encoder_layer), run(plain));
        assert!((fused - plain).abs() < 1e-11, "{fused} and {plain}");
        let mut analytic = fused_gradients.iter().zip(&plain_gradients);
        for (which, values) in numbers().iter().enumerate() {
            for i in 0..values.len() {
                let (fused, plain) = analytic.next().unwrap();
                assert!((fused - plain).abs() < 1e-10 * (1.0 + plain.abs()), "tensor {which}, {i}: {fused} and {plain}");
                let at = |h: f64| {
                    let mut moved = numbers();
                    moved[which][i] += h;
                    loss(encoder_layer, &moved, &Device::flex()).0.into_scalar::<f64>()
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((numeric - fused).abs() < 1e-7 * (1.0 + numeric.abs()), "tensor {which}, {i}: {numeric} against {fused}");
            }
        }
    }

    #[test]
    fn texts_do_not_see_each_other() {
        let device = Device::flex();
        let all = numbers();
        let weights: Vec<Tensor<1>> =
            all[1..].iter().map(|v| Tensor::from_data(TensorData::new(v.clone(), [v.len()]), (&device, DType::F64))).collect();
        let rows =
            |values: &[f64]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len() / WIDTH, WIDTH]), (&device, DType::F64));
        let values = |x: Tensor<2>| x.into_data().iter::<f64>().collect::<Vec<_>>();
        let together = values(layer(encoder_layer, rows(&all[0]), &weights, &Lengths::new(LENGTHS)));
        let mut from = 0;
        for length in LENGTHS {
            let range = from * WIDTH..(from + length) * WIDTH;
            let alone = values(layer(encoder_layer, rows(&all[0][range.clone()]), &weights, &Lengths::new([length])));
            assert!(alone.iter().zip(&together[range]).all(|(a, b)| (a - b).abs() < 1e-12));
            from += length;
        }
    }

    #[test]
    #[should_panic(expected = "text 2 has no tokens")]
    fn a_text_without_tokens_is_refused() {
        Lengths::new([1, 0]);
    }
}
