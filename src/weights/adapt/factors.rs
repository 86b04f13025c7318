//! The low-rank matrices of an adapter, and their product.

use super::super::unread::{ReadError, Unread};
use burn::tensor::DType;
use nalgebra::{DMatrixView, DMatrixViewMut};

/// A matrix of low rank as the product of two: `left · right`, or `left · core · right` for a convolution whose core has the kernel's
/// size.
#[derive(Debug, Clone)]
pub(super) struct Factors {
    /// `[outputs, rank]`, behind it unit sides; `[rank, outputs]` where `turned`.
    pub(super) left: Unread,
    /// `[rank, inputs]`, or `[rank, inputs, height, width]` of a convolution without a core.
    pub(super) right: Unread,
    /// `[rank of left, rank of right, height, width]`
    pub(super) core: Option<Unread>,
    /// Whether `left` is kept transposed, as `LoHa` and `LoKr` do beside a core.
    pub(super) turned: bool,
}

impl Factors {
    /// The shape of the product, and the rank; `None` if the parts do not fit each other.
    pub(super) fn shape(&self) -> Option<(Vec<usize>, usize)> {
        let (left, right) = (self.left.shape.to_vec(), self.right.shape.to_vec());
        let core = self.core.as_ref().map(|core| core.shape.to_vec());
        let (&[first, second, ref units @ ..], &[rank, inputs, ref kernel @ ..]) =
            (&left[..], &right[..])
        else {
            return None;
        };
        let (outputs, left_rank) = if self.turned {
            (second, first)
        } else {
            (first, second)
        };
        let units = units.iter().all(|&side| side == 1);
        let (kernel, fits) = match core.as_deref() {
            None => (kernel, left_rank == rank),
            Some([up, down, core @ ..]) => {
                let point = kernel.iter().all(|&side| side == 1);
                (core, *up == left_rank && *down == rank && point)
            }
            Some(_) => return None,
        };
        let floats = [Some(&self.left), Some(&self.right), self.core.as_ref()];
        let floats = floats.into_iter().flatten().all(|one| one.dtype.is_float());
        (units && fits && rank > 0 && floats).then(|| ([&[outputs, inputs], kernel].concat(), rank))
    }

    /// Adds `scale` times the product to `weights`, row-major with the outputs first.
    pub(super) fn add_to(&self, weights: &mut [f32], scale: f32) -> Result<(), ReadError> {
        let left = self.left()?;
        let (right, rank) = self.right()?;
        add_product(weights, scale, &left, &right, rank);
        Ok(())
    }

    /// `[outputs, rank]`
    fn left(&self) -> Result<Vec<f32>, ReadError> {
        let left = read(&self.left)?;
        if !self.turned {
            return Ok(left);
        }
        let (rank, outputs) = (self.left.shape[0], self.left.shape[1]);
        let places = (0..outputs).flat_map(|row| (0..rank).map(move |column| (row, column)));
        Ok(places
            .map(|(row, column)| left[column * outputs + row])
            .collect())
    }

    /// Everything behind `left`, `[rank of left, inputs · height · width]`, and that rank.
    fn right(&self) -> Result<(Vec<f32>, usize), ReadError> {
        let right = read(&self.right)?;
        let Some(core) = &self.core else {
            return Ok((right, self.right.shape[0]));
        };
        let (outer, inner) = (core.shape[0], core.shape[1]);
        let (inputs, points) = (self.right.shape[1], core.shape[2..].iter().product());
        let core = read(core)?;
        let mut joined = vec![0.0; outer * inputs * points];
        let blocks = joined.chunks_mut(inputs * points);
        for (into, core) in blocks.zip(core.chunks(inner * points)) {
            // [inputs, points] = right transposed · core, [inner, points]
            let right = DMatrixView::from_slice(&right, inputs, inner);
            let core = DMatrixView::from_slice(core, points, inner);
            let mut into = DMatrixViewMut::from_slice(into, points, inputs);
            into.gemm(1.0, &core, &right.transpose(), 0.0);
        }
        Ok((joined, outer))
    }
}

/// `into += scale · left · right`, all row-major: `[rows, columns]`, `[rows, inner]`, `[inner, columns]`.
fn add_product(into: &mut [f32], scale: f32, left: &[f32], right: &[f32], inner: usize) {
    let (rows, columns) = (left.len() / inner, right.len() / inner);
    // Matrices of nalgebra are column-major, so each of these is the transpose.
    let mut into = DMatrixViewMut::from_slice(into, columns, rows);
    let left = DMatrixView::from_slice(left, inner, rows);
    let right = DMatrixView::from_slice(right, columns, inner);
    into.gemm(scale, &right, &left, 1.0);
}

/// The values of a tensor.
pub(super) fn read(tensor: &Unread) -> Result<Vec<f32>, ReadError> {
    let data = tensor.read()?.convert_dtype(DType::F32);
    data.try_into_vec()
        .map_err(|error| ReadError(error.to_string()))
}
