//! Models in one GGUF file, as programs write them: of full size, all holes.
#![cfg(unix)]

use afterimage::{
    catalog::ModelFolder,
    pipeline::{Kept, Memory, ModelConfig, Request, check_weights, file_types},
};
use burn::tensor::{DType, Device};

use super::file::{self, File, Word};
use crate::{
    catalog::open,
    checkpoints::{first_checkpoint, list, shared_list},
    flux::files::program,
    mmdit::files as sd3,
    weights::folder,
};

/// Tensors of these names and shapes: matrices in blocks, everything else in half precision.
fn sparse(file: File, tensors: &[(String, Vec<usize>)]) -> File {
    tensors.iter().fold(file, |file, (name, shape)| {
        let count = shape.iter().product::<usize>() as u64;
        match shape[..] {
            [_, inputs] if inputs % 32 == 0 => file.hole(name, file::Q8_0, shape, count / 32 * 34),
            _ => file.hole(name, file::F16, shape, 2 * count),
        }
    })
}

fn opened(file: &File) -> Result<ModelFolder, afterimage::Error> {
    let folder = folder();
    let path = folder.path().join("model.gguf");
    file.sparse(&path);
    open(&path)
}

fn assert_whole(model: &ModelFolder) {
    let config = ModelConfig::read(model).unwrap();
    check_weights(model, &config, &Device::flex()).unwrap();
}

#[test]
fn whole_checkpoints_get_their_card_and_their_parts() {
    let model = opened(&sparse(File::new(), &first_checkpoint())).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-v1-5"));
    assert_whole(&model);
    let parts = model.inspect().unwrap();
    let unet = parts.iter().find(|part| part.part == "unet").unwrap();
    let types: Vec<_> = unet.dtypes.keys().map(String::as_str).collect();
    assert_eq!(types, ["F16", "Q8_0"]);
}

/// Both text encoders of SDXL as stable-diffusion.cpp names them.
#[test]
fn text_encoders_of_sdxl_are_found_under_either_name() {
    let Some(mut tensors) = shared_list("original/sdxl-base.unet.sgm.tsv") else {
        return;
    };
    tensors.extend(list("original/sd15.vae.ldm.tsv"));
    let under = |prefix: &str, list: Vec<(String, Vec<usize>)>| {
        let named = list.into_iter().map(|(name, shape)| {
            let name = match name.as_str() {
                "text_projection.weight" => "text_model.text_projection",
                name => name,
            };
            (format!("{prefix}{name}"), shape)
        });
        named.collect::<Vec<_>>()
    };
    let first = list("diffusers/sd15.text_encoder.tsv");
    let second = list("diffusers/sdxl.text_encoder_2.tsv");
    tensors.extend(under("cond_stage_model.transformer.", first));
    tensors.extend(under("cond_stage_model.1.transformer.", second));
    let model = opened(&sparse(File::new(), &tensors)).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-xl-base-1.0"));
    assert_whole(&model);
}

/// Files for `ComfyUI` hold the denoiser alone, without a prefix.
#[test]
fn what_a_denoiser_alone_lacks_is_asked_for_by_name() {
    let tensors: Vec<_> = list("original/sd15.unet.ldm.tsv")
        .into_iter()
        .map(|(name, shape)| {
            let bare = name.strip_prefix("model.diffusion_model.");
            (bare.unwrap().to_owned(), shape)
        })
        .collect();
    let file = File::new().word("general.architecture", Word::Text("sd1"));
    let model = opened(&sparse(file, &tensors)).unwrap();
    assert_eq!(model.card(), Some("stable-diffusion-v1-5"));
    let config = ModelConfig::read(&model).unwrap();
    let error = check_weights(&model, &config, &Device::flex()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("has no weights for `text_encoder`, `vae`"),
        "{text}"
    );
    assert!(text.contains("give one by `--vae DIR|FILE`"), "{text}");
}

/// FLUX as it is shared for `ComfyUI`, in blocks of 256: what it takes is near to what the file has.
#[test]
fn flux_of_full_size_stays_in_blocks() {
    const Q4_K: u32 = 12;
    let Some(listed) = shared_list("diffusers/flux1-schnell.transformer.tsv") else {
        return;
    };
    let own = listed
        .into_iter()
        .map(|(name, shape)| (name, shape, Vec::new()));
    let own: Vec<_> = own.collect();
    let word = File::new().word("general.architecture", Word::Text("flux"));
    let file = program(&own, "")
        .iter()
        .fold(word, |file, (name, shape, _)| {
            let count = shape.iter().product::<usize>() as u64;
            match shape[..] {
                [_, inputs] if inputs % 256 == 0 => file.hole(name, Q4_K, shape, count / 256 * 144),
                _ => file.hole(name, file::F32, shape, 4 * count),
            }
        });
    let model = opened(&file).unwrap();
    assert_eq!(model.card(), Some("FLUX.1-schnell"));
    let parts = model.inspect().unwrap();
    let transformer = parts.iter().find(|part| part.part == "transformer");
    let transformer = transformer.unwrap();
    assert!(transformer.dtypes["Q4_K"] > transformer.parameters * 99 / 100);
    let config = ModelConfig::read(&model).unwrap();
    let request = Request::new("");
    let resolved = request.resolve(&config).unwrap();
    let kept = Kept::on(&Device::flex(), DType::F32).unwrap();
    let types = |part: &str| file_types(&model, part);
    let memory = Memory::forecast(&config, &request, &resolved, kept, types).unwrap();
    let mut weights = memory.weights.iter();
    let weights = weights.find(|part| part.part == "transformer");
    // 4.75 bits in memory for 4.5 in the file.
    let ratio = weights.unwrap().bytes as f64 / transformer.bytes as f64;
    assert!((1.03..1.06).contains(&ratio), "{ratio}");
}

/// Stable Diffusion 3.5 as it is shared for `ComfyUI`: the shapes say which, and what is not in the file is asked for.
#[test]
fn stable_diffusion_3_of_full_size_gets_its_card() {
    for (list, layers, card) in [
        ("sd35-medium", 24, "stable-diffusion-3.5-medium"),
        ("sd35-large", 38, "stable-diffusion-3.5-large"),
    ] {
        let Some(listed) = shared_list(&format!("diffusers/{list}.transformer.tsv")) else {
            return;
        };
        let own = listed
            .into_iter()
            .map(|(name, shape)| (name, shape, Vec::new()));
        let own: Vec<_> = own.collect();
        let theirs = sd3::program(&own, layers, "").into_iter();
        let theirs: Vec<_> = theirs.map(|(name, shape, _)| (name, shape)).collect();
        let file = File::new().word("general.architecture", Word::Text("sd3"));
        let model = opened(&sparse(file, &theirs)).unwrap();
        assert_eq!(model.card(), Some(card));
        let parts = model.inspect().unwrap();
        let transformer = parts.iter().find(|part| part.part == "transformer");
        assert!(transformer.unwrap().dtypes.contains_key("Q8_0"));
        let config = ModelConfig::read(&model).unwrap();
        let error = check_weights(&model, &config, &Device::flex()).unwrap_err();
        let text = error.to_string();
        for part in ["`text_encoder`", "`text_encoder_2`", "`vae`"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("`text_encoder_3`"), "{text}");
    }
}

#[test]
fn families_that_are_not_known_say_what_they_call_themselves() {
    let file = File::new()
        .word("general.architecture", Word::Text("hyvid"))
        .hole("strange.0.weight", file::F16, &[4, 4], 32);
    let text = opened(&file).unwrap_err().to_string();
    assert!(text.contains("the file calls itself `hyvid`"), "{text}");
}
