//! Kernels for cubecl devices (CUDA, Vulkan, Metal, DX12, WebGPU), written once in cubecl's Rust.
//!
//! Each is compared with the same computation in tensor operations, on whatever device there is. None of them knows the width of a
//! plane, or needs planes at all.

pub(crate) mod group_norm;
