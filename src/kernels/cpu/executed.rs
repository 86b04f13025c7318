//! The multiply-accumulates that kernels execute, counted where a kernel is entered: what share of a processor's peak they reach.

use std::cell::Cell;
use std::ops::Add;

use crate::kernels::ExecutedMacs;

/// What both sides of a product are when they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operands {
    F32,
    Bf16,
    I16,
    I8,
}

thread_local! {
    static EXECUTED: Cell<ExecutedMacs> = Cell::default();
}

/// Counts `macs` of `operands` for the thread that calls a kernel, whichever threads share the work.
pub(super) fn count(operands: Operands, macs: usize) {
    let mut executed = EXECUTED.get();
    match operands {
        Operands::F32 => executed.f32 += macs as u64,
        Operands::Bf16 => executed.bf16 += macs as u64,
        Operands::I16 => executed.i16 += macs as u64,
        Operands::I8 => executed.i8 += macs as u64,
    }
    EXECUTED.set(executed);
}

impl Add for ExecutedMacs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            f32: self.f32 + other.f32,
            bf16: self.bf16 + other.bf16,
            i16: self.i16 + other.i16,
            i8: self.i8 + other.i8,
        }
    }
}

/// Does `work` on one of the threads that share the kernels' work, or here if this is one; what it executes counts for the thread that calls.
pub(crate) fn on_workers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_some() {
        return work();
    }
    let (result, macs) = rayon::scope(|_| {
        let others = EXECUTED.take(); // the thread may have been waiting in work of another caller
        let result = work();
        (result, EXECUTED.replace(others))
    });
    EXECUTED.set(EXECUTED.get() + macs);
    result
}

/// Of the kernels that this thread has called since it began.
pub(crate) fn executed() -> ExecutedMacs {
    EXECUTED.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::attention::{Heads, attention, coarse, rounded};
    use crate::kernels::cpu::convolution::{Convolution, Geometry, convolve};
    use crate::kernels::cpu::linear::linear;
    use crate::kernels::cpu::product::Values;
    use crate::kernels::cpu::winograd::{self, Whole};
    use crate::kernels::cpu::{direct, eight, few, integers, pairs, pairs::Panels};

    fn of(run: impl FnOnce()) -> ExecutedMacs {
        let before = executed();
        run();
        let after = executed();
        ExecutedMacs {
            f32: after.f32 - before.f32,
            bf16: after.bf16 - before.bf16,
            i16: after.i16 - before.i16,
            i8: after.i8 - before.i8,
        }
    }

    fn in_f32(macs: u64) -> ExecutedMacs {
        ExecutedMacs {
            f32: macs,
            ..ExecutedMacs::default()
        }
    }

    fn in_bf16(macs: u64) -> ExecutedMacs {
        ExecutedMacs {
            bf16: macs,
            ..ExecutedMacs::default()
        }
    }

    /// Maps of `side` squared under a kernel of 3x3 that keeps the sides.
    fn geometry(rows: usize, channels: [usize; 2], side: usize) -> Geometry {
        Geometry {
            rows,
            channels,
            input: [side; 2],
            output: [side; 2],
            kernel: [3; 2],
            stride: [1; 2],
            padding: [1; 2],
        }
    }

    fn through(geometry: Geometry, kernel: impl FnOnce(Convolution<'_>)) -> ExecutedMacs {
        let [before, after] = geometry.channels;
        let [height, width] = geometry.input;
        let input = vec![0.0; geometry.rows * before * height * width];
        let (weight, bias) = (vec![0.0; 9 * before * after], vec![0.0; after]);
        let convolution = Convolution {
            geometry,
            input: Values::F32(&input),
            weight: Values::F32(&weight),
            bias: &bias,
        };
        of(|| kernel(convolution))
    }

    /// [`through`], of maps and weights in bf16.
    fn through_bf16(geometry: Geometry, kernel: impl FnOnce(Convolution<'_>)) -> ExecutedMacs {
        let [before, after] = geometry.channels;
        let [height, width] = geometry.input;
        let input = vec![half::bf16::ZERO; geometry.rows * before * height * width];
        let weight = vec![half::bf16::ZERO; 9 * before * after];
        let bias = vec![0.0; after];
        let convolution = Convolution {
            geometry,
            input: Values::Bf16(&input),
            weight: Values::Bf16(&weight),
            bias: &bias,
        };
        of(|| kernel(convolution))
    }

    fn fast(convolution: Convolution<'_>) {
        winograd::convolve(&Whole {
            convolution,
            owner: None,
            norm: None,
            rounds: false,
        });
    }

    #[test]
    fn a_linear_layer_has_one_a_weight_and_token() {
        let macs = of(|| {
            linear(&[0.0; 5 * 24], Values::F32(&[0.0; 24 * 7]), None, 24, 7);
        });
        assert_eq!(macs, in_f32(5 * 24 * 7));
        let zero = half::bf16::ZERO;
        let weight = vec![zero; pairs::size([24, 7])];
        let macs = of(|| {
            pairs::linear(&[zero; 5 * 24], Panels::new(&weight, [24, 7]), None);
        });
        assert_eq!(macs, in_bf16(5 * 24 * 7));
    }

    #[test]
    fn attention_has_two_a_pair_of_tokens_and_feature() {
        fn heads<T>(values: &[T], tokens: usize) -> Heads<'_, T> {
            Heads {
                values,
                offset: 0,
                strides: [3 * tokens * 8, tokens * 8, 8],
                dims: [2, 3, tokens, 8],
            }
        }
        let macs = of(|| {
            let (query, key) = ([0.0; 2 * 3 * 4 * 8], [0.0; 2 * 3 * 6 * 8]);
            attention(heads(&query, 4), heads(&key, 6), heads(&key, 6));
        });
        assert_eq!(macs, in_f32(2 * 3 * 4 * 6 * 8 * 2));
        let macs = of(|| {
            let [query, key] = [4, 6].map(|tokens| vec![half::bf16::ZERO; 2 * 3 * tokens * 8]);
            rounded([heads(&query, 4), heads(&key, 6), heads(&key, 6)]);
        });
        let expected = 2 * 3 * 4 * 6 * 8 * 2;
        let is_whole = integers::best().is_some() && !pairs::has_instruction();
        assert_eq!(
            [macs.i16, macs.bf16],
            if is_whole {
                [expected, 0]
            } else {
                [0, expected]
            }
        );
        let macs = of(|| {
            let [query, key] = [4, 200].map(|tokens| vec![half::bf16::ZERO; 2 * 3 * tokens * 8]);
            coarse([heads(&query, 4), heads(&key, 200), heads(&key, 200)]);
        });
        let expected = 2 * 3 * 4 * 200 * 8 * 2;
        let is_coarse = integers::best().is_some_and(integers::Kind::multiplies_quads);
        assert_eq!(macs.i8, if is_coarse { expected } else { 0 });
    }

    #[test]
    fn plain_sums_have_nine_a_weight_of_3x3_and_position() {
        let plain = |convolution: Convolution<'_>| drop(convolve(convolution));
        let macs = through(geometry(2, [5, 6], 10), plain);
        assert_eq!(macs, in_f32(2 * 5 * 6 * 100 * 9));
        let some = |convolution: Convolution<'_>| drop(few::convolve(convolution));
        let macs = through(geometry(2, [5, 4], 10), some);
        assert_eq!(macs, in_f32(2 * 5 * 4 * 100 * 9));
        let pairs = |convolution: Convolution<'_>| drop(direct::convolve(convolution));
        let macs = through_bf16(geometry(2, [6, 5], 10), pairs);
        assert_eq!(macs, in_bf16(2 * 6 * 5 * 100 * 9));
    }

    /// 36 a square of four by four, where the plain sums have 144; a side of 11 has three squares.
    #[test]
    fn winograds_products_are_counted_not_the_plain_sums() {
        let macs = through(geometry(2, [64, 64], 16), fast);
        assert_eq!(macs, in_f32(2 * 64 * 64 * 256 * 9 / 4));
        let macs = through(geometry(1, [64, 64], 11), fast);
        assert_eq!(macs, in_f32(64 * 64 * 9 * 36));
        // In whole numbers, where the processor has instructions for them.
        let macs = through_bf16(geometry(1, [64, 64], 11), fast);
        assert_eq!([macs.f32 + macs.i16, macs.bf16], [64 * 64 * 9 * 36, 0]);
    }

    #[test]
    fn products_in_8_bits_are_apart() {
        let sizes = eight::Sizes::of(&[70, 64]);
        let (integers, floats) = eight::rounded(sizes, |_, weights| weights.fill(0.5));
        let weight = eight::Weight::new(sizes, &integers, &floats);
        let macs = of(|| drop(eight::linear(&[0.0; 5 * 64], weight, None)));
        let expected = ExecutedMacs {
            i8: 5 * 64 * 70,
            ..ExecutedMacs::default()
        };
        assert_eq!(macs, expected);
    }

    #[test]
    fn each_thread_counts_its_own() {
        let macs = of(|| {
            let other = || drop(linear(&[0.0; 8], Values::F32(&[0.0; 64]), None, 8, 8));
            std::thread::spawn(other).join().unwrap();
        });
        assert_eq!(macs, ExecutedMacs::default());
    }

    #[test]
    fn what_runs_on_workers_counts_for_the_caller_alone() {
        let multiply = || drop(linear(&[0.0; 8], Values::F32(&[0.0; 64]), None, 8, 8));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
        let pool = pool.build().unwrap();
        let macs = of(|| on_workers(multiply));
        assert_eq!(macs, in_f32(64));
        let outside = of(|| {
            let inside = pool.install(|| of(|| on_workers(multiply)));
            assert_eq!(inside, in_f32(64));
        });
        assert_eq!(outside, ExecutedMacs::default());
    }
}
