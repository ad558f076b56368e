//! Contrastive losses, forward and backward, cosine, f32: `cargo bench -p foils-kernels --bench contrastive [-- JOB…]`.

mod measure;

use foils_kernels::Lists;
use foils_kernels::contrastive::{Bias, Settings, contrast};
use measure::{measure, wanted};

fn main() {
    for (name, n, repetitions) in [("infonce-1024", 1024, 21), ("infonce-8192", 8192, 7), ("infonce-32768", 32768, 1)] {
        if wanted(name) {
            info_nce(name, n, 128, repetitions, false);
        }
    }
    if wanted("infonce-both-8192") {
        info_nce("infonce-both-8192", 8192, 128, 5, true);
    }
    if wanted("ntxent-4096") {
        views("ntxent-4096", 4096, 128, |i, n| vec![((i + n / 2) % n) as u32]);
    }
    if wanted("supcon-4096") {
        views("supcon-4096", 4096, 128, |i, n| (0..n).filter(|&j| j != i && j % CLASSES == i % CLASSES).map(|j| j as u32).collect());
    }
    if wanted("weighted-4096") {
        weighted("weighted-4096", 4096, 128);
    }
}

/// Of the labelled jobs.
const CLASSES: usize = 100;

fn rows(n: usize, dim: usize, step: f32) -> Vec<f32> {
    (0..n * dim).map(|i| (i as f32 * step).sin()).collect()
}

fn info_nce(name: &str, n: usize, dim: usize, repetitions: usize, both_directions: bool) {
    let (anchors, candidates) = (rows(n, dim, 0.37), rows(n, dim, 0.53));
    let offsets: Vec<usize> = (0..=n).collect();
    let own: Vec<u32> = (0..n as u32).collect();
    let settings = Settings { both_directions, ..Settings::new(Lists::new(&offsets, &own), 10.0) };
    measure(name, repetitions, "", || {
        let result = contrast(&anchors, &candidates, dim, &settings);
        assert!(result.loss.is_finite());
        result
    });
}

/// All rows against each other, but for themselves: NT-Xent or SupCon, by who is positive. One set of rows has one gradient.
fn views(name: &str, n: usize, dim: usize, positives: impl Fn(usize, usize) -> Vec<u32>) {
    let z = rows(n, dim, 0.37);
    let selves: Vec<u32> = (0..n as u32).collect();
    let one_each: Vec<usize> = (0..=n).collect();
    let lists: Vec<Vec<u32>> = (0..n).map(|i| positives(i, n)).collect();
    let offsets: Vec<usize> = (0..=n).map(|i| lists[..i].iter().map(Vec::len).sum()).collect();
    let listed = lists.concat();
    let settings = Settings { excluded: Lists::new(&one_each, &selves), ..Settings::new(Lists::new(&offsets, &listed), 10.0) };
    measure(name, 11, "", || {
        let mut result = contrast(&z, &z, dim, &settings);
        result.grad_anchors.iter_mut().zip(&result.grad_candidates).for_each(|(x, y)| *x += y);
        assert!(result.loss.is_finite());
        result.grad_anchors
    });
}

/// Soft-InfoNCE with a dense matrix of logarithms of weights.
fn weighted(name: &str, n: usize, dim: usize) {
    let (anchors, candidates) = (rows(n, dim, 0.37), rows(n, dim, 0.53));
    let logarithms: Vec<f32> = (0..n * n).map(|i| (0.5 + 0.5 * (i as f32 * 0.11).sin().abs()).ln()).collect();
    let offsets: Vec<usize> = (0..=n).collect();
    let own: Vec<u32> = (0..n as u32).collect();
    let settings = Settings { bias: Some(Bias::Matrix(&logarithms)), floor: 1e-15, ..Settings::new(Lists::new(&offsets, &own), 10.0) };
    measure(name, 11, "", || contrast(&anchors, &candidates, dim, &settings));
}
