//! The linear step: what nearly every solver does once its coefficients are known.

use burn::tensor::Tensor;

/// `sample·x + outputs[0]·m₀ + outputs[1]·m₁ + … + noise·z`, with `m₀` the newest converted prediction.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::samplers) struct Update {
    pub(in crate::samplers) sample: f64,
    pub(in crate::samplers) outputs: Vec<f64>,
    pub(in crate::samplers) noise: f64,
}

impl Update {
    /// Leaves the sample as it is: a last step of no length, onto the schedule's smallest sigma from itself.
    pub(in crate::samplers) fn nothing() -> Self {
        Self {
            sample: 1.0,
            ..Self::default()
        }
    }

    /// Applies the update to outputs listed newest last.
    ///
    /// # Panics
    ///
    /// If there are fewer outputs than weights, or no noise although its weight is not 0.
    pub(in crate::samplers) fn apply(
        &self,
        sample: Tensor<4>,
        outputs: &[Tensor<4>],
        noise: Option<Tensor<4>>,
    ) -> Tensor<4> {
        assert!(
            outputs.len() >= self.outputs.len(),
            "`history` is too short for the step"
        );
        let noise = (self.noise != 0.0)
            .then(|| noise.expect("`noise` is there because `draws_noise` asked for it"));
        let newest_first = outputs.iter().rev().cloned();
        let terms = newest_first
            .zip(self.outputs.iter().copied())
            .chain(noise.map(|noise| (noise, self.noise)));
        combine((sample, self.sample), terms)
    }
}

/// The weighted sum of tensors of one shape. A weight of 0 takes its tensor out, whatever it holds.
pub(in crate::samplers) fn combine(
    first: (Tensor<4>, f64),
    others: impl IntoIterator<Item = (Tensor<4>, f64)>,
) -> Tensor<4> {
    let nothing = first.0.clone();
    let scaled = |(tensor, weight): (Tensor<4>, f64)| match weight {
        0.0 => None,
        1.0 => Some(tensor),
        _ => Some(tensor.mul_scalar(weight)),
    };
    std::iter::once(first)
        .chain(others)
        .filter_map(scaled)
        .reduce(|sum, term| sum + term)
        .unwrap_or_else(|| nothing.zeros_like())
}

/// Solves a small square system by elimination with row exchange.
pub(in crate::samplers) fn solve(mut rows: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))
            .unwrap_or(column);
        rows.swap(column, pivot);
        right.swap(column, pivot);
        let (pivot_row, pivot_right) = (rows[column].clone(), right[column]);
        for row in (0..size).filter(|row| *row != column) {
            let factor = rows[row][column] / pivot_row[column];
            for (entry, pivot) in rows[row].iter_mut().zip(&pivot_row) {
                *entry -= factor * pivot;
            }
            right[row] -= factor * pivot_right;
        }
    }
    (0..size).map(|row| right[row] / rows[row][row]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_a_system_that_needs_a_row_exchange() {
        let rows = vec![
            vec![0.0, 2.0, 1.0],
            vec![1.0, 1.0, 1.0],
            vec![3.0, 0.0, -1.0],
        ];
        let solution = solve(rows, vec![7.0, 6.0, 0.0]);
        for (value, expected) in solution.iter().zip([1.0, 2.0, 3.0]) {
            assert!((value - expected).abs() < 1e-12, "{solution:?}");
        }
    }
}
