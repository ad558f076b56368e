//! Randomness comes in through a seed. One generator for the whole library: ChaCha8, the same on every machine.

use rand::{RngExt, SeedableRng};
pub use rand_chacha::ChaCha8Rng as Rng;

/// The generator for `seed`. `stream` separates uses of one seed (0 batches, 1 initial weights, …), so that drawing more
/// numbers in one place never changes another.
pub fn rng(seed: u64, stream: u64) -> Rng {
    let mut rng = Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// A standard normal number, by Box and Muller's transform.
pub fn normal(rng: &mut Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    // 1 − u is in (0, 1], so the logarithm is finite.
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Puts `items` in random order (Fisher–Yates).
pub fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}
