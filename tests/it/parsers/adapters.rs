//! Files that change a model: `LoRA`, `LoHa`, Custom Diffusion, embeddings.

use std::sync::LazyLock;

use afterimage::text::Embedding;
use afterimage::weights::WeightSource;
use afterimage::weights::adapt::{CustomDiffusion, Lora, Merge, Parameters};
use safetensors::tensor::{Dtype, TensorView};

use super::{bounded, folder, is_torch, pieces, shown};

/// Parameters of the `UNet` that adapters are merged into.
const UNET: [(&str, &[usize]); 6] = [
    (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        &[4, 8],
    ),
    (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight",
        &[4, 4],
    ),
    ("down_blocks.0.attentions.0.proj_in.weight", &[4, 4, 1, 1]),
    ("down_blocks.0.resnets.0.conv1.weight", &[4, 4, 3, 3]),
    ("down_blocks.0.resnets.1.conv1.weight", &[4, 4, 3, 3]),
    ("mid_block.resnets.0.time_emb_proj.weight", &[4, 16]),
];

/// Parameters of its text encoder.
const TEXT: [(&str, &[usize]); 1] = [(
    "text_model.encoder.layers.0.self_attn.q_proj.weight",
    &[8, 8],
)];

static UNET_FILE: LazyLock<&'static [u8]> = LazyLock::new(|| {
    let zeros = [0; 4 * 4 * 9 * 4];
    let views = UNET.map(|(name, shape)| {
        let bytes = shape.iter().product::<usize>() * 4;
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &zeros[..bytes]);
        (name, view.expect("as many bytes as the shape asks for"))
    });
    safetensors::serialize(views, None)
        .expect("names and shapes are right")
        .leak()
});

/// The file of an adapter; where there are two pieces, the first is peft's configuration beside it.
pub(super) fn adapters(data: &[u8]) {
    let pieces = pieces(data);
    let (config, weights) = match pieces.as_slice() {
        [config, weights, ..] => (Some(*config), *weights),
        _ => (None, data),
    };
    let name = name(weights, "adapter_model");
    let mut files = vec![(name.as_str(), weights)];
    files.extend(config.map(|config| ("adapter_config.json", config)));
    let folder = folder(&files);
    bounded(data, || {
        let Some(source) = shown(WeightSource::open(folder.path().join(&name))) else {
            return;
        };
        let _ = (Lora::is_one(&source), CustomDiffusion::is_one(&source));
        let lora = shown(Lora::from_source(&source)).map(|lora| lora.with_scale(0.5));
        let custom = shown(CustomDiffusion::from_source(&source));
        if let Some(lora) = &lora {
            assert!(!lora.summary().parts.is_empty());
        }
        merged(lora.as_slice(), custom.as_slice());
    });
}

fn merged(loras: &[Lora], customs: &[CustomDiffusion]) {
    let owned = |(name, shape): (&str, &[usize])| (name.to_owned(), shape.to_vec());
    let parts = [
        Parameters::new("unet", UNET.map(owned).to_vec()),
        Parameters::new("text_encoder", TEXT.map(owned).to_vec()),
    ];
    let Some(merge) = shown(Merge::resolve(&parts, loras, customs)) else {
        return;
    };
    let patches = merge.of("unet");
    let model = WeightSource::from_static(*UNET_FILE, "the model").expect("a file");
    for (name, shape) in UNET {
        if let Some(data) = shown(patches.read(name, &model)) {
            assert_eq!(data.shape().to_vec(), shape);
        }
    }
}

/// An embedding's file.
pub(super) fn embeddings(data: &[u8]) {
    let name = name(data, "word");
    let folder = folder(&[(&name, data)]);
    bounded(data, || {
        let Some(source) = shown(WeightSource::open(folder.path().join(&name))) else {
            return;
        };
        let _ = Embedding::is_one(&source);
        for token in [None, Some("<word>")] {
            if let Some(embedding) = shown(Embedding::from_source(&source, token)) {
                assert!(!embedding.token().is_empty());
                let _ = (embedding.vectors(), embedding.origin());
            }
        }
    });
}

/// The name of a weight file by how it begins.
fn name(data: &[u8], stem: &str) -> String {
    let ending = if is_torch(data) { "bin" } else { "safetensors" };
    format!("{stem}.{ending}")
}
