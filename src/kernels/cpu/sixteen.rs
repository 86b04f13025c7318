//! Instructions that multiply pairs of whole numbers of 16 bits and sum the products in 32, which is exact: every processor gives the same.

#![allow(
    clippy::cast_ptr_alignment,
    clippy::inline_always,
    unsafe_code,
    reason = "one instruction set runs through all of a kernel; no load wants an alignment; vector loads take pointers, and \
              instructions are there on some processors only; every caller passes the room it checked"
)]

/// One way to multiply. A vector's lanes are columns; a lane holds a pair, of two channels.
pub(super) trait Instruction {
    /// Pairs, or sums.
    type Lanes: Copy;

    const LANES: usize;

    /// # Safety
    ///
    /// The processor has the instructions.
    unsafe fn zero() -> Self::Lanes;

    /// # Safety
    ///
    /// The processor has the instructions, and a vector's worth of pairs is readable.
    unsafe fn load(from: *const f32) -> Self::Lanes;

    /// One pair in every lane.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and a pair is readable.
    unsafe fn splat(from: *const f32) -> Self::Lanes;

    /// `sums` and the products of both numbers of every lane's pairs; a sum that leaves 32 bits comes back into them.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    unsafe fn add(sums: Self::Lanes, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// Writes `sums · row · column`, added to what is there if it goes `ON`, rounded once for the row and once for the rest.
    ///
    /// # Safety
    ///
    /// The processor has the instructions; a vector's worth of values is readable in `columns`, and readable and writable in `to`.
    unsafe fn put<const ON: bool>(sums: Self::Lanes, row: f32, columns: *const f32, to: *mut f32);
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// None: the measure of the others.
    #[cfg(test)]
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kind {
    /// Those of this processor over vectors of so many lanes, the fastest last.
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) fn all(lanes: usize) -> Vec<Self> {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let near = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let known = [
            (8, Self::Avx2, near),
            (
                8,
                Self::AvxVnni,
                near && is_x86_feature_detected!("avxvnni"),
            ),
            (16, Self::Avx512, wide),
            (
                16,
                Self::Avx512Vnni,
                wide && is_x86_feature_detected!("avx512vnni"),
            ),
        ];
        let has = known
            .into_iter()
            .filter(|(width, _, has)| *has && *width == lanes);
        has.map(|(_, kind, _)| kind).collect()
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(in super::super) fn all(_lanes: usize) -> Vec<Self> {
        Vec::new()
    }
}

/// Without any instruction of its own.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain<const LANES: usize>;

#[cfg(test)]
impl<const LANES: usize> Instruction for Plain<LANES> {
    type Lanes = [i32; LANES];

    const LANES: usize = LANES;

    unsafe fn zero() -> Self::Lanes {
        [0; LANES]
    }

    unsafe fn load(from: *const f32) -> Self::Lanes {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Lanes>().read_unaligned() }
    }

    unsafe fn splat(from: *const f32) -> Self::Lanes {
        // SAFETY: the caller's promise.
        [unsafe { from.cast::<i32>().read_unaligned() }; LANES]
    }

    unsafe fn add(mut sums: Self::Lanes, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        let numbers = |pair: i32| [pair as i16, (pair >> 16) as i16].map(i32::from);
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            let ([a, c], [b, d]) = (numbers(a), numbers(b));
            *sum = sum.wrapping_add(a * b).wrapping_add(c * d);
        }
        sums
    }

    unsafe fn put<const ON: bool>(sums: Self::Lanes, row: f32, columns: *const f32, to: *mut f32) {
        for (lane, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let (column, to) = (*columns.add(lane), to.add(lane));
                let value = sum as f32 * row;
                *to = if ON {
                    value.mul_add(column, *to)
                } else {
                    value * column
                };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use vectors::{Avx2, Avx512, Avx512Vnni, AvxVnni};

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_dpwssd_avx_epi32,
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps,
        _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_dpwssd_epi32, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_loadu_si512, _mm512_madd_epi16, _mm512_mul_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    };

    use super::Instruction;

    #[target_feature(enable = "avx2")]
    #[inline]
    fn add_256(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(sums, _mm256_madd_epi16(a, b))
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn add_512(sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(sums, _mm512_madd_epi16(a, b))
    }

    /// All but the products, which some processors sum on their way and some do not.
    macro_rules! instruction {
        (
            $(#[$doc:meta])* $name:ident, $lanes:literal, $vector:ty, $zero:ident, $load:ident, $splat:ident,
            $wide:ident, $one:ident, $read:ident, $times:ident, $fused:ident, $store:ident, $add:path
        ) => {
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub(in super::super) struct $name;

            impl Instruction for $name {
                type Lanes = $vector;

                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn zero() -> $vector {
                    // SAFETY: the caller's promise.
                    unsafe { $zero() }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> $vector {
                    // SAFETY: the caller's promise.
                    unsafe { $load(from.cast()) }
                }

                #[inline(always)]
                unsafe fn splat(from: *const f32) -> $vector {
                    // SAFETY: the caller's promise.
                    unsafe { $splat(from.cast::<i32>().read_unaligned()) }
                }

                #[inline(always)]
                unsafe fn add(sums: $vector, a: $vector, b: $vector) -> $vector {
                    // SAFETY: the caller's promise.
                    unsafe { $add(sums, a, b) }
                }

                #[inline(always)]
                unsafe fn put<const ON: bool>(
                    sums: $vector,
                    row: f32,
                    columns: *const f32,
                    to: *mut f32,
                ) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let value = $times($wide(sums), $one(row));
                        let column = $read(columns);
                        let value = if ON {
                            $fused(value, column, $read(to))
                        } else {
                            $times(value, column)
                        };
                        $store(to, value);
                    }
                }
            }
        };
    }

    macro_rules! of_256 {
        ($(#[$doc:meta])* $name:ident, $add:path) => {
            instruction! {
                $(#[$doc])* $name, 8, __m256i, _mm256_setzero_si256, _mm256_loadu_si256, _mm256_set1_epi32,
                _mm256_cvtepi32_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_fmadd_ps,
                _mm256_storeu_ps, $add
            }
        };
    }

    macro_rules! of_512 {
        ($(#[$doc:meta])* $name:ident, $add:path) => {
            instruction! {
                $(#[$doc])* $name, 16, __m512i, _mm512_setzero_si512, _mm512_loadu_si512, _mm512_set1_epi32,
                _mm512_cvtepi32_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_fmadd_ps,
                _mm512_storeu_ps, $add
            }
        };
    }

    of_256!(
        /// Products of pairs, then sums.
        Avx2,
        add_256
    );
    of_256!(
        /// VNNI over vectors of 32 bytes.
        AvxVnni,
        _mm256_dpwssd_avx_epi32
    );
    of_512!(
        /// Products of pairs, then sums.
        Avx512,
        add_512
    );
    of_512!(
        /// VNNI over vectors of 64 bytes.
        Avx512Vnni,
        _mm512_dpwssd_epi32
    );
}
