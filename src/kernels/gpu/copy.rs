//! Values into memory that is there already: what graphs of launches read anew at every replay.

#![allow(
    clippy::used_underscore_binding,
    reason = "what defines an element type is read by the code that `cube` writes, not by the kernel"
)]

use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::elements;

/// Units of a workgroup.
const UNITS: u32 = 256;

/// Writes the values of `source` over those of `target`, whoever else holds it. Both have one shape and type.
///
/// # Panics
///
/// If they have not, or `target` is not in order.
pub(crate) fn overwrite(target: &CubeTensor, source: CubeTensor) {
    assert_eq!(target.meta.shape(), source.meta.shape());
    assert_eq!(target.dtype, source.dtype);
    assert!(target.is_contiguous(), "only whole memory is written over");
    let (client, source) = (source.client.clone(), into_contiguous(source));
    let count = source.meta.num_elements();
    let dim = CubeDim::new_1d(UNITS.min(client.properties().hardware.max_units_per_cube));
    copy::launch(
        &client,
        calculate_cube_count_elemwise(&client, count, dim),
        dim,
        source.into_tensor_arg(),
        target.clone().into_tensor_arg(),
        count,
        elements(target.dtype).expect("graphs hold f32, f16 and bf16"),
    );
}

#[cube(launch)]
fn copy<F: Float>(
    source: &Tensor<F>,
    target: &mut Tensor<F>,
    count: usize,
    #[define(F)] _kind: ElemType,
) {
    if ABSOLUTE_POS < count {
        target[ABSOLUTE_POS] = source[ABSOLUTE_POS];
    }
}
