//! What is made before the loop is what would be made at every step, for every kind of denoiser.

use afterimage::catalog::ModelFolder;
use afterimage::conditioning::{Conditioning, Hint};
use afterimage::denoise::Noise as _;
use afterimage::denoiser::Rows;
use afterimage::image_io::Picture;
use afterimage::models::control::ControlledUNet;
use afterimage::models::dit::DiT;
use afterimage::models::unet::Labels;
use afterimage::models::unet::{UNet, UNet2d};
use afterimage::pipeline::{Pipeline, SeededNoise, Seeds};
use burn::tensor::{DType, Device, Tensor};

use crate::fixture::Fixture;
use crate::golden::load;
use crate::laws::made_once_is_made_at_every_step;

fn normals<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let count = shape.iter().product();
    let drawn = SeededNoise::new(&Seeds::One(seed), &Device::flex()).draw([1, 1, 1, count]);
    drawn.reshape(shape)
}

fn pipeline(name: &str) -> Pipeline {
    let model = Fixture::committed(name).model();
    let folder = ModelFolder::open(model.to_str().unwrap()).unwrap();
    Pipeline::load(&folder, &Device::flex(), DType::F32).unwrap()
}

fn text(unet: &UNet) -> Conditioning {
    Conditioning::of_context(normals([2, 7, unet.config().context_width], 9))
}

#[test]
fn of_a_unet() {
    let pipeline = load(&Fixture::committed("sd15"), &Device::flex());
    let unet = crate::golden::unet(&pipeline);
    made_once_is_made_at_every_step(unet, &text(unet), &normals([2, 4, 8, 8], 1));
}

#[test]
fn of_a_unet_with_added_conditions() {
    let pipeline = load(&Fixture::committed("sdxl"), &Device::flex());
    let unet = crate::golden::unet(&pipeline);
    let added = unet.config().added.unwrap();
    let condition = Conditioning {
        pooled: Some(normals([2, added.width - 6 * added.sinusoid.width], 3)),
        numbers: vec![vec![64.0, 64.0, 0.0, 8.0, 64.0, 64.0]; 2],
        ..text(unet)
    };
    made_once_is_made_at_every_step(unet, &condition, &normals([2, 4, 8, 8], 1));
}

#[test]
fn of_control_nets() {
    let pipeline = load(&Fixture::committed("sd15-controlnet"), &Device::flex());
    let trunk = ControlledUNet::new(
        crate::golden::unet(&pipeline),
        vec![&pipeline.control_nets()[0]; 2],
    );
    let lines = Picture::from_fn(64, 64, |x, y| [255 * u8::from(x == 20 || y == 9); 3]);
    let control = |guess: bool| Hint {
        picture: lines.to_tensor(&Device::flex()),
        scale: 0.8,
        evaluations: 0..4,
        guess,
    };
    let condition = Conditioning {
        rows: Rows::new(2, 1),
        hints: vec![control(false), control(true)],
        ..text(crate::golden::unet(&pipeline))
    };
    made_once_is_made_at_every_step(&trunk, &condition, &normals([2, 4, 8, 8], 1));
}

#[test]
fn of_a_dit() {
    let model = pipeline("dit");
    let dit = model.trunk_as::<DiT>().unwrap();
    let condition = Conditioning::of_labels(vec![207, 1000]);
    made_once_is_made_at_every_step(dit, &condition, &normals([2, 4, 8, 8], 1));
}

#[test]
fn of_unets_without_text() {
    let model = pipeline("ddpm");
    let unet = model.trunk_as::<UNet2d>().unwrap();
    let sample = normals([2, 3, 16, 16], 1);
    made_once_is_made_at_every_step(unet, &Conditioning::none(Rows::single(2)), &sample);
    let labelled = crate::adm::tiny();
    let Some(Labels::Vectors(width)) = labelled.unet().config().labels else {
        panic!("labelled by vectors")
    };
    let condition = Conditioning {
        label_vectors: Some(normals([2, width], 5)),
        ..Conditioning::none(Rows::single(2))
    };
    made_once_is_made_at_every_step(&labelled, &condition, &normals([2, 1, 16, 16], 1));
}
