//! The ranking losses in f32 on another device against the kernel on the CPU. `FOILS_TEST_DEVICE` names the device (`vulkan`, `cuda:1`); without it,
//! the same tensor operations on the CPU are compared.

use super::*;
use crate::device::DeviceName;

#[test]
fn values_and_gradients_are_those_of_the_cpu() {
    let name: DeviceName = std::env::var("FOILS_TEST_DEVICE").map_or(DeviceName::Cpu, |name| name.parse().unwrap());
    let (here, there) = (Device::flex().autodiff(), name.open().unwrap().autodiff());
    let (n, m, dim) = (13, 37, 8);
    let targets = Targets::new((0..n as u32).map(|i| i % 5).collect(), (0..n as u32).map(|i| vec![7 + i, 30 - i / 2]).collect());
    let teacher = wave(n * m, 0.53);
    let targets = Targets { teacher, ..targets };
    for wanted in NAMES {
        // Without negatives: the five positives alone.
        let pairs = Targets::new(targets.positive.clone(), vec![]);
        let (m, targets) = if wanted == "barlow-twins" { (5, &pairs) } else { (m, &targets) };
        let by = |device: &Device, compute| {
            let options = Options { compute, ..Options::default() };
            let loss: Box<dyn RankingLoss> = match wanted {
                "mnrl" => Box::new(MultipleNegativesRanking::new(20.0).unwrap().options(options)),
                "infonce" => Box::new(InfoNce::new(0.1).unwrap().symmetric(true).options(options)),
                "dcl" => Box::new(Dcl::new(0.1).unwrap().options(options)),
                "dclw" => Box::new(Dclw::new(0.1, 0.5).unwrap().options(options)),
                other => by_name(other, &LossSettings::default()).unwrap(),
            };
            let leaf = |rows: usize, step: f64| {
                let values: Vec<f32> = wave(rows * dim, step).into_iter().map(|v| v as f32).collect();
                Tensor::<2>::from_data(TensorData::new(values, [rows, dim]), (device, DType::F32)).require_grad()
            };
            let (a, c) = (leaf(n, 0.37), leaf(m, 0.91));
            let value = loss.forward(a.clone(), c.clone(), targets).unwrap();
            let gradients = value.backward();
            [values(value), values(a.grad(&gradients).unwrap()), values(c.grad(&gradients).unwrap())]
        };
        let (cpu, other) = (by(&here, Compute::Auto), by(&there, Compute::TensorOps));
        for (x, y) in cpu.iter().zip(&other) {
            let size = x.iter().fold(0.0, |l: f64, v| l.max(v.abs()));
            let worst = x.iter().zip(y).fold(0.0, |l: f64, (x, y)| l.max((x - y).abs()));
            assert!(x.len() == y.len() && worst <= 2e-5 * size, "{wanted} on {name}: {worst:e} beside {size:e}");
        }
    }
}
