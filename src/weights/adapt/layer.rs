//! One layer of an adapter, made of its tensors.

use super::super::unread::Unread;

use super::change::{Change, Delta, Magnitude, Side};
use super::factors::{Factors, read};
use super::kind::LoraKind;
use super::names::Target;
use super::peft::PeftConfig;
use super::roles::{Role, Roles, ending};
use crate::error::{AdapterError, Error, WeightsError};

/// The change of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Its name as the file has it.
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) change: Change,
    /// `[outputs, inputs]` or with height and width of a kernel; one side of a bias or a norm.
    pub(super) shape: Vec<usize>,
    pub(super) rank: Option<usize>,
    pub(super) kind: LoraKind,
}

/// The tensors of a layer, by role.
pub(super) struct Parts<'a> {
    pub(super) name: String,
    pub(super) roles: Roles,
    pub(super) origin: &'a str,
}

impl Parts<'_> {
    /// The changes of the layer: of its weight, of its bias.
    pub(super) fn build(mut self, config: &PeftConfig) -> Result<Vec<Layer>, Error> {
        let target = Target::new(&self.name);
        let bias = self.roles.remove(&Role::WholeBias);
        let bias = bias.map(|tensor| self.whole(tensor, target.clone().bias()));
        let mut layers: Vec<_> = bias.transpose()?.into_iter().collect();
        for (role, target) in [
            (Role::Anew, target.clone()),
            (Role::AnewBias, target.clone().bias()),
        ] {
            if let Some(tensor) = self.roles.remove(&role) {
                layers.push(self.kept(Delta::Anew(tensor), target, 1.0)?);
            }
        }
        if let Some(tensor) = self.roles.remove(&Role::Whole) {
            layers.push(self.whole(tensor, target)?);
            self.roles.remove(&Role::Alpha);
            let whole = format!("{}{}", self.name, ending(Role::Whole));
            return self
                .check_empty(&whole)
                .map(|()| layers)
                .map_err(Error::from);
        }
        let alone = self.roles.keys().all(|role| *role == Role::Alpha);
        if !alone || layers.is_empty() {
            layers.extend(self.factored(target, config)?);
        }
        Ok(layers)
    }

    /// A change that is kept as it is; alphas do not scale it.
    fn whole(&self, tensor: Unread, target: Target) -> Result<Layer, AdapterError> {
        self.scaled(tensor, target, 1.0)
    }

    /// A change that is kept as it is but for its scale.
    fn scaled(&self, tensor: Unread, target: Target, scale: f64) -> Result<Layer, AdapterError> {
        self.kept(Delta::Whole(tensor), target, scale)
    }

    /// A change of one tensor.
    fn kept(&self, delta: Delta, target: Target, scale: f64) -> Result<Layer, AdapterError> {
        let (shape, _) = self.shape(&delta)?;
        Ok(Layer {
            name: self.name.clone(),
            target,
            change: Change {
                delta,
                scale,
                magnitude: None,
            },
            shape,
            rank: None,
            kind: LoraKind::Difference,
        })
    }

    /// A product, and what peft adds to the bias behind it (`lora_bias`).
    fn factored(mut self, target: Target, config: &PeftConfig) -> Result<Vec<Layer>, Error> {
        let alpha = self.alpha()?;
        let bias = self.roles.remove(&Role::UpBias);
        let magnitude = self.roles.remove(&Role::Magnitude).map(Magnitude);
        if magnitude.is_none() && config.uses_dora() {
            let name = format!("{}.lora_magnitude_vector", self.name);
            return Err(self.incomplete(name).into());
        }
        let delta = self.delta()?;
        self.check_empty(&delta.pair().0.name)?;
        let (shape, rank) = self.shape(&delta)?;
        let scale = match (alpha, rank) {
            (Some(alpha), Some(rank)) => alpha / rank as f64,
            // A Kronecker product of two whole matrices has no rank that alpha could be divided by.
            (Some(_), None) => 1.0,
            (None, rank) => config.scale(&target, rank).unwrap_or(1.0),
        };
        let bias = bias.map(|tensor| {
            let name = tensor.name.clone();
            let layer = self.scaled(tensor, target.clone().bias(), scale)?;
            Ok::<_, AdapterError>(Layer { name, ..layer })
        });
        let bias = bias.transpose()?;
        let kernel = shape[2..].iter().any(|&side| side > 1);
        let kind = match &delta {
            _ if magnitude.is_some() => LoraKind::Dora,
            Delta::Hadamard(..) => LoraKind::LoHa,
            Delta::Kronecker(..) => LoraKind::LoKr,
            Delta::Product(factors) if kernel || factors.core.is_some() => LoraKind::LoCon,
            _ => LoraKind::Lora,
        };
        let change = Change {
            delta,
            scale,
            magnitude,
        };
        let weight = Layer {
            name: self.name,
            target,
            change,
            shape,
            rank,
            kind,
        };
        Ok(bias.into_iter().chain([weight]).collect())
    }

    /// Refuses what is left beside `first`: a layer is changed in one way.
    fn check_empty(&self, first: &str) -> Result<(), AdapterError> {
        match self.roles.values().next() {
            None => Ok(()),
            Some(second) => Err(AdapterError::Repeated {
                target: self.name.clone(),
                first: first.to_owned(),
                second: second.name.clone(),
                origin: self.origin.to_owned(),
            }),
        }
    }

    fn has(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.roles.contains_key(role))
    }

    fn delta(&mut self) -> Result<Delta, AdapterError> {
        const HADAMARD: [Role; 3] = [Role::FirstLeft, Role::FirstRight, Role::SecondLeft];
        const KRONECKER: [Role; 4] = [
            Role::KronFirst,
            Role::KronFirstLeft,
            Role::KronSecond,
            Role::KronSecondLeft,
        ];
        if self.has(&HADAMARD) {
            let first = self.factors(Role::FirstLeft, Role::FirstRight, Role::FirstCore)?;
            let second = self.factors(Role::SecondLeft, Role::SecondRight, Role::SecondCore)?;
            return Ok(Delta::Hadamard(Box::new(first), Box::new(second)));
        }
        if self.has(&KRONECKER) {
            let (left, right) = (Role::KronFirstLeft, Role::KronFirstRight);
            let first = self.side(Role::KronFirst, left, right)?;
            let (left, right) = (Role::KronSecondLeft, Role::KronSecondRight);
            let second = self.side(Role::KronSecond, left, right)?;
            return Ok(Delta::Kronecker(first, second));
        }
        let product = self.factors(Role::Up, Role::Down, Role::Mid)?;
        Ok(Delta::Product(Box::new(product)))
    }

    /// A matrix of a Kronecker product, whole or in factors. Only the second has a core.
    fn side(&mut self, whole: Role, left: Role, right: Role) -> Result<Side, AdapterError> {
        if !self.has(&[left, right]) {
            return self.take(whole).map(Side::Whole);
        }
        if left == Role::KronSecondLeft {
            let factors = self.factors(left, right, Role::KronSecondCore)?;
            return Ok(Side::Product(Box::new(factors)));
        }
        Ok(Side::Product(Box::new(Factors {
            left: self.take(left)?,
            right: self.take(right)?,
            core: None,
            turned: false,
        })))
    }

    /// One number, whatever its type and shape.
    fn alpha(&mut self) -> Result<Option<f64>, Error> {
        let Some(tensor) = self.roles.remove(&Role::Alpha) else {
            return Ok(None);
        };
        let (name, origin) = (tensor.name.clone(), self.origin.to_owned());
        let values = read(&tensor).map_err(|error| WeightsError::Tensor {
            name: name.clone(),
            reason: error.to_string(),
            origin: origin.clone(),
        })?;
        let value = f64::from(values.first().copied().unwrap_or(f32::NAN));
        let same = |other: &f32| f64::from(*other).to_bits() == value.to_bits();
        if !value.is_finite() || !values.iter().all(same) {
            return Err(AdapterError::Alpha {
                name,
                value,
                origin,
            }
            .into());
        }
        Ok(Some(value))
    }

    /// Takes a pair and its core out of the layer.
    fn factors(&mut self, left: Role, right: Role, core: Role) -> Result<Factors, AdapterError> {
        let core = self.roles.remove(&core);
        Ok(Factors {
            // LoHa and LoKr turn their left matrices around where there is a core.
            turned: core.is_some() && left != Role::Up,
            core,
            left: self.take(left)?,
            right: self.take(right)?,
        })
    }

    fn take(&mut self, role: Role) -> Result<Unread, AdapterError> {
        let tensor = self.roles.remove(&role);
        tensor.ok_or_else(|| self.incomplete(format!("{}{}", self.name, ending(role))))
    }

    fn incomplete(&self, name: String) -> AdapterError {
        let present = self.roles.values().next();
        let present = present.map_or_else(|| self.name.clone(), |tensor| tensor.name.clone());
        let origin = self.origin.to_owned();
        AdapterError::Incomplete {
            name,
            present,
            origin,
        }
    }

    fn shape(&self, delta: &Delta) -> Result<(Vec<usize>, Option<usize>), AdapterError> {
        delta.shape().ok_or_else(|| {
            let (left, right) = delta.pair();
            AdapterError::Rank {
                left: left.name.clone(),
                left_shape: left.shape.to_vec(),
                right: right.name.clone(),
                right_shape: right.shape.to_vec(),
                origin: self.origin.to_owned(),
            }
        })
    }
}
