//! Forecasts: what stands in for a tensor between two refreshes, as a weighted sum of what the refreshes before have left.
//!
//! The weights depend on positions alone, never on values: nothing is read back from a device, and a plan stays known before its run.
//! Positions are numbers of evaluations.
//!
//! **Source**: Lagrange's polynomial; Taylor sums over divided differences after `TaylorSeer` (arXiv 2503.06923, section 3.3), as
//! diffusers computes them; a damped fit of Chebyshev polynomials after Spectrum (arXiv 2603.01623).

use std::{fmt, str::FromStr};

use nalgebra::{DMatrix, DVector};

use super::options::wrong;
use crate::error::Error;

/// The largest order: above it, weights of both signs only amplify rounding.
const LARGEST_ORDER: usize = 8;

/// How strongly the fit of Chebyshev polynomials is drawn to a constant.
const DAMPING: f64 = 0.1;

/// How a stored tensor is taken to evaluations that do not compute it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Predictor {
    /// As the last refresh left it: what the published methods do.
    #[default]
    Hold,
    /// On the line through the last two refreshes.
    Linear,
    /// On the polynomial of this order through as many refreshes and one more (Lagrange).
    Taylor(usize),
    /// On Chebyshev polynomials up to this order, fitted to all refreshes so far and drawn to a constant.
    Chebyshev(usize),
    /// Σ fₖ dᵏ / k! up to this order, with d the distance from the last refresh and fₖ = (fₖ₋₁ - fₖ₋₁ of the refresh before) / (their
    /// distance). It is a straight line at order 1, and at higher ones not the polynomial through the refreshes.
    TaylorSeer(usize),
}

impl Predictor {
    /// Refreshes that it looks back on at most; no bound where it fits all of them.
    pub fn history(self) -> usize {
        match self {
            Self::Hold => 1,
            Self::Linear => 2,
            Self::Taylor(order) | Self::TaylorSeer(order) => order + 1,
            Self::Chebyshev(_) => usize::MAX,
        }
    }

    /// The order that was asked for: it needs that many refreshes and one more, and falls where there are fewer.
    pub fn order(self) -> usize {
        match self {
            Self::Hold => 0,
            Self::Linear => 1,
            Self::Taylor(order) | Self::Chebyshev(order) | Self::TaylorSeer(order) => order,
        }
    }

    /// Whether the last refresh is used as it is.
    pub fn holds(self) -> bool {
        self.order() == 0
    }

    /// What the tensors of refreshes at `positions`, ascending, weigh in the forecast at `position`: one weight for each, 0 for those
    /// that are too old. The order falls where there are too few.
    pub fn weights(self, positions: &[f64], position: f64) -> Vec<f64> {
        let read = self.history().min(positions.len());
        let (old, recent) = positions.split_at(positions.len() - read);
        let weights = match self {
            _ if self.holds() || read < 2 => last(read),
            Self::TaylorSeer(_) => series(recent, position),
            Self::Chebyshev(order) => fitted(recent, position, order.min(read - 1)),
            _ => lagrange(recent, position),
        };
        old.iter().map(|_| 0.0).chain(weights).collect()
    }
}

/// The last of `count` alone.
fn last(count: usize) -> Vec<f64> {
    (1..=count).map(|one| f64::from(one == count)).collect()
}

/// Of the polynomial through all `nodes`, at `x`.
fn lagrange(nodes: &[f64], x: f64) -> Vec<f64> {
    let weight = |node: usize| {
        let others = (0..nodes.len()).filter(|&other| other != node);
        others
            .map(|other| (x - nodes[other]) / (nodes[node] - nodes[other]))
            .product()
    };
    (0..nodes.len()).map(weight).collect()
}

/// Of the sum Σ fₖ dᵏ / k! at `x`, as many orders as there are differences between `nodes`.
fn series(nodes: &[f64], x: f64) -> Vec<f64> {
    // Row r holds f of node r, of the order that is reached, by what each node weighs in it.
    let mut factors = DMatrix::<f64>::identity(nodes.len(), nodes.len());
    let newest = nodes.len() - 1;
    let distance = x - nodes[newest];
    let mut weights = factors.row(newest).into_owned();
    let mut power = 1.0;
    for order in 1..nodes.len() {
        for node in (order..nodes.len()).rev() {
            let step = nodes[node] - nodes[node - 1];
            let difference = (factors.row(node) - factors.row(node - 1)) / step;
            factors.set_row(node, &difference);
        }
        power *= distance / order as f64;
        weights += factors.row(newest) * power;
    }
    weights.iter().copied().collect()
}

/// Of the ridge fit of T₀ … Tₙ to all `nodes`, with τ from -1 at the first of them to 1 at `x`: `t(τ)ᵀ (XᵀX + λI)⁻¹ Xᵀ`, where λ leaves
/// T₀ alone, so that what does not change is forecast exactly.
fn fitted(nodes: &[f64], x: f64, order: usize) -> Vec<f64> {
    let tau = |at: f64| 2.0 * (at - nodes[0]) / (x - nodes[0]) - 1.0;
    let design = DMatrix::from_fn(nodes.len(), order + 1, |row, k| {
        chebyshev(k, tau(nodes[row]))
    });
    let damping = DMatrix::from_fn(order + 1, order + 1, |row, column| {
        DAMPING * f64::from(row == column && row > 0)
    });
    let target = DVector::from_fn(order + 1, |k, _| chebyshev(k, 1.0));
    let normal = (design.transpose() * &design + damping).cholesky();
    let solved = normal.map(|normal| &design * normal.solve(&target));
    solved.map_or_else(
        || last(nodes.len()),
        |solved| solved.iter().copied().collect(),
    )
}

/// Tₖ at `x`, from -1 to 1.
fn chebyshev(order: usize, x: f64) -> f64 {
    (order as f64 * x.clamp(-1.0, 1.0).acos()).cos()
}

/// Every predictor by name; those that take an order end in a colon.
const NAMES: &str = "one of hold, linear, taylor:N, chebyshev:N";

/// Reads `hold`, `linear`, `taylor:2`, `chebyshev:3`, `taylorseer:2`.
impl FromStr for Predictor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, order) = match text.split_once(':') {
            Some((name, order)) => (name, Some(order)),
            None => (text, None),
        };
        let order = |of: fn(usize) -> Self| match order.map(str::parse) {
            Some(Ok(order)) if order <= LARGEST_ORDER => Ok(of(order)),
            _ => Err(wrong(
                "forecast",
                text,
                format!("`{name}:N` takes an order from 0 to {LARGEST_ORDER}"),
            )),
        };
        match (name, text) {
            (_, "hold") => Ok(Self::Hold),
            (_, "linear") => Ok(Self::Linear),
            ("taylor", _) => order(Self::Taylor),
            ("chebyshev", _) => order(Self::Chebyshev),
            ("taylorseer", _) => order(Self::TaylorSeer),
            _ => Err(wrong("forecast", text, NAMES)),
        }
    }
}

/// Writes what [`FromStr`] reads.
impl fmt::Display for Predictor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold => formatter.write_str("hold"),
            Self::Linear => formatter.write_str("linear"),
            Self::Taylor(order) => write!(formatter, "taylor:{order}"),
            Self::Chebyshev(order) => write!(formatter, "chebyshev:{order}"),
            Self::TaylorSeer(order) => write!(formatter, "taylorseer:{order}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_order(order: usize) -> [Predictor; 3] {
        [
            Predictor::Taylor(order),
            Predictor::Chebyshev(order),
            Predictor::TaylorSeer(order),
        ]
    }

    /// Ascending positions, and one after them.
    fn places() -> impl Strategy<Value = (Vec<f64>, f64)> {
        let gaps = prop::collection::vec(1..7_u32, 1..9);
        (gaps, 1..7_u32).prop_map(|(gaps, ahead)| {
            let mut sum = 0;
            let mut positions = Vec::new();
            for gap in gaps {
                positions.push(f64::from(sum));
                sum += gap;
            }
            let x = positions[positions.len() - 1] + f64::from(ahead);
            (positions, x)
        })
    }

    fn sum(weights: &[f64], positions: &[f64], values: impl Fn(f64) -> f64) -> f64 {
        let terms = weights.iter().zip(positions);
        terms.map(|(weight, &at)| weight * values(at)).sum()
    }

    proptest! {
        #[test]
        fn what_does_not_change_is_forecast_exactly((positions, x) in places(), order in 0..5_usize) {
            for predictor in of_order(order) {
                let weights = predictor.weights(&positions, x);
                prop_assert_eq!(weights.len(), positions.len());
                prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{predictor} {weights:?}");
            }
        }

        #[test]
        fn a_polynomial_is_forecast_exactly((positions, x) in places(), order in 1..5_usize) {
            let order = order.min(positions.len() - 1);
            let power = |at: f64| (at / 10.0).powi(i32::try_from(order).unwrap());
            let weights = Predictor::Taylor(order).weights(&positions, x);
            let found = sum(&weights, &positions, power);
            prop_assert!((found - power(x)).abs() < 1e-6 * power(x).max(1.0), "{found}");
        }

        #[test]
        fn first_orders_are_the_line((positions, x) in places()) {
            let line = Predictor::Linear.weights(&positions, x);
            for predictor in [Predictor::Taylor(1), Predictor::TaylorSeer(1)] {
                let weights = predictor.weights(&positions, x);
                let near = line.iter().zip(&weights).all(|(a, b)| (a - b).abs() < 1e-12);
                prop_assert!(near, "{line:?} {weights:?}");
            }
        }

        #[test]
        fn order_0_holds((positions, x) in places()) {
            let held = Predictor::Hold.weights(&positions, x);
            prop_assert_eq!(held.iter().filter(|&&weight| weight == 0.0).count(), positions.len() - 1);
            prop_assert!(held.last().is_some_and(|&weight| weight == 1.0));
            for predictor in of_order(0) {
                prop_assert_eq!(predictor.weights(&positions, x), held.clone());
            }
        }
    }

    /// f₁ = (4 - 1) / 2 at 2; f₂ = (f₁ - f₁ of 0) / 2 with f₁ of 0 = (1 - 0) / 1.
    #[test]
    fn the_series_is_summed_as_diffusers_does() {
        let values = |at: f64| [0.0, 1.0, 0.0, 4.0][(at + 1.0) as usize];
        let positions = [-1.0, 0.0, 2.0];
        let weights = Predictor::TaylorSeer(2).weights(&positions, 4.0);
        let [first, before] = [1.5, 1.0];
        let second = (first - before) / 2.0;
        let expected = 4.0 + first * 2.0 + second * 2.0 * 2.0 / 2.0;
        assert!((sum(&weights, &positions, values) - expected).abs() < 1e-12);
    }

    /// Noise of every refresh comes through with the square of its weight.
    #[test]
    fn a_fit_passes_less_noise_on_than_a_polynomial_through_the_last_refreshes() {
        let positions: Vec<f64> = (0..12).map(|step| f64::from(step) * 2.0).collect();
        for order in 1..=4 {
            let [fit, through] =
                [Predictor::Chebyshev(order), Predictor::Taylor(order)].map(|predictor| -> f64 {
                    let weights = predictor.weights(&positions, 26.0);
                    weights.iter().map(|weight| weight * weight).sum()
                });
            assert!(fit < through, "order {order}: {fit} {through}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (text, hint) in [
            ("quadratic", "one of hold, linear, taylor:N, chebyshev:N"),
            ("linear:1", "one of hold, linear, taylor:N, chebyshev:N"),
            ("taylor", "`taylor:N` takes an order from 0 to 8"),
            ("chebyshev:9", "`chebyshev:N` takes an order from 0 to 8"),
            ("taylor:-1", "`taylor:N` takes an order from 0 to 8"),
        ] {
            let error = text.parse::<Predictor>().unwrap_err().to_string();
            assert_eq!(error, format!("`forecast` is `{text}`\nhint: {hint}"));
        }
    }
}
