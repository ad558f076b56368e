//! Propagation along the edges of a random graph, f32: `cargo bench -p foils-kernels --bench sparse [-- JOB…]`.

mod measure;

use foils_kernels::sparse::Csr;
use measure::{measure, wanted};

const NODES: usize = 10_000;
const EDGES: usize = 200_000;
const DIM: usize = 64;

/// Runs on a thread of the pool, as a caller does who is threaded already: products this short would else be timed with the
/// waking of threads.
fn main() {
    rayon::scope(|_| run());
}

fn run() {
    let mut seed = 1u64;
    let mut draw = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % NODES
    };
    let mut edges: Vec<(usize, u32)> = (0..EDGES).map(|_| (draw(), draw() as u32)).collect();
    edges.sort_unstable();
    let offsets = (0..=NODES).map(|row| edges.partition_point(|e| e.0 < row)).collect();
    let graph = Csr::new(NODES, offsets, edges.iter().map(|e| e.1).collect(), None).normalized();
    let (transpose, _) = graph.transpose();
    let (mut x, mut y, mut z) = (storage(), storage(), storage());
    let (x, y, z) = (lines(&mut x), lines(&mut y), lines(&mut z));
    x.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32 * 0.37).sin());
    if wanted("sparse-forward") {
        measure("sparse-forward", 201, "", || graph.multiply(x, DIM, y));
    }
    if wanted("sparse-both") {
        measure("sparse-both", 201, "", || {
            graph.multiply(x, DIM, y);
            transpose.multiply(y, DIM, z);
        });
    }
}

/// Room for a matrix that begins on a cache line, as a tensor's storage does; the peers' do too.
fn storage() -> Vec<f32> {
    vec![0.0; NODES * DIM + 16]
}

fn lines(storage: &mut [f32]) -> &mut [f32] {
    let skip = storage.as_ptr().align_offset(64);
    &mut storage[skip..][..NODES * DIM]
}
