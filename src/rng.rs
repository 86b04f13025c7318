//! Seeds that mean the same as in torch.
//!
//! Initial latents and the noise of stochastic samplers are made on the host, so that a seed gives the same picture on every
//! backend, and the one diffusers gives.
//!
//! Source: Matsumoto and Nishimura, "Mersenne Twister" (1998), mt19937; Box and Muller, "A Note on the Generation of Random
//! Normal Deviates" (1958). The order of draws follows `torch.randn` on torch's CPU generator.

#![allow(
    clippy::cast_possible_truncation,
    reason = "torch's numbers are made by cutting words and rounding to f32"
)]

use std::f32::consts::TAU;

/// Words of state of mt19937.
const STATE: usize = 624;
/// Distance of the word that is mixed in.
const SHIFT: usize = 397;
/// Normals that torch's vectorised path makes together.
const BLOCK: usize = 16;

/// torch's CPU generator for normal numbers.
///
/// ```
/// let mut rng = afterimage::rng::TorchRng::new(0);
/// let noise = rng.normal(16);
/// assert!((noise[0] - -1.125_839_8).abs() < 2e-6); // torch.manual_seed(0); torch.randn(16)[0]
/// ```
#[derive(Debug, Clone)]
pub struct TorchRng {
    engine: MersenneTwister,
    /// Second normal of a pair that the scalar path has not handed out yet.
    spare: Option<f64>,
}

impl TorchRng {
    /// The stream of `torch.Generator().manual_seed(seed)`; torch seeds with the low 32 bits.
    pub fn new(seed: u64) -> Self {
        Self {
            engine: MersenneTwister::new((seed & 0xffff_ffff) as u32),
            spare: None,
        }
    }

    /// `torch.randn(count)` in f32, going on from where the last call stopped.
    ///
    /// One call of 32 numbers is not two calls of 16 plus 16 with a remainder: a count that is no multiple of 16 draws its
    /// last 16 numbers anew. Draw one tensor a call.
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.scalar_normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.engine.uniform_f32()).collect();
        values.chunks_exact_mut(BLOCK).for_each(box_muller);
        if !count.is_multiple_of(BLOCK) {
            let tail = &mut values[count - BLOCK..];
            tail.fill_with(|| self.engine.uniform_f32());
            box_muller(tail);
        }
        values
    }

    /// One normal of the scalar path: pairs in f64, the second kept for the next call.
    fn scalar_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let turn = self.engine.uniform_f64() * std::f64::consts::TAU;
        let radius = (-2.0 * (-self.engine.uniform_f64()).ln_1p()).sqrt();
        self.spare = Some(radius * turn.sin());
        radius * turn.cos()
    }
}

/// Turns a block of 16 uniforms into normals: radii from the first eight, angles from the last eight.
fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
        // The angle is rounded to f32 as torch does; only its sine and cosine are more exact than torch's polynomials.
        let angle = f64::from(TAU * *b);
        *a = (f64::from(radius) * angle.cos()) as f32;
        *b = (f64::from(radius) * angle.sin()) as f32;
    }
}

/// mt19937.
#[derive(Debug, Clone)]
struct MersenneTwister {
    state: [u32; STATE],
    next: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; STATE];
        for index in 1..STATE {
            let previous = state[index - 1];
            state[index] = 1_812_433_253_u32
                .wrapping_mul(previous ^ (previous >> 30))
                .wrapping_add(index as u32);
        }
        Self { state, next: STATE }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for index in 0..STATE {
            let high = self.state[index] & 0x8000_0000;
            let low = self.state[(index + 1) % STATE] & 0x7fff_ffff;
            let mixed = (high | low) >> 1;
            let odd = if low & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + SHIFT) % STATE] ^ mixed ^ odd;
        }
        self.next = 0;
    }

    /// 24 random bits, in [0, 1).
    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// 53 random bits of two words, in [0, 1).
    fn uniform_f64(&mut self) -> f64 {
        let word = (u64::from(self.next_u32()) << 32) | u64::from(self.next_u32());
        (word & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_10000th_word_is_the_published_one() {
        let mut engine = MersenneTwister::new(5489);
        let word = (0..10_000).map(|_| engine.next_u32()).last();
        assert_eq!(word, Some(4_123_659_995));
    }

    #[test]
    fn seeds_beyond_32_bits_wrap_as_in_torch() {
        assert_eq!(
            TorchRng::new(7).normal(20),
            TorchRng::new(7 + (1 << 32)).normal(20)
        );
    }
}
