//! [`foils_kernels::encoder`] as one operation of Burn: forward, and the rule of its seventeen gradients.

use super::rule::{Host, Rule, contiguous, host, shape, track, typed};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex, backend_extension};
use burn::tensor::Element;
use foils_kernels::encoder::{Affine, EncoderLayer, EncoderWeights, Kept, Norm};
use foils_kernels::layers::Float;
use std::fmt::Debug;
use std::sync::Arc;

/// The parameters of a layer; a macro of Burn's carries them to the backend, and knows no lists of tensors.
#[derive(ExtensionType)]
pub(crate) struct Parameters<B: Backend> {
    pub query: FloatTensor<B>,
    pub query_bias: FloatTensor<B>,
    pub key: FloatTensor<B>,
    pub key_bias: FloatTensor<B>,
    pub value: FloatTensor<B>,
    pub value_bias: FloatTensor<B>,
    pub out: FloatTensor<B>,
    pub out_bias: FloatTensor<B>,
    pub attention_gamma: FloatTensor<B>,
    pub attention_beta: FloatTensor<B>,
    pub wide: FloatTensor<B>,
    pub wide_bias: FloatTensor<B>,
    pub narrow: FloatTensor<B>,
    pub narrow_bias: FloatTensor<B>,
    pub output_gamma: FloatTensor<B>,
    pub output_beta: FloatTensor<B>,
}

impl<B: Backend> Parameters<B> {
    /// In the order of the struct.
    fn list(self) -> [FloatTensor<B>; 16] {
        [
            self.query,
            self.query_bias,
            self.key,
            self.key_bias,
            self.value,
            self.value_bias,
            self.out,
            self.out_bias,
            self.attention_gamma,
            self.attention_beta,
            self.wide,
            self.wide_bias,
            self.narrow,
            self.narrow_bias,
            self.output_gamma,
            self.output_beta,
        ]
    }
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait EncoderKernel: Backend {
    /// `[tokens, width]` of texts of these lengths.
    fn encoder_layer(
        x: FloatTensor<Self>,
        #[extension_type] parameters: Parameters<Self>,
        layer: EncoderLayer,
        lengths: Arc<[usize]>,
    ) -> FloatTensor<Self>;
}

impl EncoderKernel for Flex {
    fn encoder_layer(x: Host, parameters: Parameters<Self>, layer: EncoderLayer, lengths: Arc<[usize]>) -> Host {
        let (x, parameters) = (contiguous(x), parameters.list().map(contiguous));
        typed!(x, T => host(layer.forward::<T>(&weights(&parameters), x.storage(), &lengths), shape(&x)))
    }
}

impl<C: CheckpointStrategy> EncoderKernel for Autodiff<Flex, C> {
    fn encoder_layer(x: FloatTensor<Self>, parameters: Parameters<Self>, layer: EncoderLayer, lengths: Arc<[usize]>) -> FloatTensor<Self> {
        let parameters = parameters.list();
        let mut each = std::iter::once(x.node()).chain(parameters.iter().map(|p| p.node()));
        let nodes = std::array::from_fn(|_| each.next().expect("x and sixteen parameters"));
        drop(each);
        let (x, parameters) = (contiguous(x.into_primitive()), parameters.map(|p| contiguous(p.into_primitive())));
        typed!(x, T => {
            let (y, kept) = layer.forward_kept::<T>(&weights(&parameters), x.storage(), &lengths);
            let y = host(y, shape(&x));
            track::<_, C, 17>(nodes, Step { x, parameters, layer, kept: Arc::new(kept) }, y)
        })
    }
}

/// What is kept of the forward pass.
#[derive(Clone)]
struct Step<T> {
    x: Host,
    parameters: [Host; 16],
    layer: EncoderLayer,
    kept: Arc<Kept<T>>,
}

impl<T> Debug for Step<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.layer.fmt(f)
    }
}

impl<T: Float + Element + bytemuck::Pod> Rule<17> for Step<T> {
    fn gradients(self, above: Host, _: [bool; 17]) -> [Option<Host>; 17] {
        let kept = Arc::try_unwrap(self.kept).unwrap_or_else(|shared| (*shared).clone());
        let shapes = self.parameters.each_ref().map(shape);
        let grads = self.layer.backward::<T>(&weights(&self.parameters), self.x.storage(), kept, above.storage::<T>().to_vec());
        let EncoderWeights { query, key, value, out, attention_norm, wide, narrow, output_norm } = grads.weights;
        let [[a, b], [c, d], [e, f], [g, h], [i, j], [k, l]] = [query, key, value, out, wide, narrow].map(|l| [l.weight, l.bias]);
        let [[m, n], [o, p]] = [attention_norm, output_norm].map(|l| [l.gamma, l.beta]);
        let mut shapes = shapes.into_iter();
        let weights = [a, b, c, d, e, f, g, h, m, n, i, j, k, l, o, p];
        let mut grads = std::iter::once(host(grads.x, shape(&self.x)))
            .chain(weights.into_iter().map(|w| host(w, shapes.next().expect("as many as parameters"))));
        std::array::from_fn(|_| grads.next())
    }
}

/// In the order of [`Parameters`].
fn weights<T: Element + bytemuck::Pod>(parameters: &[Host; 16]) -> EncoderWeights<&[T]> {
    let [q, q_bias, k, k_bias, v, v_bias, o, o_bias, gamma, beta, w, w_bias, n, n_bias, last_gamma, last_beta] =
        parameters.each_ref().map(|p| p.storage::<T>());
    EncoderWeights {
        query: Affine { weight: q, bias: q_bias },
        key: Affine { weight: k, bias: k_bias },
        value: Affine { weight: v, bias: v_bias },
        out: Affine { weight: o, bias: o_bias },
        attention_norm: Norm { gamma, beta },
        wide: Affine { weight: w, bias: w_bias },
        narrow: Affine { weight: n, bias: n_bias },
        output_norm: Norm { gamma: last_gamma, beta: last_beta },
    }
}
