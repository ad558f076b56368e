use super::*;
use crate::seed;
use burn::tensor::{Device, TensorData, activation as burns};
use rand::RngExt;

fn draw(shape: [usize; 2], stream: u64) -> Tensor<2> {
    let mut rng = seed::rng(4, stream);
    let values: Vec<f64> = (0..shape[0] * shape[1]).map(|_| rng.random_range(-2.0..2.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex().autodiff(), DType::F64))
}

fn values(x: Tensor<2>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

/// Values and gradients of two ways to compute one thing, in f64 to `1e-11` and in f32 to `2e-5`, from inputs of these shapes.
fn assert_same<const N: usize>(
    name: &str,
    shapes: [[usize; 2]; N],
    one: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    other: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let inputs: [Tensor<2>; N] = std::array::from_fn(|i| draw(shapes[i], i as u64));
    let run = |dtype: DType, f: &dyn Fn([Tensor<2>; N]) -> Tensor<2>| {
        let inputs = inputs.clone().map(|x| x.cast(dtype).detach().require_grad());
        let out = f(inputs.clone());
        let weights = draw(out.dims(), 99).cast(dtype);
        let grads = (out.clone() * weights).sum().backward();
        let mut all = vec![values(out)];
        all.extend(inputs.iter().map(|x| values(x.grad(&grads).expect("every input has a gradient"))));
        all
    };
    for (dtype, allowed) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
        let (ours, expected) = (run(dtype, &one), run(DType::F64, &other));
        for (i, (a, b)) in ours.iter().zip(&expected).enumerate() {
            assert_eq!(a.len(), b.len(), "{name}");
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max);
            assert!(worst < allowed, "{name} in {dtype:?}, output {i}: off by {worst}");
            assert!(a.len() < 2 || a.iter().any(|v| v.abs() > 1e-3), "{name}, output {i}: there is something in it");
        }
    }
}

fn row(x: Tensor<2>) -> Tensor<1> {
    let n = x.dims()[1];
    x.reshape([n])
}

/// Two groups of keys, some of them hidden.
fn mask(groups: usize, width: usize) -> Tensor<2> {
    let hidden = |i: usize| if i % width >= width - 1 - i / width { f64::NEG_INFINITY } else { 0.1 * i as f64 };
    let data = TensorData::new((0..groups * width).map(hidden).collect(), [groups, width]);
    Tensor::from_data(data, (&Device::flex().autodiff(), DType::F64))
}

#[test]
fn kernels_and_plain_operations_agree() {
    for [rows, from, to] in [[6, 5, 3], [1, 1, 1], [33, 17, 40]] {
        let shapes = [[rows, from], [from, to], [1, to]];
        let three = |x: Tensor<2>| x.reshape([rows / 3, 3, from]);
        assert_same("linear", shapes, |[x, w, b]| linear(x, w, Some(row(b))), |[x, w, b]| linear::on(false, x, w, Some(row(b))));
        assert_same("linear without bias", [shapes[0], shapes[1]], |[x, w]| linear(x, w, None), |[x, w]| x.matmul(w));
        if rows.is_multiple_of(3) {
            let flat = |y: Tensor<3>| y.reshape([rows, to]);
            assert_same(
                "linear of rank 3",
                shapes,
                |[x, w, b]| flat(linear(three(x), w, Some(row(b)))),
                |[x, w, b]| x.matmul(w) + b.expand([rows, to]),
            );
        }
    }
    for [rows, width] in [[4, 5], [1, 1], [50, 65]] {
        let shapes = [[rows, width], [1, width], [1, width]];
        assert_same(
            "layer norm",
            shapes,
            |[x, g, b]| layer_norm(x, row(g), row(b), 0.1),
            |[x, g, b]| layer_norm::plain(x, row(g), row(b), 0.1),
        );
        let with_residual = [[rows, width], [rows, width], [1, width], [1, width]];
        assert_same(
            "layer norm of a sum",
            with_residual,
            |[x, r, g, b]| add_layer_norm(x, r, row(g), row(b), 0.1),
            |[x, r, g, b]| layer_norm::plain(x + r, row(g), row(b), 0.1),
        );
        assert_same("GELU", [[rows, width]], |[x]| gelu(x), |[x]| burns::gelu(x));
        assert_same("ReLU", [[rows, width]], |[x]| relu(x), |[x]| burns::relu(x));
        if width > 1 {
            assert_same("softmax", [[rows, width]], |[x]| softmax(x, 0.7, None), |[x]| burns::softmax(x * 0.7, 1));
            let targets: Vec<u32> = (0..rows).map(|i| (i % width) as u32).collect();
            assert_same(
                "cross-entropy",
                [[rows, width]],
                |[x]| cross_entropy(x, &targets).unwrap().mul_scalar(3.0).unsqueeze(),
                |[x]| cross_entropy::plain(x, &targets).mul_scalar(3.0).unsqueeze(),
            );
        }
    }
    for [n, m, width] in [[4, 5, 3], [1, 1, 1], [20, 33, 40]] {
        assert_same(
            "scores of pairs",
            [[n, width], [m, width], [1, width]],
            |[a, b, w]| pair_scores(a, b, w),
            |[a, b, w]| pairs::plain(a, b, w),
        );
    }
    let masked = |x: &Tensor<2>| mask(2, 5).cast(x.dtype());
    assert_same(
        "masked softmax",
        [[6, 5]],
        |[x]| softmax(x.clone(), 0.7, Some(masked(&x))),
        |[x]| softmax::plain(x.clone(), 0.7, Some(masked(&x))),
    );
    let heads = Heads { batch: 2, tokens: 5, heads: 3 };
    assert_same(
        "attention",
        [[10, 12]; 3],
        |[q, k, v]| attention(q, k, v, heads, None),
        |[q, k, v]| attention::plain(q, k, v, heads, None),
    );
    assert_same(
        "masked attention",
        [[10, 12]; 3],
        |[q, k, v]| attention(q.clone(), k, v, heads, Some(masked(&q))),
        |[q, k, v]| attention::plain(q.clone(), k, v, heads, Some(masked(&q))),
    );
}

#[test]
fn a_row_without_anything_to_attend_to_is_zero_on_both_paths() {
    let hidden = || Tensor::<2>::full([2, 3], f64::NEG_INFINITY, (&Device::flex().autodiff(), DType::F64));
    for f in [softmax::<2> as fn(Tensor<2>, f64, Option<Tensor<2>>) -> Tensor<2>, softmax::plain::<2>] {
        let x = draw([4, 3], 0).require_grad();
        let y = f(x.clone(), 2.0, Some(hidden()));
        assert_eq!(values(y.clone()), [0.0; 12]);
        let grads = (y * draw([4, 3], 1)).sum().backward();
        assert_eq!(values(x.grad(&grads).unwrap()), [0.0; 12]);
    }
}

#[test]
fn views_and_shared_tensors_are_left_as_they_are() {
    let device = Device::flex();
    let x = Tensor::<2>::from_data([[-1.0f32, 2.0, 3.0], [4.0, -5.0, 6.0]], &device);
    let kept = x.clone();
    let (turned, part) = (x.clone().transpose(), x.clone().slice([0..2, 1..3]));
    assert_eq!(values(relu(turned)), [0.0, 4.0, 2.0, 0.0, 3.0, 6.0]);
    assert_eq!(values(relu(part)), [2.0, 3.0, 0.0, 6.0]);
    assert_eq!(values(relu(x)), [0.0, 2.0, 3.0, 4.0, 0.0, 6.0]);
    assert_eq!(values(kept), [-1.0, 2.0, 3.0, 4.0, -5.0, 6.0]);
    let empty = Tensor::<2>::from_data(TensorData::new(Vec::<f32>::new(), [0, 3]), &device);
    assert_eq!(softmax(gelu(relu(empty.clone())), 1.0, None).dims(), [0, 3]);
    assert_eq!(linear(empty, Tensor::ones([3, 4], &device), None).dims(), [0, 4]);
}

#[test]
fn wrong_targets_are_errors() {
    let logits = || draw([2, 3], 0);
    assert!(cross_entropy(logits(), &[0]).is_err());
    assert!(cross_entropy(logits(), &[0, 3]).unwrap_err().to_string().contains("target 3"));
    assert!(cross_entropy(draw([0, 3], 0), &[]).is_err());
}
