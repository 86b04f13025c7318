//! Which path attention takes on cubecl devices, told from shape, data type and device before anything runs.
//!
//! burn's fused kernel (cubek's flash attention) divides scores by the root of the width it is given, and wants heads of whole tiles.
//! On matrix units it multiplies tiles of f16 whatever its operands are, and wants queries that fill all planes of a workgroup. What
//! does not suit it is written out in products and a softmax, in groups of queries, so that memory stays bounded.

use burn::tensor::{DType, Device};

/// How attention over operands in f16 is computed where the backend has fused kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As the backend does it fastest.
    Fused,
    /// With a softmax in f32 over all scores at once.
    Operands,
    /// On the CPU by products of 16 bits, or of 8 over many keys, to which operands are rounded, and a softmax in f32; elsewhere as
    /// [`Operands`](Self::Operands).
    Rounded,
}

/// How attention is computed on cubecl devices. burn's CPU backend has a kernel of its own for everything, and one for
/// [`Rounded`](Self::Rounded).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionPath {
    /// burn's fused kernel, over zeros after the operands up to so many queries and features.
    Fused {
        /// Queries with the zeros after them.
        queries: usize,
        /// Head width with the zeros after it.
        width: usize,
    },
    /// Products and a softmax in f32, in groups of queries.
    WrittenOut {
        /// What the scores of a group take, at most.
        bytes: usize,
    },
    /// On the CPU, by products of 16 bits or of 8; elsewhere as `BOUNDED`.
    Rounded,
}

/// The sizes that decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    pub(super) queries: usize,
    pub(super) tokens: usize,
    pub(super) width: usize,
}

/// What of a device decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    /// The types of operands that its fused kernel is as exact as.
    pub(super) fuses: &'static [DType],
}

/// Attention scores held at a time where attention is written out.
const SCORE_BYTES: usize = 128 << 20;

/// Fewer queries or tokens than these (77 of a text, 16x16 maps) make scores that are small beside the operands; nothing is gained by
/// never holding them. To be measured on hardware.
const FEW: usize = 512;

/// The widest head whose tiles a plane holds in its registers: SD 1.x has 160, autoencoders 512 in one head.
const WIDEST: usize = 160;

/// Sides of the matrix units' tiles: 16 on NVIDIA and in Vulkan, 8 on Apple.
const TILE: usize = 16;

/// Tiles of queries in the largest workgroup of planes that autotuning tries. It keeps one choice for shapes of nearly one size, so
/// every shape must suit every choice.
const PLANES: usize = 8;

/// With so many times more queries than tokens, or the other way round, the kernel asks for tiles that CUDA does not have for both of
/// its products.
const RATIO: usize = 4;

impl AttentionPath {
    /// For scores held in `bytes` or less, whatever the shape.
    pub(super) const BOUNDED: Self = Self::WrittenOut { bytes: SCORE_BYTES };

    /// The path for operands of `shape` and `dtype`.
    pub(super) fn new(
        shape: AttentionShape,
        dtype: DType,
        precision: Precision,
        abilities: Abilities,
    ) -> Self {
        if precision == Precision::Rounded {
            return Self::Rounded;
        }
        let fuses = precision == Precision::Fused && abilities.fuses.contains(&dtype);
        if fuses && shape.suits_tiles() {
            return Self::fused(shape);
        }
        Self::BOUNDED
    }

    /// The fused kernel, with the zeros that it needs.
    pub(super) fn fused(shape: AttentionShape) -> Self {
        Self::Fused {
            queries: shape.queries.next_multiple_of(TILE * PLANES),
            width: shape.width.next_multiple_of(TILE),
        }
    }
}

impl AttentionShape {
    fn suits_tiles(self) -> bool {
        let Self {
            queries,
            tokens,
            width,
        } = self;
        let many = queries.min(tokens) >= FEW;
        many && width <= WIDEST && queries < RATIO * tokens && tokens < RATIO * queries
    }
}

impl Abilities {
    pub(super) fn of(device: &Device) -> Self {
        Self {
            fuses: fused_types(device),
        }
    }
}

/// Matrix units multiply f16 whatever the operands are; without them they are multiplied as they are. bfloat16 reaches further than the
/// tiles of either.
#[cfg(feature = "gpu")]
fn fused_types(device: &Device) -> &'static [DType] {
    use burn::backend::DispatchDevice;
    use burn::cubecl::ir::{ElemType, FloatKind};

    #[allow(
        irrefutable_let_patterns,
        reason = "builds without `cpu` have no other device"
    )]
    let DispatchDevice::Cube(device) = device.as_dispatch() else {
        return &[];
    };
    let half = ElemType::Float(FloatKind::F16);
    let client = device.client();
    let mut tiles = client.properties().features.matmul.cmma.iter();
    if tiles.any(|tile| tile.a_type == half && tile.b_type == half) {
        &[DType::F16]
    } else {
        &[DType::F16, DType::F32]
    }
}

#[cfg(not(feature = "gpu"))]
fn fused_types(_device: &Device) -> &'static [DType] {
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Matrix units.
    const IN_HALVES: Abilities = Abilities {
        fuses: &[DType::F16],
    };

    fn path(queries: usize, tokens: usize, width: usize, dtype: DType) -> AttentionPath {
        let shape = AttentionShape {
            queries,
            tokens,
            width,
        };
        AttentionPath::new(shape, dtype, Precision::Fused, IN_HALVES)
    }

    #[test]
    fn self_attention_of_maps_is_fused_where_it_is_large() {
        let fused = |queries, width| AttentionPath::Fused { queries, width };
        // SD 1.5 and SDXL at 512x512 and 1024x1024, DiT-XL/2 at 512x512, SD 1.5 at 520x512.
        for (tokens, width, expected) in [
            (4096, 40, fused(4096, 48)),
            (1024, 80, fused(1024, 80)),
            (4096, 64, fused(4096, 64)),
            (1024, 64, fused(1024, 64)),
            (1024, 72, fused(1024, 80)),
            (1024, 160, fused(1024, 160)),
            (65 * 64, 40, fused(4224, 48)),
        ] {
            assert_eq!(path(tokens, tokens, width, DType::F16), expected);
        }
    }

    #[test]
    fn texts_small_maps_and_wide_heads_are_written_out() {
        for (queries, tokens, width) in [
            (4096, 77, 40),
            (1024, 77, 64),
            (64, 64, 160),
            (256, 256, 72),
            (4096, 4096, 512),
            (4096, 1024, 64),
            (600, 2400, 64),
        ] {
            let found = path(queries, tokens, width, DType::F16);
            assert_eq!(found, AttentionPath::BOUNDED, "{queries} {tokens} {width}");
        }
    }

    /// Tiles of f16 would round what is asked for in f32, and overflow where bfloat16 does not; without matrix units there are none.
    #[test]
    fn only_halves_are_multiplied_as_halves() {
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            assert_eq!(path(4096, 4096, 64, dtype), AttentionPath::BOUNDED);
        }
        let shape = AttentionShape {
            queries: 4096,
            tokens: 4096,
            width: 64,
        };
        let fused = |precision, fuses: &'static [DType], dtype| {
            let path = AttentionPath::new(shape, dtype, precision, Abilities { fuses });
            path == AttentionPath::fused(shape)
        };
        assert!(fused(Precision::Fused, IN_HALVES.fuses, DType::F16));
        assert!(!fused(Precision::Operands, IN_HALVES.fuses, DType::F16));
        assert!(!fused(Precision::Fused, &[], DType::F16));
        let without_matrix_units: &'static [DType] = &[DType::F16, DType::F32];
        assert!(fused(Precision::Fused, without_matrix_units, DType::F32));
        assert!(!fused(Precision::Fused, without_matrix_units, DType::BF16));
    }
}
