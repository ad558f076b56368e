//! Exact top-k: `cargo bench -p foils-kernels --bench topk [-- JOB…]`. The vectors are those of `benches/peers/topk.py`, bit for bit.

mod measure;

use foils_kernels::topk::TopK;
use measure::{measure, wanted};
use rayon::prelude::*;

const QUERIES: usize = 10_000;
const DOCUMENTS: usize = 100_000;
const DIM: usize = 384;
const K: usize = 50;
/// Documents in a block.
const BLOCK: usize = 64 * 1024;

fn main() {
    // `topk-100k` is what is compared with FAISS; the others say what the screen and the data do to it.
    for (name, clusters, screened) in
        [("topk-100k", 0, true), ("topk-100k-clustered", 1000, true), ("topk-100k-f32", 0, false), ("topk-100k-clustered-f32", 1000, false)]
    {
        if wanted(name) {
            search(name, clusters, screened);
        }
    }
}

fn search(name: &str, clusters: u64, screened: bool) {
    let (queries, documents) = (unit_vectors(1, QUERIES, clusters), unit_vectors(2, DOCUMENTS, clusters));
    let run = || {
        let mut best = if screened { TopK::new(&queries, DIM, K) } else { TopK::unscreened(&queries, DIM, K) };
        for (at, block) in documents.chunks(BLOCK * DIM).enumerate() {
            best.block((at * BLOCK) as u32, block, |_, _| false);
        }
        let scored = best.scored();
        (best.finish(), scored)
    };
    measure(name, 3, "", run);
    // What the times do not say. `topk.py check FILE` compares the indices with those of FAISS.
    let (rankings, scored) = run();
    eprintln!("{name}: {:.0} documents scored a query", scored as f64 / QUERIES as f64);
    if let Ok(path) = std::env::var("FOILS_TOPK_INDICES") {
        let bytes: Vec<u8> = rankings.iter().flatten().flat_map(|e| e.0.to_le_bytes()).collect();
        std::fs::write(path, bytes).expect("the indices could not be written");
    }
}

/// Unit rows of whole numbers, each the sum of 8 random bytes less its mean (nearly Gaussian); with clusters, plus that of the row's
/// cluster: cosines of up to 0.5 within a cluster, as neighbours among real embeddings have.
fn unit_vectors(stream: u64, rows: usize, clusters: u64) -> Vec<f32> {
    let mut data = vec![0f32; rows * DIM];
    data.par_chunks_exact_mut(DIM).enumerate().for_each(|(row, out)| {
        let cluster = if clusters == 0 { 0 } else { random(3 << 40 | stream << 36 | row as u64) % clusters };
        let whole = |column: usize| {
            let own = centred(stream << 40 | (row * DIM + column) as u64);
            if clusters == 0 { own } else { own + centred(4 << 40 | (cluster * DIM as u64 + column as u64)) }
        };
        let values: Vec<i64> = (0..DIM).map(whole).collect();
        let norm = (values.iter().map(|v| v * v).sum::<i64>() as f64).sqrt();
        out.iter_mut().zip(values).for_each(|(x, v)| *x = (v as f64 / norm) as f32);
    });
    data
}

/// The sum of the 8 bytes of a random number, less its mean.
fn centred(at: u64) -> i64 {
    random(at).to_le_bytes().iter().map(|&b| i64::from(b)).sum::<i64>() - 1020
}

/// SplitMix64.
fn random(at: u64) -> u64 {
    let mut z = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
