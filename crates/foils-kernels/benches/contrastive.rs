//! InfoNCE forward and backward, cosine, f32, d = 128: `cargo bench -p foils-kernels --bench contrastive [-- N…]`.

use foils_kernels::Lists;
use foils_kernels::contrastive::{Settings, contrast};
use std::time::Instant;

fn main() {
    let mut sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1024, 8192];
    }
    let dim = 128;
    for n in sizes {
        let rows = |step: f32| (0..n * dim).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
        let (anchors, candidates) = (rows(0.37), rows(0.53));
        let offsets: Vec<usize> = (0..=n).collect();
        let own: Vec<u32> = (0..n as u32).collect();
        let settings = Settings::new(Lists::new(&offsets, &own), 10.0);
        let mut times: Vec<f64> = (0..9)
            .map(|_| {
                let start = Instant::now();
                let result = contrast(&anchors, &candidates, dim, &settings);
                assert!(result.loss.is_finite());
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        // Three products of n × n × d multiply-adds.
        let rate = 6.0 * (n * n * dim) as f64 / times[0] / 1e6;
        println!(
            "n = m = {n}, d = {dim}, {} threads: median {:.1} ms, best {:.1} ms, {rate:.0} GFLOP/s of products",
            rayon::current_num_threads(),
            times[4],
            times[0]
        );
    }
}
