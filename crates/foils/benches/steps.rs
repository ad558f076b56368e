//! Whole training steps, forward, backward and AdamW, f32: `cargo bench --workspace --bench steps [-- JOB…]`.

#[path = "../../foils-kernels/benches/measure/mod.rs"]
mod measure;

use burn::module::{Module, Param};
use burn::nn::{LayerNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use foils::losses::amcl::{AdaptiveTemperature, Amcl, AmclHeads, AmclSettings, NegativeMode, Temperature};
use foils::losses::groco::GroupOrdering;
use foils::losses::{InfoNce, MocoInfoNce, NtXent};
use foils::models::image::{Body, ImageEncoder};
use foils::models::{self, LoadOptions, LoraSettings, MomentumCopy};
use foils::negatives::Queue;
use foils::nn::{self, AdamW, AffineParams, ConvBlock, EncoderLayer, LayerSettings, Lengths, NormParams, Planes, Precision};
use measure::{measure, wanted};

/// As in the command (`memory.rs` there).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // SAFETY: no other thread frees while the option (15, `mi_option_purge_delay`) is set: there is none yet.
    unsafe { libmimalloc_sys::mi_option_set(15, -1) };
    let device = Device::flex().autodiff();
    device.seed(1);
    if wanted("simclr-step") {
        let x = random([1024, 784], &device);
        let network = Mlp { first: LinearConfig::new(784, 512).init(&device), second: LinearConfig::new(512, 128).init(&device) };
        let loss = NtXent::new(0.5).expect("a temperature above 0");
        step("simclr-step", network, 1e-3, |network| {
            let z = network.forward(x.clone());
            loss.forward(z.clone().narrow(0, 0, 512), z.narrow(0, 512, 512)).expect("two views of one shape")
        });
    }
    if wanted("conv-step") {
        let x = Tensor::<4>::random([256, 1, 28, 28], Distribution::Normal(0.0, 1.0), &device);
        let targets: Vec<u32> = (0..256).map(|i| i * 7 % 10).collect();
        let block = |from: usize, to: usize| {
            ConvBlock::new(Param::from_tensor(random([9 * from, to], &device) * (1.0 / (9.0 * from as f64).sqrt())), &device)
        };
        let network = Cnn { blocks: vec![block(1, 32), block(32, 64), block(64, 128)], head: LinearConfig::new(2048, 10).init(&device) };
        step("conv-step", network, 1e-3, |network| nn::cross_entropy(network.forward(x.clone()), &targets).expect("a class for each row"));
    }
    if wanted("simclr-conv-step") {
        let x = Tensor::<4>::random([512, 1, 28, 28], Distribution::Normal(0.0, 1.0), &device);
        let loss = NtXent::new(0.5).expect("a temperature above 0");
        step("simclr-conv-step", image_encoder(&device), 1e-3, |network| {
            let z = network.forward(x.clone()).projections;
            loss.forward(z.clone().narrow(0, 0, 256), z.narrow(0, 256, 256)).expect("two views of one shape")
        });
    }
    if wanted("moco-conv-step") {
        moco_step("moco-conv-step", &device);
    }
    if wanted("transformer-step") {
        let x = random([1024, 384], &device);
        let lengths = Lengths::new([64; 16]);
        step("transformer-step", Transformer::new(384, 1536, &device), 1e-4, |network| {
            network.forward(x.clone(), &lengths).powi_scalar(2).mean()
        });
    }
    if wanted("minilm-step") {
        minilm_step("minilm-step", None, &device);
    }
    if wanted("minilm-step-lora") {
        minilm_step("minilm-step-lora", Some(LoraSettings::default()), &device);
    }
    if wanted("minilm-encode") {
        minilm_encode();
    }
    if wanted("group-ordering") {
        group_ordering(&device);
    }
    if wanted("temperatures") {
        temperatures(&device);
    }
    let amcl_steps = [("nt-xent", None), ("amcl-max", Some(NegativeMode::Max)), ("amcl-logsumexp", Some(NegativeMode::LogSumExp))];
    for (loss, mode) in amcl_steps {
        let name = format!("{loss}-step");
        if wanted(&name) {
            amcl_step(&name, mode, &device);
        }
    }
}

/// Temperatures of all pairs of 256 rows by a network of 128 hidden units, and the gradients of its weights and of the rows.
fn temperatures(device: &Device) {
    let network = AdaptiveTemperature::new(64, 128, 0.05, 2.0, 1, device).expect("bounds that fit");
    let z = random([256, 64], device);
    let mut step = move || {
        let z = z.clone().require_grad();
        let gradients = network.weights().all_pairs(z.clone(), z.clone()).expect("finite rows").sum().backward();
        z.grad(&gradients)
    };
    rayon::scope(|_| measure("temperatures", 101, "", &mut step));
}

/// SimCLR's steps on two views of 128 images: NT-Xent with one head, and AMCL with three.
fn amcl_step(name: &str, mode: Option<NegativeMode>, device: &Device) {
    let x = Tensor::<4>::random([256, 1, 28, 28], Distribution::Normal(0.0, 1.0), device);
    let temperature = Temperature::Pairs { hidden: 128, bounds: [0.05, 2.0], shared: true };
    let temperature = if mode.is_some() { temperature } else { Temperature::Constant(0.2) };
    let settings = AmclSettings { heads: if mode.is_some() { 3 } else { 1 }, hidden: 128, dim: 64, centred: true, temperature };
    let heads = AmclHeads::new(&settings, 128, 1, device).expect("sizes above 0");
    let (nt_xent, amcl) = (NtXent::new(0.2).expect("above 0"), Amcl::new(0.1).expect("above 0"));
    step(name, (image_encoder(device), heads), 1e-3, |(encoder, heads)| {
        let features = encoder.forward(x.clone()).features;
        let loss = match mode {
            None => {
                let z = heads.rows(features);
                nt_xent.forward(z.clone().narrow(0, 0, 128), z.narrow(0, 128, 128))
            }
            Some(mode) => heads.simclr(&amcl.mode(mode), [features.clone().narrow(0, 0, 128), features.narrow(0, 128, 128)]),
        };
        loss.expect("two views of one shape")
    });
}

/// GroCo's loss of 128 anchors with 10 positives and 10 negatives each, and its gradients.
fn group_ordering(device: &Device) {
    let scores = [(); 2].map(|()| Tensor::<2>::random([128, 10], Distribution::Uniform(-1.0, 1.0), device));
    let loss = GroupOrdering::default();
    let mut step = move || {
        let [positives, negatives] = scores.clone().map(Tensor::require_grad);
        let value = loss.forward(positives.clone(), negatives.clone()).expect("finite scores");
        let gradients = value.backward();
        (positives.grad(&gradients), negatives.grad(&gradients))
    };
    rayon::scope(|_| measure("group-ordering", 301, "", &mut step));
}

/// The registered encoder on 1,000 texts of 3 to 180 words, tokenising included.
fn minilm_encode() {
    let model = models::load("minilm", 0).expect("it is in the cache, or can be fetched");
    let lengths = [3, 8, 15, 30, 60, 120, 180];
    let texts: Vec<String> = (0..1000).map(|t| words(t, lengths[t * 13 % 7])).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    measure("minilm-encode", 3, "", || model.embed(&texts).expect("words"));
}

/// Text number `t`, of `n` words; benches/peers/minilm.py has the same.
fn words(t: usize, n: usize) -> String {
    let words = ["cat", "dog", "house", "river", "stone", "green", "seven", "night"];
    (0..n).map(|i| words[(t * 5 + i * (t + 1)) % 8]).collect::<Vec<_>>().join(" ")
}

fn image_encoder(device: &Device) -> ImageEncoder {
    ImageEncoder::new(Body::Conv, [1, 28, 28], 128, 1, device).expect("sizes above 0")
}

/// Queries of one view, keys of the other from the momentum encoder, which then follows; the keys go into the queue.
fn moco_step(name: &str, device: &Device) {
    let views = [(); 2].map(|()| Tensor::<4>::random([256, 1, 28, 28], Distribution::Normal(0.0, 1.0), device));
    let loss = MocoInfoNce::new(0.2).expect("a temperature above 0");
    let network = image_encoder(device);
    let mut keys = MomentumCopy::new(&network, 0.99).expect("a momentum from 0 to 1");
    let mut queue = Queue::new(4096, 128, 1, device).expect("sizes above 0");
    let (mut network, mut optimizer) = (Some(network), AdamW::default());
    let mut step = move || {
        let now = network.take().expect("put back below");
        let key = keys.get().forward(views[1].clone()).projections.detach();
        let query = now.forward(views[0].clone()).projections;
        let loss = loss.forward(query, key.clone(), queue.rows()).expect("a key for each").loss;
        let gradients = GradientsParams::from_grads(loss.backward(), &now);
        let next = optimizer.step(1e-3, now, gradients);
        keys.follow(&next).expect("a module of the same form");
        queue.push(key).expect("fewer keys than the queue holds");
        network = Some(next);
        let loss = loss.into_scalar::<f32>();
        assert!(loss.is_finite());
        loss
    };
    rayon::scope(|_| measure(name, 31, "", &mut step));
}

/// The registered encoder on 8 pairs of texts of 64 tokens each, as the training loop takes them.
fn minilm_step(name: &str, lora: Option<LoraSettings>, device: &Device) {
    let options = LoadOptions { lora, ..LoadOptions::default() };
    let mut model = models::load_with("minilm", &options).expect("it is in the cache, or can be fetched");
    let texts: Vec<String> = (0..16).map(|t| words(t, 62)).collect();
    model.prepare(&texts.iter().map(String::as_str).collect::<Vec<_>>()).expect("words");
    let loss = InfoNce::new(0.05).expect("a temperature above 0");
    measure(name, 15, "", || {
        let [anchors, candidates] = [0..8, 8..16].map(|rows| model.forward(&rows.collect::<Vec<u32>>(), device, 0).expect("prepared"));
        let loss = loss.forward(anchors, candidates).expect("a positive for each");
        model.step(&mut loss.backward(), 1e-5).expect("finite gradients");
        loss.into_scalar::<f32>()
    });
}

fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Measures the loss, its gradients and one step of AdamW.
///
/// On a thread of the pool: from any other, each of the hundreds of operations would put that thread to sleep and wake another.
fn step<M: Module>(name: &str, network: M, rate: f64, loss: impl Fn(&M) -> Tensor<1> + Sync) {
    let (mut network, mut optimizer) = (Some(network), AdamW::default());
    let mut step = || {
        let now = network.take().expect("put back below");
        let loss = loss(&now);
        let gradients = GradientsParams::from_grads(loss.backward(), &now);
        network = Some(optimizer.step(rate, now, gradients));
        let loss = loss.into_scalar::<f32>();
        assert!(loss.is_finite());
        loss
    };
    measure(name, 31, "", || rayon::scope(|_| step()));
}

fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    nn::linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val))
}

#[derive(Module, Debug)]
struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        linear(&self.second, nn::relu(linear(&self.first, x)))
    }
}

#[derive(Module, Debug)]
struct Cnn {
    blocks: Vec<ConvBlock>,
    head: Linear,
}

impl Cnn {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let n = x.dims()[0];
        let planes = self.blocks.iter().fold(Planes::new(x), |x, block| block.forward(x));
        linear(&self.head, planes.rows.reshape([n, 2048]))
    }
}

/// Six layers of the size of MiniLM on 16 texts of 64 tokens.
#[derive(Module, Debug)]
struct Transformer {
    layers: Vec<EncoderLayer>,
}

impl Transformer {
    fn new(width: usize, hidden: usize, device: &Device) -> Self {
        let affine = |from: usize, to: usize| {
            let layer = LinearConfig::new(from, to).init(device);
            AffineParams { weight: layer.weight, bias: layer.bias.expect("Burn's linear layer has a bias") }
        };
        let norm = || {
            let norm = LayerNormConfig::new(width).init(device);
            NormParams { gamma: norm.gamma, beta: norm.beta.expect("Burn's layer norm has an offset") }
        };
        let layer = |_| EncoderLayer {
            query: affine(width, width),
            key: affine(width, width),
            value: affine(width, width),
            out: affine(width, width),
            attention_norm: norm(),
            wide: affine(width, hidden),
            narrow: affine(hidden, width),
            output_norm: norm(),
        };
        Self { layers: (0..6).map(layer).collect() }
    }

    fn forward(&self, x: Tensor<2>, lengths: &Lengths) -> Tensor<2> {
        let settings = LayerSettings { heads: 12, epsilon: 1e-5, precision: Precision::default() };
        self.layers.iter().fold(x, |x, layer| layer.forward(x, lengths, settings))
    }
}
