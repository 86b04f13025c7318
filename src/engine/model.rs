//! A model by its name, its weights unread.

use super::{listener::Listener, machine::Machine};
use crate::{
    catalog::{ModelFolder, ModelPart, Overrides},
    denoise::Observer,
    device::{self, Workload},
    error::Error,
    pipeline::{
        Adapters, Arrangement, ModelConfig, Pipeline, PromptEmbeds, Request, Resolved, Texts,
        check_control_weights, check_weights,
    },
};

/// The model that is taken when none is named.
const BUNDLED: &str = "bundled";

/// What will be read of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All of it: what is missing of a Hub id is fetched.
    #[default]
    Weights,
    /// Configurations alone.
    Configurations,
}

/// A model that is named, its weights unread.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) folder: ModelFolder,
    pub(crate) config: ModelConfig,
    /// `ControlNets` to put beside it.
    pub(super) controls: Vec<ModelPart>,
    /// What is merged into its weights.
    pub(crate) adapters: Adapters,
    /// What the caller says of it.
    pub(crate) said: Overrides,
    /// What of it is in memory at a time, once that is known.
    pub(super) arrangement: Option<Arrangement>,
}

impl Model {
    /// The model of that name, or the bundled one.
    pub(crate) fn open(
        name: Option<&str>,
        said: Overrides,
        reading: Reading,
        listener: &mut dyn Listener,
    ) -> Result<Self, Error> {
        let name = name.unwrap_or(BUNDLED);
        let folder = match reading {
            Reading::Weights => ModelFolder::open_with(name, &said, listener)?,
            Reading::Configurations => ModelFolder::open_configs_with(name, &said)?,
        };
        if reading == Reading::Weights {
            let warnings = folder.warnings().into_iter();
            warnings.for_each(|warning| listener.warn(warning));
        }
        let config = ModelConfig::read(&folder).map_err(|error| folder.located(error))?;
        Ok(Self {
            folder,
            config,
            controls: Vec::new(),
            adapters: Adapters::default(),
            said,
            arrangement: None,
        })
    }

    /// Picks what of it is to be in memory at a time, for a run of `request`, resolved; unless it is known.
    pub(crate) fn arrange(
        &mut self,
        machine: &Machine,
        run: (&Request, &Resolved),
        listener: &mut dyn Listener,
    ) -> Result<(), Error> {
        if self.arrangement.is_some() || !self.config.can_be_arranged() {
            return Ok(());
        }
        let arranged = machine.arranged(&self.config, &self.folder, run)?;
        if let Some(note) = arranged.note {
            listener.warn(&note);
        }
        self.arrangement = Some(arranged.arrangement);
        Ok(())
    }

    /// [`arrange`](Self::arrange), for a picture of the model's own size.
    pub(super) fn arrange_for_any(
        &mut self,
        machine: &Machine,
        listener: &mut dyn Listener,
    ) -> Result<(), Error> {
        let request = Request::new("");
        match request.resolve(&self.config) {
            Ok(resolved) => self.arrange(machine, (&request, &resolved), listener),
            Err(_) => Ok(()), // it takes more than a text, and is read as a whole
        }
    }

    /// What of it is in memory at a time.
    pub(super) fn arrangement(&self) -> Arrangement {
        self.arrangement
            .unwrap_or_else(|| Arrangement::of(&self.config))
    }

    /// Holds the weights of all parts to their configurations, by their headers.
    pub(crate) fn check_weights(&self, machine: &Machine) -> Result<(), Error> {
        let device = machine.device.device();
        check_weights(&self.folder, &self.config, device)?;
        for (part, net) in self.controls.iter().zip(&self.config.controls) {
            check_control_weights(part, net, device)?;
        }
        Ok(())
    }

    /// Has `part`, a `ControlNet`, loaded beside the model; gives its number.
    pub(crate) fn add_control(&mut self, part: ModelPart) -> Result<usize, Error> {
        let net = part.control_net(self.config.unet())?;
        let number = self.config.add_control(net)?;
        self.controls.push(part);
        Ok(number)
    }

    /// What the prompts of `request` say, read before all else where the encoder is large.
    pub(super) fn read_texts(
        &self,
        machine: &Machine,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Option<PromptEmbeds>, Error> {
        let texts = Texts {
            folder: &self.folder,
            config: &self.config,
            device: machine.device.device(),
            format: machine.format,
            adapters: &self.adapters,
            arrangement: self.arrangement(),
        };
        texts.read(request, observer)
    }

    /// [`load`](Self::load), arranged for runs of `request`, resolved.
    #[cfg(feature = "cli")]
    pub(crate) fn load_for(
        &self,
        machine: &Machine,
        run: (&Request, &Resolved),
        listener: &mut dyn Listener,
    ) -> Result<Pipeline, Error> {
        machine.check_streaming(std::iter::once(&self.config), listener);
        let mut model = self.clone();
        model.arrange(machine, run, listener)?;
        model.load(machine)
    }

    /// [`load`](Self::load), for one run: text encoders that nobody wants kept are released behind its prompts, as nobody asks them again.
    #[cfg(feature = "cli")]
    pub(crate) fn load_once(&self, machine: &Machine) -> Result<Pipeline, Error> {
        use crate::pipeline::Residency;

        let mut pipeline = self.load(machine)?;
        if machine.residency == Residency::Auto {
            pipeline.set_residency(Residency::Release);
        }
        Ok(pipeline)
    }

    /// Reads the weights.
    pub(crate) fn load(&self, machine: &Machine) -> Result<Pipeline, Error> {
        let (device, adapters) = (machine.device.device(), &self.adapters);
        let mut config = self.config.clone();
        config.controls.clear(); // they come again, with their weights
        let (folder, format) = (&self.folder, machine.format);
        let arrangement = self.arrangement();
        let pipeline =
            Pipeline::load_arranged(config, folder, device, format, adapters, arrangement);
        let mut pipeline = pipeline?;
        pipeline.set_residency(machine.residency);
        if let (Some(cache), Ok(weights)) = (device::user_cache(), folder.weights_hash()) {
            pipeline.keep_linear_map(cache.join("previews").join(format!("{weights}.json")));
        }
        for part in &self.controls {
            pipeline.add_control(part)?;
        }
        Ok(pipeline)
    }
}

/// What is known of a run before its device is chosen.
pub(crate) fn workload(model: &Model, request: &Request, resolved: &Resolved) -> Workload {
    let [items, channels, height, width] = resolved.latent_shape;
    let rows = resolved.rows.total();
    let nets = match model.controls.len() {
        0 => String::new(),
        nets => format!(" with {nets} ControlNets"),
    };
    let (model, rule) = (model.folder.name(), &request.cache);
    Workload {
        name: format!("{model}{nets} {items}x{channels}x{height}x{width} in {rows} rows, {rule}"),
        macs: resolved.forecast(1).total_macs(),
    }
}

#[cfg(all(test, feature = "bundled", feature = "cpu", feature = "cli"))]
mod tests {
    use super::*;
    use crate::engine::machine::Place;
    use crate::pipeline::{Residency, Streaming};

    #[test]
    fn text_encoders_stay_where_another_prompt_can_come() {
        let said = Overrides::default();
        let model = Model::open(None, said, Reading::Weights, &mut ()).expect("a model");
        let request = Request {
            steps: Some(1),
            ..Request::new("a red circle")
        };
        for (residency, once, stay) in [
            (Residency::Auto, false, true),
            (Residency::Auto, true, false),
            (Residency::Keep, true, true),
        ] {
            let place = Place {
                device: "cpu".parse().expect("a device"),
                dtype: None,
                weights: None,
                activations: None,
                residency,
                streaming: Streaming::default(),
                unchecked: true,
            };
            let machine = Machine::open(place, &mut ()).expect("the processor");
            let load = if once { Model::load_once } else { Model::load };
            let pipeline = load(&model, &machine).expect("weights");
            pipeline.generate(&request, &mut ()).expect("a picture");
            assert_eq!(pipeline.holds_text_encoders(), stay, "{residency:?} {once}");
        }
    }
}
