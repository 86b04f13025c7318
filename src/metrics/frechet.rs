//! The distance between two sets of pictures in a feature space.
//!
//! Source: Dowson and Landau, "The Fréchet Distance between Multivariate Normal Distributions" (1982); Heusel et al., "GANs Trained
//! by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (arXiv 1706.08500, section 3).

use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// Mean and covariance of feature vectors, as they come.
#[derive(Debug, Clone)]
pub struct FeatureStatistics {
    count: usize,
    sum: DVector<f64>,
    /// Sum of the products of every two features.
    products: DMatrix<f64>,
}

impl FeatureStatistics {
    /// Of no picture yet.
    pub fn new(width: usize) -> Self {
        Self {
            count: 0,
            sum: DVector::zeros(width),
            products: DMatrix::zeros(width, width),
        }
    }

    /// Takes in one picture's features.
    ///
    /// # Panics
    ///
    /// If there are more or fewer than `width`.
    pub fn add(&mut self, features: &[f64]) {
        assert_eq!(
            features.len(),
            self.sum.len(),
            "as many features as the space has"
        );
        let features = DVector::from_column_slice(features);
        self.count += 1;
        self.sum += &features;
        self.products.ger(1.0, &features, &features, 1.0);
    }

    /// Pictures taken in.
    pub fn count(&self) -> usize {
        self.count
    }

    fn mean(&self) -> DVector<f64> {
        &self.sum / self.count as f64
    }

    /// The sample covariance, with `count - 1` in the denominator.
    fn covariance(&self) -> DMatrix<f64> {
        let mean = self.mean();
        let scatter = &self.products - &mean * mean.transpose() * self.count as f64;
        scatter / (self.count as f64 - 1.0)
    }
}

/// `|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)`; `None` where a set has fewer than two pictures; not a number where a
/// feature is none.
///
/// The trace of the root is that of `(Σ₁^½ Σ₂ Σ₁^½)^½`, whose matrix is symmetric, so that covariances without full rank (fewer
/// pictures than features) need no special care. Small sets overestimate the distance: compare sets of one size only.
///
/// # Panics
///
/// If the two are of different feature spaces.
pub fn frechet_distance(a: &FeatureStatistics, b: &FeatureStatistics) -> Option<f64> {
    assert_eq!(a.sum.len(), b.sum.len(), "one feature space");
    if a.count < 2 || b.count < 2 {
        return None;
    }
    let (one, two) = (a.covariance(), b.covariance());
    // Of what is no number the search for eigenvalues need not end.
    if !one.iter().chain(two.iter()).all(|value| value.is_finite()) {
        return Some(f64::NAN);
    }
    let root = square_root(&one);
    let spectrum = SymmetricEigen::new(&root * &two * &root).eigenvalues;
    let trace_of_root: f64 = spectrum.iter().map(|value| value.max(0.0).sqrt()).sum();
    let means = (a.mean() - b.mean()).norm_squared();
    let distance = means + one.trace() + two.trace() - 2.0 * trace_of_root;
    // Rounding leaves a little less than nothing.
    Some(distance.max(0.0))
}

/// The symmetric root of a symmetric matrix; what rounding made negative counts as zero.
fn square_root(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    let SymmetricEigen {
        eigenvectors,
        eigenvalues,
    } = SymmetricEigen::new(matrix.clone());
    let roots = eigenvalues.map(|value| value.max(0.0).sqrt());
    &eigenvectors * DMatrix::from_diagonal(&roots) * eigenvectors.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[[f64; 2]]) -> FeatureStatistics {
        let mut statistics = FeatureStatistics::new(2);
        for row in rows {
            statistics.add(row);
        }
        statistics
    }

    #[test]
    fn a_shifted_set_is_as_far_as_its_mean() {
        let set = [[0.0, 1.0], [2.0, 5.0], [1.0, -3.0]];
        let shifted = set.map(|[x, y]| [x + 3.0, y - 4.0]);
        let distance = frechet_distance(&of(&set), &of(&shifted)).unwrap();
        assert!((distance - 25.0).abs() < 1e-9, "{distance}");
        assert!(frechet_distance(&of(&set), &of(&set)).unwrap() < 1e-9);
    }

    #[test]
    fn features_that_are_no_numbers_have_no_distance() {
        let set = of(&[[0.0, 1.0], [2.0, 5.0]]);
        let wrong = of(&[[0.0, f64::NAN], [2.0, 5.0]]);
        assert!(frechet_distance(&set, &wrong).is_some_and(f64::is_nan));
    }

    #[test]
    fn one_picture_is_no_set() {
        let set = of(&[[0.0, 1.0], [2.0, 5.0]]);
        assert_eq!(frechet_distance(&set, &of(&[[0.0, 1.0]])), None);
    }
}
