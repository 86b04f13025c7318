//! Stable Video Diffusion against diffusers: cells, laws, costs, parameters; whole films.

mod runs;

use afterimage::conditioning::Conditioning;
use afterimage::denoiser::Rows;
use afterimage::image_io::Picture;
use afterimage::models::clip_vision::{ClipVisionConfig, ClipVisionModel, normalised};
use afterimage::models::spatio_temporal::{
    FilmExtent, SpatioTemporalUNet, SpatioTemporalUNetConfig, UNetSpatioTemporalConditionModel,
};
use afterimage::models::vae::{Autoencoder, Tiling, VaeConfig};
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::{Tensor, TensorData};

use crate::fixture::{Fixture, json, shared, text};
use crate::golden::check_cells;
use crate::laws::{Subject, made_once_is_made_at_every_step};
use crate::param_lists::assert_same_parameters;
use crate::tested::{self, normals};
use crate::tolerance::F32_CPU;

/// An odd size: 9x5 latents halve to 5x3.
const EXTENT: FilmExtent = FilmExtent {
    frames: 3,
    height: 9,
    width: 5,
    tokens: 1,
};

fn fixture() -> Fixture {
    Fixture::best("svd")
}

fn unet(fixture: &Fixture) -> SpatioTemporalUNet {
    let folder = fixture.model().join("unet");
    let config = SpatioTemporalUNetConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = UNetSpatioTemporalConditionModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "unet", tested::dtype()).unwrap();
    SpatioTemporalUNet::new(config, model)
}

/// Two guidance halves of one film.
fn condition(unet: &SpatioTemporalUNet) -> Conditioning {
    Conditioning {
        context: Some(normals([2, 1, unet.config().spatial.context_width], 9)),
        numbers: vec![vec![6.0, 127.0, 0.02], vec![6.0, 40.0, 0.1]],
        channels: Some(normals([2, 4, EXTENT.height, EXTENT.width], 8)),
        ..Conditioning::none(Rows::new(2, 1).with_frames(EXTENT.frames))
    }
}

fn latents(seed: u64) -> Tensor<4> {
    normals([2 * EXTENT.frames, 4, EXTENT.height, EXTENT.width], seed)
}

#[test]
fn cells_agree_with_diffusers() {
    let fixture = fixture();
    let unet = unet(&fixture);
    for (case, frames) in [("unet", 2), ("unet_modules", 3)] {
        let case = fixture.case(case);
        let golden = |key: &str| fixture.of(case, key).unwrap();
        let condition = Conditioning {
            context: Some(golden("encoder_hidden_states").on(&tested::device())),
            numbers: golden("added_time_ids").rows(),
            ..Conditioning::none(Rows::new(2, 1).with_frames(frames))
        };
        let outcome = if case["kind"] == "unet_trace" {
            check_cells(&fixture, case, &unet, &condition, &tested::device())
        } else {
            check_output(&fixture, case, &unet, &condition)
        };
        outcome.unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
    }
}

/// Three frames: whatever takes them for the two halves shows.
fn check_output(
    fixture: &Fixture,
    case: &serde_json::Value,
    unet: &SpatioTemporalUNet,
    condition: &Conditioning,
) -> Result<(), String> {
    use afterimage::denoiser::{Evaluation, StagedDenoiser as _};
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let timestep = f64::from(golden("timestep").values[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let prepared = unet.prepare(&unet.start(condition, &evaluations), &evaluations);
    let sample = golden("sample").by_row().on(&tested::device());
    let output = unet.forward(sample, &prepared);
    let tolerance = tested::tolerance(F32_CPU);
    golden("output")
        .by_row()
        .compare(output, tolerance)
        .map(|_| ())
}

#[test]
fn laws_hold_over_frames() {
    let fixture = fixture();
    let unet = unet(&fixture);
    let (condition, sample) = (condition(&unet), latents);
    let blueprint = unet.config().blueprint(EXTENT);
    let subject = Subject {
        trunk: &unet,
        condition: &condition,
        rows: condition.rows,
        sample: &sample,
        blueprint: &blueprint,
    };
    subject.a_pass_can_pause_at_every_cut();
    subject.reuse_at_the_same_sample_and_time_changes_nothing();
    subject.batched_propagation_is_the_sequential_one(F32_CPU);
    // Of nine blocks, each with three branches over positions and four along frames.
    assert_eq!(subject.branches_recalled_change_nothing(), 6 * 7);
    made_once_is_made_at_every_step(&unet, &condition, &latents(1));
}

fn vae(fixture: &Fixture) -> Autoencoder {
    let folder = fixture.model().join("vae");
    let config = VaeConfig::new(json(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = Autoencoder::new(config, &tested::device());
    load_strict(model, &source, "vae", tested::dtype()).unwrap()
}

#[test]
fn films_are_decoded_whole_and_in_chunks() {
    let fixture = fixture();
    let vae = vae(&fixture);
    let cases = fixture
        .of_kinds(&["temporal_vae"])
        .chain([fixture.case("vae_modules")]);
    for case in cases {
        let golden = |key: &str| fixture.of(case, key).unwrap();
        let frames = &case["call"]["num_frames"];
        let chunk = &case["call"]["decode_chunk_size"];
        let chunk = chunk.as_u64().or(frames.as_u64()).unwrap() as usize;
        let latents = golden("z").on(&tested::device());
        let decoded = vae.decode_frames(latents, chunk, Tiling::Never);
        let expected = fixture
            .of(case, "decoded")
            .unwrap_or_else(|| golden("output"));
        expected
            .compare(decoded, tested::tolerance(F32_CPU))
            .unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
        if let Some(image) = fixture.of(case, "image") {
            let moments = vae.encode(image.on(&tested::device()), Tiling::Never);
            let outcome = golden("latent_mode").compare(moments.mean, tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| panic!("{}, encoded: {error}", case["id"]));
        }
    }
}

fn encoder(fixture: &Fixture) -> ClipVisionModel {
    let folder = fixture.model().join("image_encoder");
    let config = text(folder.join("config.json"));
    let config = ClipVisionConfig::from_json(&config, "image_encoder").unwrap();
    let source = WeightSource::open(folder.join("model.safetensors")).unwrap();
    let model = ClipVisionModel::new(&config, &tested::device());
    load_strict(model, &source, "image_encoder", tested::dtype()).unwrap()
}

/// The picture as diffusers' pipeline makes it small, and what the encoder sees in it.
#[test]
fn pictures_are_encoded_as_by_diffusers() {
    let fixture = fixture();
    let case = fixture.case("image_encoder");
    let golden = |key: &str| fixture.of(case, key).unwrap();
    let picture = Picture::read(&fixture.file("image.png")).unwrap();
    let planes = TensorData::new(picture.antialiased(224), [1, 3, 224, 224]);
    let pixels = Tensor::<4>::from_data(planes, &tested::device());
    let pixels = normalised((pixels + 1.0) / 2.0);
    let tolerance = tested::tolerance(F32_CPU);
    if let Some(expected) = fixture.of(case, "pixel_values") {
        let outcome = expected.compare(pixels.clone(), tolerance);
        outcome.unwrap_or_else(|error| panic!("pixels: {error}"));
    }
    let embedding: Tensor<3> = encoder(&fixture).encode(pixels).unsqueeze_dim(1);
    golden("image_embeds")
        .compare(embedding, tolerance)
        .unwrap_or_else(|error| panic!("embedding: {error}"));
}

fn full_size() -> Option<SpatioTemporalUNetConfig> {
    let path = "data/configs/stabilityai/stable-video-diffusion-img2vid-xt/unet/config.json";
    Some(SpatioTemporalUNetConfig::from_json(&text(shared(path)?)).unwrap())
}

#[test]
fn parameters_are_those_of_the_real_checkpoint() {
    let Some(config) = full_size() else { return };
    let model = UNetSpatioTemporalConditionModel::new(&config, &tested::device());
    assert_same_parameters("svd-xt.unet", shapes(&model));
    let path = "data/configs/stabilityai/stable-video-diffusion-img2vid-xt/vae/config.json";
    let config = VaeConfig::new(json(shared(path).unwrap())).unwrap();
    let model = Autoencoder::new(config, &tested::device());
    assert_same_parameters("svd-xt.vae", shapes(&model));
    let path =
        "data/configs/stabilityai/stable-video-diffusion-img2vid-xt/image_encoder/config.json";
    let config =
        ClipVisionConfig::from_json(&text(shared(path).unwrap()), "image_encoder").unwrap();
    let model = ClipVisionModel::new(&config, &tested::device());
    assert_same_parameters("svd.image_encoder", shapes(&model));
}

/// What torch's `FlopCounterMode` counts of diffusers' own network for one film, in giga-multiply-accumulates.
/// It makes keys and values along frames once a position; a film has one picture.
#[test]
fn costs_are_those_of_the_reference() {
    let Some(config) = full_size() else { return };
    for (frames, height, width, counted) in [(25, 72, 128, 39_974.1), (14, 32, 48, 3_132.64)] {
        let blueprint = config.blueprint(FilmExtent {
            frames,
            height,
            width,
            tokens: 1,
        });
        let found = (blueprint.full_macs() * frames as u64) as f64 / 1e9;
        let off = found / counted - 1.0;
        assert!(
            off.abs() < 0.005,
            "{frames} frames: {found} G, counted {counted} G"
        );
    }
}
