//! The encoder of T5 under the names that transformers has for it.
//!
//! **Source.** The names of ggml-org/llama.cpp (`gguf.constants`, architectures `t5` and `t5encoder`).

use crate::weights::unread::Unread;

/// What files of T5 call themselves.
pub(super) const ARCHITECTURES: [&str; 2] = ["t5", "t5encoder"];

/// Layers of a block, and what they are in transformers.
const BLOCK: [(&str, &str); 10] = [
    ("attn_q", "layer.0.SelfAttention.q"),
    ("attn_k", "layer.0.SelfAttention.k"),
    ("attn_v", "layer.0.SelfAttention.v"),
    ("attn_o", "layer.0.SelfAttention.o"),
    (
        "attn_rel_b",
        "layer.0.SelfAttention.relative_attention_bias",
    ),
    ("attn_norm", "layer.0.layer_norm"),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn_down", "layer.1.DenseReluDense.wo"),
    ("ffn_norm", "layer.1.layer_norm"),
];

/// What there is once.
const ONCE: [(&str, &str); 2] = [
    ("token_embd", "shared"),
    ("enc.output_norm", "encoder.final_layer_norm"),
];

/// The encoder's tensors; those of a decoder are left out, others keep their names.
pub(super) fn renamed(tensors: Vec<Unread>) -> Vec<Unread> {
    let of_decoder =
        |tensor: &Unread| tensor.name.starts_with("dec.") || tensor.name == "output.weight";
    let kept = tensors.into_iter().filter(|tensor| !of_decoder(tensor));
    let renamed = kept.map(|mut tensor| {
        if let Some(name) = name(&tensor.name) {
            tensor.name = name;
        }
        tensor
    });
    renamed.collect()
}

fn name(theirs: &str) -> Option<String> {
    let (layer, kind) = theirs.rsplit_once('.')?;
    let known = |table: &[(&str, &'static str)], layer: &str| {
        let found = table.iter().find(|(theirs, _)| *theirs == layer);
        found.map(|(_, ours)| *ours)
    };
    if let Some(ours) = known(&ONCE, layer) {
        return Some(format!("{ours}.{kind}"));
    }
    let (block, layer) = layer.strip_prefix("enc.blk.")?.split_once('.')?;
    let ours = known(&BLOCK, layer)?;
    Some(format!("encoder.block.{block}.{ours}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn layers_are_found() {
        for (theirs, ours) in [
            ("token_embd.weight", "shared.weight"),
            (
                "enc.blk.0.attn_rel_b.weight",
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            ),
            (
                "enc.blk.23.ffn_gate.weight",
                "encoder.block.23.layer.1.DenseReluDense.wi_0.weight",
            ),
            ("enc.output_norm.weight", "encoder.final_layer_norm.weight"),
        ] {
            assert_eq!(name(theirs).as_deref(), Some(ours));
        }
        assert_eq!(name("enc.blk.0.strange.weight"), None);
    }
}
