//! Names of adapters' layers as one or the other program writes them, and stray ones among them.

use afterimage::weights::adapt::{Lora, Merge, Parameters};

use crate::adapter_files::{Made, pair, source};

const BLOCK: &str = "transformer_blocks.0.attn.to_q";
const T5: &str = "encoder.block.0.layer.0.SelfAttention.q";

/// The parts of a model, each with one layer.
fn parts(layers: &[(&'static str, &str)]) -> Vec<Parameters> {
    let part = |(part, layer): &(&'static str, &str)| {
        Parameters::new(part, vec![(format!("{layer}.weight"), vec![4, 4])])
    };
    layers.iter().map(part).collect()
}

fn layers(names: &[&str]) -> Vec<Made> {
    let layer = |name: &&str| pair(name, &[2, 4], &[4, 2]);
    names.iter().flat_map(layer).collect()
}

fn resolved(parts: &[Parameters], names: &[&str]) -> Result<Merge, afterimage::Error> {
    let lora = Lora::from_source(&source(&layers(names), None))?;
    Merge::resolve(parts, &[lora], &[])
}

#[test]
fn a_stray_name_is_left_out_of_a_transformer() {
    let parts = parts(&[("transformer", BLOCK)]);
    let own = format!("transformer.{BLOCK}");
    for stray in [
        "vae.decoder.to_q",
        "image_encoder.q",
        "unet.nowhere",
        "img_in",
    ] {
        let merge = resolved(&parts, &[&own, stray]).unwrap();
        assert_eq!(merge.of("transformer").names().len(), 1);
        let [note] = merge.notes() else {
            panic!("{:?}", merge.notes())
        };
        assert!(note.contains(&format!("left out: `{stray}`")), "{note}");
    }
    let other = ["unet.down_blocks.0.attentions.0.proj_in", "te1.nowhere"];
    let error = resolved(&parts, &other).unwrap_err().to_string();
    assert!(error.contains("for another model family"), "{error}");
}

#[test]
fn t5_is_found_wherever_the_model_has_it() {
    let front = [
        "lora_te3_",
        "text_encoders.t5xxl.transformer.",
        "text_encoders.t5xxl.",
        "t5xxl.",
        "t5.",
    ];
    for part in ["text_encoder_3", "text_encoder_2", "text_encoder"] {
        let parts = parts(&[("transformer", BLOCK), (part, T5)]);
        for front in front {
            let name = match front {
                "lora_te3_" => format!("{front}{}", T5.replace('.', "_")),
                _ => format!("{front}{T5}"),
            };
            let merge = resolved(&parts, &[&name]).unwrap();
            assert_eq!(merge.of(part).names().len(), 1, "{name} of {part}");
        }
    }
}

/// `torch.compile` and data parallel training leave their segments anywhere.
#[test]
fn wrappers_within_names_hide_no_layer() {
    let parts = parts(&[("unet", "conv_in")]);
    for name in [
        "lora_unet__orig_mod_conv_in",
        "unet._orig_mod.conv_in",
        "base_model.model._orig_mod.conv_in",
        "unet.module.conv_in",
    ] {
        let merge = resolved(&parts, &[name]).unwrap();
        assert_eq!(merge.of("unet").names().len(), 1, "{name}");
    }
}

/// Pairs of a `LoRA` among its tensors do not make it one.
#[test]
fn an_ip_adapter_is_called_so() {
    let tensors = [
        layers(&["ip_adapter.0.to_q"]),
        pair("image_proj.proj", &[2, 4], &[4, 2]),
    ];
    let error = Lora::from_source(&source(&tensors.concat(), None));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("hint: this is an IP-Adapter"), "{error}");
    let vera = [("a.vera_lambda_b".to_owned(), vec![4], vec![0.0; 4])];
    let error = Lora::from_source(&source(&vera, None)).unwrap_err();
    assert!(error.to_string().contains("belongs to VeRA"), "{error}");
}

/// What reads more channels than the model is for one that reads a picture.
#[test]
fn shapes_that_do_not_fit_have_a_hint() {
    for (layer, inputs, words) in [
        ("x_embedder", 8, "FLUX.1's Canny"),
        ("transformer_blocks.0.attn.to_q", 8, "another model family?"),
    ] {
        let parts = parts(&[("transformer", layer)]);
        let name = format!("transformer.{layer}");
        let tensors = pair(&name, &[2, inputs], &[4, 2]);
        let lora = Lora::from_source(&source(&tensors, None)).unwrap();
        let error = Merge::resolve(&parts, &[lora], &[]).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
