//! Randomness comes in through a seed. One generator for the whole library: ChaCha8, the same on every machine.

use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng as Rng;

/// The generator for `seed`. `stream` separates uses of one seed (0 batches, 1 initial weights, …), so that drawing more
/// numbers in one place never changes another.
pub fn rng(seed: u64, stream: u64) -> Rng {
    let mut rng = Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
