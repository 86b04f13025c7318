//! What peft keeps beside the pairs of a `LoRA`: parameters that were trained as a whole, and the configuration.
//!
//! Source: peft's `LoraConfig` (`bias`, `modules_to_save`, `init_lora_weights`, `lora_alpha`).

use std::collections::HashMap;

use afterimage::weights::WeightSource;
use afterimage::weights::adapt::{Lora, Merge, Parameters};
use safetensors::tensor::{Dtype, TensorView};

use crate::adapter_files::{Made, bytes, made, source};
use crate::weights::folder;

fn parameters() -> [Parameters; 1] {
    let shapes = [("layer.weight", vec![2, 2]), ("layer.bias", vec![2])];
    let other = ("conv_in.weight", vec![2, 2]);
    let shapes = shapes.into_iter().chain([other]);
    let shapes = shapes.map(|(name, shape)| (name.to_owned(), shape));
    [Parameters::new("unet", shapes.collect())]
}

fn layer() -> Vec<Made> {
    let ends = ["lora_A.weight", "lora_B.weight"];
    let name = |end| format!("base_model.model.layer.{end}");
    ends.map(|end| made(name(end), &[2, 2], |_| 1.0)).into()
}

/// A parameter whose values were all 4.
fn merged(loras: &[Lora], name: &str) -> f32 {
    let merge = Merge::resolve(&parameters(), loras, &[]).unwrap();
    let shape: &[usize] = if name.ends_with("bias") {
        &[2]
    } else {
        &[2, 2]
    };
    let base = source(&[made(name, shape, |_| 4.0)], None);
    let data = merge.of("unet").read(name, &base).unwrap();
    data.iter::<f32>().next().unwrap()
}

#[test]
fn whole_parameters_take_the_place_of_the_models() {
    for name in [
        "base_model.model.conv_in.weight",
        "base_model.model.conv_in.modules_to_save.weight",
        "base_model.model.conv_in.modules_to_save.default.weight",
    ] {
        let tensors = [layer(), vec![made(name, &[2, 2], |_| 10.0)]].concat();
        let lora = Lora::from_source(&source(&tensors, None)).unwrap();
        let one = [lora.clone()];
        assert_eq!(merged(&one, "conv_in.weight"), 10.0, "{name}");
        assert_eq!(merged(&one, "layer.weight"), 6.0);
        let half = [lora.with_scale(0.5)];
        assert_eq!(merged(&half, "conv_in.weight"), 7.0, "{name}");
    }
    let bias = "base_model.model.layer.base_layer.bias";
    let tensors = [layer(), vec![made(bias, &[2], |_| -1.0)]].concat();
    let lora = Lora::from_source(&source(&tensors, None)).unwrap();
    assert_eq!(merged(&[lora], "layer.bias"), -1.0);
}

/// It comes before what another file adds, in whichever order they are given.
#[test]
fn what_is_added_to_a_weight_comes_after_what_takes_its_place() {
    let whole = made("base_model.model.conv_in.weight", &[2, 2], |_| 10.0);
    let whole = Lora::from_source(&source(&[layer(), vec![whole]].concat(), None)).unwrap();
    let ends = ["lora_down.weight", "lora_up.weight"];
    let added = ends.map(|end| made(format!("lora_unet_conv_in.{end}"), &[2, 2], |_| 1.0));
    let added = Lora::from_source(&source(&added, None)).unwrap();
    for loras in [[whole.clone(), added.clone()], [added, whole]] {
        assert_eq!(merged(&loras, "conv_in.weight"), 12.0);
    }
}

/// A vocabulary that was made longer has no place, and hinders nothing.
#[test]
fn whole_parameters_of_other_shapes_are_left_out() {
    let longer = made("base_model.model.conv_in.weight", &[3, 2], |_| 1.0);
    let lora = Lora::from_source(&source(&[layer(), vec![longer]].concat(), None)).unwrap();
    let merge = Merge::resolve(&parameters(), &[lora], &[]).unwrap();
    assert_eq!(merge.of("unet").names().len(), 1);
    let notes = merge.notes().concat();
    assert!(
        notes.contains("left out: `base_model.model.conv_in`"),
        "{notes}"
    );
}

/// A file of that name, its configuration beside it, as long as the folder stays.
fn configured(config: &str, name: &str) -> (tempfile::TempDir, Result<Lora, afterimage::Error>) {
    let folder = folder();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes(&layer(), None)).unwrap();
    std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    (folder, Lora::open(&path))
}

#[test]
fn configurations_are_read_or_refused_and_not_passed_over() {
    for (config, expected) in [
        (r#"{"r": 2, "lora_alpha": "4"}"#, 8.0),
        (r#"{"r": 2, "lora_alpha": 4}"#, 8.0),
        (
            r#"{"r": 2, "lora_alpha": 4, "init_lora_weights": "gaussian"}"#,
            8.0,
        ),
    ] {
        for name in ["adapter_model.safetensors", "renamed.safetensors"] {
            let (_kept, lora) = configured(config, name);
            let lora = lora.unwrap();
            assert_eq!(merged(&[lora], "layer.weight"), expected, "{config}");
        }
    }
    for (config, words) in [
        (
            r#"{"lora_alpha": [4]}"#,
            "says `lora_alpha` is `[4]`, a number is needed",
        ),
        (
            r#"{"alpha_pattern": {"layer": true}}"#,
            "a number is needed",
        ),
        (
            r#"{"init_lora_weights": "pissa_niter_4"}"#,
            "says `init_lora_weights` is `\"pissa_niter_4\"`",
        ),
    ] {
        let (_kept, lora) = configured(config, "adapter_model.safetensors");
        let error = lora.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Layers that are merged as if alpha were the rank, though something says that it was not.
#[test]
fn an_alpha_that_is_not_known_is_remarked_on() {
    let said = |lora: Lora| {
        let merge = Merge::resolve(&parameters(), &[lora], &[]).unwrap();
        merge.notes().concat()
    };
    let bare = Lora::from_source(&source(&layer(), None)).unwrap();
    let bare = said(bare);
    assert!(
        bare.contains("`adapter_config.json`, which is not beside it"),
        "{bare}"
    );
    let headed = |alpha: &str| {
        let values = [1.0_f32; 4].map(f32::to_le_bytes).concat();
        let view = || TensorView::new(Dtype::F32, vec![2, 2], &values).unwrap();
        let ends = ["lora_down.weight", "lora_up.weight"];
        let tensors = ends.map(|end| (format!("lora_unet_layer.{end}"), view()));
        let header = HashMap::from([("lora_alpha".to_owned(), alpha.to_owned())]);
        let bytes = safetensors::serialize(tensors, Some(header)).unwrap();
        WeightSource::from_static(Vec::leak(bytes), "made.safetensors").unwrap()
    };
    let other = said(Lora::from_source(&headed("4")).unwrap());
    assert!(
        other.contains("`lora_alpha` is 4, beside a rank of 2"),
        "{other}"
    );
    assert!(other.contains("`--lora FILE=2`"), "{other}");
    assert_eq!(said(Lora::from_source(&headed("2")).unwrap()), "");
}

/// It is the adapter that makes numbers too large, not the model that it is merged into.
#[test]
fn what_overflows_is_named() {
    let lora = Lora::from_source(&source(&layer(), None)).unwrap();
    let lora = lora.with_scale(1e40);
    let merge = Merge::resolve(&parameters(), &[lora], &[]).unwrap();
    let base = source(&[made("layer.weight", &[2, 2], |_| 4.0)], None);
    let error = merge.of("unet").read("layer.weight", &base).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("`base_model.model.layer` in made.safetensors at scale"),
        "{error}"
    );
    assert!(error.contains("larger than any number"), "{error}");
}
