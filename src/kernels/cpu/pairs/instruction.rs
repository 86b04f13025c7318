//! Instructions that multiply pairs of bf16.

#![allow(
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; the instruction is there on some processors only"
)]

use std::{marker::PhantomData, sync::LazyLock};

use macerator::{Arch, Simd, Vector, WithSimd};

use crate::kernels::cpu::simd::{Floats, splat};

/// Two bf16 in every lane, the first in its lower half.
pub(in crate::kernels::cpu) type Pairs<S> = Vector<S, u32>;

/// A pair in every lane.
#[inline(always)]
pub(in crate::kernels::cpu) fn splat_pair<S: Simd>(pair: u32) -> Pairs<S> {
    S::typed(S::splat_i32(pair.cast_signed()))
}

/// One way to multiply.
pub(in crate::kernels::cpu) trait Instruction {
    /// The vectors that it takes.
    type Simd: Simd;

    /// A pair that all lanes are multiplied by.
    type Row: Copy;

    /// Words that such a pair is kept in, as [`spread`](Self::spread) says.
    const WORDS: usize;

    /// What is kept of a pair: its words, zeros after them.
    fn spread(pair: u32) -> [u32; 2];

    /// The pair whose words are so far `apart`.
    ///
    /// # Safety
    ///
    /// They are readable, and the processor has the instruction.
    unsafe fn row(words: *const u32, apart: usize) -> Self::Row;

    /// `sums` and the products with a pair, those of the second values first.
    ///
    /// # Safety
    ///
    /// The processor has the instruction.
    unsafe fn add_row(
        sums: Floats<Self::Simd>,
        left: Pairs<Self::Simd>,
        row: Self::Row,
    ) -> Floats<Self::Simd>;

    /// `sums` and the products, those of the second values first.
    ///
    /// # Safety
    ///
    /// The processor has the instruction.
    unsafe fn add(
        sums: Floats<Self::Simd>,
        left: Pairs<Self::Simd>,
        right: Pairs<Self::Simd>,
    ) -> Floats<Self::Simd>;
}

/// What runs under an instruction. Its `by` must be inlined, or it lacks the instruction.
pub(in crate::kernels::cpu) trait Work {
    type Output;

    fn by<I: Instruction>(self) -> Self::Output;
}

/// Runs `work` under the fastest instruction that the processor has.
pub(in crate::kernels::cpu) fn run<W: Work>(work: W) -> W::Output {
    // SAFETY: the processor has it.
    unsafe { by(best(), work) }
}

/// The fastest of this processor.
fn best() -> Kind {
    static BEST: LazyLock<Kind> = LazyLock::new(|| {
        Kind::all()
            .last()
            .copied()
            .unwrap_or(Kind::Widened(Arch::Scalar))
    });
    *BEST
}

/// Whether the processor has an instruction of its own.
pub(in crate::kernels::cpu) fn has_instruction() -> bool {
    !matches!(best(), Kind::Widened(_))
}

/// Which of them.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels::cpu) enum Kind {
    /// None: both factors widened to f32, in the vectors of an architecture.
    Widened(Arch),
    /// `VDPBF16PS` over vectors of 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

impl Kind {
    /// All that this processor has, the fastest last.
    pub(in crate::kernels::cpu) fn all() -> Vec<Self> {
        #[cfg_attr(
            not(target_arch = "x86_64"),
            expect(unused_mut, reason = "nothing is added")
        )]
        let mut kinds = vec![Self::Widened(Arch::Scalar), Self::Widened(Arch::detect())];
        #[cfg(target_arch = "x86_64")]
        if matches!(Arch::detect(), Arch::V4) && is_x86_feature_detected!("avx512bf16") {
            kinds.push(Self::Avx512Bf16);
        }
        kinds
    }
}

/// Runs `work` under an instruction.
///
/// # Safety
///
/// The processor has it.
pub(in crate::kernels::cpu) unsafe fn by<W: Work>(kind: Kind, work: W) -> W::Output {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            Kind::Widened(arch) => arch.dispatch(Widening(work)),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => Arch::V4.dispatch(own::Narrow(work)),
        }
    }
}

/// Some work by widened values.
struct Widening<W>(W);

impl<W: Work> WithSimd for Widening<W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> W::Output {
        self.0.by::<Widened<S>>()
    }
}

/// Both factors in f32: a bf16 is the upper half of one. A pair for all lanes is kept widened, so that only the other factor is taken apart
/// where it is multiplied.
struct Widened<S>(PhantomData<S>);

/// The upper half of a word.
const UPPER: u32 = 0xffff_0000;

/// The second values of pairs, then the first, in f32.
#[inline(always)]
fn widened<S: Simd>(pairs: Pairs<S>) -> [Floats<S>; 2] {
    let second = pairs & splat_pair::<S>(UPPER);
    [second.reinterpret(), (pairs << 16).reinterpret()]
}

impl<S: Simd> Instruction for Widened<S> {
    type Simd = S;
    type Row = [Floats<S>; 2];

    const WORDS: usize = 2;

    #[inline(always)]
    fn spread(pair: u32) -> [u32; 2] {
        [pair & UPPER, pair << 16]
    }

    #[inline(always)]
    unsafe fn row(words: *const u32, apart: usize) -> [Floats<S>; 2] {
        // SAFETY: the caller's promise.
        let [second, first] = unsafe { [*words, *words.add(apart)] };
        [splat(f32::from_bits(second)), splat(f32::from_bits(first))]
    }

    #[inline(always)]
    unsafe fn add_row(sums: Floats<S>, left: Pairs<S>, row: [Floats<S>; 2]) -> Floats<S> {
        let left = widened::<S>(left);
        left[1].mul_add(row[1], left[0].mul_add(row[0], sums))
    }

    #[inline(always)]
    unsafe fn add(sums: Floats<S>, left: Pairs<S>, right: Pairs<S>) -> Floats<S> {
        // SAFETY: any vectors do.
        unsafe { Self::add_row(sums, left, widened::<S>(right)) }
    }
}

#[cfg(target_arch = "x86_64")]
mod own {
    use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};

    use super::{
        Floats, Instruction, Pairs, PhantomData, Simd, Vector, WithSimd, Work, splat_pair,
    };

    /// Some work by the instruction.
    pub(super) struct Narrow<W>(pub(super) W);

    impl<W: Work> WithSimd for Narrow<W> {
        type Output = W::Output;

        /// # Panics
        ///
        /// In vectors that the instruction does not take.
        #[inline(always)]
        fn with_simd<S: Simd>(self) -> W::Output {
            // Not compiled for the other architectures, which would be all of the work again.
            if const { size_of::<S::Register>() == size_of::<__m512>() } {
                // SAFETY: who asks for the processor's own instruction has seen that it is there.
                unsafe { run::<S, W>(self.0) }
            } else {
                unreachable!("VDPBF16PS takes vectors of 64 bytes")
            }
        }
    }

    /// Runs `work` by the instruction, with all that `S` has.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
    #[target_feature(enable = "avx2,bmi1,bmi2,f16c,fma,lzcnt,popcnt")]
    fn run<S: Simd, W: Work>(work: W) -> W::Output {
        work.by::<Own<S>>()
    }

    /// `VDPBF16PS` over the registers of `S`, which are 64 bytes long.
    struct Own<S>(PhantomData<S>);

    impl<S: Simd> Instruction for Own<S> {
        type Simd = S;
        type Row = Pairs<S>;

        const WORDS: usize = 1;

        #[inline(always)]
        fn spread(pair: u32) -> [u32; 2] {
            [pair, 0]
        }

        #[inline(always)]
        unsafe fn row(words: *const u32, _: usize) -> Pairs<S> {
            // SAFETY: the caller's promise.
            splat_pair::<S>(unsafe { *words })
        }

        #[inline(always)]
        unsafe fn add_row(sums: Floats<S>, left: Pairs<S>, row: Pairs<S>) -> Floats<S> {
            // SAFETY: the caller's promise.
            unsafe { Self::add(sums, left, row) }
        }

        #[inline(always)]
        unsafe fn add(sums: Floats<S>, left: Pairs<S>, right: Pairs<S>) -> Floats<S> {
            // SAFETY: registers of 64 bytes are these, whatever they are called, and this is run with no others; the instruction is the
            // caller's promise.
            unsafe {
                let own = |pairs: Pairs<S>| std::mem::transmute_copy::<_, __m512bh>(&*pairs);
                let sums = std::mem::transmute_copy::<_, __m512>(&*sums);
                let sums = _mm512_dpbf16_ps(sums, own(left), own(right));
                let sums: Vector<S, f32> = S::typed(std::mem::transmute_copy(&sums));
                sums
            }
        }
    }
}
