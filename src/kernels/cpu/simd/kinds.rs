//! The kinds of vectors that tests run over.

#![allow(unsafe_code, reason = "an architecture is one that the processor has")]

use macerator::{Arch, Simd, WithSimd};

/// Lanes of an architecture's vectors.
pub(in crate::kernels::cpu) fn lanes_on(arch: Arch) -> usize {
    struct Lanes;

    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self) -> usize {
            S::lanes32()
        }
    }

    // SAFETY: nothing is run but what names a number.
    unsafe { arch.dispatch(Lanes) }
}

/// The fallback, and every kind of vectors that this processor has, the narrowest first.
pub(in crate::kernels::cpu) fn kinds() -> Vec<Arch> {
    #[cfg(target_arch = "x86_64")]
    {
        // In steps, each with all of those before it; what the newest is called depends on the compiler.
        let newest = Arch::detect();
        match newest {
            Arch::Scalar => vec![newest],
            Arch::V2 => vec![Arch::Scalar, newest],
            Arch::V3 => vec![Arch::Scalar, Arch::V2, newest],
            _ => vec![Arch::Scalar, Arch::V2, Arch::V3, newest],
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    vec![Arch::Scalar, Arch::detect()]
}
