//! Contrastive losses, forward and backward, cosine, f32: `cargo bench -p foils-kernels --bench contrastive [-- JOB…]`.

mod measure;

use foils_kernels::Lists;
use foils_kernels::contrastive::{Settings, contrast};
use measure::{measure, wanted};

fn main() {
    for (name, n, repetitions) in [("infonce-1024", 1024, 21), ("infonce-8192", 8192, 7), ("infonce-32768", 32768, 1)] {
        if wanted(name) {
            info_nce(name, n, 128, repetitions);
        }
    }
}

fn rows(n: usize, dim: usize, step: f32) -> Vec<f32> {
    (0..n * dim).map(|i| (i as f32 * step).sin()).collect()
}

fn info_nce(name: &str, n: usize, dim: usize, repetitions: usize) {
    let (anchors, candidates) = (rows(n, dim, 0.37), rows(n, dim, 0.53));
    let offsets: Vec<usize> = (0..=n).collect();
    let own: Vec<u32> = (0..n as u32).collect();
    let settings = Settings::new(Lists::new(&offsets, &own), 10.0);
    measure(name, repetitions, "", || {
        let result = contrast(&anchors, &candidates, dim, &settings);
        assert!(result.loss.is_finite());
        result
    });
}
