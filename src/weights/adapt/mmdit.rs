//! Adapters of Stable Diffusion 3 under the names of its program, as those of diffusers: kohya's scripts write them flat
//! (`lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight`), node programs dotted (`diffusion_model.joint_blocks.0.…`).

use super::flux::{flattened, makes_outputs, renamed_by};
use super::roles::role;
use crate::error::Error;
use crate::weights::WeightSource;
use crate::weights::mmdit::{layer, pieces};
use crate::weights::original::Piece;

/// What the program calls its blocks.
const BLOCKS: &str = "joint_blocks";

/// What makes shifts, scales and gates of the text in one of them, flat.
const TEXT_NORM: &str = "_context_block_adaLN_modulation_1";

/// The tensors of an adapter, those that have names of the program under diffusers'. Nothing is read.
///
/// # Errors
///
/// When two tensors come to one name.
pub(super) fn renamed(source: &WeightSource) -> Result<WeightSource, Error> {
    let count = last_block(source).map_or(usize::MAX, |last| last + 1);
    renamed_by(source, &[BLOCKS], |stem| layers(stem, count))
}

/// The layers of ours that a layer of an adapter means, in a model of so many blocks.
fn layers(stem: &str, count: usize) -> Option<Vec<Piece>> {
    pieces(&format!("{}weight", layer(&flattened(stem))?), count)
}

/// The last block of the model, where an adapter changes its norm of the text: it has a third of the others' outputs, in another order.
fn last_block(source: &WeightSource) -> Option<usize> {
    let norms = source.packed().filter_map(|tensor| {
        let (stem, role) = role(&tensor.name)?;
        let flat = flattened(stem);
        let block = flat.strip_prefix(BLOCKS)?.strip_suffix(TEXT_NORM)?;
        let block = block.trim_start_matches('_').parse::<usize>().ok()?;
        let rows = tensor.shape.to_vec().first().copied()?;
        makes_outputs(role).then_some((rows, block))
    });
    let norms: Vec<(usize, usize)> = norms.collect();
    let (fewest, last) = norms.iter().min()?;
    let most = norms.iter().map(|(rows, _)| rows).max()?;
    (fewest < most).then_some(*last)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::weights::unread::Unread;

    fn became(tensors: &[(&str, [usize; 2])]) -> Vec<(String, Vec<usize>)> {
        let tensors = tensors.iter().map(|(name, shape)| {
            let data = TensorData::zeros::<f32, _>(*shape);
            Unread::of(data, *name)
        });
        let source = WeightSource::from_tensors("test".into(), tensors.collect()).unwrap();
        let renamed = renamed(&source).unwrap();
        let packed = renamed.packed();
        let mut all: Vec<_> = packed
            .map(|tensor| (tensor.name.clone(), tensor.shape.to_vec()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn fused_layers_become_three() {
        for name in [
            "lora_unet_joint_blocks_7_context_block_attn_qkv.lora_up.weight",
            "diffusion_model.joint_blocks.7.context_block.attn.qkv.lora_up.weight",
        ] {
            let expected = ["add_k_proj", "add_q_proj", "add_v_proj"].map(|layer| {
                let block = "transformer.transformer_blocks.7.attn";
                (format!("{block}.{layer}.lora_up.weight"), vec![8, 4])
            });
            assert_eq!(became(&[(name, [24, 4])]), expected, "{name}");
        }
    }

    /// The halves of the last norm are exchanged, wherever the adapter ends.
    #[test]
    fn the_last_block_is_known_by_its_norm() {
        let last = |rows: [usize; 2]| {
            let tensors = [0, 1].map(|block| {
                let name = format!("lora_unet_joint_blocks_{block}{TEXT_NORM}.lora_up.weight");
                let data = TensorData::zeros::<f32, _>([rows[block], 4]);
                Unread::of(data, name)
            });
            let source = WeightSource::from_tensors("test".into(), tensors.to_vec()).unwrap();
            last_block(&source)
        };
        assert_eq!(last([48, 16]), Some(1));
        assert_eq!(last([48, 48]), None);
    }
}
