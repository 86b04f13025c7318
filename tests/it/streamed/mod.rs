//! Models whose blocks are read from the file as they are needed, against the same models in memory: the same bits.

mod commands;
mod faults;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{
    Adapters, Arrangement, Generated, Kept, Memory, ModelConfig, Pipeline, Request, Texts,
    file_types,
};
use afterimage::weights::adapt::Lora;
use afterimage::weights::{ActivationFormat, Format, WeightFormat};
use burn::tensor::DType;

use crate::adapter_files::{made, source};
use crate::fixture::{Fixture, values};
use crate::golden;
use crate::tested;
use crate::transformers::small;

const FIXTURES: [&str; 5] = ["sd3", "sd35", "flux-dev", "flux-schnell", "pixart-sigma"];

/// A model that is opened, its weights unread.
pub(crate) struct Opened {
    pub(crate) folder: ModelFolder,
    config: ModelConfig,
    format: Format,
    adapters: Adapters,
}

impl Opened {
    pub(crate) fn at(folder: &std::path::Path) -> Self {
        let folder = ModelFolder::open(folder.to_str().unwrap()).unwrap();
        Self {
            config: ModelConfig::read(&folder).unwrap(),
            folder,
            format: tested::dtype().into(),
            adapters: Adapters::default(),
        }
    }

    fn least(&self) -> Arrangement {
        Arrangement::least(&self.config)
    }

    pub(crate) fn load(&self, arrangement: Arrangement) -> Pipeline {
        let (config, device) = (self.config.clone(), &tested::device());
        let (folder, format, adapters) = (&self.folder, self.format, &self.adapters);
        let pipeline =
            Pipeline::load_arranged(config, folder, device, format, adapters, arrangement);
        pipeline.unwrap()
    }

    /// Everything read as late as can be.
    pub(crate) fn streamed(&self) -> Pipeline {
        self.load(self.least())
    }

    fn resident(&self) -> Pipeline {
        self.load(Arrangement::default())
    }

    /// `request` with its texts read by encoders that nothing else is beside.
    fn with_texts(&self, request: &Request) -> Request {
        let texts = Texts {
            folder: &self.folder,
            config: &self.config,
            device: &tested::device(),
            format: self.format,
            adapters: &self.adapters,
            arrangement: self.least(),
        };
        let embeds = texts.read(request, &mut ()).unwrap();
        assert!(embeds.is_some(), "texts come first");
        Request {
            prompt_embeds: embeds,
            ..request.clone()
        }
    }

    /// Runs `request` on both, with texts read in the run and before it; what came of it streamed.
    fn assert_twins(&self, request: &Request, case: &str) -> Generated {
        let resident = self.resident().generate(request, &mut ()).unwrap();
        assert_eq!(resident.report.blocks_read.blocks, 0, "{case}");
        let account = resident.report.account.clone();
        let expected = [values(resident.latents), values(resident.images)];
        let streamed = self.streamed();
        let found = |request: &Request| {
            let made = streamed.generate(request, &mut ()).unwrap();
            let found = [values(made.latents.clone()), values(made.images.clone())];
            assert!(found == expected, "{case}");
            made
        };
        let made = found(&self.with_texts(request));
        assert!(!streamed.holds_text_encoders(), "{case}");
        assert_eq!(made.report.account, account, "{case}");
        found(request);
        made
    }
}

#[test]
fn golden_cases_are_the_resident_ones_bit_for_bit() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        let opened = Opened::at(&fixture.model());
        for case in fixture.of_kinds(&["txt2img"]) {
            let request = golden::request(&fixture, case);
            let case = format!("{}: {}", fixture.name(), case["id"]);
            opened.assert_twins(&request, &case);
        }
    }
}

/// In every way of keeping weights, and of computing.
#[test]
fn every_format_is_streamed() {
    let opened = Opened::at(&Fixture::best("flux-schnell").model());
    let packed = |weights| Format::new(DType::F32, weights);
    let products = Format {
        activations: ActivationFormat::Q8,
        ..packed(WeightFormat::Q8)
    };
    for format in [
        packed(WeightFormat::Q8),
        packed(WeightFormat::Q4),
        products,
        DType::F16.into(),
        DType::BF16.into(),
    ] {
        let Opened {
            folder,
            config,
            adapters,
            ..
        } = &opened;
        let opened = Opened {
            folder: folder.clone(),
            config: config.clone(),
            adapters: adapters.clone(),
            format,
        };
        opened.assert_twins(&small(), &format!("{format:?}"));
    }
}

/// What is not run is not read: as many blocks as the account has cells.
#[test]
fn blocks_that_are_skipped_are_not_read() {
    for name in ["flux-schnell", "sd35"] {
        let opened = Opened::at(&Fixture::best(name).model());
        let plain = opened.assert_twins(&small(), name);
        let cached = Request {
            cache: "dit-propagation:cut=1,every=2".parse().unwrap(),
            ..small()
        };
        let cached = opened.assert_twins(&cached, name);
        let [all, fewer] = [&plain, &cached].map(|made| {
            let run: usize = made.report.account.cells.iter().sum();
            assert_eq!(made.report.blocks_read.blocks, run as u64, "{name}");
            made.report.blocks_read
        });
        assert!(
            fewer.blocks < all.blocks && fewer.bytes < all.bytes,
            "{name}"
        );
    }
}

/// A change of rank 2 of a layer of 32 inputs and outputs.
fn adapters(layer: &str) -> Adapters {
    let wave = |place: usize| (place as f32 * 0.37).sin() * 0.3;
    let tensors = [
        made(format!("{layer}.lora_A.weight"), &[2, 32], wave),
        made(format!("{layer}.lora_B.weight"), &[32, 2], wave),
    ];
    let lora = Lora::from_source(&source(&tensors, None)).unwrap();
    Adapters {
        loras: vec![lora],
        ..Adapters::default()
    }
}

/// Adapters are merged into a block as it is read, and exchanged without one being read.
#[test]
fn adapters_are_merged_into_streamed_blocks() {
    let mut opened = Opened::at(&Fixture::best("flux-schnell").model());
    let mut pipeline = opened.streamed();
    let latents = |pipeline: &Pipeline| {
        let made = pipeline.generate(&small(), &mut ()).unwrap();
        values(made.latents)
    };
    let plain = latents(&pipeline);
    opened.adapters = adapters("transformer.transformer_blocks.1.attn.to_q");
    let expected = latents(&opened.resident());
    assert_ne!(expected, plain);
    opened.assert_twins(&small(), "with a change");
    let (folder, none) = (&opened.folder, Adapters::default());
    pipeline.set_adapters(folder, &opened.adapters).unwrap();
    assert!(latents(&pipeline) == expected);
    pipeline.set_adapters(folder, &none).unwrap();
    assert!(latents(&pipeline) == plain);
    opened.adapters = adapters("text_encoder_2.encoder.block.0.layer.0.SelfAttention.q");
    let made = opened.assert_twins(&small(), "with a change of T5");
    assert!(values(made.latents) != plain);
}

/// Two blocks and what one is read through, in place of all; and texts apart from the rest.
#[test]
fn memory_of_streamed_models_is_forecast() {
    for fixture in FIXTURES.into_iter().filter_map(Fixture::any) {
        let opened = Opened::at(&fixture.model());
        let (config, request) = (&opened.config, small());
        let resolved = request.resolve(config).unwrap();
        let file = |part: &str| file_types(&opened.folder, part);
        let kept = Kept::on(&tested::device(), opened.format).unwrap();
        let whole = Memory::forecast(config, &request, &resolved, kept, file).unwrap();
        let kept = kept.arranged(opened.least());
        let run = Memory::forecast(config, &request, &resolved, kept, file).unwrap();
        let texts = Memory::of_texts(config, &request, kept, file).unwrap();
        let bytes = |memory: &Memory, part: &str| {
            let found = memory.weights.iter().find(|one| one.part == part);
            found.map(|one| (one.bytes, one.streamed))
        };
        let (all, none) = bytes(&whole, "transformer").unwrap();
        let (some, read) = bytes(&run, "transformer").unwrap();
        assert_eq!(none, None);
        assert!(
            some < all && read.is_some_and(|read| read < all),
            "{all} {some}"
        );
        let denoiser = ["transformer", "vae"];
        let parts = run.weights.iter().map(|one| one.part.as_str());
        assert!(parts.eq(denoiser), "texts are gone");
        let mut encoders = texts.weights.iter();
        assert!(encoders.all(|one| one.part.starts_with("text_encoder")));
        assert!(texts.peak().max(run.peak()) <= whole.peak());
        assert!(texts.encoding > 0 && run.encoding == 0);
    }
}
