//! The change that an adapter makes to one parameter.

use super::super::unread::{ReadError, Unread};

use super::factors::{Factors, read};

/// What is added to a parameter.
#[derive(Debug, Clone)]
pub(super) enum Delta {
    /// `LoRA`, `LoCon`.
    Product(Box<Factors>),
    /// `LoHa`: two products, multiplied element by element.
    Hadamard(Box<Factors>, Box<Factors>),
    /// `LoKr`: every element of the first matrix times the whole of the second.
    Kronecker(Side, Side),
    /// As it is.
    Whole(Unread),
    /// What the parameter is to become, trained as a whole.
    Anew(Unread),
}

/// A matrix of a Kronecker product.
#[derive(Debug, Clone)]
pub(super) enum Side {
    Whole(Unread),
    Product(Box<Factors>),
}

/// A change of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) delta: Delta,
    /// `alpha / rank`
    pub(super) scale: f64,
    pub(super) magnitude: Option<Magnitude>,
}

/// The lengths that the rows or columns of a weight are brought to (`DoRA`).
#[derive(Debug, Clone)]
pub(super) struct Magnitude(pub(super) Unread);

impl Side {
    /// `[rows, columns]` or more sides, and the rank of a product.
    fn shape(&self) -> Option<(Vec<usize>, Option<usize>)> {
        match self {
            Self::Product(factors) => {
                let (shape, rank) = factors.shape()?;
                Some((shape, Some(rank)))
            }
            Self::Whole(tensor) => {
                let shape = tensor.shape.to_vec();
                let matrix = shape.len() > 1 && tensor.dtype.is_float();
                matrix.then_some((shape, None))
            }
        }
    }

    fn tensor(&self) -> &Unread {
        match self {
            Self::Product(factors) => &factors.left,
            Self::Whole(tensor) => tensor,
        }
    }

    /// Values, rows first.
    fn values(&self) -> Result<Vec<f32>, ReadError> {
        match self {
            Self::Whole(tensor) => read(tensor),
            Self::Product(factors) => {
                let shape = factors.shape().map(|(shape, _)| shape).unwrap_or_default();
                let mut values = vec![0.0; shape.iter().product()];
                factors.add_to(&mut values, 1.0)?;
                Ok(values)
            }
        }
    }
}

impl Delta {
    /// The shape of the change, and its rank if it has one; `None` if its parts do not fit each other.
    pub(super) fn shape(&self) -> Option<(Vec<usize>, Option<usize>)> {
        match self {
            Self::Product(factors) => {
                let (shape, rank) = factors.shape()?;
                Some((shape, Some(rank)))
            }
            Self::Hadamard(first, second) => {
                let ((shape, rank), (other, _)) = (first.shape()?, second.shape()?);
                (shape == other).then_some((shape, Some(rank)))
            }
            Self::Kronecker(first, second) => {
                let ((first, low), (second, rank)) = (first.shape()?, second.shape()?);
                let (&[rows, columns], [inner, inputs, kernel @ ..]) = (&first[..], &second[..])
                else {
                    return None;
                };
                let sides = [rows.checked_mul(*inner)?, columns.checked_mul(*inputs)?];
                Some(([&sides[..], kernel].concat(), rank.or(low)))
            }
            Self::Whole(tensor) | Self::Anew(tensor) => {
                let float = tensor.dtype.is_float();
                float.then(|| (tensor.shape.to_vec(), None))
            }
        }
    }

    /// Two of its tensors, for those who say that they do not fit.
    pub(super) fn pair(&self) -> (&Unread, &Unread) {
        match self {
            Self::Product(factors) => (&factors.left, &factors.right),
            Self::Hadamard(first, _) if first.shape().is_none() => (&first.left, &first.right),
            Self::Hadamard(_, second) if second.shape().is_none() => (&second.left, &second.right),
            Self::Hadamard(first, second) => (&first.left, &second.left),
            Self::Kronecker(first, second) => (first.tensor(), second.tensor()),
            Self::Whole(tensor) | Self::Anew(tensor) => (tensor, tensor),
        }
    }

    /// Adds `scale` times the change to `weights`, row-major with the outputs first.
    fn add_to(&self, weights: &mut [f32], scale: f32) -> Result<(), ReadError> {
        match self {
            Self::Product(factors) => factors.add_to(weights, scale)?,
            Self::Hadamard(first, second) => {
                let mut product = vec![0.0; weights.len()];
                let mut other = product.clone();
                first.add_to(&mut product, 1.0)?;
                second.add_to(&mut other, 1.0)?;
                let pairs = product.iter().zip(&other);
                for (weight, (one, other)) in weights.iter_mut().zip(pairs) {
                    *weight += scale * one * other;
                }
            }
            Self::Kronecker(first, second) => kronecker(weights, scale, first, second)?,
            Self::Whole(tensor) => {
                for (weight, change) in weights.iter_mut().zip(read(tensor)?) {
                    *weight += scale * change;
                }
            }
            Self::Anew(tensor) => {
                for (weight, becomes) in weights.iter_mut().zip(read(tensor)?) {
                    // As the file has it, where all of it is taken.
                    *weight = *weight * (1.0 - scale) + becomes * scale;
                }
            }
        }
        Ok(())
    }
}

/// `weights += scale · first ⊗ second`, the kernel's positions counted as columns of the second.
fn kronecker(
    weights: &mut [f32],
    scale: f32,
    first: &Side,
    second: &Side,
) -> Result<(), ReadError> {
    let columns = first.shape().map_or(1, |(shape, _)| shape[1]);
    let inner = second.shape().map_or(1, |(shape, _)| shape[0]);
    let (first, second) = (first.values()?, second.values()?);
    let width = second.len() / inner.max(1);
    if columns * width == 0 {
        return Ok(());
    }
    for (row, weights) in weights.chunks_mut(columns * width).enumerate() {
        let (outer, inner) = (row / inner, row % inner);
        let second = &second[inner * width..][..width];
        for (column, weights) in weights.chunks_mut(width).enumerate() {
            let factor = scale * first[outer * columns + column];
            for (weight, second) in weights.iter_mut().zip(second) {
                *weight += factor * second;
            }
        }
    }
    Ok(())
}

impl Change {
    /// Whether it takes the place of what the model has.
    pub(super) fn is_anew(&self) -> bool {
        matches!(self.delta, Delta::Anew(_))
    }

    /// Adds `scale` times the change to `weights` of `shape`. A weight with a magnitude goes `scale` of the way to what it would become.
    pub(super) fn add_to(
        &self,
        weights: &mut [f32],
        shape: &[usize],
        scale: f64,
    ) -> Result<(), ReadError> {
        let Some(magnitude) = &self.magnitude else {
            return self.delta.add_to(weights, (scale * self.scale) as f32);
        };
        let before = weights.to_vec();
        self.delta.add_to(weights, self.scale as f32)?;
        magnitude.apply(weights, shape)?;
        if (scale - 1.0).abs() > f64::EPSILON {
            for (weight, before) in weights.iter_mut().zip(before) {
                *weight = before + scale as f32 * (*weight - before);
            }
        }
        Ok(())
    }
}

impl Magnitude {
    /// Whether it has a length for every output of a weight of `shape`, or for every input; `None` if neither.
    ///
    /// peft keeps one for every output; `LyCORIS` has both kinds and tells them by the side that is not 1.
    pub(super) fn of_outputs(&self, shape: &[usize]) -> Option<bool> {
        let (own, tensor) = (self.0.shape.to_vec(), &self.0);
        let count = own.iter().product::<usize>();
        let (&outputs, inputs) = (shape.first()?, shape.get(1).copied());
        let peft = tensor.name.contains("magnitude");
        if !tensor.dtype.is_float() {
            None
        } else if count == outputs && (peft || own.first() == Some(&outputs)) {
            Some(true)
        } else if Some(count) == inputs && !peft {
            Some(false)
        } else {
            None
        }
    }

    /// Brings rows or columns of `weights` to their lengths.
    fn apply(&self, weights: &mut [f32], shape: &[usize]) -> Result<(), ReadError> {
        let lengths = read(&self.0)?;
        let rows = self.of_outputs(shape) != Some(false);
        let (outputs, inputs) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let width = weights.len() / outputs.max(1);
        let kernel = (width / inputs.max(1)).max(1);
        let place = |at: usize| {
            if rows {
                at / width.max(1)
            } else {
                at % width.max(1) / kernel
            }
        };
        let mut squares = vec![0.0_f64; lengths.len()];
        for (at, weight) in weights.iter().enumerate() {
            squares[place(at)] += f64::from(*weight).powi(2);
        }
        let lengths = lengths.iter().zip(squares);
        let factors: Vec<_> = lengths
            .map(|(length, square)| {
                (f64::from(*length) / (square.sqrt() + f64::from(f32::EPSILON))) as f32
            })
            .collect();
        for (at, weight) in weights.iter_mut().enumerate() {
            *weight *= factors[place(at)];
        }
        Ok(())
    }
}
