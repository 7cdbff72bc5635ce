//! Random weights for the tests and the bench of the kernels.

/// A small generator (xorshift64*): the same seed gives the same weights.
pub(crate) struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number between 0 and 1, never 0.
    pub(crate) fn uniform(&mut self) -> f32 {
        ((self.bits() >> 40) as f32 + 0.5) / 16_777_216.0
    }

    /// A normally distributed number with mean 0 and deviation 1.
    pub(crate) fn normal(&mut self) -> f32 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f32::consts::TAU * self.uniform()).cos()
    }
}

/// `n` weights like those of linear layers: normal with deviation 0.02, one in a thousand ten times as large.
pub(crate) fn realistic(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let one = |_| {
        let far = if random.bits().is_multiple_of(1000) { 10.0 } else { 1.0 };
        0.02 * far * random.normal()
    };
    (0..n).map(one).collect()
}

/// Importance of `n` columns: mean squares of activations, a few of them large.
pub(crate) fn importance(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.normal().powi(2) * if random.bits().is_multiple_of(50) { 100.0 } else { 1.0 }).collect()
}
