//! What the kernels share: loads, stores and functions over one vector of f32.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; index what no vector holds; vector loads and stores take pointers; every caller passes the room it checked"
)]

#[cfg(test)]
mod kinds;

use std::mem::MaybeUninit;

use macerator::{Simd, Vector, vload_unaligned, vstore_unaligned};

use super::memory;
#[cfg(test)]
pub(super) use kinds::{kinds, lanes_on};

/// As many f32 as the processor's vectors hold.
pub(super) type Floats<S> = Vector<S, f32>;

/// Lanes of a vector on this processor.
#[macerator::with_simd]
pub(super) fn lanes<S: Simd>() -> usize {
    S::lanes32()
}

/// Lanes of a vector, in a constant: a choice by it leaves the other ways out before they are compiled, where one by `lanes32` has all of them
/// inlined first.
pub(super) const fn lanes_of<S: Simd>() -> usize {
    size_of::<S::Register>() / size_of::<f32>()
}

/// `value` in every lane.
///
/// Through its bits: macerator's own for f32 is not marked to be inlined, and a call in a kernel's inner loop costs four fifths of its speed.
#[inline(always)]
pub(super) fn splat<S: Simd>(value: f32) -> Floats<S> {
    S::typed(S::splat_i32(value.to_bits().cast_signed()))
}

/// # Safety
///
/// A vector's worth of f32 is readable at `from`.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(from: *const f32) -> Floats<S> {
    // SAFETY: the caller's promise.
    unsafe { vload_unaligned(from) }
}

/// # Safety
///
/// A vector's worth of f32 is writable at `to`.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(to: *mut f32, values: Floats<S>) {
    // SAFETY: the caller's promise.
    unsafe { vstore_unaligned(to, values) }
}

/// Asks for the line of the cache at `from`, wherever that is, on processors that can be asked.
#[inline(always)]
pub(super) fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: no address is invalid for a prefetch.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// [`prefetch`] into the second-level cache.
#[inline(always)]
pub(super) fn prefetch_far(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: no address is invalid for a prefetch.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// What is added to sums on their way out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Addend<'a> {
    One(f32),
    Each(&'a [f32]),
}

/// Memory that a kernel is about to write.
pub(super) type Unwritten<T = f32> = [MaybeUninit<T>];

/// `count` values, which nobody has set to zero first.
///
/// # Safety
///
/// `write` writes all of them.
pub(super) unsafe fn written<T: Send + 'static>(
    count: usize,
    write: impl FnOnce(&mut Unwritten<T>),
) -> Vec<T> {
    let mut values = memory::taken(count);
    write(&mut values.spare_capacity_mut()[..count]);
    // SAFETY: there is room for them, and the caller's promise.
    unsafe { values.set_len(count) };
    memory::unused(&values);
    values
}

/// `sums` plus `addend`, all of `output`.
#[inline(always)]
pub(super) fn add<S: Simd>(sums: &[f32], addend: Addend<'_>, output: &mut Unwritten) {
    let (count, lanes) = (output.len(), S::lanes32());
    assert!(sums.len() >= count);
    if let Addend::Each(values) = addend {
        assert!(values.len() >= count);
    }
    let whole = count - count % lanes;
    for i in (0..whole).step_by(lanes) {
        // SAFETY: a vector from `i` ends within `whole`, and all slices are as long, asserted above.
        unsafe {
            let addend = match addend {
                Addend::One(value) => splat::<S>(value),
                Addend::Each(values) => load(values.as_ptr().add(i)),
            };
            let to = output.as_mut_ptr().add(i);
            store(to.cast(), load::<S>(sums.as_ptr().add(i)) + addend);
        }
    }
    for i in whole..count {
        let addend = match addend {
            Addend::One(value) => value,
            Addend::Each(values) => values[i],
        };
        output[i].write(sums[i] + addend);
    }
}

/// Adds `sums` plus `bias` to all of `values`.
#[inline(always)]
pub(super) fn add_onto<S: Simd>(sums: &[f32], bias: f32, values: &mut [f32]) {
    let (count, lanes) = (values.len(), S::lanes32());
    assert!(sums.len() >= count);
    let whole = count - count % lanes;
    for i in (0..whole).step_by(lanes) {
        // SAFETY: a vector from `i` ends within `whole`, and both slices are as long, asserted above.
        unsafe {
            let at = values.as_mut_ptr().add(i);
            let sum = load::<S>(sums.as_ptr().add(i)) + splat(bias);
            store(at, load::<S>(at) + sum);
        }
    }
    for i in whole..count {
        values[i] += sums[i] + bias;
    }
}

/// `memcpy` for a few vectors, without the call.
#[inline(always)]
pub(super) fn copy<S: Simd>(from: &[f32], to: &mut [f32]) {
    let (count, lanes) = (to.len(), S::lanes32());
    assert_eq!(from.len(), count);
    let whole = count - count % lanes;
    for i in (0..whole).step_by(lanes) {
        // SAFETY: a vector from `i` ends within `whole`, and both slices are as long, asserted above.
        unsafe { store(to.as_mut_ptr().add(i), load::<S>(from.as_ptr().add(i))) };
    }
    if whole == count {
        return;
    }
    if count < lanes {
        return to.copy_from_slice(from);
    }
    // SAFETY: the last vector of both, which overlaps the one before.
    unsafe {
        let at = count - lanes;
        store(to.as_mut_ptr().add(at), load::<S>(from.as_ptr().add(at)));
    }
}

/// Added and taken away again, it leaves a number rounded to an integer, which stands in the low bits of the sum: 1.5 · 2^23.
const ROUNDER: f32 = 12_582_912.0;

/// `2^x` within half of zero, the highest power first: minimax, degree 6.
const POWER: [f32; 7] = [
    1.535_336_2e-4,
    1.339_887_4e-3,
    9.618_437e-3,
    5.550_332_5e-2,
    2.402_264_8e-1,
    6.931_472e-1,
    1.0,
];

/// The same to 7.5e-5 of the value: degree 3.
const NEAR: [f32; 4] = [5.517_167e-2, 2.426_111_2e-1, 6.932_61e-1, 0.999_928_1];

/// `2^x` for `x` up to 127, to two units in the last place; below -125 as at -125, and NaN stays NaN on processors with vectors.
#[inline(always)]
pub(super) fn exp2<S: Simd>(x: Floats<S>) -> Floats<S> {
    power(x, POWER)
}

/// As [`exp2`], to 7.5e-5 of the value (degree 3): for what is rounded to bf16 after it, which is off by up to 2e-3.
#[inline(always)]
pub(super) fn exp2_near<S: Simd>(x: Floats<S>) -> Floats<S> {
    power(x, NEAR)
}

/// `factor · 2^(x · unit + raise)` as [`exp2_near`] has it, for `x · unit` from -125 up to `127 - raise`. The product is not rounded.
#[inline(always)]
pub(super) fn exp2_near_in<S: Simd>(
    x: Floats<S>,
    unit: Floats<S>,
    (factor, raise): (f32, u8),
) -> Floats<S> {
    let mut polynomial = NEAR;
    for i in 0..polynomial.len() {
        polynomial[i] *= factor;
    }
    let rounder = splat::<S>(ROUNDER + f32::from(raise));
    let shifted = x.mul_add(unit, rounder);
    raised(shifted, x.mul_add(unit, rounder - shifted), polynomial)
}

/// `e^x` as [`exp2`] has it, for `x` up to 88; below -86.6 as at -86.6. `x · log₂ e` is taken apart before it is rounded.
#[inline(always)]
fn exp<S: Simd>(x: Floats<S>) -> Floats<S> {
    let (rounder, units) = (splat::<S>(ROUNDER), splat(std::f32::consts::LOG2_E));
    let x = splat::<S>(-86.6).max(x);
    let shifted = x.mul_add(units, rounder);
    raised(shifted, x.mul_add(units, rounder - shifted), POWER)
}

/// `2^x` by a polynomial, the highest power first.
#[inline(always)]
fn power<S: Simd, const N: usize>(x: Floats<S>, polynomial: [f32; N]) -> Floats<S> {
    let rounder = splat::<S>(ROUNDER);
    let x = splat::<S>(-125.0).max(x); // in this order x86 hands NaN on
    let shifted = x + rounder;
    raised(shifted, x - (shifted - rounder), polynomial)
}

/// Two to the integer in the low bits of `shifted`, times `2^rest`, for a rest within half of zero.
#[inline(always)]
fn raised<S: Simd, const N: usize>(
    shifted: Floats<S>,
    rest: Floats<S>,
    polynomial: [f32; N],
) -> Floats<S> {
    let mut power = splat::<S>(polynomial[0]);
    for coefficient in &polynomial[1..] {
        power = power.mul_add(rest, splat(*coefficient));
    }
    let exponent = shifted.reinterpret::<i32>() << 23;
    (power.reinterpret::<i32>() + exponent).reinterpret()
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(super) fn silu<S: Simd>(x: Floats<S>) -> Floats<S> {
    let negative = splat::<S>(0.0) - x;
    x / (exp(splat::<S>(88.0).min(negative)) + splat(1.0))
}

/// `x · Φ(x)` with the normal distribution's Φ, to a unit in the last place of `x`.
///
/// The tail beyond `|x|`, which both signs share, has the form of Abramowitz and Stegun, "Handbook of Mathematical Functions" (7.1.26), and
/// two terms more: minimax in what Φ is off by, 2e-9, where theirs is off by 7.5e-8.
#[inline(always)]
pub(super) fn gelu<S: Simd>(x: Floats<S>) -> Floats<S> {
    let zero = splat::<S>(0.0);
    let size = (zero - x).max(x);
    let t = splat::<S>(1.0) / size.mul_add(splat(0.33), splat(1.0));
    let mut tail = splat::<S>(0.043_688_983);
    for coefficient in [
        -0.211_662_8,
        0.313_511_9,
        -0.070_671_99,
        0.170_116_92,
        0.122_831_22,
        0.132_185_77,
    ] {
        tail = tail.mul_add(t, splat(coefficient));
    }
    let tail = tail * t * exp(size * size * splat(-0.5));
    zero.max(x) - size * tail
}

/// `x · (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
#[inline(always)]
pub(super) fn gelu_tanh<S: Simd>(x: Floats<S>) -> Floats<S> {
    // 2 √(2/π), as (1 + tanh y) / 2 = 1 / (1 + e^-2y)
    let cubic = (x * x).mul_add(splat(0.044_715), splat(1.0)) * x;
    let power = cubic * splat(-1.595_769_2);
    x / (exp(splat::<S>(88.0).min(power)) + splat(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use macerator::WithSimd;

    /// A function of one vector, value by value.
    struct Each(fn(f32) -> f32, Function);

    enum Function {
        Exp2,
        Exp2Near,
        Silu,
        GeluTanh,
    }

    impl WithSimd for Each {
        type Output = f64;

        /// The largest error relative to `1e-30 + |expected|`, over -120 to 120.
        fn with_simd<S: Simd>(self) -> f64 {
            let mut worst = 0f64;
            for i in -120_000..=120_000 {
                let x = i as f32 * 1e-3;
                let vector = splat::<S>(x);
                let vector = match self.1 {
                    Function::Exp2 => exp2(vector),
                    Function::Exp2Near => exp2_near(vector),
                    Function::Silu => silu(vector),
                    Function::GeluTanh => gelu_tanh(vector),
                };
                let mut found = [0.0; 64];
                // SAFETY: no processor's vectors hold more than 64 values.
                unsafe { store(found.as_mut_ptr(), vector) };
                let expected = f64::from((self.0)(x));
                let apart = (f64::from(found[0]) - expected).abs();
                worst = worst.max(apart / (1e-30 + expected.abs()));
            }
            worst
        }
    }

    fn tanh_form(x: f32) -> f32 {
        let x = f64::from(x);
        let inner = 2.0 * std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044_715 * x.powi(3));
        (x / (1.0 + (-inner).exp())) as f32
    }

    #[test]
    fn functions_are_good_to_a_few_units_in_the_last_place() {
        for arch in kinds() {
            // SAFETY: the processor has every one of them.
            let [power, near, gate, gelu] = unsafe {
                [
                    arch.dispatch(Each(f32::exp2, Function::Exp2)),
                    arch.dispatch(Each(f32::exp2, Function::Exp2Near)),
                    arch.dispatch(Each(|x| x / (1.0 + (-x).exp()), Function::Silu)),
                    arch.dispatch(Each(tanh_form, Function::GeluTanh)),
                ]
            };
            assert!(power < 3e-7, "{arch:?}: {power}");
            assert!(near < 8e-5, "{arch:?}: {near}");
            assert!(gate < 1e-5, "{arch:?}: {gate}");
            assert!(gelu < 5e-5, "{arch:?}: {gelu}");
        }
    }

    struct Lanes;

    impl WithSimd for Lanes {
        type Output = [usize; 2];

        fn with_simd<S: Simd>(self) -> [usize; 2] {
            [lanes_of::<S>(), S::lanes32()]
        }
    }

    #[test]
    fn lanes_are_known_to_the_compiler() {
        for arch in kinds() {
            // SAFETY: the processor has every one of them.
            let [constant, called] = unsafe { arch.dispatch(Lanes) };
            assert_eq!(constant, called, "{arch:?}");
        }
    }

    /// `Φ(x)` by its series, whose terms have one sign.
    fn normal(x: f64) -> f64 {
        let (mut sum, mut term) = (0.0, x);
        for n in 1..200 {
            sum += term;
            term *= x * x / f64::from(2 * n + 1);
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    struct Gates;

    impl WithSimd for Gates {
        type Output = [f64; 2];

        /// Of errors relative to what is expected, over -2.5 to 2.5, the root of the mean square: of [`gelu`], and of [`silu`].
        fn with_simd<S: Simd>(self) -> [f64; 2] {
            let off = |found: Floats<S>, expected: f64| {
                let mut values = [0.0; 64];
                // SAFETY: no processor's vectors hold more than 64 values.
                unsafe { store(values.as_mut_ptr(), found) };
                (f64::from(values[0]) / expected - 1.0).powi(2)
            };
            let mut squares = [0.0; 2];
            for i in (-24_999..25_000).step_by(2) {
                let x = i as f32 * 1e-4;
                let (exact, vector) = (f64::from(x), splat::<S>(x));
                squares[0] += off(gelu(vector), exact * normal(exact));
                squares[1] += off(silu(vector), exact / (1.0 + (-exact).exp()));
            }
            squares.map(|squares| (squares / 25_000.0).sqrt())
        }
    }

    /// Networks amplify what these are off by, and every value of a layer by the same.
    #[test]
    fn gates_round_and_no_more() {
        for arch in kinds() {
            // SAFETY: the processor has every one of them.
            let [gelu, silu] = unsafe { arch.dispatch(Gates) };
            assert!(gelu < 1.5e-7, "{arch:?}: {gelu}");
            assert!(silu < 8e-8, "{arch:?}: {silu}");
        }
    }
}
