//! The one integration-test binary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::float_cmp,
    reason = "tests fail by panicking and report what they measured"
)]

mod adapter_beside;
mod adapter_errors;
mod adapter_extras;
mod adapter_files;
mod adapter_products;
mod adapter_spellings;
mod adapter_whole;
mod adapters;
mod added_words;
mod adm;
mod bf16;
mod branches;
mod cache_equivalence;
mod cache_plans;
mod cascade;
mod catalog;
mod checkpoint_beside;
mod checkpoint_kin;
mod checkpoint_words;
mod checkpoints;
mod class_to_image;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod cli_accounts;
#[cfg(feature = "cli")]
mod cli_adapters;
#[cfg(feature = "cli")]
mod cli_bounds;
#[cfg(feature = "cli")]
mod cli_classes;
#[cfg(feature = "cli")]
mod cli_curve;
#[cfg(feature = "cli")]
mod cli_eval;
#[cfg(feature = "cli")]
mod cli_films;
#[cfg(feature = "cli")]
mod cli_generate;
#[cfg(feature = "cli")]
mod cli_output;
#[cfg(feature = "cli")]
mod cli_pictures;
#[cfg(feature = "cli")]
mod cli_replay;
#[cfg(feature = "cli")]
mod cli_wording;
#[cfg(feature = "cli")]
mod cli_xl;
mod clip;
mod control;
mod control_files;
mod ddpm;
mod device;
#[cfg(feature = "wgpu")]
mod display;
mod distilled;
mod dit;
mod doctor;
mod drawn;
mod edit;
mod engine;
#[cfg(feature = "eval")]
mod evaluation;
mod evaluator;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    feature = "cli",
    feature = "bundled"
))]
mod faults;
mod films;
mod fixture;
mod flux;
mod folders;
mod gguf;
mod golden;
mod gpu;
mod half_right;
#[cfg(feature = "hub")]
mod hub;
mod image_io;
mod laws;
mod layering;
mod ldm;
mod made_once;
mod matrix;
#[cfg(feature = "eval")]
mod metrics;
mod mmdit;
mod other_vae;
mod param_lists;
mod parity;
#[cfg(feature = "eval")]
mod parsers;
mod picture_files;
mod pixart;
#[cfg(all(feature = "bundled", feature = "eval"))]
mod planned;
mod quantised;
#[cfg(feature = "eval")]
mod regressions;
mod rng;
mod samplers;
#[cfg(all(feature = "bundled", feature = "eval"))]
mod scenes;
mod sdxl;
#[cfg(all(unix, feature = "serve", feature = "bundled"))]
mod serve;
mod shipped;
mod small_files;
mod streamed;
mod svd;
mod t5;
mod t5_adapters;
mod t5_precision;
mod tested;
mod text;
mod text_to_video;
mod tiny_vae;
mod tolerance;
mod torch_files;
mod toy_trunk;
mod transformers;
mod unet;
mod vae;
mod weight_files;
mod weight_lists;
mod weights;
mod zero_shot_film;

/// Counts memory for the tests that limit it.
#[cfg(feature = "eval")]
#[global_allocator]
static ALLOCATOR: parsers::meter::Counting = parsers::meter::Counting;
