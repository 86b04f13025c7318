//! Keys and what they become.

use super::*;

fn config(text: &str) -> Result<VaeConfig, Error> {
    VaeConfig::new(serde_json::from_str(text).unwrap())
}

#[test]
fn defaults_are_those_of_old_checkpoints() {
    let config = config("{}").unwrap();
    assert_eq!(config.scaling_factor, 0.18215);
    assert!(config.quant_conv && config.post_quant_conv && config.mid_attention);
    assert_eq!(config.factor(), 1);
}

#[test]
fn a_decoder_over_frames_reads_latents_as_they_are() {
    let class = r#"{"_class_name": "AutoencoderKLTemporalDecoder", "layers_per_block": "#;
    let read = config(&format!("{class} 2}}")).unwrap();
    assert!(read.over_frames && read.quant_conv && !read.post_quant_conv);
    let error = config(&format!("{class} 3}}")).unwrap_err();
    assert!(error.to_string().contains("`layers_per_block`"), "{error}");
}

#[test]
fn a_tiny_one_has_the_latents_of_its_denoiser() {
    let config = config(r#"{"_class_name": "AutoencoderTiny"}"#).unwrap();
    assert_eq!((config.factor(), config.latent_channels), (8, 4));
    assert_eq!((config.scaling_factor, config.shift_factor), (1.0, 0.0));
    assert_eq!(config.encoded_channels(), 4);
    assert!(!config.draws() && !config.force_upcast);
}

#[test]
fn a_codebook_leaves_no_moments() {
    let config = config(r#"{"_class_name": "VQModel", "num_vq_embeddings": 8192}"#).unwrap();
    assert_eq!((config.codes, config.latent_channels), (Some(8192), 3));
    assert_eq!(config.encoded_channels(), 3);
    assert!(!config.force_upcast);
}

#[test]
fn what_is_not_supported_is_named() {
    let message = |text| config(text).unwrap_err().to_string();
    let other = message(r#"{"_class_name": "AutoencoderDC"}"#);
    assert!(other.starts_with("`_class_name` is `AutoencoderDC`"));
    let wide = message(r#"{"_class_name": "VQModel", "vq_embed_dim": 4}"#);
    assert!(wide.contains("`latent_channels` = 3"), "{wide}");
    assert!(message(r#"{"lookup_from_codebook": true}"#).contains("code numbers"));
    let tiny = message(r#"{"_class_name": "AutoencoderTiny", "act_fn": "gelu"}"#);
    assert!(tiny.contains("`relu`"), "{tiny}");
    assert!(message(r#"{"act_fn": "relu"}"#).contains("known: `silu`, `swish`"));
    assert!(message(r#"{"down_block_types": ["AttnDownEncoderBlock2D"]}"#).contains("`AttnDown"));
    assert!(message(r#"{"block_out_channels": [64, 64]}"#).contains("names 2 levels"));
    assert!(message(r#"{"norm_num_groups": 7}"#).contains("must divide"));
    let shifted =
        r#"{"latent_channels": 1, "latents_mean": [1], "latents_std": [2], "shift_factor": 0.1}"#;
    let shifted = message(shifted);
    assert!(
        shifted.starts_with("`latents_mean` is `[1.0]`"),
        "{shifted}"
    );
}

#[test]
fn other_pictures_and_sizes_of_nothing_are_named() {
    let message = |text: &str| config(text).unwrap_err().to_string();
    for key in ["in_channels", "out_channels"] {
        for class in ["AutoencoderKL", "AutoencoderTiny"] {
            for found in [0, 1, 2, 4] {
                let text = format!(r#"{{"_class_name": "{class}", "{key}": {found}}}"#);
                let grey = message(&text);
                let said =
                    format!("`{key}` is `{found}`, which is not supported\nhint: pictures have 3");
                assert!(grey.starts_with(&said), "{grey}");
            }
        }
    }
    let none = message(r#"{"_class_name": "VQModel", "num_vq_embeddings": 0}"#);
    assert!(none.starts_with("`num_vq_embeddings` is `0`"), "{none}");
    assert!(message(r#"{"latent_channels": 0}"#).starts_with("`latent_channels` is `0`"));
    assert!(message(r#"{"layers_per_block": 0}"#).starts_with("`layers_per_block` is `0`"));
    assert!(message(r#"{"block_out_channels": [0]}"#).starts_with("`block_out_channels` is `[0]`"));
}
