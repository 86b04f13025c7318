//! Where a run computes, and in what.

use std::fmt;

use serde::Serialize;

use super::{health, listener::Listener};
use crate::{
    catalog::ModelFolder,
    device::{self, DeviceChoice, DtypeChoice, OpenDevice, Workload},
    error::Error,
    pipeline::{
        Arranged, Arrangement, Kept, Memory, ModelConfig, Recipe, Request, Residency, Resolved,
        Streaming, file_types,
    },
    weights::{ActivationFormat, Format, Storage, WeightFormat},
};

/// Said where blocks are to be streamed and there are none.
const NOTHING_STREAMS: &str = "`stream_weights` does nothing: the blocks of PixArt, Stable Diffusion 3, FLUX and T5 are read as they are \
                               needed, and this run has none of them";

/// What is asked for of a machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) device: DeviceChoice,
    pub(crate) dtype: Option<DtypeChoice>,
    pub(crate) weights: Option<WeightFormat>,
    pub(crate) activations: Option<ActivationFormat>,
    pub(crate) residency: Residency,
    pub(crate) streaming: Streaming,
    /// Whether the kernels of a GPU go unchecked on its first use.
    pub(crate) unchecked: bool,
}

/// A device that is open, and what is computed in there.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) device: OpenDevice,
    pub(crate) format: Format,
    pub(super) residency: Residency,
    pub(super) streaming: Streaming,
}

impl Machine {
    /// The machine for a run of which the work is known. Its kernels are checked if it never computed before.
    #[cfg(feature = "cli")]
    pub(crate) fn open_for(
        place: Place,
        workload: &Workload,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        let device = device::open_for(place.device, workload)?;
        let machine = Self::prepare(place, device, listener)?;
        if machine.device.was_refused() {
            listener.note(&format!("on the processor: {}", machine.device.reason()));
        }
        if !device::is_tuned(&machine.device, workload) {
            listener.busy("tuning kernels (first run on this device)");
        }
        Ok(machine)
    }

    /// The machine for work that nobody has counted.
    pub(crate) fn open(place: Place, listener: &mut dyn Listener) -> Result<Self, Error> {
        Self::prepare(place, device::open(place.device)?, listener)
    }

    /// The machine of a device that is open; `place` names no other.
    pub(super) fn prepare(
        place: Place,
        device: OpenDevice,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        let format = format(&device, place.dtype, (place.weights, place.activations))?;
        let dtype = device.dtype(place.dtype)?;
        health::look_at(&device, dtype, place.unchecked, listener);
        Ok(Self {
            device,
            format,
            residency: place.residency,
            streaming: place.streaming,
        })
    }

    /// The same machine, computing in what `recipe` asks for.
    pub(super) fn computing(&self, recipe: &Recipe) -> Result<Self, Error> {
        Ok(Self {
            format: format(
                &self.device,
                recipe.dtype,
                (recipe.weights, recipe.activations),
            )?,
            streaming: recipe.stream_weights.unwrap_or(self.streaming),
            ..self.clone()
        })
    }

    /// How `model` is arranged in what the device has left, for a run of `request`, resolved.
    pub(super) fn arranged(
        &self,
        model: &ModelConfig,
        folder: &ModelFolder,
        (request, resolved): (&Request, &Resolved),
    ) -> Result<Arranged, Error> {
        let kept = Kept::on(self.device.device(), self.format)?;
        let free = device::room(self.device.device()).free;
        let wished = (self.residency, self.streaming);
        Arrangement::pick(model, wished, free, |arrangement| {
            let kept = kept.arranged(arrangement);
            let file = |part: &str| file_types(folder, part);
            let memory = Memory::forecast(model, request, resolved, kept, file)?;
            let texts = Memory::of_texts(model, request, kept, file)?;
            Ok(memory.peak().max(texts.peak()))
        })
    }

    /// Says that nothing is streamed where that is asked for and no model of a run has blocks for it.
    pub(super) fn check_streaming<'a>(
        &self,
        mut models: impl Iterator<Item = &'a ModelConfig>,
        listener: &mut dyn Listener,
    ) {
        if self.streaming == Streaming::Always && !models.any(ModelConfig::streams) {
            listener.warn(NOTHING_STREAMS);
        }
    }

    /// Notes that `workload` was run here, so that kernels are tuned for it.
    pub(crate) fn note_run(&self, workload: &Workload) {
        device::note_tuned(&self.device, workload);
    }

    pub(crate) fn arithmetic(&self) -> Arithmetic {
        let Format {
            dtype,
            weights,
            activations,
        } = self.format;
        let differs = weights != WeightFormat::default();
        let rounds = activations != ActivationFormat::default();
        Arithmetic {
            dtype: dtype.name(),
            weight_format: differs.then(|| weights.name()),
            activation_format: rounds.then(|| activations.name()),
        }
    }

    /// Refuses a run that does not fit into the device's memory, before anything is loaded.
    pub(crate) fn check_memory(
        &self,
        model: &ModelConfig,
        request: &Request,
        resolved: &Resolved,
    ) -> Result<(), Error> {
        let kept = Kept::on(self.device.device(), self.format)?;
        let info = self.device.info();
        Memory::check(model, request, resolved, kept, info)
    }
}

/// Refuses what `device` neither computes in nor keeps weights as, alone or together.
#[cfg(feature = "serve")]
pub(crate) fn check_format(
    device: &OpenDevice,
    dtype: Option<DtypeChoice>,
    kept: (Option<WeightFormat>, Option<ActivationFormat>),
) -> Result<(), Error> {
    format(device, dtype, kept).map(drop)
}

/// What `device` computes in and keeps weights as.
fn format(
    device: &OpenDevice,
    dtype: Option<DtypeChoice>,
    (weights, activations): (Option<WeightFormat>, Option<ActivationFormat>),
) -> Result<Format, Error> {
    let format = Format {
        dtype: device.dtype(dtype)?.into(),
        weights: weights.unwrap_or_default(),
        activations: activations.unwrap_or_default(),
    };
    Storage::of(device.device(), format)?;
    Ok(format)
}

/// What a run computes in, by the words of the command line.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Arithmetic {
    pub(crate) dtype: &'static str,
    /// How weights are kept, if not as the file has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight_format: Option<&'static str>,
    /// What they are multiplied with, if not what is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) activation_format: Option<&'static str>,
}

impl fmt::Display for Arithmetic {
    /// `f32`, `f32, weights in q8`, or `f32, weights in q8, activations in q8`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.dtype)?;
        if let Some(format) = self.weight_format {
            write!(formatter, ", weights in {format}")?;
        }
        let format = self.activation_format;
        format.map_or(Ok(()), |format| {
            write!(formatter, ", activations in {format}")
        })
    }
}
