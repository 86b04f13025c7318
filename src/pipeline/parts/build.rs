//! From configurations to parts: weights are read here.

use burn::module::Module;
use burn::tensor::{DType, Device};

use super::adapters::Adapters;
use super::arrangement::Arrangement;
use super::classes::{Classes, Nothing};
use super::joint::JointWorded;
use super::picture::FirstPicture;
use super::prompts::Worded;
use super::sentences::Sentences;
use super::source::{Origin, Source};
use super::space::{Pixels, Space};
use crate::catalog::ModelFolder;
use crate::denoiser::Denoiser;
use crate::error::Error;
use crate::models::class_embedder::ClassEmbedder;
use crate::models::clip::ClipTextModel;
use crate::models::dit::{DiT, DiTTransformer2DModel};
use crate::models::flux::{Flux, FluxTransformer2DModel};
use crate::models::mmdit::{Mmdit, SD3Transformer2DModel};
use crate::models::pixart::{PixArt, PixArtTransformer2DModel};
use crate::models::spatio_temporal::{SpatioTemporalUNet, UNetSpatioTemporalConditionModel};
use crate::models::t5::T5EncoderModel;
use crate::models::unet::{UNet, UNet2DConditionModel, UNet2d, UNetConfig};
use crate::models::unet3d::{UNet3DConditionModel, UNet3d};
use crate::pipeline::config::{ModelConfig, SourceConfig, SpaceConfig, TrunkConfig};
use crate::pipeline::made::Decoder;
use crate::weights::adapt::{Merge, Parameters};
use crate::weights::{
    Format, Stacked, Storage, dit, load_merged, load_streamed, load_strict, shapes,
};

/// The part that a transformer is.
pub(in crate::pipeline) const TRANSFORMER: &str = "transformer";

/// The parts of a model.
#[derive(Debug)]
pub(in crate::pipeline) struct Parts {
    pub(in crate::pipeline) source: Box<dyn Source>,
    pub(in crate::pipeline) trunk: Box<dyn Denoiser>,
    pub(in crate::pipeline) space: Box<dyn Space>,
    /// What the user should know of what adapters bring.
    pub(in crate::pipeline) notes: Vec<String>,
}

impl Parts {
    /// Reads the weights of the model whose configuration is `config`: the denoiser as `origin.format` says, text encoders likewise but
    /// in f32, the autoencoder in f32, or in bf16 where the processor's denoiser is ([`Storage::of_decoder`]); all else in f32.
    pub(in crate::pipeline) fn load(config: &ModelConfig, origin: Origin) -> Result<Self, Error> {
        let Origin { folder, device, .. } = &origin;
        let (folder, device) = (folder.clone(), device.clone());
        let (merge, storage) = (origin.merge.clone(), Storage::of(&device, origin.format)?);
        let streams = origin.arrangement.streams_denoiser;
        let dtype = origin.format.dtype;
        let weights = Denoisers {
            folder: &folder,
            storage,
            merge: &merge,
            streams,
        };
        let source = source(&config.source, origin)?;
        let trunk = trunk(&config.trunk, &device, &weights)?;
        let space = space(&config.space, &folder, &device, dtype)?;
        // Last: what is released first lies behind what stays, and the allocator gives it back.
        let (source, notes) = source()?;
        Ok(Self {
            source,
            trunk,
            space,
            notes,
        })
    }
}

/// A source of which all is known that small files say, and how its weights are read.
type Known<'a> = Box<dyn FnOnce() -> Result<(Box<dyn Source>, Vec<String>), Error> + 'a>;

/// What gives the condition, and what the user should know of its words. Tokenizers and learned words are read at once, so that what is wrong
/// with them is said before gigabytes are read; weights when the answer is called.
pub(super) fn source(config: &SourceConfig, origin: Origin) -> Result<Known<'_>, Error> {
    match config {
        SourceConfig::Texts(texts) => {
            let worded = Worded::read(texts, origin)?;
            Ok(Box::new(|| worded.load().map(boxed)))
        }
        SourceConfig::Joint(texts) => {
            let worded = JointWorded::read(texts, origin)?;
            Ok(Box::new(|| worded.load().map(boxed)))
        }
        SourceConfig::Sentences(sentences) => {
            let known = Sentences::load(sentences, origin)?;
            Ok(Box::new(|| Ok(boxed(known))))
        }
        SourceConfig::Classes(classes) => Ok(Box::new(move || {
            let part = "class_embedder";
            let load = |config| {
                let tokens = ClassEmbedder::new(config, &origin.device);
                load_strict(tokens, &origin.folder.weights(part)?, part, DType::F32)
            };
            let classes = Classes {
                null_label: classes.null_label,
                embedder: classes.embedder.map(load).transpose()?,
            };
            Ok(boxed((classes, Vec::new())))
        })),
        SourceConfig::Picture(encoder) => Ok(Box::new(move || {
            let picture = FirstPicture::load(encoder, &origin)?;
            Ok(boxed((picture, Vec::new())))
        })),
        SourceConfig::Nothing => Ok(Box::new(|| Ok(boxed((Nothing, Vec::new()))))),
    }
}

fn boxed((source, notes): (impl Source + 'static, Vec<String>)) -> (Box<dyn Source>, Vec<String>) {
    (Box::new(source), notes)
}

/// What denoisers are filled with.
struct Denoisers<'a> {
    folder: &'a ModelFolder,
    storage: Storage,
    merge: &'a Merge,
    /// Whether blocks that can be are read as they are needed.
    streams: bool,
}

impl Denoisers<'_> {
    /// `model`, of `part`, with its weights.
    fn fill<M: Module>(&self, model: M, part: &str) -> Result<M, Error> {
        let source = self.folder.weights(part)?;
        load_merged(model, &source, part, self.storage, &self.merge.of(part))
    }

    /// The same of a transformer.
    fn stacked<M: Stacked>(&self, model: M) -> Result<M, Error> {
        if !self.streams {
            return self.fill(model, TRANSFORMER);
        }
        let (source, patches) = (
            self.folder.weights(TRANSFORMER)?,
            self.merge.of(TRANSFORMER),
        );
        load_streamed(model, &source, TRANSFORMER, self.storage, &patches)
    }
}

fn trunk(
    config: &TrunkConfig,
    device: &Device,
    weights: &Denoisers<'_>,
) -> Result<Box<dyn Denoiser>, Error> {
    let unet = |config: &UNetConfig| {
        let model = weights.fill(UNet2DConditionModel::new(config, device), "unet")?;
        Ok::<_, Error>(UNet::new(config.clone(), model))
    };
    match config {
        TrunkConfig::UNet(config) => Ok(Box::new(unet(config)?)),
        TrunkConfig::UNet2d(config) => Ok(Box::new(UNet2d::new(unet(config)?))),
        TrunkConfig::DiT(config) => {
            let model = DiTTransformer2DModel::new(config, device);
            let source = dit::canonical(&weights.folder.weights(TRANSFORMER)?)?;
            let model = load_strict(model, &source, TRANSFORMER, weights.storage)?;
            Ok(Box::new(DiT::new(config.clone(), model)))
        }
        TrunkConfig::PixArt(config) => {
            let model = weights.stacked(PixArtTransformer2DModel::new(config, device))?;
            Ok(Box::new(PixArt::new(config.clone(), model)))
        }
        TrunkConfig::Flux(config) => {
            let model = weights.stacked(FluxTransformer2DModel::new(config, device))?;
            Ok(Box::new(Flux::new(config.clone(), model)))
        }
        TrunkConfig::Mmdit(config) => {
            let model = weights.stacked(SD3Transformer2DModel::new(config, device))?;
            Ok(Box::new(Mmdit::new(config.clone(), model)))
        }
        TrunkConfig::SpatioTemporal(config) => {
            let model = UNetSpatioTemporalConditionModel::new(config, device);
            let model = weights.fill(model, "unet")?;
            Ok(Box::new(SpatioTemporalUNet::new(config.clone(), model)))
        }
        TrunkConfig::UNet3d(config) => {
            let model = weights.fill(UNet3DConditionModel::new(config, device), "unet")?;
            Ok(Box::new(UNet3d::new(config.clone(), model)))
        }
    }
}

fn space(
    config: &SpaceConfig,
    folder: &ModelFolder,
    device: &Device,
    dtype: DType,
) -> Result<Box<dyn Space>, Error> {
    match config {
        SpaceConfig::Latents(vae) => Ok(Box::new(Decoder::of(folder, vae, device, dtype)?)),
        SpaceConfig::Pixels => Ok(Box::new(Pixels)),
    }
}

/// What adapters can change: the parameters of the denoiser and of the text encoders. Nothing is allocated for them.
fn parameters(config: &ModelConfig, device: &Device) -> Vec<Parameters> {
    if !config.takes_adapters() {
        return Vec::new();
    }
    let denoiser = match &config.trunk {
        TrunkConfig::UNet(unet) => ("unet", shapes(&UNet2DConditionModel::new(unet, device))),
        TrunkConfig::PixArt(pixart) => {
            let model = PixArtTransformer2DModel::new(pixart, device);
            (TRANSFORMER, shapes(&model))
        }
        TrunkConfig::Mmdit(mmdit) => {
            let model = SD3Transformer2DModel::new(mmdit, device);
            (TRANSFORMER, shapes(&model))
        }
        TrunkConfig::Flux(flux) => {
            let model = FluxTransformer2DModel::new(flux, device);
            (TRANSFORMER, shapes(&model))
        }
        _ => return Vec::new(),
    };
    let mut parts = vec![Parameters::new(denoiser.0, denoiser.1)];
    for encoder in config.texts().into_iter().flat_map(|texts| &texts.encoders) {
        let model = ClipTextModel::new(&encoder.clip, device);
        parts.push(Parameters::new(encoder.part, shapes(&model)));
    }
    if let Some((part, t5)) = config.t5() {
        let model = T5EncoderModel::new(t5, device);
        parts.push(Parameters::new(part, shapes(&model)));
    }
    parts
}

/// What the networks of a source are made from under `adapters`, and what the user should know of these.
pub(in crate::pipeline) fn origin(
    config: &ModelConfig,
    folder: &ModelFolder,
    (device, format): (&Device, Format),
    arrangement: Arrangement,
    adapters: &Adapters,
) -> Result<(Origin, Vec<String>), Error> {
    let merge = adapters.merge(&parameters(config, device))?;
    let (embeddings, mut notes) = adapters.words();
    notes.splice(0..0, merge.notes().iter().cloned());
    let origin = Origin {
        folder: folder.clone(),
        device: device.clone(),
        format,
        arrangement,
        merge,
        embeddings,
    };
    Ok((origin, notes))
}
