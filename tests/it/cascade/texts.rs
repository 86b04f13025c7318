//! Prompts that several models of a chain read alike are read once.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{
    Adapters, Cascade, Kept, Link, Memory, ModelConfig, Pipeline, PromptEmbeds, Request,
    SourceConfig,
};
use burn::tensor::{DType, Tensor};
use tempfile::TempDir;

use crate::fixture::{Fixture, values};
use crate::tested;

/// The two stages of IF, each a folder of its own; both have the same text encoder.
struct Stages {
    first: ModelFolder,
    second: ModelFolder,
    place: TempDir,
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copied(&path, &to);
        } else {
            fs::write(to, fs::read(path).unwrap()).unwrap();
        }
    }
}

/// With `change` made to the folder of the second stage.
fn stages(change: impl FnOnce(&Path)) -> Stages {
    let place = tempfile::tempdir().unwrap();
    let [first, second] = ["if-stage1", "if-stage2"].map(|name| {
        let folder = place.path().join(name);
        copied(&Fixture::committed(name).model(), &folder);
        folder
    });
    change(&second);
    let open = |folder: &Path| ModelFolder::open(folder.to_str().unwrap()).unwrap();
    Stages {
        first: open(&first),
        second: open(&second),
        place,
    }
}

fn without_encoder(folder: &Path) {
    for part in ["text_encoder", "tokenizer"] {
        fs::remove_dir_all(folder.join(part)).unwrap();
    }
}

/// Another encoder of the same shape.
fn with_another_encoder(folder: &Path) {
    let path = folder.join("text_encoder/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let norm = &header["encoder.final_layer_norm.weight"]["data_offsets"][0];
    // The sign of the norm's first scale.
    bytes[8 + length + norm.as_u64().unwrap() as usize + 3] ^= 0x80;
    fs::write(path, bytes).unwrap();
}

impl Stages {
    fn configs(&self) -> [ModelConfig; 2] {
        let first = ModelConfig::read(&self.first).unwrap();
        let mut second = ModelConfig::read(&self.second).unwrap();
        let read = (&first, &self.first);
        second.share_texts(&self.second, read).unwrap();
        [first, second]
    }

    /// The picture of a chain, and which of its models held their encoder in the end.
    fn run(&self, read_before: bool) -> (Vec<f32>, Vec<bool>) {
        let [first, second] = self.configs();
        let request = Request {
            steps: Some(2),
            negative_prompts: vec!["blurry".into()],
            ..Request::new("a red fox")
        };
        let larger = Request {
            steps: Some(2),
            ..request.enlarged(&second, (16, 16), None).unwrap()
        };
        let link = |folder, config: &ModelConfig, request| {
            Link::new((folder, config.clone()), config, request).unwrap()
        };
        let mut chain = Cascade::new(link(&self.first, &first, request)).followed_by(link(
            &self.second,
            &second,
            larger,
        ));
        let device = tested::device();
        if read_before {
            let read = |(folder, config): &(&ModelFolder, ModelConfig), request: &Request| {
                PromptEmbeds::read(folder, config, &device, tested::dtype(), request, &mut ())
            };
            chain.read_texts(read).unwrap();
        }
        let read = RefCell::new(Vec::new());
        let load = |(folder, config): &(&ModelFolder, ModelConfig)| {
            let adapters = Adapters::default();
            let dtype = tested::dtype();
            read.borrow_mut().push(config.reads_texts_first());
            Pipeline::load_as(config.clone(), folder, &device, dtype, &adapters)
        };
        let made = chain.generate(load, &mut ()).unwrap();
        (values(made.generated.images), read.into_inner())
    }
}

#[test]
fn the_second_stage_goes_on_from_what_the_first_has_read() {
    let (alike, own) = stages(|_| ()).run(false);
    assert_eq!(own, [true, false], "both folders have the same encoder");
    let (before, _) = stages(|_| ()).run(true);
    let (lacking, own) = stages(without_encoder).run(false);
    assert_eq!(own, [true, false]);
    assert!(alike == before && alike == lacking);
    let (other, own) = stages(with_another_encoder).run(false);
    assert_eq!(own, [true, true], "another encoder reads for itself");
    assert!(alike != other);
}

/// Shared or not, the texts are the same, and so is the picture, bit for bit.
#[test]
fn a_shared_reading_is_an_own_one() {
    let stages = stages(|_| ());
    let config = ModelConfig::read(&stages.second).unwrap();
    let pipeline = Pipeline::load(&stages.second, &tested::device(), tested::dtype()).unwrap();
    let low = afterimage::pipeline::LowPicture::new(Tensor::<4>::full(
        [1, 3, 16, 16],
        0.4,
        &tested::device(),
    ));
    let own = Request {
        steps: Some(2),
        low: Some(low.unwrap()),
        ..Request::new("a cat, a dog")
    };
    let read = PromptEmbeds::read(
        &stages.first,
        &ModelConfig::read(&stages.first).unwrap(),
        &tested::device(),
        tested::dtype(),
        &own,
        &mut (),
    );
    let given = Request {
        prompt_embeds: read.unwrap(),
        ..own.clone()
    };
    assert!(given.prompt_embeds.is_some() && config.reads_texts_first());
    let shared = pipeline.generate(&given, &mut ()).unwrap();
    assert!(!pipeline.holds_text_encoders(), "no encoder was read");
    let made = pipeline.generate(&own, &mut ()).unwrap();
    assert!(pipeline.holds_text_encoders());
    assert!(values(shared.images) == values(made.images));
}

#[test]
fn a_stage_without_an_encoder_is_refused_alone() {
    let stages = stages(without_encoder);
    let config = ModelConfig::read(&stages.second).unwrap();
    assert!(config.shares_texts());
    let pipeline = Pipeline::load(&stages.second, &tested::device(), tested::dtype()).unwrap();
    let error = pipeline.generate(&Request::new("a fox"), &mut ());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no text encoder of its own"), "{error}");
    let mut alone = config.clone();
    let clip = ModelFolder::open(
        Fixture::committed("sd-x4-upscaler")
            .model()
            .to_str()
            .unwrap(),
    );
    let clip = clip.unwrap();
    let first = (&ModelConfig::read(&clip).unwrap(), &clip);
    let error = alone.share_texts(&stages.second, first).unwrap_err();
    assert!(error.is_request(), "{error}");
    drop(stages.place);
}

#[test]
fn texts_that_are_not_the_requests_are_refused() {
    let stages = stages(|_| ());
    let config = ModelConfig::read(&stages.first).unwrap();
    let states = || Tensor::<3>::zeros([1, 77, 32], &tested::device());
    let embeds = PromptEmbeds {
        prompt_lengths: Vec::new(),
        negative_lengths: Vec::new(),
        prompts: states(),
        negative: states(),
        pooled: None,
    };
    let request = Request {
        prompt_embeds: Some(embeds.clone()),
        ..Request::new("")
    };
    request.resolve(&config).unwrap();
    let two = Request {
        subject: afterimage::pipeline::Subject::Prompts(vec!["a".into(), "b".into()]),
        ..request.clone()
    };
    let error = two.resolve(&config).unwrap_err().to_string();
    assert!(
        error.contains("[1, 77, 32], the model reads [2, 77, 32]"),
        "{error}"
    );
    for (prompt_lengths, negative_lengths) in [
        (vec![3], vec![]),
        (vec![3], vec![3, 3]),
        (vec![78], vec![3]),
        (vec![0], vec![3]),
    ] {
        let embeds = PromptEmbeds {
            prompt_lengths,
            negative_lengths,
            ..embeds.clone()
        };
        let wrong = Request {
            prompt_embeds: Some(embeds),
            ..request.clone()
        };
        let error = wrong.resolve(&config).unwrap_err().to_string();
        assert!(
            error.contains("_lengths` is ") && error.contains("for 1 prompts of 77 tokens"),
            "{error}"
        );
    }
    let clip = Fixture::committed("sd-x4-upscaler").model();
    let clip = ModelFolder::open(clip.to_str().unwrap()).unwrap();
    let error = request.resolve(&ModelConfig::read(&clip).unwrap());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`prompt_embeds` is given"), "{error}");
}

/// Prompts as one vector each stand beside their states, and are held to the request as these are.
#[test]
fn vectors_that_are_not_the_requests_are_refused() {
    let folder = Fixture::committed("flux-schnell").model();
    let folder = ModelFolder::open(folder.to_str().unwrap()).unwrap();
    let config = ModelConfig::read(&folder).unwrap();
    let SourceConfig::Joint(texts) = &config.source else {
        panic!("FLUX reads prompts through CLIP and T5")
    };
    let states = || Tensor::<3>::zeros([1, texts.tokens(None), texts.width], &tested::device());
    let encoders = texts.clip.encoders.iter();
    let widths = encoders.map(|one| one.clip.projection.unwrap_or(one.clip.width));
    let width: usize = widths.sum();
    let resolved = |shape: [usize; 2], lengths: Vec<usize>| {
        let vector = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &tested::device());
        let embeds = PromptEmbeds {
            prompt_lengths: lengths,
            negative_lengths: Vec::new(),
            prompts: states(),
            negative: states(),
            pooled: Some([vector([1, width]), vector(shape)]),
        };
        let request = Request {
            prompt_embeds: Some(embeds),
            ..Request::new("")
        };
        request.resolve(&config).map_err(|error| error.to_string())
    };
    assert!(resolved([1, width], Vec::new()).is_ok());
    for shape in [[2, width], [1, width + 1]] {
        let error = resolved(shape, Vec::new()).unwrap_err();
        let said = format!("{shape:?}, the model reads [1, {width}]");
        assert!(error.contains(&said), "{error}");
    }
    let error = resolved([1, width], vec![3]).unwrap_err();
    assert!(error.contains("`prompt_lengths` is [3]"), "{error}");
}

/// The encoder is in memory before the denoiser, and never beside it.
#[test]
fn memory_is_forecast_of_texts_and_of_the_rest() {
    let stages = stages(|_| ());
    let [first, second] = stages.configs();
    let request = Request::new("a fox");
    let resolved = request.resolve(&first).unwrap();
    let kept = Kept::unnamed(DType::F32).unwrap();
    let file = |_: &str| DType::F32.into();
    let parts = |memory: Memory| -> Vec<String> {
        memory.weights.into_iter().map(|one| one.part).collect()
    };
    let texts = Memory::of_texts(&first, &request, kept, file).unwrap();
    assert!(texts.encoding > 0);
    assert_eq!(parts(texts), ["text_encoder"]);
    let rest = first.clone().with_texts_read();
    let rest = Memory::forecast(&rest, &request, &resolved, kept, file).unwrap();
    assert_eq!((rest.encoding, parts(rest)), (0, vec!["unet".to_owned()]));
    let larger = request.enlarged(&second, (16, 16), None).unwrap();
    let resolved = larger.resolve(&second).unwrap();
    let second = Memory::forecast(&second, &larger, &resolved, kept, file).unwrap();
    assert_eq!(parts(second), ["unet"]);
}
