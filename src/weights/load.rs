//! Filling a module from a [`WeightSource`], strictly.
//!
//! A module's field names are the checkpoint's, so a parameter is found by its path. Three things differ between the two sides and
//! are handled here, once: burn's `Linear` keeps its weight as `[inputs, outputs]` where torch has `[outputs, inputs]`, burn's
//! norms call their parameters `gamma` and `beta`, and some fields cannot carry a checkpoint's number ([`names`]). Everything
//! that is said outward, names and shapes, is the checkpoint's.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::unread::Unread;
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Bool, DType, Device, Int, Tensor, TensorData},
};

use super::filters::placed;
use super::finite::check_finite;
use super::transpose::transposed;
use super::{Storage, WeightSource, adapt::Patches, names, quantise};
#[cfg(feature = "cpu")]
use super::{finite::check_finite_blocks, packed, unread::Blocks};
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

fn fill<M: Module>(
    module: M,
    source: &WeightSource,
    part: &str,
    storage: Storage,
    patches: &Patches,
    wanted: impl Fn(&str) -> bool,
) -> Result<M, Error> {
    let slots = slots(&module);
    let asked = slots.iter().map(Slot::asked).collect();
    let mut tensors = names::canonical(source, &asked)?;
    check(&slots, &tensors, part, source.origin())?;
    let matched = slots
        .into_iter()
        .filter(|slot| wanted(&slot.name))
        .filter_map(|slot| {
            let tensor = patches.applied(&slot.name, tensors.remove(&slot.name)?);
            Some((slot.path.clone(), (tensor, slot)))
        })
        .collect();
    let mut filler = Filler {
        trail: Trail::default(),
        matched,
        storage,
        origin: source.origin(),
        failed: None,
    };
    let module = module.map(&mut filler);
    match filler.failed {
        Some(error) => Err(error.into()),
        None => Ok(module),
    }
}

/// Names and shapes of a module's parameters as a checkpoint has them, without allocating one.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let pair = |slot: Slot| (slot.name, slot.shape);
    slots(module).into_iter().map(pair).collect()
}

/// In what the file of a part has its tensors, as far as that is known.
#[derive(Debug, Clone)]
pub struct FileTypes {
    /// Of tensors of which nothing else is known.
    floats: DType,
    source: Option<WeightSource>,
}

impl FileTypes {
    /// Of `source`.
    pub fn of(source: WeightSource) -> Self {
        Self {
            floats: source.float_dtype().unwrap_or(DType::F32),
            source: Some(source),
        }
    }
}

impl From<DType> for FileTypes {
    fn from(floats: DType) -> Self {
        let source = None;
        Self { floats, source }
    }
}

/// Number of a module's parameters, and the bytes they take once they are filled from `file` and kept as `storage` says; without allocating
/// one.
pub fn weight_bytes<M: Module>(module: &M, storage: Storage, file: &FileTypes) -> (u64, u64) {
    let slots = slots(module);
    let asked = slots.iter().map(Slot::asked).collect();
    let tensors = file.source.as_ref();
    let tensors = tensors.and_then(|source| names::canonical(source, &asked).ok());
    let tensors = tensors.unwrap_or_default();
    let sizes = slots.iter().map(|slot| {
        let elements = slot.shape.iter().product::<usize>();
        let tensor = tensors.get(&slot.name);
        (elements as u64, slot.bytes(tensor, storage, file.floats))
    });
    sizes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// A parameter of a module.
struct Slot {
    /// Path in the module.
    path: String,
    /// Name in a checkpoint.
    name: String,
    /// Shape in a checkpoint.
    shape: Vec<usize>,
    /// Whether the module keeps it transposed.
    transposed: bool,
    /// Whether it is the weight of a linear layer or a convolution.
    is_weight: bool,
}

impl Slot {
    /// Name and shape in a checkpoint.
    fn asked(&self) -> (&str, &[usize]) {
        (&self.name, &self.shape)
    }

    /// The blocks that stay as the file has them.
    #[cfg(feature = "cpu")]
    fn packed<'a>(&self, tensor: &'a Unread, storage: Storage) -> Option<&'a Blocks> {
        let stays = !matches!(storage, Storage::As(_)) && self.transposed;
        let blocks = tensor.blocks().filter(|_| stays);
        blocks.filter(|blocks| packed::packs(blocks.kind, &self.name, &self.shape))
    }

    /// Inputs that share a scale, if it is kept in 8 bits.
    fn group(&self, storage: Storage) -> Option<usize> {
        let asked = storage == Storage::Quantised && self.transposed;
        asked
            .then(|| quantise::group(&self.name, &self.shape))
            .flatten()
    }

    /// What it takes where the file has it as `tensor`, or, if there is none, in type `file`.
    fn bytes(&self, tensor: Option<&Unread>, storage: Storage, file: DType) -> u64 {
        #[cfg(feature = "cpu")]
        if let Some(blocks) = tensor.and_then(|tensor| self.packed(tensor, storage)) {
            return packed::memory(blocks.kind, [self.shape[0], self.shape[1]]) as u64;
        }
        let elements = self.shape.iter().product::<usize>();
        let file = tensor.map_or(file, |tensor| tensor.dtype);
        let bytes = match self.group(storage) {
            Some(group) => elements + elements / group * size_of::<f32>(),
            None => elements * storage.dtype(file, self.is_weight).size(),
        };
        bytes as u64
    }
}

fn slots<M: Module>(module: &M) -> Vec<Slot> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.slots
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

/// Where a traversal of a module stands.
#[derive(Default)]
struct Trail {
    names: Vec<String>,
    containers: Vec<String>,
}

impl Trail {
    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    /// The path without the names of enum variants, which no checkpoint has.
    fn path(&self) -> String {
        let named = self.names.iter().zip(&self.containers);
        let kept: Vec<_> = named
            .filter(|(_, container)| !container.starts_with("Enum:"))
            .map(|(name, _)| name.as_str())
            .collect();
        kept.join(".")
    }

    /// The innermost struct that holds the parameter.
    fn holder(&self) -> &str {
        let holds = |name: &&String| name.starts_with("Struct:") || name.starts_with("Enum:");
        self.containers
            .iter()
            .rev()
            .find(holds)
            .map_or("", |name| name.split_once(':').map_or("", |(_, kind)| kind))
    }
}

/// Collects parameters without making them.
#[derive(Default)]
struct Collector {
    trail: Trail,
    slots: Vec<Slot>,
}

impl Collector {
    fn add(&mut self, mut shape: Vec<usize>) {
        let path = self.trail.path();
        let holder = self.trail.holder();
        let transposed = holder == "Linear" && shape.len() == 2;
        if transposed {
            shape.reverse();
        }
        self.slots.push(Slot {
            name: names::checkpoint_name(&path, is_norm(holder)),
            path,
            is_weight: matches!(holder, "Linear" | "Conv2d" | "Conv3d") && shape.len() > 1,
            shape,
            transposed,
        });
    }
}

/// Whether a burn layer calls its parameters `gamma` and `beta` where torch has `weight` and `bias`.
fn is_norm(holder: &str) -> bool {
    matches!(holder, "GroupNorm" | "LayerNorm" | "BatchNorm" | "RmsNorm")
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.trail.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.trail.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.lazy_shape().to_vec());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.lazy_shape().to_vec());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param.lazy_shape().to_vec());
    }
}

/// Puts tensors into parameters. After a failure it leaves the rest alone.
struct Filler<'source> {
    trail: Trail,
    matched: HashMap<String, (Unread, Slot)>,
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
        #[cfg(feature = "cpu")]
        if let Some(blocks) = slot.packed(&tensor, self.storage) {
            return self.packed(blocks, slot, device);
        }
        let data = self.data(tensor, slot, |dtype| dtype.is_float())?;
        Ok(placed(data, device))
    }

    /// A weight that stays in the file's blocks.
    #[cfg(feature = "cpu")]
    fn packed<const D: usize>(
        &self,
        blocks: &Blocks,
        slot: &Slot,
        device: &Device,
    ) -> Result<Tensor<D>, WeightsError> {
        let bytes = blocks.read();
        let bytes = bytes.map_err(|error| self.unreadable(slot, error.to_string()))?;
        check_finite_blocks(blocks.kind, &bytes, &slot.name, self.origin)?;
        let packed = packed::packed(blocks.kind, &bytes, [slot.shape[0], slot.shape[1]]);
        Ok(packed.tensor(|data| placed(data, device)))
    }

    fn unreadable(&self, slot: &Slot, reason: String) -> WeightsError {
        WeightsError::Tensor {
            name: slot.name.clone(),
            reason,
            origin: self.origin.to_owned(),
        }
    }

    /// Reads a tensor in the module's layout and data type.
    fn data(
        &self,
        tensor: Unread,
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
        Ok(self.laid(data, slot))
    }

    /// What the file has, in the module's layout and data type.
    fn laid(&self, data: TensorData, slot: &Slot) -> TensorData {
        let kept = data.dtype();
        if !kept.is_float() {
            return data;
        }
        if let Some(group) = slot.group(self.storage) {
            return quantise::quantised(&data, group);
        }
        let data = data.convert_dtype(self.storage.dtype(kept, slot.is_weight));
        if slot.transposed {
            transposed(&data)
        } else {
            data
        }
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
        match self.next(|filler, tensor, slot| filler.data(tensor, slot, is_integer)) {
            Some(data) => {
                let options = (&param.lazy_device(), data.dtype());
                let (id, tensor) = (param.id, Tensor::from_data(data, options));
                param.transform_for_load(tensor, id)
            }
            None => param,
        }
    }
}
