//! Published costs.

use serde_json::json;

use super::*;

/// Multiply-accumulates of SD 1.5 at 64x64 latents, in G (docs/methods.md).
const FULL: f64 = 401.6;
const RETRIEVE: [f64; 12] = [
    31.6, 90.1, 152.7, 188.7, 226.6, 270.3, 305.2, 340.7, 378.0, 385.7, 390.7, 395.6,
];

fn sd15() -> UNetConfig {
    let json = include_str!("../../../../models/cards/stable-diffusion-v1-5/unet/config.json");
    UNetConfig::from_json(json).unwrap()
}

/// The same of SDXL at 128x128 latents.
const FULL_XL: f64 = 3381.0;
const RETRIEVE_XL: [f64; 9] = [
    49.0, 128.0, 224.0, 436.0, 724.0, 1035.0, 1478.0, 2227.0, 2982.0,
];

const XL: Extent = Extent {
    height: 128,
    width: 128,
    tokens: 77,
};

const XL_CARD: &str =
    include_str!("../../../../models/cards/stable-diffusion-xl-base-1.0/unet/config.json");

fn sdxl() -> UNetConfig {
    UNetConfig::from_json(XL_CARD).unwrap()
}

/// Multiply-accumulates of a step that runs what skip `skip` leaves.
fn retrieve(blueprint: &Blueprint, skip: usize) -> u64 {
    let cut = 2 * blueprint.skips() - skip;
    let cells = blueprint.span_macs(0..skip + 1) + blueprint.span_macs(cut..blueprint.cells.len());
    cells + blueprint.prepare_macs + blueprint.leave_macs
}

fn close(macs: u64, giga: f64) {
    let found = macs as f64 / 1e9;
    assert!(
        (found / giga - 1.0).abs() < 0.005,
        "{found} G, published {giga} G"
    );
}

#[test]
fn published_costs_of_sd15() {
    let blueprint = sd15().blueprint(Extent {
        height: 64,
        width: 64,
        tokens: 77,
    });
    close(blueprint.full_macs(), FULL);
    for (skip, giga) in RETRIEVE.into_iter().enumerate() {
        close(retrieve(&blueprint, skip), giga);
    }
}

/// In `d2`, beside two open skips: the residual block's input of three maps twice and what it gives, or both halves of GEGLU.
#[test]
fn halves_that_are_never_made_take_nothing() {
    let blueprint = sd15().blueprint(Extent {
        height: 64,
        width: 64,
        tokens: 77,
    });
    let map = 320 * 64 * 64;
    assert_eq!(blueprint.peak_elements(true), (2 + 7) * map);
    assert_eq!(blueprint.peak_elements(false), (2 + 14) * map);
}

#[test]
fn published_costs_of_sdxl() {
    let blueprint = sdxl().blueprint(XL);
    assert_eq!((blueprint.cells.len(), blueprint.skips()), (19, 9));
    close(blueprint.full_macs(), FULL_XL);
    for (skip, giga) in RETRIEVE_XL.into_iter().enumerate() {
        let found = retrieve(&blueprint, skip) as f64 / 1e9;
        // Printed in whole G.
        assert!(
            (found - giga).abs() < 0.5 + 0.005 * giga,
            "skip {skip}: {found} G"
        );
    }
}

#[test]
fn published_costs_of_sdxl_without_attention() {
    close(sdxl().blueprint_without_products(XL).full_macs(), 2989.0);
}

/// SDXL with other depths and without its middle's attention, and what forward hooks on diffusers' layers count, in G.
#[test]
fn a_depth_for_each_attention_costs_what_it_does() {
    let card: serde_json::Value = serde_json::from_str(XL_CARD).unwrap();
    for (down, up, layers, middle, giga) in [
        // SSD-1B
        (
            json!([0, [2, 2], [4, 4]]),
            json!([[4, 4, 10], [2, 1, 1], 1]),
            2,
            json!("UNetMidBlock2D"),
            2103.881,
        ),
        // Vega
        (
            json!([0, [1, 1], [2, 2]]),
            json!([[2, 2, 2], [1, 1, 1], 1]),
            2,
            json!("UNetMidBlock2D"),
            1411.220,
        ),
        // KOALA-1B and KOALA-700M
        (
            json!([0, 2, 6]),
            json!(null),
            1,
            json!("UNetMidBlock2DCrossAttn"),
            1715.914,
        ),
        (json!([0, 2, 5]), json!(null), 1, json!(null), 1350.757),
    ] {
        let mut config = card.clone();
        config["transformer_layers_per_block"] = down;
        config["reverse_transformer_layers_per_block"] = up;
        config["layers_per_block"] = layers.into();
        config["mid_block_type"] = middle;
        let blueprint = UNetConfig::from_json(&config.to_string())
            .unwrap()
            .blueprint(XL);
        let found = blueprint.full_macs() as f64 / 1e9;
        assert!((found - giga).abs() < 1e-3, "{found} G, counted {giga} G");
    }
}

#[test]
fn published_costs_of_the_refiner() {
    let json =
        include_str!("../../../../models/cards/stable-diffusion-xl-refiner-1.0/unet/config.json");
    let blueprint = UNetConfig::from_json(json).unwrap().blueprint(XL);
    close(blueprint.full_macs(), 3643.0);
    close(retrieve(&blueprint, 0), 70.5);
    close(retrieve(&blueprint, 3), 757.0);
}

#[test]
fn skips_close_in_reverse_order() {
    let blueprint = sd15().blueprint(Extent {
        height: 63,
        width: 65,
        tokens: 77,
    });
    assert_eq!((blueprint.cells.len(), blueprint.skips()), (25, 12));
    assert_eq!(blueprint.open_skips(13), 12);
    assert_eq!(blueprint.open_skips(24), 1);
    assert_eq!(blueprint.cells[12].name, "mid");
    assert_eq!(blueprint.cells[24].name, "d0");
}
