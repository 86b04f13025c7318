//! What files are that people give as adapters, as models or as `ControlNets`, and that are neither, by the names of their tensors.

use crate::weights::WeightSource;

/// Pieces that names of a file have, all of them, and what it is then.
pub(crate) type Kind = (&'static [&'static str], &'static str);

/// What steers a model beside the text; the first that fits counts.
const CONDITIONS: [Kind; 13] = [
    (&["ip_adapter."], IP_ADAPTER),
    (&["image_proj."], IP_ADAPTER),
    (
        &["lllite_"],
        "this is a ControlNet-LLLite, which is not read; a ControlNet is, as `--control-model`",
    ),
    (
        &["controlnet_blocks."],
        "this is a ControlNet for a transformer, which is not read",
    ),
    (
        &["task_embedding", "control"],
        "this is a ControlNet of many kinds (union), which is not read; one of a single kind is, as `--control-model`",
    ),
    (
        &["enc_zero_convs_out."],
        "this is a ControlNet-XS, which is not read; a ControlNet is, as `--control-model`",
    ),
    (
        &["difference", "input_hint_block."],
        "this holds what a ControlNet is beyond Stable Diffusion 1.5, which is not read; a whole ControlNet is, as `--control-model`",
    ),
    (
        &["lora_controlnet"],
        "this is a Control-LoRA, which is not read; a whole ControlNet is, as `--control-model`",
    ),
    (&["control_model.input_blocks.0.0.weight"], CONTROL),
    (&["zero_convs.", "input_hint_block."], CONTROL),
    (&["controlnet_cond_embedding.conv_in."], CONTROL),
    (&["adapter.", "body.0."], T2I_ADAPTER),
    (&["body.0.block1.", "conv_in."], T2I_ADAPTER),
];

/// Other files.
const OTHERS: [Kind; 7] = [
    (
        &["model.diffusion_model."],
        "this is a checkpoint: give it as `--model`",
    ),
    (
        &["down_blocks.", "time_embedding.linear_1."],
        "this is a denoiser in the diffusers layout: put it into a model's folder, and give that as `--model`",
    ),
    (
        &["decoder.conv_in.weight"],
        "this is an autoencoder: give it as `--vae`",
    ),
    (&["text_model.encoder.layers."], TEXT),
    (&["encoder.block.0.layer.0.SelfAttention."], TEXT),
    (&["unet:0:", ":up"], CLONEOFSIMO),
    (&["id_encoder."], "this is a PhotoMaker, which is not read"),
];

const IP_ADAPTER: &str = "this is an IP-Adapter, which is not read";
const T2I_ADAPTER: &str =
    "this is a T2I-Adapter, which is not read; a ControlNet is, as `--control-model`";
const CONTROL: &str = "this is a ControlNet: give it as `--control-model`, beside a model";
const TEXT: &str =
    "this is a text encoder: put it into a model's folder, and give that as `--model`";
const CLONEOFSIMO: &str = "this is a LoRA of cloneofsimo's program, which numbers its layers and does not name them: convert it to the names of diffusers or of kohya's scripts";

/// What `source` is, if it is one of those that have options of their own, or none.
pub(crate) fn other(source: &WeightSource) -> Option<&'static str> {
    let numbered = || {
        let number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        source.len() > 1 && source.names().all(number)
    };
    let known = condition(source).or_else(|| named(&OTHERS, source));
    known.or_else(|| numbered().then_some(CLONEOFSIMO))
}

/// What `source` is, if it steers a model beside the text.
pub(crate) fn condition(source: &WeightSource) -> Option<&'static str> {
    named(&CONDITIONS, source)
}

/// What the first of `kinds` says whose pieces all stand in names of `source`.
pub(crate) fn named(kinds: &[Kind], source: &WeightSource) -> Option<&'static str> {
    let holds = |piece: &&str| source.names().any(|name| name.contains(*piece));
    let mut kinds = kinds.iter();
    let known = kinds.find(|(pieces, _)| pieces.iter().all(&holds));
    known.map(|(_, what)| *what)
}

/// Whether a source is a `ControlNet` of the kind that is read.
pub(crate) fn is_control_net(source: &WeightSource) -> bool {
    condition(source) == Some(CONTROL)
}

/// Whether a source is an IP-Adapter, some of which have pairs of a `LoRA` among their tensors.
pub(super) fn is_ip_adapter(source: &WeightSource) -> bool {
    condition(source) == Some(IP_ADAPTER)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::weights::unread::Unread;

    #[test]
    fn files_of_other_kinds_are_called_what_they_are() {
        for (names, expected) in [
            (&["ip_adapter.1.to_k_ip.weight"][..], Some("IP-Adapter")),
            (
                &["image_proj.proj.weight", "ip_adapter.0.to_q_lora.up.weight"],
                Some("IP-Adapter"),
            ),
            (&["lllite_unet_a.down.0.weight"], Some("LLLite")),
            (
                &["lora_controlnet", "input_hint_block.0.weight"],
                Some("Control-LoRA"),
            ),
            (
                &["zero_convs.0.0.weight", "input_hint_block.0.weight"],
                Some("this is a ControlNet: "),
            ),
            (
                &["controlnet_cond_embedding.conv_in.bias"],
                Some("this is a ControlNet: "),
            ),
            (
                &["controlnet_blocks.0.weight", "input_hint_block.0.weight"],
                Some("transformer"),
            ),
            (
                &["task_embedding", "controlnet_cond_embedding.conv_in.bias"],
                Some("union"),
            ),
            (
                &["enc_zero_convs_out.0.weight", "input_hint_block.0.weight"],
                Some("ControlNet-XS"),
            ),
            (
                &["difference", "control_model.input_hint_block.0.weight"],
                Some("beyond Stable Diffusion 1.5"),
            ),
            (
                &["body.0.block1.weight", "conv_in.weight"],
                Some("T2I-Adapter"),
            ),
            (&["unet:0:down", "unet:0:up"], Some("cloneofsimo")),
            (&["0", "1", "2"], Some("cloneofsimo")),
            (&["unet.a.lora_A.weight", "unet.a.lora_B.weight"], None),
            (&["0"], None),
        ] {
            let tensor = |name: &&str| Unread::of(TensorData::from([[0.0_f32; 4]; 2]), *name);
            let tensors = names.iter().map(tensor).collect();
            let source = WeightSource::from_tensors("test".into(), tensors).unwrap();
            let found = other(&source);
            let fits = match (found, expected) {
                (Some(found), Some(expected)) => found.contains(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(fits, "{names:?}: {found:?}");
        }
    }
}
