//! `ControlNets` in one file, without a configuration.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use afterimage::{
    cache::CacheRule,
    catalog::{ModelFolder, ModelPart},
    image_io::Picture,
    pipeline::{Control, ModelConfig, Pipeline, Request},
};
use safetensors::SafeTensors;

use crate::{fixture::Fixture, tested};

/// Fixtures with a net, and where that lies.
const NETS: [(&str, &str); 2] = [
    ("sd15-controlnet", "model/controlnet"),
    ("sdxl-controlnet", "controlnet"),
];

/// Residual blocks of a level of theirs.
const LAYERS: usize = 2;

/// Residual blocks in the names of diffusers and of the program that trained nets.
const RESNET: [(&str, &str); 6] = [
    ("norm1.", "in_layers.0."),
    ("conv1.", "in_layers.2."),
    ("time_emb_proj.", "emb_layers.1."),
    ("norm2.", "out_layers.0."),
    ("conv2.", "out_layers.3."),
    ("conv_shortcut.", "skip_connection."),
];

/// What a net has once.
const ONCE: [(&str, &str); 9] = [
    ("conv_in.", "input_blocks.0.0."),
    ("time_embedding.linear_1.", "time_embed.0."),
    ("time_embedding.linear_2.", "time_embed.2."),
    ("add_embedding.linear_1.", "label_emb.0.0."),
    ("add_embedding.linear_2.", "label_emb.0.2."),
    ("controlnet_cond_embedding.conv_in.", "input_hint_block.0."),
    (
        "controlnet_cond_embedding.conv_out.",
        "input_hint_block.14.",
    ),
    ("controlnet_mid_block.", "middle_block_out.0."),
    ("mid_block.attentions.0.", "middle_block.1."),
];

/// The name that the program that trained nets gives a tensor.
fn theirs(name: &str) -> String {
    if let Some((ours, theirs)) = ONCE.iter().find(|(ours, _)| name.starts_with(ours)) {
        return format!("{theirs}{}", &name[ours.len()..]);
    }
    let resnet = |rest: &str| {
        let (ours, theirs) = RESNET
            .iter()
            .find(|(ours, _)| rest.starts_with(ours))
            .unwrap();
        format!("{theirs}{}", &rest[ours.len()..])
    };
    let places: Vec<&str> = name.splitn(5, '.').collect();
    let number = |place: usize| places[place].parse::<usize>().unwrap();
    match places[..] {
        ["controlnet_cond_embedding", "blocks", _, rest] => {
            format!("input_hint_block.{}.{rest}", 2 * (number(2) + 1))
        }
        ["controlnet_down_blocks", index, rest] => format!("zero_convs.{index}.0.{rest}"),
        ["mid_block", "resnets", _, first, rest] => {
            format!(
                "middle_block.{}.{}",
                2 * number(2),
                resnet(&format!("{first}.{rest}"))
            )
        }
        ["down_blocks", _, kind, block, rest] => {
            let first = 1 + number(1) * (LAYERS + 1);
            match kind {
                "resnets" => format!("input_blocks.{}.0.{}", first + number(3), resnet(rest)),
                "attentions" => format!("input_blocks.{}.1.{rest}", first + number(3)),
                _ => {
                    let rest = rest.strip_prefix("conv.").unwrap();
                    assert_eq!((kind, block), ("downsamplers", "0"));
                    format!("input_blocks.{}.0.op.{rest}", first + LAYERS)
                }
            }
        }
        _ => panic!("{name}"),
    }
}

/// Writes the tensors of a file under other names.
fn renamed(from: &Path, to: &Path, name: impl Fn(&str) -> String) {
    let bytes = fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let named = tensors.iter().map(|(ours, view)| (name(ours), view));
    let named: Vec<_> = named.collect();
    fs::write(to, safetensors::serialize(named, None).unwrap()).unwrap();
}

fn config(fixture: &str) -> ModelConfig {
    let folder = Fixture::committed(fixture).model();
    let folder = ModelFolder::open(folder.to_str().unwrap()).unwrap();
    ModelConfig::read(&folder).unwrap()
}

fn part(path: &Path) -> ModelPart {
    ModelPart::open(path.to_str().unwrap()).unwrap()
}

#[test]
fn shapes_and_the_model_say_what_a_configuration_does() {
    let folder = tempfile::tempdir().unwrap();
    for (fixture, place) in NETS {
        let net = Fixture::committed(fixture).file(place);
        let weights = net.join("diffusion_pytorch_model.safetensors");
        let config = config(fixture);
        let trunk = config.unet();
        let expected = part(&net).control_net(trunk).unwrap();
        let mut files = Vec::new();
        for (name, front) in [
            ("control_x.safetensors", "control_model."),
            ("bare.safetensors", ""),
        ] {
            let file = folder.path().join(name);
            renamed(&weights, &file, |ours| format!("{front}{}", theirs(ours)));
            files.push(file);
        }
        let ours = folder.path().join("ours.safetensors");
        fs::copy(&weights, &ours).unwrap();
        files.push(ours);
        for file in files {
            let mut found = part(&file).control_net(trunk).unwrap();
            // Nobody builds the decoder.
            for (found, expected) in found.unet.levels.iter_mut().zip(&expected.unet.levels) {
                found.decoder_depths.clone_from(&expected.decoder_depths);
            }
            found.unet.sample_size = expected.unet.sample_size;
            found.unet.out_channels = expected.unet.out_channels;
            assert_eq!(found, expected, "{}", file.display());
        }
    }
}

#[test]
fn a_file_steers_as_its_folder_does() {
    let fixture = Fixture::committed("sd15-controlnet");
    let net = fixture.model().join("controlnet");
    let weights = net.join("diffusion_pytorch_model.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control_x.safetensors");
    renamed(&weights, &file, |ours| {
        format!("control_model.{}", theirs(ours))
    });
    let model = ModelFolder::open(fixture.model().to_str().unwrap()).unwrap();
    let run = |net: &Path| {
        let mut pipeline = Pipeline::load(&model, &tested::device(), tested::dtype()).unwrap();
        let number = pipeline.add_control(&part(net)).unwrap();
        let lines = Picture::from_fn(72, 40, |x, y| [255 * u8::from(x == 20 || y == 9); 3]);
        let request = Request {
            steps: Some(2),
            size: Some((72, 40)),
            cache: CacheRule::none(),
            controls: vec![Control::new(number, lines)],
            ..Request::new("a red fox")
        };
        let latents = pipeline.generate(&request, &mut ()).unwrap().latents;
        latents.into_data().iter::<f32>().collect::<Vec<_>>()
    };
    assert_eq!(run(&file), run(&net));
    assert_eq!(run(&weights), run(&net));
}

#[test]
fn files_that_do_not_fit_are_told() {
    let fixture = Fixture::committed("sd15-controlnet");
    let weights = fixture
        .model()
        .join("controlnet/diffusion_pytorch_model.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("net.safetensors");
    renamed(&weights, &file, theirs);
    let said = |model: &str, file: &Path| {
        let net = part(file).control_net(config(model).unet());
        let error = net
            .and_then(|net| config(model).add_control(net))
            .unwrap_err();
        error.to_string()
    };
    assert!(said("sdxl", &file).contains("this ControlNet is for another model family"));
    assert!(
        said("dit", &file).contains("ControlNet"),
        "{}",
        said("dit", &file)
    );
    for (first, words) in [
        ("controlnet_blocks.0.weight", "for a transformer"),
        ("lora_controlnet", "Control-LoRA"),
        ("task_embedding", "union"),
    ] {
        let other = folder.path().join("other.safetensors");
        renamed(&weights, &other, |ours| match ours {
            "controlnet_mid_block.bias" => first.to_owned(),
            ours => ours.to_owned(),
        });
        let error = ModelPart::open(other.to_str().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    let torn = folder.path().join("torn.safetensors");
    fs::write(&torn, b"no tensors").unwrap();
    let error = ModelPart::open(torn.to_str().unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("torn.safetensors") && !error.contains("config.json"),
        "{error}"
    );
}
