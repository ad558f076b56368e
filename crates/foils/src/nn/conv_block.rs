//! A convolution with batch norm and ReLU. On the CPU it runs on the kernels of [`foils_kernels::conv`], several times faster than
//! the device's own; on other devices it is Burn's operations. Rows are pixels: activations are `[images · height · width, channels]`.

use super::on_kernels;
use super::rule::{Host, contiguous, host, typed};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, activation::relu, module::conv2d};
use foils_kernels::conv::{Conv, norm_relu, norm_relu_backward};

/// 3 × 3 convolution without bias, stride 2, one zero around the image; batch norm; ReLU.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// `[9 · from, to]`: kernel row, kernel column, input channel.
    weight: Param<Tensor<2>>,
    norm: BatchNorm,
}

/// Images as rows of pixels.
pub struct Planes {
    /// `[images · height · width, channels]`.
    pub rows: Tensor<2>,
    /// Rows of pixels of an image.
    pub height: usize,
    /// Columns of pixels of an image.
    pub width: usize,
}

impl Planes {
    /// From `[n, channels, height, width]`.
    pub fn new(images: Tensor<4>) -> Self {
        let [n, channels, height, width] = images.dims();
        // With one channel both layouts are the same bytes.
        let last = if channels == 1 { images } else { images.permute([0, 2, 3, 1]) };
        Self { rows: last.reshape([n * height * width, channels]), height, width }
    }

    /// The mean of each channel over each image, `[n, channels]`.
    pub fn mean(self) -> Tensor<2> {
        let [rows, channels] = self.rows.dims();
        let pixels = self.height * self.width;
        self.rows.reshape([rows / pixels, pixels, channels]).mean_dim(1).squeeze_dim(1)
    }
}

impl ConvBlock {
    /// From weights `[9 · from, to]`.
    pub fn new(weight: Param<Tensor<2>>, device: &Device) -> Self {
        let norm = BatchNormConfig::new(weight.dims()[1]).init(device);
        Self { weight, norm }
    }

    /// The activations; on an autodiff device batch norm uses the batch's statistics and updates the running ones.
    ///
    /// # Panics
    /// When the channels are not those of the weights.
    pub fn forward(&self, x: Planes) -> Planes {
        let kernels = on_kernels(&x.rows);
        self.on(kernels, x)
    }

    /// `kernels`: whether they run on this device and type.
    fn on(&self, kernels: bool, x: Planes) -> Planes {
        let [pixels, from] = x.rows.dims();
        let (height, width) = (x.height, x.width);
        let [_, to] = self.weight.dims();
        let conv = Conv { images: pixels / (height * width), height, width, from, to, kernel: 3, stride: 2, padding: 1 };
        let training = x.rows.device().is_autodiff() && self.norm.training.is_enabled();
        let z = if kernels {
            Tensor::from_dispatch(Dispatch::convolve(x.rows.into_dispatch(), self.weight.val().into_dispatch(), conv))
        } else {
            convolve_plainly(x.rows, self.weight.val(), conv)
        };
        let rows = if kernels && training { self.norm_relu(z) } else { relu(self.norm.forward(z)) };
        Planes { rows, height: conv.out_height(), width: conv.out_width() }
    }

    /// Batch norm in training, with ReLU; keeps the running statistics as [`BatchNorm`] does.
    fn norm_relu(&self, z: Tensor<2>) -> Tensor<2> {
        let norm = &self.norm;
        let (gamma, beta) = (norm.gamma.val().into_dispatch(), norm.beta.val().into_dispatch());
        let (y, mean, variance) = Dispatch::norm_relu(z.into_dispatch(), gamma, beta, norm.epsilon);
        for (running, now) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
            let now = Tensor::<1>::from_dispatch(now).detach();
            let before = running.value_sync().to_device(&now.device());
            running.update((before.mul_scalar(1.0 - norm.momentum) + now.mul_scalar(norm.momentum)).detach());
        }
        Tensor::from_dispatch(y)
    }
}

/// The convolution in Burn's operations.
fn convolve_plainly(x: Tensor<2>, weight: Tensor<2>, c: Conv) -> Tensor<2> {
    let images = x.reshape([c.images, c.height, c.width, c.from]).permute([0, 3, 1, 2]);
    let weight = weight.reshape([c.kernel, c.kernel, c.from, c.to]).permute([3, 2, 0, 1]);
    let options = ConvOptions::new([c.stride; 2], [c.padding; 2], [1, 1], 1);
    let y = conv2d(images, weight, None, options).permute([0, 2, 3, 1]);
    y.reshape([c.images * c.out_height() * c.out_width(), c.to])
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait ConvKernels: Backend {
    /// `[images · height · width, from]` and `[kernel² · from, to]` to `[images · out_height · out_width, to]`.
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, conv: Conv) -> FloatTensor<Self>;

    /// Batch norm by the batch's own statistics and ReLU of `[rows, channels]`; also returns mean and variance, as constants.
    fn norm_relu(
        z: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl ConvKernels for Flex {
    fn convolve(x: Host, weight: Host, conv: Conv) -> Host {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let rows = conv.images * conv.out_height() * conv.out_width();
        typed!(x, T => host(conv.forward(x.storage::<T>(), weight.storage::<T>()), [rows, conv.to]))
    }

    fn norm_relu(z: Host, gamma: Host, beta: Host, epsilon: f64) -> (Host, Host, Host) {
        let (z, gamma, beta) = (z.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
        typed!(z, T => {
            let out = norm_relu(z.storage::<T>(), gamma.storage::<T>(), beta.storage::<T>(), epsilon);
            let channels = out.mean.len();
            (host(out.y, z.layout().shape().to_vec()), host(out.mean, [channels]), host(out.variance, [channels]))
        })
    }
}

#[derive(Debug)]
struct Convolve;

impl Backward<Flex, 2> for Convolve {
    type State = (Host, Host, Conv);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node] = ops.parents;
        let above = grads.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight, conv) = (ops.state.0.to_contiguous(), ops.state.1.to_contiguous(), ops.state.2);
        typed!(x, T => {
            let (grad_x, grad_weight) =
                conv.backward(x.storage::<T>(), weight.storage::<T>(), above.storage::<T>(), x_node.is_some());
            if let (Some(node), Some(grad)) = (x_node, grad_x) {
                grads.register::<Flex>(node.id, host(grad, x.layout().shape().to_vec()));
            }
            if let Some(node) = weight_node {
                grads.register::<Flex>(node.id, host(grad_weight, weight.layout().shape().to_vec()));
            }
        });
    }
}

#[derive(Clone, Debug)]
struct NormState {
    z: Host,
    gamma: Host,
    beta: Host,
    mean: Host,
    variance: Host,
    epsilon: f64,
}

#[derive(Debug)]
struct NormRelu;

impl Backward<Flex, 3> for NormRelu {
    type State = NormState;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [z_node, gamma_node, beta_node] = ops.parents;
        let mut above = contiguous(grads.consume::<Flex>(&ops.node));
        let s = ops.state;
        let (z, gamma, beta) = (contiguous(s.z), contiguous(s.gamma), contiguous(s.beta));
        let [grad_gamma, grad_beta] = typed!(z, T => {
            let statistics = (s.mean.storage::<T>(), s.variance.storage::<T>());
            let parameters = (gamma.storage::<T>(), beta.storage::<T>());
            let grad = norm_relu_backward(z.storage::<T>(), parameters, statistics, s.epsilon, above.storage_mut::<T>());
            let channels = grad.gamma.len();
            [host(grad.gamma, [channels]), host(grad.beta, [channels])]
        });
        for (node, gradient) in [(z_node, above), (gamma_node, grad_gamma), (beta_node, grad_beta)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

impl<C: CheckpointStrategy> ConvKernels for Autodiff<Flex, C> {
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, conv: Conv) -> FloatTensor<Self> {
        let y = Flex::convolve(x.primitive().clone(), weight.primitive().clone(), conv);
        match Backward::<Flex, 2>::prepare::<C>(Convolve, [x.node(), weight.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x.into_primitive(), weight.into_primitive(), conv), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn norm_relu(
        z: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [z.node(), gamma.node(), beta.node()];
        let (z, gamma, beta) = (z.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        let (y, mean, variance) = Flex::norm_relu(z.clone(), gamma.clone(), beta.clone(), epsilon);
        let state = NormState { z, gamma, beta, mean: mean.clone(), variance: variance.clone(), epsilon };
        let y = match Backward::<Flex, 3>::prepare::<C>(NormRelu, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        (y, Self::from_inner(mean), Self::from_inner(variance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use burn::optim::GradientsParams;
    use burn::tensor::{DType, TensorData};
    use rand::RngExt;

    /// Two blocks of one network, with the kernels and with Burn's operations: values, running statistics, gradients.
    #[test]
    fn kernels_and_burn_agree_in_training_and_in_use() {
        let device = Device::flex().autodiff();
        let mut rng = seed::rng(1, 0);
        let mut draw = |shape: &[usize]| {
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
            TensorData::new(values, shape.to_vec())
        };
        let f64s = (&device, DType::F64);
        let mut values = |from: usize, to: usize| {
            let row = |data| Tensor::<1>::from_data(data, f64s);
            (Tensor::<2>::from_data(draw(&[9 * from, to]), f64s), row(draw(&[to])) + 1.5, row(draw(&[to])))
        };
        let values = [values(2, 5), values(5, 3)];
        let pixels = Tensor::<4>::from_data(draw(&[4, 2, 7, 6]), f64s);
        let block = |(weight, gamma, beta): &(Tensor<2>, Tensor<1>, Tensor<1>)| {
            let block = ConvBlock::new(Param::from_tensor(weight.clone()), &device);
            block.norm.running_mean.update(block.norm.running_mean.value().cast(DType::F64));
            block.norm.running_var.update(block.norm.running_var.value().cast(DType::F64));
            let (gamma, beta) = (Param::from_tensor(gamma.clone().detach()), Param::from_tensor(beta.clone()));
            ConvBlock { norm: BatchNorm { gamma, beta, ..block.norm }, ..block }
        };
        let run = |kernels: bool| {
            let blocks: Vec<ConvBlock> = values.iter().map(block).collect();
            let images = pixels.clone().require_grad();
            let forward = |blocks: &[ConvBlock], images| blocks.iter().fold(Planes::new(images), |x, block| block.on(kernels, x)).mean();
            let out = forward(&blocks, images.clone());
            let graph = out.clone().powi_scalar(3).sum().backward();
            let mut all = vec![host_values(out), host_values(images.grad(&graph).unwrap())];
            let grads = GradientsParams::from_grads(graph, &blocks);
            for block in &blocks {
                all.push(host_values(grads.get::<2>(block.weight.id).unwrap()));
                all.push(host_values(grads.get::<1>(block.norm.gamma.id).unwrap()));
                all.push(host_values(grads.get::<1>(block.norm.beta.id).unwrap()));
            }
            let plain: Vec<ConvBlock> = blocks.iter().map(Module::valid).collect();
            all.extend(blocks.iter().flat_map(|b| [host_values(b.norm.running_mean.value()), host_values(b.norm.running_var.value())]));
            all.push(host_values(forward(&plain, pixels.clone().inner())));
            all
        };
        let (ours, burns) = (run(true), run(false));
        assert_eq!(ours.len(), burns.len());
        for (i, (a, b)) in ours.iter().zip(&burns).enumerate() {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().any(|v| v.abs() > 1e-3), "{i} has something in it");
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-11, "{i}: {worst}");
        }
    }

    fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }
}
