//! Filling a module from a [`WeightSource`], strictly.
//!
//! A module's field names are the checkpoint's, so a parameter is found by its path. Three things differ between the two sides and
//! are handled here, once: burn's `Linear` keeps its weight as `[inputs, outputs]` where torch has `[outputs, inputs]`, burn's
//! norms call their parameters `gamma` and `beta`, and some fields cannot carry a checkpoint's number ([`names`]). Everything
//! that is said outward, names and shapes, is the checkpoint's.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Int, Tensor, TensorData},
};

use super::filters::placed;
use super::finite::check_finite;
use super::slots::{Keeping, Slot, Trail, slots};
use super::transpose::transposed;
use super::unread::Unread;
use super::{Storage, WeightSource, adapt::Patches, names};
#[cfg(any(feature = "cpu", feature = "gpu"))]
use super::{carried, finite::check_finite_blocks, unread::Blocks};
#[cfg(feature = "cpu")]
use super::{eight, packed, pairs, quantise};
use crate::error::{Error, Misfit, WeightsError};

/// Fills `module` with the tensors of `source`, floats kept as `storage` says. `part` (`unet`, `vae`, …) is what errors call it.
///
/// Old names are brought to today's first (see [`names`]). Parameters are read one at a time; a module whose parameters
/// were never used allocates nothing before.
///
/// # Errors
///
/// When a parameter has no tensor, a tensor no parameter, or shapes differ: one error that lists all of them, before anything
/// is read. When a tensor cannot be read, or holds values that are no finite numbers.
pub fn load_strict<M: Module>(
    module: M,
    source: &WeightSource,
    part: &str,
    storage: impl Into<Storage>,
) -> Result<M, Error> {
    load_merged(module, source, part, storage, &Patches::default())
}

/// Whether [`load_strict`] would find what it needs in `source`, by names and shapes alone: nothing is read, nothing allocated.
///
/// # Errors
///
/// As [`load_strict`], but for what shows in reading only.
pub fn check_fit<M: Module>(module: &M, source: &WeightSource, part: &str) -> Result<(), Error> {
    let slots = slots(module);
    let asked = slots.iter().map(Slot::asked).collect();
    let tensors = names::canonical(source, &asked)?;
    check(&slots, &tensors, part, source.origin())
}

/// [`load_strict`], with adapters merged into the tensors on their way.
///
/// # Errors
///
/// As [`load_strict`], and when an adapter's tensor cannot be read.
pub fn load_merged<M: Module>(
    module: M,
    source: &WeightSource,
    part: &str,
    storage: impl Into<Storage>,
    patches: &Patches,
) -> Result<M, Error> {
    fill(module, source, part, storage.into(), patches, |_| true)
}

/// Reads the parameters `names` of a filled module anew, with `patches` merged; the others keep what they have. A parameter without a
/// patch becomes what [`load_strict`] makes of it, bit for bit.
///
/// # Errors
///
/// As [`load_merged`].
pub fn reload<M: Module>(
    module: M,
    source: &WeightSource,
    part: &str,
    storage: impl Into<Storage>,
    patches: &Patches,
    names: &BTreeSet<&str>,
) -> Result<M, Error> {
    fill(module, source, part, storage.into(), patches, |name| {
        names.contains(name)
    })
}

/// Tensors and the parameters that they belong into, by the paths of these.
pub(super) type Matched = HashMap<String, (Unread, Slot)>;

fn fill<M: Module>(
    module: M,
    source: &WeightSource,
    part: &str,
    storage: Storage,
    patches: &Patches,
    wanted: impl Fn(&str) -> bool,
) -> Result<M, Error> {
    let mut matched = matched(&module, source, part, patches)?;
    matched.retain(|_, (_, slot)| wanted(&slot.name));
    Ok(filled(module, matched, storage, source.origin())?)
}

/// What belongs into every parameter of `module`.
pub(super) fn matched<M: Module>(
    module: &M,
    source: &WeightSource,
    part: &str,
    patches: &Patches,
) -> Result<Matched, Error> {
    let slots = slots(module);
    let asked = slots.iter().map(Slot::asked).collect();
    let mut tensors = names::canonical(source, &asked)?;
    check(&slots, &tensors, part, source.origin())?;
    let matched = slots.into_iter().filter_map(|slot| {
        let tensor = patches.applied(&slot.name, tensors.remove(&slot.name)?);
        Some((slot.path.clone(), (tensor, slot)))
    });
    Ok(matched.collect())
}

/// `module` with what is `matched` in its parameters.
pub(super) fn filled<M: Module>(
    module: M,
    matched: Matched,
    storage: Storage,
    origin: &str,
) -> Result<M, WeightsError> {
    let mut filler = Filler {
        trail: Trail::default(),
        matched,
        storage,
        origin,
        failed: None,
    };
    let module = module.map(&mut filler);
    filler.failed.map_or(Ok(module), Err)
}

/// Compares both sides by name and shape.
fn check(
    slots: &[Slot],
    tensors: &HashMap<String, Unread>,
    part: &str,
    origin: &str,
) -> Result<(), Error> {
    let asked: HashSet<_> = slots.iter().map(|slot| slot.name.as_str()).collect();
    let mut misfit = Misfit {
        part: part.to_owned(),
        origin: origin.to_owned(),
        ..Misfit::default()
    };
    for slot in slots {
        match tensors.get(&slot.name).map(|tensor| tensor.shape.to_vec()) {
            None => misfit.missing.push(slot.name.clone()),
            Some(shape) if shape != slot.shape => {
                let difference = (slot.name.clone(), shape, slot.shape.clone());
                misfit.shapes.push(difference);
            }
            Some(_) => {}
        }
    }
    let unused = tensors.keys().filter(|name| !asked.contains(name.as_str()));
    misfit.unused = unused.cloned().collect();
    misfit.unused.sort();
    if misfit.is_empty() {
        return Ok(());
    }
    Err(WeightsError::from(misfit).into())
}

/// Puts tensors into parameters. After a failure it leaves the rest alone.
struct Filler<'source> {
    trail: Trail,
    matched: Matched,
    storage: Storage,
    origin: &'source str,
    failed: Option<WeightsError>,
}

impl Filler<'_> {
    /// What `make` makes of what belongs into the parameter at hand, unless it failed or something failed before.
    fn next<T>(
        &mut self,
        make: impl FnOnce(&Self, Unread, &Slot) -> Result<T, WeightsError>,
    ) -> Option<T> {
        let (tensor, slot) = self.matched.remove(&self.trail.path())?;
        if self.failed.is_some() {
            return None;
        }
        match make(self, tensor, &slot) {
            Ok(made) => Some(made),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    /// A parameter of floats.
    fn float<const D: usize>(
        &self,
        tensor: Unread,
        slot: &Slot,
        device: &Device,
    ) -> Result<Tensor<D>, WeightsError> {
        let data = || self.data(&tensor, slot, |dtype| dtype.is_float());
        Ok(
            match slot.keeping(Some(&tensor), self.storage, tensor.dtype) {
                #[cfg(feature = "cpu")]
                Keeping::Blocks(blocks) => {
                    let bytes = self.blocks(&blocks, slot)?;
                    let shape = [slot.shape[0], slot.shape[1]];
                    packed::packed(blocks.kind, &bytes, shape).tensor()
                }
                #[cfg(any(feature = "cpu", feature = "gpu"))]
                Keeping::Carried(blocks) => {
                    let dtype = self.storage.computes_in();
                    if carried::is_right(blocks.kind, device, dtype) {
                        let bytes = self.blocks(&blocks, slot)?;
                        let shape = [slot.shape[0], slot.shape[1]];
                        carried::carried(blocks.kind, &bytes, shape, device)
                    } else {
                        placed(transposed(&data()?.convert_dtype(dtype)), device)
                    }
                }
                #[cfg(feature = "cpu")]
                Keeping::Fours => packed::fours(&data()?).tensor(),
                #[cfg(feature = "cpu")]
                Keeping::Products => eight::rounded(&data()?),
                #[cfg(feature = "cpu")]
                Keeping::Halves => {
                    let data = data()?;
                    let plain = || placed(data.clone().convert_dtype(DType::F32), device);
                    eight::halves(&data).unwrap_or_else(plain)
                }
                #[cfg(feature = "cpu")]
                Keeping::Pairs => pairs::packed(data()?),
                #[cfg(feature = "cpu")]
                Keeping::Bytes(group) => quantise::quantised(&data()?, group),
                Keeping::Plain(dtype) => {
                    let data = data()?.convert_dtype(dtype);
                    let turned = slot.transposed.then(|| transposed(&data));
                    placed(turned.unwrap_or(data), device)
                }
            },
        )
    }

    /// The bytes of a weight that stays in the file's blocks.
    #[cfg(any(feature = "cpu", feature = "gpu"))]
    fn blocks(&self, blocks: &Blocks, slot: &Slot) -> Result<Vec<u8>, WeightsError> {
        let bytes = blocks.read();
        let bytes = bytes.map_err(|error| self.unreadable(slot, error.to_string()))?;
        check_finite_blocks(blocks.kind, &bytes, &slot.name, self.origin)?;
        Ok(bytes)
    }

    fn unreadable(&self, slot: &Slot, reason: String) -> WeightsError {
        WeightsError::Tensor {
            name: slot.name.clone(),
            reason,
            origin: self.origin.to_owned(),
        }
    }

    /// Reads a tensor.
    fn data(
        &self,
        tensor: &Unread,
        slot: &Slot,
        fits: fn(DType) -> bool,
    ) -> Result<TensorData, WeightsError> {
        if !fits(tensor.dtype) {
            return Err(WeightsError::DataType {
                name: slot.name.clone(),
                dtype: format!("{:?}", tensor.dtype),
                origin: self.origin.to_owned(),
            });
        }
        let data = tensor.read();
        let data = data.map_err(|error| self.unreadable(slot, error.to_string()))?;
        check_finite(&data, &slot.name, self.origin)?;
        Ok(data)
    }
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.trail.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.trail.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let device = param.lazy_device();
        match self.next(|filler, tensor, slot| filler.float(tensor, slot, &device)) {
            Some(tensor) => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            None => param,
        }
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let is_integer = |dtype: DType| dtype.is_int() || dtype.is_uint();
        match self.next(|filler, tensor, slot| filler.data(&tensor, slot, is_integer)) {
            Some(data) => {
                let options = (&param.lazy_device(), data.dtype());
                let (id, tensor) = (param.id, Tensor::from_data(data, options));
                param.transform_for_load(tensor, id)
            }
            None => param,
        }
    }
}
