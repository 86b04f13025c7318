//! Kernels for cubecl devices (CUDA, Vulkan, Metal, DX12, WebGPU), written once in cubecl's Rust.
//!
//! Each is compared with the same computation in tensor operations, on whatever device there is. None of them knows the width of a
//! plane, or needs planes at all.

pub(crate) mod copy;
pub(crate) mod group_norm;

use burn::tensor::DType;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};

/// The type of a kernel's elements, for those that there are kernels for.
fn elements(dtype: DType) -> Option<ElemType> {
    let kind = match dtype {
        DType::F32 => FloatKind::F32,
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
        _ => return None,
    };
    Some(ElemType::Float(kind))
}
