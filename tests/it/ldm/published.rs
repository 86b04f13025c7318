//! The published LDM-4-G: what it costs, and its checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use afterimage::cache::{CacheRule, Course, Forecast};
use afterimage::catalog::ModelFolder;
use afterimage::denoiser::{Blueprint, Rows};
use afterimage::models::class_embedder::{ClassEmbedder, ClassEmbedderConfig};
use afterimage::models::unet::{Extent, UNet2DConditionModel, UNetConfig};
use afterimage::models::vae::{Autoencoder, VaeConfig};
use afterimage::weights::shapes;

use crate::checkpoints::{list, sparse_checkpoint};
use crate::tested;
use crate::weights::folder;

fn published() -> UNetConfig {
    let card = include_str!("../../../models/cards/ldm-4-g/unet/config.json");
    UNetConfig::from_json(card).unwrap()
}

const EXTENT: Extent = Extent {
    height: 64,
    width: 64,
    tokens: 1,
};

const ROW: Rows = Rows::new(1, 1);

/// A run of 250 steps of `trunk` under `rule`, one row.
fn forecast(rule: &str, trunk: &Blueprint) -> Forecast {
    let rule: CacheRule = rule.parse().unwrap();
    let plan = rule.plan(&Course::steps(250), trunk).unwrap();
    plan.forecast(trunk, ROW, 2)
}

/// Rombach et al. (2112.10752), LDM-4-G: all cells with attention's products and without, and a reuse step at skip 0.
#[test]
fn costs_are_the_published_ones() {
    let whole = published().blueprint(EXTENT);
    let lean = published().blueprint_without_products(EXTENT);
    let giga = |macs: u64| macs as f64 / 1e9;
    assert!((giga(whole.full_macs()) / 104.2 - 1.0).abs() < 0.005);
    assert!((giga(lean.full_macs()) / 99.82 - 1.0).abs() < 0.005);
    for trunk in [whole, lean] {
        let reuse = forecast("deepcache:interval=2", &trunk).evaluation_macs[1];
        assert!((giga(reuse) / 4.42 - 1.0).abs() < 0.005, "{reuse}");
    }
}

/// The column of multiply-accumulates of `DeepCache`'s table for LDM-4-G (2312.00858): a mean step of one sample, products of attention not counted.
#[test]
fn forecasts_of_deepcache_are_the_published_ones() {
    let lean = published().blueprint_without_products(EXTENT);
    for (interval, giga) in [
        (1, 99.82),
        (2, 52.12),
        (3, 36.48),
        (5, 23.50),
        (10, 13.97),
        (20, 9.39),
    ] {
        let rule = format!("deepcache:interval={interval}");
        let found = forecast(&rule, &lean).total_macs() as f64 / 250e9;
        assert!(
            (found / giga - 1.0).abs() < 0.01,
            "{interval}: {found}, published {giga}"
        );
    }
}

/// Faster Diffusion (2312.09608), by its own lists: at best 1.34 times as fast with the list of 48 keys, 1.41 times with that of 19.
#[test]
fn forecasts_of_propagation_are_the_published_ones() {
    let whole = published().blueprint(EXTENT);
    for (list, speedup) in [("ldm-48", 1.34), ("ldm-19", 1.41)] {
        let rule = format!("encoder-propagation:keys={list}");
        let found = forecast(&rule, &whole).speedup();
        assert!(
            (found - speedup).abs() < 0.01,
            "{list}: {found}, published {speedup}"
        );
    }
}

/// Names and shapes as a linear layer has them where the file keeps the 1x1 convolution that it is.
fn linear((name, mut shape): (String, Vec<usize>)) -> (String, Vec<usize>) {
    if name.ends_with("proj_in.weight") || name.ends_with("proj_out.weight") {
        shape.truncate(2);
    }
    (name, shape)
}

/// A file of the published size is recognised, and every tensor has its place in the networks that the card describes.
#[test]
#[cfg(unix)]
fn the_published_checkpoint_has_its_card_and_its_parts() {
    let mut tensors = list("original/ldm4g-cin256-v2.unet.ldm.tsv");
    tensors.extend(list("original/ldm4g-cin256-v2.first_stage.ldm.tsv"));
    let classes = (
        "cond_stage_model.embedding.weight".to_owned(),
        vec![1001, 512],
    );
    tensors.extend([
        classes,
        ("first_stage_model.loss.logvar".to_owned(), vec![1]),
    ]);
    let temporary = folder();
    let path = sparse_checkpoint(temporary.path(), &tensors);
    let model = ModelFolder::open(path.to_str().unwrap()).unwrap();
    assert_eq!(model.card(), Some("ldm-4-g"));
    assert_eq!(model.leftovers(), ["first_stage_model.loss.logvar"]);
    let device = tested::device();
    let embedder = model.read_json("class_embedder/config.json").unwrap();
    let embedder = ClassEmbedderConfig::from_json(&embedder).unwrap();
    let vae = VaeConfig::new(model.read_config("vae/config.json").unwrap()).unwrap();
    let expected = BTreeMap::from([
        (
            "class_embedder",
            shapes(&ClassEmbedder::new(embedder, &device)),
        ),
        (
            "unet",
            shapes(&UNet2DConditionModel::new(&published(), &device)),
        ),
        ("vae", shapes(&Autoencoder::new(vae, &device))),
    ]);
    for (part, expected) in expected {
        let source = model.weights(part).unwrap();
        let found = source
            .names()
            .map(|name| (name.to_owned(), source.shape(name).unwrap()));
        let found: BTreeSet<_> = found.map(linear).collect();
        assert_eq!(found, expected.into_iter().collect(), "{part}");
    }
}

/// Classes of another number or width, or latents of another kind, are another model.
#[test]
#[cfg(unix)]
fn other_class_conditional_checkpoints_are_refused() {
    let classes = "cond_stage_model.embedding.weight".to_owned();
    let input = "model.diffusion_model.input_blocks.0.0.weight".to_owned();
    for (shape, channels) in [(vec![11, 8], 3), (vec![1001, 512], 4)] {
        let temporary = folder();
        let tensors = [
            (classes.clone(), shape),
            (input.clone(), vec![192, channels, 3, 3]),
        ];
        let path = sparse_checkpoint(temporary.path(), &tensors);
        let error = ModelFolder::open(path.to_str().unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(error.is_config() && text.contains("class tokens"), "{text}");
    }
}
