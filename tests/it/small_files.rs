//! What small files say of a model is followed as diffusers follows it, and what is wrong with them is said before weights are read.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use afterimage::{
    catalog::Overrides,
    pipeline::{ModelConfig, Pipeline, SourceConfig, check_weights},
};
use burn::tensor::{DType, Device};
use serde_json::json;

use crate::catalog::open;
use crate::checkpoint_words::opened;
use crate::fixture::Fixture;
use crate::folders::{copied, edited};

fn loaded(folder: &Path) -> Result<Pipeline, afterimage::Error> {
    Pipeline::load(&open(folder)?, &Device::flex(), DType::F32)
}

fn refused(folder: &Path) -> String {
    loaded(folder).unwrap_err().to_string()
}

/// Has every value of a file of weights be none, which is said when they are read.
fn spoilt(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    bytes[8 + header..].fill(0xff);
    fs::write(path, bytes).unwrap();
}

#[test]
fn tokenizers_are_read_before_gigabytes() {
    for (name, denoiser, file) in [
        ("sd15", "unet", "tokenizer/vocab.json"),
        ("sdxl", "unet", "tokenizer_2/vocab.json"),
        ("sd35", "transformer", "tokenizer_2/vocab.json"),
    ] {
        let folder = copied(name);
        let weights = format!("{denoiser}/diffusion_pytorch_model.safetensors");
        spoilt(&folder.path().join(weights));
        assert!(refused(folder.path()).contains("finite"), "{name}");
        let (part, _) = file.split_once('/').unwrap();
        for file in ["vocab.json", "tokenizer.json"] {
            let _ = fs::remove_file(folder.path().join(part).join(file));
        }
        let said = refused(folder.path());
        let start = format!("`{file}` is missing from the model `");
        assert!(said.starts_with(&start), "{name}: {said}");
    }
}

/// `[null, null]` is a model without the part, whatever lies in its folder; a part that is named and gone is half a download.
#[test]
fn the_third_encoder_is_there_if_the_index_says_so() {
    let folder = copied("sd35");
    let config = || ModelConfig::read(&open(folder.path())?);
    let reads_t5 = || match config().unwrap().source {
        SourceConfig::Joint(texts) => texts.t5.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(reads_t5());
    let gone = folder.path().join("text_encoder_3");
    let aside = folder.path().join("aside");
    fs::rename(&gone, &aside).unwrap();
    let said = config().unwrap_err().to_string();
    assert!(said.contains("`text_encoder_3` is missing"), "{said}");
    fs::rename(&aside, &gone).unwrap();
    let without = json!({"text_encoder_3": [null, null], "tokenizer_3": [null, null]});
    edited(folder.path(), "model_index.json", without);
    assert!(!reads_t5());
    loaded(folder.path()).unwrap();
}

#[test]
fn a_folder_without_its_autoencoder_takes_another() {
    for index in [json!({}), json!({"vae": [null, null]})] {
        let folder = copied("sd15");
        let (vae, other) = (folder.path().join("vae"), folder.path().join("other"));
        fs::rename(vae, &other).unwrap();
        edited(folder.path(), "model_index.json", index);
        let overrides = |path: &Path| Overrides {
            vae: Some(path.to_str().unwrap().to_owned()),
            ..Overrides::default()
        };
        let model = opened(folder.path(), &overrides(&other)).unwrap();
        let config = ModelConfig::read(&model).unwrap();
        check_weights(&model, &config, &Device::flex()).unwrap();
        // A file does not say how it is built.
        let file = other.join("diffusion_pytorch_model.safetensors");
        let said = opened(folder.path(), &overrides(&file)).unwrap_err();
        assert!(said.to_string().contains("give a folder with"), "{said}");
    }
}

/// Python takes the last of two values, and writes numbers that JSON has not.
#[test]
fn json_is_read_as_python_reads_it() {
    let folder = copied("sd15");
    for (file, first) in [
        (
            "model_index.json",
            r#""_class_name": "Nothing", "requires": NaN,"#,
        ),
        ("scheduler/scheduler_config.json", r#""beta_start": 0.5,"#),
        ("text_encoder/config.json", r#""num_hidden_layers": 7,"#),
        ("vae/config.json", r#""latent_channels": 9,"#),
        (
            "tokenizer/tokenizer_config.json",
            r#""model_max_length": 5, "other": NaN,"#,
        ),
    ] {
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replacen('{', &format!("{{{first}"), 1)).unwrap();
    }
    let read = |path: &Path| {
        let config = ModelConfig::read(&open(path).unwrap()).unwrap();
        format!("{config:?}").replace(path.to_str().unwrap(), "")
    };
    let plain = Fixture::best("sd15").model();
    assert_eq!(read(folder.path()), read(&plain));
    loaded(folder.path()).unwrap();
}

#[test]
fn weights_of_another_library_are_refused_by_its_name() {
    for part in ["unet", "text_encoder"] {
        let folder = copied("sd15");
        let quantised =
            json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": true}});
        edited(folder.path(), &format!("{part}/config.json"), quantised);
        let said = refused(folder.path());
        assert!(
            said.starts_with("`quantization_config` is `bitsandbytes`"),
            "{said}"
        );
    }
}
