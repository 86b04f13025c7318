//! What adapters do to the parameters of a model.

use std::collections::{BTreeMap, BTreeSet};

use super::super::unread::{ReadError, Unread};
use burn::tensor::{Bytes, DType, TensorData};

use super::change::Change;
use super::factors::read;
use super::layer::Layer;
use super::names::{Parameters, Target};
use super::{CustomDiffusion, Lora};
use crate::error::{AdapterError, Error, listed};
use crate::weights::WeightSource;

/// The changes that adapters make to the parts of a model.
#[derive(Debug, Clone, Default)]
pub struct Merge {
    parts: BTreeMap<&'static str, Patches>,
    notes: Vec<String>,
}

/// The changes of one part: weights are replaced first, then added to.
#[derive(Debug, Clone, Default)]
pub struct Patches(BTreeMap<String, Patch>);

#[derive(Debug, Clone, Default)]
struct Patch {
    replaced: Option<Replacement>,
    added: Vec<Addition>,
}

#[derive(Debug, Clone)]
struct Replacement {
    tensor: Unread,
    origin: String,
}

#[derive(Debug, Clone)]
struct Addition {
    change: Change,
    scale: f64,
    /// The layer as the file calls it.
    name: String,
    origin: String,
}

/// A parameter of the model.
struct Found<'a> {
    part: &'static str,
    name: &'a str,
    shape: &'a [usize],
}

impl Merge {
    /// Finds the parameters that `loras` and `customs` mean among those of a model's parts, and checks their shapes. Nothing is read.
    ///
    /// # Errors
    ///
    /// When an adapter is for another model family, means parameters that are not there, or has other shapes; when two replace the
    /// same weight; when a scale is not finite.
    pub fn resolve(
        parts: &[Parameters],
        loras: &[Lora],
        customs: &[CustomDiffusion],
    ) -> Result<Self, Error> {
        let mut merge = Self::default();
        for custom in customs {
            merge.replace(parts, custom)?;
        }
        for lora in loras {
            merge.add(parts, lora)?;
        }
        Ok(merge)
    }

    /// What the user should know: of each file, how much of it is left out, and what.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn note(&mut self, origin: &str, left_out: &[String]) {
        if left_out.is_empty() {
            return;
        }
        let (count, names) = (left_out.len(), listed(left_out));
        self.notes.push(format!(
            "{count} of the layers and tensors in the adapter have no place in this model and are left out: {names}\nfile: {origin}"
        ));
    }

    /// What happens to `part`.
    pub fn of(&self, part: &str) -> Patches {
        self.parts.get(part).cloned().unwrap_or_default()
    }

    fn patch(&mut self, found: &Found<'_>) -> &mut Patch {
        let part = self.parts.entry(found.part).or_default();
        part.0.entry(found.name.to_owned()).or_default()
    }

    fn replace(
        &mut self,
        parts: &[Parameters],
        custom: &CustomDiffusion,
    ) -> Result<(), AdapterError> {
        let origin = custom.origin();
        let layers = custom.layers.iter();
        let layers = layers.map(|(target, tensor)| Named {
            name: &tensor.name,
            target,
            shape: tensor.shape.to_vec(),
            anew: false,
        });
        let layers: Vec<_> = layers.collect();
        let Located {
            found,
            mut left_out,
        } = located(parts, &layers, origin)?;
        for (place, found) in &found {
            let (_, tensor) = &custom.layers[*place];
            let origin = origin.to_owned();
            let replacement = Replacement {
                tensor: tensor.clone(),
                origin: origin.clone(),
            };
            let first = self.patch(found).replaced.replace(replacement);
            if let Some(first) = first {
                return Err(AdapterError::Replaced {
                    target: found.name.to_owned(),
                    first: first.origin,
                    second: origin,
                });
            }
        }
        left_out.extend_from_slice(custom.left_out());
        self.note(origin, &left_out);
        Ok(())
    }

    fn add(&mut self, parts: &[Parameters], lora: &Lora) -> Result<(), AdapterError> {
        let (scale, origin) = (lora.scale(), lora.origin().to_owned());
        if !scale.is_finite() {
            return Err(AdapterError::Scale { scale, origin });
        }
        let layers = lora.layers.iter().map(|layer| Named {
            name: &layer.name,
            target: &layer.target,
            shape: layer.shape.clone(),
            anew: layer.change.is_anew(),
        });
        let layers: Vec<_> = layers.collect();
        let Located {
            found,
            mut left_out,
        } = located(parts, &layers, &origin)?;
        for (place, found) in &found {
            let layer = &lora.layers[*place];
            check_magnitude(layer, found, &origin)?;
            let addition = Addition {
                change: layer.change.clone(),
                scale,
                name: layer.name.clone(),
                origin: origin.clone(),
            };
            let added = &mut self.patch(found).added;
            // What takes the place of a weight comes before what is added to it.
            let place = if layer.change.is_anew() {
                0
            } else {
                added.len()
            };
            added.insert(place, addition);
        }
        left_out.extend_from_slice(lora.left_out());
        self.note(&origin, &left_out);
        self.notes.extend_from_slice(lora.remarks());
        Ok(())
    }
}

/// A layer of a file, and the shape of what it does.
struct Named<'a> {
    name: &'a str,
    target: &'a Target,
    shape: Vec<usize>,
    /// Whether it takes the place of the model's own: what was saved beside a `LoRA` and does not fit, as a longer vocabulary, is left out.
    anew: bool,
}

/// Where the layers of a file belong.
struct Located<'a> {
    /// A layer's place in the file, and the parameter that it means.
    found: Vec<(usize, Found<'a>)>,
    /// Names of the layers that mean none.
    left_out: Vec<String>,
}

/// The parameters that a file's layers mean. A file of which nothing has a place in the model is for another one.
fn located<'a>(
    parts: &'a [Parameters],
    layers: &[Named<'_>],
    origin: &str,
) -> Result<Located<'a>, AdapterError> {
    check_denoiser(parts, layers, origin)?;
    check_family(parts, layers, origin)?;
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::new();
    for (place, layer) in layers.iter().enumerate() {
        let Some(parameter) = parameter(parts, layer.target) else {
            left_out.push(layer.name.to_owned());
            continue;
        };
        match check_shape(layer, &parameter, origin) {
            Err(_) if layer.anew => {
                left_out.push(layer.name.to_owned());
                continue;
            }
            fits => fits?,
        }
        if let Some(first) = seen.insert((parameter.part, parameter.name), layer.name) {
            return Err(AdapterError::Repeated {
                target: parameter.name.to_owned(),
                first: first.to_owned(),
                second: layer.name.to_owned(),
                origin: origin.to_owned(),
            });
        }
        found.push((place, parameter));
    }
    if found.is_empty() {
        return Err(misplaced(parts, layers, left_out, origin));
    }
    Ok(Located { found, left_out })
}

fn parameter<'a>(parts: &'a [Parameters], target: &Target) -> Option<Found<'a>> {
    let of = |part: &str| parts.iter().find(|one| one.part == part);
    let own = of(target.part);
    // T5 is called the third encoder, and is the second of FLUX and the only one of PixArt.
    let others = ["text_encoder_2", "text_encoder"]
        .into_iter()
        .filter_map(of);
    let others = others.filter(|_| own.is_none() && target.part == "text_encoder_3");
    let mut candidates = own.into_iter().chain(others);
    candidates.find_map(|parameters| {
        let (name, shape) = parameters.find(target)?;
        Some(Found {
            part: parameters.part,
            name,
            shape,
        })
    })
}

/// Why no layer of a file has a place: none is for a part that the model has, or their names are others.
fn misplaced(
    parts: &[Parameters],
    layers: &[Named<'_>],
    names: Vec<String>,
    origin: &str,
) -> AdapterError {
    let origin = origin.to_owned();
    let has = |part: &str| parts.iter().any(|one| one.part == part);
    match layers.first() {
        Some(first) if layers.iter().all(|layer| !has(layer.target.part)) => AdapterError::Part {
            name: first.name.to_owned(),
            part: first.target.part,
            origin,
        },
        _ => AdapterError::Unmatched {
            layers: layers.len(),
            names,
            origin,
        },
    }
}

/// Lengths are of the weight's outputs or inputs.
fn check_magnitude(layer: &Layer, found: &Found<'_>, origin: &str) -> Result<(), AdapterError> {
    match &layer.change.magnitude {
        Some(magnitude) if magnitude.of_outputs(found.shape).is_none() => {
            Err(AdapterError::Shape {
                name: magnitude.0.name.clone(),
                found: magnitude.0.shape.to_vec(),
                target: found.name.to_owned(),
                expected: found.shape.to_vec(),
                origin: origin.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// A denoiser is a `UNet` or a transformer; text encoders are alike in many families, and say nothing of it. Where layers of the model's
/// own denoiser are found, those that seem another's are stray ones.
fn check_denoiser(
    parts: &[Parameters],
    layers: &[Named<'_>],
    origin: &str,
) -> Result<(), AdapterError> {
    const DENOISERS: [&str; 2] = ["unet", "transformer"];
    let has = |part: &str| parts.iter().any(|one| one.part == part);
    let other = |layer: &&Named<'_>| {
        let part = layer.target.part;
        DENOISERS.contains(&part) && !has(part)
    };
    let own = |layer: &Named<'_>| {
        DENOISERS.contains(&layer.target.part) && parameter(parts, layer.target).is_some()
    };
    match layers.iter().find(other) {
        None => Ok(()),
        Some(_) if layers.iter().any(own) => Ok(()),
        Some(layer) => Err(AdapterError::Part {
            name: layer.name.to_owned(),
            part: layer.target.part,
            origin: origin.to_owned(),
        }),
    }
}

/// The width of the text tells families apart, and is what people understand.
fn check_family(
    parts: &[Parameters],
    layers: &[Named<'_>],
    origin: &str,
) -> Result<(), AdapterError> {
    let Some(expected) = parts.iter().find_map(Parameters::text_width) else {
        return Ok(());
    };
    let width = |layer: &&Named<'_>| layer.shape.get(1).copied().unwrap_or(expected);
    let mut readers = layers.iter().filter(|layer| layer.target.reads_text());
    match readers.find(|layer| width(layer) != expected) {
        None => Ok(()),
        Some(layer) => Err(AdapterError::Family {
            name: layer.name.to_owned(),
            found: width(&layer),
            expected,
            origin: origin.to_owned(),
        }),
    }
}

/// A change has the weight's shape, but for unit sides; or it is the matrix `[outputs, all else]` of a convolution, as `LoHa`'s are.
fn check_shape(layer: &Named<'_>, found: &Found<'_>, origin: &str) -> Result<(), AdapterError> {
    let bare = |shape: &[usize]| match shape {
        [outputs, inputs, 1, 1] => vec![*outputs, *inputs],
        other => other.to_vec(),
    };
    let (change, weight) = (bare(&layer.shape), bare(found.shape));
    let flat = match weight.as_slice() {
        [outputs, rest @ ..] => vec![*outputs, rest.iter().product()],
        [] => Vec::new(),
    };
    if change == weight || change == flat {
        return Ok(());
    }
    Err(AdapterError::Shape {
        name: layer.name.to_owned(),
        found: layer.shape.clone(),
        target: found.name.to_owned(),
        expected: found.shape.to_vec(),
        origin: origin.to_owned(),
    })
}

impl Patches {
    /// Names of the parameters that are changed.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Reads the tensor `name` of `source`, a checkpoint of the part, as it becomes: in f32 where it is changed.
    ///
    /// # Errors
    ///
    /// As [`WeightSource::read`].
    pub fn read(&self, name: &str, source: &WeightSource) -> Result<TensorData, Error> {
        let Some(base) = source.tensor(name).filter(|_| self.0.contains_key(name)) else {
            return source.read(name);
        };
        let merged = self.applied(name, base.clone());
        let merged = WeightSource::from_tensors(source.origin().to_owned(), vec![merged])?;
        merged.read(name)
    }

    /// The parameter `name` as it becomes, `base` as the model has it; still unread.
    pub(crate) fn applied(&self, name: &str, base: Unread) -> Unread {
        let Some(patch) = self.0.get(name) else {
            return base;
        };
        let (patch, shape) = (patch.clone(), base.shape.clone());
        Unread::deferred(base.name.clone(), DType::F32, shape, move || {
            let weights = patch.weights(&base)?;
            Ok(Bytes::from_elems(weights))
        })
    }
}

impl Patch {
    /// Sums are made in f32, whatever the files hold, and rounded once when they are put into the module.
    fn weights(&self, base: &Unread) -> Result<Vec<f32>, ReadError> {
        let mut weights = match &self.replaced {
            Some(Replacement { tensor, origin }) => {
                read(tensor).map_err(|error| named(&tensor.name, origin, &error))?
            }
            None => read(base)?,
        };
        let finite = weights.iter().all(|one| one.is_finite());
        for addition in &self.added {
            let shape = base.shape.to_vec();
            let added = addition.change.add_to(&mut weights, &shape, addition.scale);
            added.map_err(|error| named(&addition.name, &addition.origin, &error))?;
        }
        match self.added.last() {
            Some(last) if finite && !weights.iter().all(|one| one.is_finite()) => {
                Err(last.overflows())
            }
            _ => Ok(weights),
        }
    }
}

impl Addition {
    /// What is said where finite numbers became others: the adapters' own are looked at when they are opened.
    fn overflows(&self) -> ReadError {
        ReadError(format!(
            "`{}` in {} at scale {} makes it larger than any number\nhint: use a smaller scale, or another copy of the file: its alpha may be wrong",
            self.name, self.origin, self.scale
        ))
    }
}

/// Which file failed, as the model's own is what the reader's error names.
fn named(name: &str, origin: &str, error: &ReadError) -> ReadError {
    ReadError(format!("`{name}` in {origin}: {error}"))
}
