//! Options that several commands share.

use std::path::PathBuf;

use clap::Args;

use super::{
    files::{EmbeddingFile, LoraFile},
    values::{Corner, Window, canny, corner, count, finite, size, whole, window},
    written::kept,
};
use crate::{
    cache::CacheRule,
    catalog::Overrides,
    device::{DeviceChoice, DtypeChoice},
    image_io::CannyThresholds,
    noise::Prediction,
    pipeline::{FilmRequest, Residency, Streaming},
    samplers::SamplerKind,
    weights::{ActivationFormat, WeightFormat},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Model {
    /// Folder, checkpoint file or Hub id [default: the bundled model]
    #[arg(long = "model", value_name = "DIR|ID")]
    pub(in crate::cli) name: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) said: Said,
}

/// What the caller says of the model.
#[derive(Debug, Args)]
pub(in crate::cli) struct Said {
    /// What the model predicts, where its files do not say it or say it wrongly: epsilon, v or sample
    #[arg(long, value_name = "P")]
    pub(in crate::cli) prediction: Option<Prediction>,
    /// Autoencoder in place of the model's own: folder, or file in the original or the diffusers layout
    #[arg(long, value_name = "DIR|FILE")]
    pub(in crate::cli) vae: Option<String>,
    /// Tiny autoencoder in place of the model's own or that of --vae (TAESD and its kin): faster by far, a little less right
    #[arg(long, value_name = "DIR|FILE")]
    pub(in crate::cli) tiny_vae: Option<String>,
}

impl Said {
    pub(in crate::cli) fn overrides(&self) -> Overrides {
        Overrides {
            prediction: self.prediction,
            vae: self.vae.clone(),
            tiny_vae: self.tiny_vae.clone(),
        }
    }
}

/// Models after the first.
#[derive(Debug, Args)]
pub(in crate::cli) struct Links {
    /// SDXL refiner that finishes what the model begins: folder, checkpoint file or Hub id
    #[arg(long, value_name = "DIR|ID")]
    pub(in crate::cli) refiner: Option<String>,
    /// Share of the noise that the model takes away before the refiner [default: 0.8]
    #[arg(long, value_name = "F", value_parser = finite)]
    pub(in crate::cli) refiner_from: Option<f64>,
    /// Model that makes the picture larger, as the x4 upscaler does: folder or Hub id; repeat it for a chain
    #[arg(long, value_name = "DIR|ID")]
    pub(in crate::cli) upscaler: Vec<String>,
    /// Level of the noise on a picture before it is made larger, in training timesteps: one for every upscaler, or one each; more changes
    /// more [default: the model's own]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(in crate::cli) noise_level: Vec<usize>,
}

/// What decides which evaluations a run makes, and of what size. What is left out comes from the model.
#[derive(Debug, Args)]
pub(in crate::cli) struct Course {
    /// Classes to show, for models that make pictures of classes
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', value_parser = whole)]
    pub(in crate::cli) class_label: Vec<usize>,
    /// Denoising steps
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(in crate::cli) steps: Option<usize>,
    /// How strongly text or class guides; 1 or less is unguided
    #[arg(long, value_name = "G", value_parser = finite)]
    pub(in crate::cli) guidance_scale: Option<f64>,
    /// Width and height in pixels
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(in crate::cli) size: Option<(usize, usize)>,
    /// Make a picture at its own size with models that make them at the nearest of a list of sizes (PixArt)
    #[arg(long)]
    pub(in crate::cli) no_resolution_binning: bool,
    /// Tokens read of a prompt by models that let that be said [default: the model's own number]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(in crate::cli) text_length: Option<usize>,
    /// Pictures made together, of each class where classes are named [default: 1]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(in crate::cli) batch: Option<usize>,
    // Its help is made from the list of samplers.
    #[arg(long, value_name = "NAME", help = format!("Update rule: {}", SamplerKind::words()))]
    pub(in crate::cli) sampler: Option<SamplerKind>,
    #[command(flatten)]
    pub(in crate::cli) film: Film,
}

pub(super) const FILMS: &str = "Films";

// Each option names its heading: `next_help_heading` would go on to the options that a command has after these.
/// What only films are told.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Film {
    /// Frames of a film [default: the model's own]; Stable Diffusion 1.x and 2.x make films by Text2Video-Zero when they are given it
    #[arg(long, help_heading = FILMS, value_name = "N", value_parser = whole)]
    pub(in crate::cli) frames: Option<usize>,
    /// Frames a second of the file; Stable Video Diffusion is told it too [default: 7]
    #[arg(long, help_heading = FILMS, value_name = "N", value_parser = whole)]
    pub(in crate::cli) fps: Option<usize>,
    /// How much moves in a film of a picture [default: 127]
    #[arg(long, help_heading = FILMS, value_name = "N", value_parser = whole)]
    pub(in crate::cli) motion_bucket: Option<usize>,
    /// Noise put on the picture of a film, which moves more then [default: 0.02]
    #[arg(long, help_heading = FILMS, value_name = "A", value_parser = finite)]
    pub(in crate::cli) noise_aug: Option<f64>,
    /// Guidance of the first frame of a film of a picture; it grows to --guidance-scale at the last [default: 1]
    #[arg(long, help_heading = FILMS, value_name = "G", value_parser = finite)]
    pub(in crate::cli) guidance_first_frame: Option<f64>,
    /// Frames decoded together; fewer take less memory [default: all]
    #[arg(long, help_heading = FILMS, value_name = "N", value_parser = whole)]
    pub(in crate::cli) decode_chunk: Option<usize>,
    /// Shift of Text2Video-Zero to the left from frame to frame, in pixels of a width of 512 [default: 12]
    #[arg(long, help_heading = FILMS, value_name = "X", value_parser = finite)]
    pub(in crate::cli) motion_x: Option<f64>,
    /// Shift of Text2Video-Zero upwards from frame to frame, in pixels of a height of 512 [default: 12]
    #[arg(long, help_heading = FILMS, value_name = "Y", value_parser = finite)]
    pub(in crate::cli) motion_y: Option<f64>,
    /// Step, counted from the last, before which Text2Video-Zero moves its first frame [default: 44 of 50]
    #[arg(long, help_heading = FILMS, value_name = "N", value_parser = whole)]
    pub(in crate::cli) motion_t0: Option<usize>,
    /// Step, counted from the last, from which the frames of Text2Video-Zero go on together [default: 47 of 50]
    #[arg(long, help_heading = FILMS, value_name = "N", value_parser = whole)]
    pub(in crate::cli) motion_t1: Option<usize>,
}

/// How latents become films.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = FILMS)]
pub(in crate::cli) struct Projected {
    /// Frames of each film in the latents; 1 makes pictures of them [default: the run's; where the file does not say it, the model's own number, or all there are if that leaves a rest]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(in crate::cli) frames: Option<usize>,
    /// Frames a second [default: the run's, else 7]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(in crate::cli) fps: Option<usize>,
    /// Frames decoded together; fewer take less memory [default: the run's, else all]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(in crate::cli) decode_chunk: Option<usize>,
}

impl Film {
    pub(in crate::cli) fn request(&self) -> FilmRequest {
        FilmRequest {
            frames: self.frames,
            fps: self.fps,
            motion_bucket: self.motion_bucket,
            noise_aug: self.noise_aug,
            guidance_first_frame: self.guidance_first_frame,
            decode_chunk: self.decode_chunk,
            motion_x: self.motion_x,
            motion_y: self.motion_y,
            motion_t0: self.motion_t0,
            motion_t1: self.motion_t1,
        }
    }
}

/// What models with several text encoders take besides the prompts.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "SDXL and SD3")]
pub(in crate::cli) struct Xl {
    /// What the second text encoder reads [default: the prompt]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) prompt_2: Option<String>,
    /// What the second text encoder reads of what the picture avoids [default: --negative-prompt]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) negative_prompt_2: Option<String>,
    /// What the third text encoder reads (SD3) [default: the prompt]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) prompt_3: Option<String>,
    /// What the third text encoder reads of what the picture avoids [default: --negative-prompt]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) negative_prompt_3: Option<String>,
    /// Size of the photograph that the picture is to look like; small ones look blurred [default: the picture's]
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(in crate::cli) original_size: Option<(usize, usize)>,
    /// Pixels cut off that photograph on the left and above [default: 0,0, which centres the subject]
    #[arg(long, value_name = "X,Y", value_parser = corner)]
    pub(in crate::cli) crop: Option<Corner>,
    /// Size that the photograph was cut to [default: the picture's]
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(in crate::cli) target_size: Option<(usize, usize)>,
    /// Size of the photograph that the picture is not to look like [default: --original-size]
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(in crate::cli) negative_original_size: Option<(usize, usize)>,
    /// Pixels cut off that other photograph on the left and above [default: --crop]
    #[arg(long, value_name = "X,Y", value_parser = corner)]
    pub(in crate::cli) negative_crop: Option<Corner>,
    /// Size that the other photograph was cut to [default: --target-size]
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(in crate::cli) negative_target_size: Option<(usize, usize)>,
    /// How good the picture is to look, 1 to 10, for the refiner [default: 6]
    #[arg(long, value_name = "S", value_parser = finite)]
    pub(in crate::cli) aesthetic_score: Option<f64>,
    /// How good the picture is not to look, 1 to 10, for the refiner [default: 2.5]
    #[arg(long, value_name = "S", value_parser = finite)]
    pub(in crate::cli) negative_aesthetic_score: Option<f64>,
}

/// Guidance by layers that are left out.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "options are named by fields")]
pub(in crate::cli) struct Skip {
    /// Guide away from the denoiser without these layers too (SD3), counted from 0; one more call of the model while it lasts
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = whole)]
    pub(in crate::cli) skip_layers: Vec<usize>,
    /// How strongly to guide away from the denoiser without --skip-layers [default: 2.8]
    #[arg(long, value_name = "G", value_parser = finite)]
    pub(in crate::cli) skip_layer_scale: Option<f64>,
    /// Share of the run, 0 to 1, from which --skip-layers guides [default: 0.01]
    #[arg(long, value_name = "F", value_parser = finite)]
    pub(in crate::cli) skip_layer_from: Option<f64>,
    /// Share of the run, 0 to 1, up to which --skip-layers guides [default: 0.2]
    #[arg(long, value_name = "F", value_parser = finite)]
    pub(in crate::cli) skip_layer_until: Option<f64>,
}

/// Files that change the model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Adapters")]
pub(in crate::cli) struct Adapt {
    /// Adapter (LoRA, LoCon, LoHa, LoKr, DoRA, whole differences), and how much of it [default: 1]; repeat it for several
    #[arg(long, value_name = "FILE[=SCALE]", value_parser = LoraFile::parse)]
    pub(in crate::cli) lora: Vec<LoraFile>,
    /// Textual inversion, and its word in prompts [default: the file's own]; repeat it for several
    #[arg(long, value_name = "[TOKEN=]FILE", value_parser = EmbeddingFile::parse)]
    pub(in crate::cli) embedding: Vec<EmbeddingFile>,
    /// Custom Diffusion weights; the words they were trained with are given as --embedding
    #[arg(long, value_name = "FILE", value_parser = kept())]
    pub(in crate::cli) custom_diffusion: Vec<PathBuf>,
}

pub(super) const PICTURES: &str = "Pictures";

#[derive(Debug, Args)]
#[command(next_help_heading = PICTURES)]
pub(in crate::cli) struct Start {
    /// Start from this picture, or make it larger with a model that does; it also sets the size unless --size does
    #[arg(long, value_name = "FILE", value_parser = kept())]
    pub(in crate::cli) init_image: Option<PathBuf>,
    /// How much of the picture gives way to noise, above 0 and up to 1 [default: 0.8, with a mask 1]
    #[arg(long, value_name = "S", value_parser = finite)]
    pub(in crate::cli) strength: Option<f64>,
    /// Paint only the light part of this picture anew
    #[arg(long, value_name = "FILE", value_parser = kept())]
    pub(in crate::cli) mask: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = PICTURES)]
pub(in crate::cli) struct Follow {
    #[command(flatten)]
    pub(in crate::cli) nets: Nets,
    /// Picture for the ControlNet to follow, one a --control-model
    #[arg(long, value_name = "FILE", value_parser = kept())]
    pub(in crate::cli) control_image: Vec<PathBuf>,
    /// Turn the control images into outlines first; thresholds of Canny's edges, between greys of 0 to 255 [default: 100,200]
    #[arg(long, value_name = "LOW,HIGH", num_args = 0..=1, default_missing_value = "100,200",
          require_equals = true, value_parser = canny)]
    pub(in crate::cli) control_canny: Option<CannyThresholds>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = PICTURES)]
#[allow(clippy::struct_field_names, reason = "fields have the options' names")]
pub(in crate::cli) struct Nets {
    /// ControlNet, a folder (config.json and weights) or a file; repeat it for several
    #[arg(long, value_name = "DIR|FILE")]
    pub(in crate::cli) control_model: Vec<String>,
    /// How strongly it steers: one for all, or one a --control-model [default: 1]
    #[arg(long, value_name = "S", value_parser = finite)]
    pub(in crate::cli) control_scale: Vec<f64>,
    /// Part of the run it steers, as in 0-0.5: one for all, or one a --control-model [default: 0-1]
    #[arg(long, value_name = "A-B", value_parser = window)]
    pub(in crate::cli) control_window: Vec<Window>,
    /// Steer only the prompt's half of guidance, the inner cells more than the outer: for empty prompts
    #[arg(long)]
    pub(in crate::cli) control_guess: bool,
}

pub(super) const RULES: &str = "Cache";
pub(super) const OUTPUT: &str = "Output";
pub(super) const MACHINE: &str = "Machine";
pub(super) const SAMPLES: &str = "Samples";

#[derive(Debug, Args)]
#[command(next_help_heading = RULES)]
pub(in crate::cli) struct Cache {
    /// What to reuse between steps, as in none, deepcache:interval=3,branch=0 or encoder-propagation:keys=50ls; a name that is not known is answered with all there are
    #[arg(long = "cache", value_name = "RULE")]
    pub(in crate::cli) rules: Vec<CacheRule>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = MACHINE)]
pub(in crate::cli) struct Machine {
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    /// How linear layers keep their weights: file, as it has them, or, on the CPU, q8, in 8 bits, or q4, in 4 bits [default: file]
    #[arg(long, value_name = "W")]
    pub(in crate::cli) weights: Option<WeightFormat>,
    /// What the denoiser's layers multiply their weights with. dtype: the type of --dtype. q8: 8 bits, with attention in 16 or 8 bits; on the CPU, with --weights q8 [default: dtype]
    #[arg(long, value_name = "A")]
    pub(in crate::cli) activations: Option<ActivationFormat>,
    /// Text encoders while the denoiser runs: keep, release (and read them again for the next prompt), or auto, which releases them when memory is short or no other prompt can come
    #[arg(long, value_name = "POLICY", default_value = "auto")]
    pub(in crate::cli) text_encoders: Residency,
    #[command(flatten)]
    pub(in crate::cli) blocks: Blocks,
    /// Do not check the kernels of a GPU on its first use
    #[arg(long)]
    pub(in crate::cli) no_doctor: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = MACHINE)]
pub(in crate::cli) struct Blocks {
    /// Read the blocks of transformers and of T5 from the file as they are needed, for the memory of two of them: always (which the option alone says), never, or auto, when memory is short [default: auto]
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub(in crate::cli) stream_weights: Option<Streaming>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = MACHINE)]
pub(in crate::cli) struct Place {
    /// auto, cpu, wgpu, vulkan, metal or cuda; a number picks one of several, as in cuda:1
    #[arg(long, value_name = "D", default_value = "auto")]
    pub(in crate::cli) device: DeviceChoice,
    /// Type the denoiser computes in: f32, f16 or bf16; under bf16 on the CPU the autoencoder's as well [default: f16 on a GPU that has it, else f32]
    #[arg(long, value_name = "T")]
    pub(in crate::cli) dtype: Option<DtypeChoice>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = OUTPUT)]
pub(in crate::cli) struct Previews {
    /// Show in a picture file (PNG, JPEG, WebP) what the run seems to become while it goes on; of a film, its middle frame
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) preview: Option<PathBuf>,
    /// Calls of the model from one preview to the next [default: 5]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(in crate::cli) preview_every: Option<usize>,
    /// Decode previews: each costs a decoding, in place of the linear map of the latents that costs next to nothing
    #[arg(long)]
    pub(in crate::cli) preview_decoded: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = OUTPUT)]
pub(in crate::cli) struct Form {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
