//! Whether weights fit their configurations, by the headers of all parts, before a weight of any is read.

use burn::module::Module;
use burn::tensor::Device;

use super::encoders::TextConfig;
use super::model::ModelConfig;
use super::source::SourceConfig;
use super::trunk::TrunkConfig;
use super::visit::{Role, Visitor};
use crate::catalog::{ModelFolder, ModelPart};
use crate::error::{ConfigError, Error};
use crate::models::control::{ControlNetConfig, ControlNetModel};
use crate::models::flux::FluxConfig;
use crate::weights::{WeightSource, check_fit, dit};

/// Holds every part of a model to its configuration: whether it has weights, and whether names and shapes are those of the network. Nothing
/// is read but headers; `device` is where the networks would be, and allocates nothing.
///
/// # Errors
///
/// If parts have no weights, one error that names all of them; else the first part whose tensors do not fit, with all that are missing, unused
/// or of another shape.
pub fn check_weights(
    folder: &ModelFolder,
    config: &ModelConfig,
    device: &Device,
) -> Result<(), Error> {
    let mut names = Names::default();
    config.visit(device, &mut names)?;
    folder.check_has_weights(&names.0)?;
    let mut config = config.clone();
    match &mut config.source {
        SourceConfig::Texts(texts) => *texts = texts.fitted(folder)?,
        SourceConfig::Joint(texts) => texts.clip = texts.clip.fitted(folder)?,
        _ => {}
    }
    let trunk = &config.trunk;
    config.visit(device, &mut Fit { folder, trunk })
}

/// [`check_weights`], for a `ControlNet`.
///
/// # Errors
///
/// As there.
pub fn check_control_weights(
    part: &ModelPart,
    config: &ControlNetConfig,
    device: &Device,
) -> Result<(), Error> {
    let net = ControlNetModel::new(config, device);
    check_fit(&net, &part.weights()?, "controlnet")
}

/// Names of the parts that have weights.
#[derive(Default)]
struct Names(Vec<&'static str>);

impl Visitor for Names {
    fn part<M: Module>(&mut self, part: &'static str, _: Role, _: &M) -> Result<(), Error> {
        self.0.push(part);
        Ok(())
    }
}

struct Fit<'a> {
    folder: &'a ModelFolder,
    trunk: &'a TrunkConfig,
}

/// Refuses the weights of FLUX.1 dev under the configuration of schnell, and the other way round: they differ in one embedder.
fn check_guidance(config: &FluxConfig, source: &WeightSource) -> Result<(), ConfigError> {
    let reads = source
        .names()
        .any(|name| name.contains("guidance_embedder"));
    if reads == config.guided {
        return Ok(());
    }
    let hint = if reads {
        "the weights read a guidance scale, as those of FLUX.1 dev do: `transformer/config.json` must be that model's"
    } else {
        "the weights read no guidance scale, as those of FLUX.1 schnell: `transformer/config.json` must be that model's"
    };
    let found = config.guided;
    Err(ConfigError::unsupported("guidance_embeds", found, hint))
}

impl Visitor for Fit<'_> {
    fn part<M: Module>(&mut self, part: &'static str, _: Role, module: &M) -> Result<(), Error> {
        let source = self.folder.weights(part)?;
        let source = match (part, self.trunk) {
            ("transformer", TrunkConfig::DiT(_)) => dit::named(&source)?,
            ("transformer", TrunkConfig::Flux(config)) => {
                check_guidance(config, &source)?;
                source
            }
            _ => source,
        };
        check_fit(module, &source, part)
    }
}

impl TextConfig {
    /// The same with the tables of tokens as long as the files have them: programs that add words do not all write it into the
    /// configuration.
    pub(in crate::pipeline) fn fitted(&self, folder: &ModelFolder) -> Result<Self, Error> {
        const TABLE: &str = "embeddings.token_embedding.weight";
        let mut config = self.clone();
        for encoder in &mut config.encoders {
            let source = folder.weights(encoder.part)?;
            let table = source.names().find(|name| name.ends_with(TABLE));
            let rows = table.and_then(|table| source.shape(table)?.first().copied());
            let stated = encoder.clip.vocabulary;
            encoder.clip.vocabulary = stated.max(rows.unwrap_or(0));
        }
        Ok(config)
    }
}
