//! The words of the command line.

use std::{ops::Range, path::PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand};

use super::adapters::{EmbeddingFile, LoraFile};

use crate::{
    cache::CacheRule,
    device::{DeviceChoice, DtypeChoice},
    evaluation::Shard,
    image_io::CannyThresholds,
    pipeline::Residency,
    samplers::SamplerKind,
    weights::WeightFormat,
};

/// Makes pictures with diffusion models on any GPU and on the CPU, and makes them sooner by reusing what barely changes between
/// steps.
#[derive(Debug, Parser)]
#[command(name = "afterimage", version, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make pictures from a text or of a class
    Generate(Generate),
    /// Make the pictures of latents that a run has left
    Decode(Decode),
    /// Show what a cache rule would do, from a model's configuration alone
    Plan(Plan),
    /// Time cache rules against the plain run
    Bench(Bench),
    /// Make a router for Learning-to-Cache: see which branches change little from step to step
    Calibrate(Calibrate),
    /// List devices with their memory, data types, subgroups and matrix units
    Devices,
    /// Check the kernels of a device against the processor; what it computes wrongly is replaced from then on
    Doctor(Doctor),
    /// Measure what cache rules cost in quality, over many pictures
    Eval(Eval),
    /// Show what a model is made of, or what a `LoRA` or an embedding is
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// What the picture shows
    pub(super) prompt: Option<String>,
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) refiner: Refiner,
    /// What the picture avoids
    #[arg(long, value_name = "TEXT")]
    pub(super) negative_prompt: Option<String>,
    #[command(flatten)]
    pub(super) course: Course,
    /// How far guided predictions are rescaled to the contrast of unguided ones, 0 to 1
    #[arg(long, value_name = "R", value_parser = finite)]
    pub(super) guidance_rescale: Option<f64>,
    /// Guide only this share of the run, 0 to 1; what follows computes one row a picture instead of two
    #[arg(long, value_name = "F", value_parser = finite)]
    pub(super) guidance_until: Option<f64>,
    /// How many channels of the latents are guided, from the first [default: all under a text, 3 under a class]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(super) guidance_channels: Option<usize>,
    /// Leave out the last N layers of the text encoder
    #[arg(long, value_name = "N")]
    pub(super) clip_skip: Option<usize>,
    /// Noise added by DDIM: 0 none, 1 as much as DDPM
    #[arg(long, value_name = "E", value_parser = finite)]
    pub(super) eta: Option<f64>,
    /// Seed of the noise, the same as in diffusers [default: random, printed]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Start from the tensor `latents` of a file instead of the seed's noise
    #[arg(long, value_name = "FILE.safetensors")]
    pub(super) initial_latents: Option<PathBuf>,
    #[command(flatten)]
    pub(super) adapt: Adapt,
    #[command(flatten)]
    pub(super) start: Start,
    #[command(flatten)]
    pub(super) follow: Follow,
    #[command(flatten)]
    pub(super) cache: Cache,
    #[command(flatten)]
    pub(super) machine: Machine,
    /// File to write; several pictures become FILE-0.png, FILE-1.png, … [default: afterimage-SEED.png]
    #[arg(long, value_name = "FILE.png", help_heading = OUTPUT)]
    pub(super) output: Option<PathBuf>,
    /// Write latents and predictions of every step to a file
    #[arg(long, value_name = "FILE.safetensors", help_heading = OUTPUT)]
    pub(super) trace: Option<PathBuf>,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Decode {
    /// What a run kept because its pictures could not be made: the tensor `latents` of this file
    #[arg(value_name = "FILE.safetensors")]
    pub(super) latents: PathBuf,
    #[command(flatten)]
    pub(super) model: Model,
    /// auto, cpu, wgpu, vulkan, metal or cuda; a number picks one of several, as in cuda:1
    #[arg(
        long,
        value_name = "D",
        default_value = "auto",
        help_heading = "Machine"
    )]
    pub(super) device: DeviceChoice,
    /// File to write; several pictures become FILE-0.png, FILE-1.png, … [default: the latents' name with .png]
    #[arg(long, value_name = "FILE.png", help_heading = OUTPUT)]
    pub(super) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) refiner: Refiner,
    #[command(flatten)]
    pub(super) course: Course,
    /// Plan a run that starts from a picture under this much noise, above 0 and up to 1
    #[arg(long, value_name = "S", value_parser = finite)]
    pub(super) strength: Option<f64>,
    #[command(flatten)]
    pub(super) nets: Nets,
    #[command(flatten)]
    pub(super) cache: Cache,
    /// Forecast memory for a denoiser in f32 on the CPU, or in f16 or bf16 on a GPU
    #[arg(long, value_name = "T", default_value = "f32", help_heading = MACHINE)]
    pub(super) dtype: DtypeChoice,
    /// Forecast memory for linear layers as the files have them, file, or in 8 bits, q8
    #[arg(long, value_name = "W", default_value_t, help_heading = MACHINE)]
    pub(super) weights: WeightFormat,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) course: Course,
    /// Rules to time, each against the plain run
    #[arg(long, value_name = "RULE", required = true, num_args = 1.., help_heading = RULES)]
    pub(super) cache: Vec<CacheRule>,
    /// Rounds; in each, the plain run and every rule take their turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count)]
    pub(super) repeat: usize,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) adapt: Adapt,
    #[command(flatten)]
    pub(super) machine: Machine,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Calibrate {
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) course: Course,
    /// Seeds of the runs that are watched
    #[arg(
        long,
        value_name = "N[,N…]",
        value_delimiter = ',',
        default_value = "0,1,2,3"
    )]
    pub(super) seeds: Vec<u64>,
    #[command(flatten)]
    pub(super) machine: Machine,
    /// File to write, for `--cache l2c:router=FILE,threshold=T`: T is the share of the branches' work at every other step that is spared
    #[arg(long, value_name = "FILE.safetensors", help_heading = OUTPUT)]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Check only what this model uses, and keep the list of kernels as it is: folder, checkpoint file or Hub id
    #[arg(long, value_name = "DIR|ID")]
    pub(super) model: Option<String>,
    #[command(flatten)]
    pub(super) place: Place,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Eval {
    #[command(subcommand)]
    pub(super) command: Option<EvalCommand>,
    #[command(flatten)]
    pub(super) sampling: Sampling,
}

#[derive(Debug, Subcommand)]
pub(super) enum EvalCommand {
    /// Join the folders of all shards and measure them as one
    Merge(Merge),
    /// Write a page about one or several evaluations that are complete
    Report(Report),
}

/// Which pictures an evaluation makes, and how they are measured.
#[derive(Debug, Args)]
pub(super) struct Sampling {
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) course: Course,
    /// Rules to measure, each against the plain run and against fewer steps of equal cost
    #[arg(long, value_name = "RULE", num_args = 1.., help_heading = RULES)]
    pub(super) cache: Vec<CacheRule>,
    /// Samples; every method makes a picture of each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = samples, help_heading = SAMPLES)]
    pub(super) samples: usize,
    /// What the pictures show: a prompt a line, or JSON objects with `prompt`; samples go round them
    #[arg(long, value_name = "FILE", help_heading = SAMPLES)]
    pub(super) prompts: Option<PathBuf>,
    /// Seed of the first sample; each next sample has the next seed
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = SAMPLES)]
    pub(super) seed: u64,
    /// Make one of several parts, for jobs side by side: 1/4 to 4/4
    #[arg(long, value_name = "I/N", help_heading = SAMPLES)]
    pub(super) shard: Option<Shard>,
    /// Folder of the pictures; a run that was stopped goes on where it was
    #[arg(long, value_name = "DIR", default_value = "evaluation", help_heading = OUTPUT)]
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) adapt: Adapt,
    #[command(flatten)]
    pub(super) measures: Measures,
    #[command(flatten)]
    pub(super) machine: Machine,
    #[command(flatten)]
    pub(super) form: Form,
}

/// What pictures are measured with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Measures")]
#[command(group = ArgGroup::new("spaces").args(["lpips", "classifier"]).multiple(true))]
pub(super) struct Measures {
    /// LPIPS weights, for LPIPS and for Fréchet distances in `AlexNet`'s feature space
    #[arg(long, value_name = "FILE")]
    pub(super) lpips: Option<PathBuf>,
    /// Classifier that counts what it recognises, and whose features Fréchet distances are taken in
    #[arg(long, value_name = "DIR", conflicts_with = "judge")]
    pub(super) classifier: Option<PathBuf>,
    /// Pictures that the sets are compared with: a folder, or a .npz file with `arr_0`
    #[arg(long, value_name = "DIR|FILE.npz", requires = "spaces")]
    pub(super) data: Option<PathBuf>,
    /// Count what was asked for and is there
    #[arg(long, value_name = "NAME")]
    pub(super) judge: Option<JudgeChoice>,
    /// CLIP model in transformers' layout, for CLIP scores with the prompts
    #[arg(long, value_name = "DIR")]
    pub(super) clip: Option<PathBuf>,
    /// Write every method's pictures as a .npz file for the ADM evaluator into this folder
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub(super) npz: Option<PathBuf>,
    /// Draw quality against speed
    #[arg(long, value_name = "FILE.svg", help_heading = OUTPUT)]
    pub(super) plot: Option<PathBuf>,
}

/// The judges there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum JudgeChoice {
    /// Looks for the coloured shapes that a text names
    Shapes,
}

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Folders of the shards; together they hold every batch once
    #[arg(value_name = "DIR", required = true)]
    pub(super) folders: Vec<PathBuf>,
    /// Folder for `results.json` [default: the first of the folders]
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) measures: Measures,
    #[command(flatten)]
    pub(super) machine: Machine,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Report {
    /// Folders of evaluations, each with `results.json`
    #[arg(value_name = "DIR", required = true)]
    pub(super) folders: Vec<PathBuf>,
    /// Page to write; plots go beside it
    #[arg(long, value_name = "FILE.md", required = true, help_heading = OUTPUT)]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Folder, checkpoint file or Hub id, or the file of a `LoRA` or an embedding [default: the bundled model]
    #[arg(value_name = "MODEL")]
    pub(super) model: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Model {
    /// Folder, checkpoint file or Hub id [default: the bundled model]
    #[arg(long = "model", value_name = "DIR|ID")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Refiner {
    /// SDXL refiner that finishes what the model begins: folder, checkpoint file or Hub id
    #[arg(long, value_name = "DIR|ID")]
    pub(super) refiner: Option<String>,
    /// Share of the noise that the model takes away before the refiner [default: 0.8]
    #[arg(long, value_name = "F", value_parser = finite, requires = "refiner")]
    pub(super) refiner_from: Option<f64>,
}

/// What decides which evaluations a run makes, and of what size. What is left out comes from the model.
#[derive(Debug, Args)]
pub(super) struct Course {
    /// Classes to show, for models that make pictures of classes
    #[arg(long, value_name = "N[,N…]", value_delimiter = ',')]
    pub(super) class_label: Vec<usize>,
    /// Denoising steps
    #[arg(long, value_name = "N")]
    pub(super) steps: Option<usize>,
    /// How strongly text or class guides; 1 and less is unguided
    #[arg(long, value_name = "G", value_parser = finite)]
    pub(super) guidance_scale: Option<f64>,
    /// Width and height in pixels
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(super) size: Option<(usize, usize)>,
    /// Pictures made together, of each class where classes are named
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub(super) batch: usize,
    /// Update rule: ddim, pndm, ddpm, dpmsolver++, dpmsolver++-karras, euler, euler-a, heun, unipc, …
    #[arg(long, value_name = "NAME")]
    pub(super) sampler: Option<SamplerKind>,
}

/// Files that change the model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Adapters")]
pub(super) struct Adapt {
    /// `LoRA`, `LoCon` or `LoHa`, and how much of it [default: 1]; repeat it for several
    #[arg(long, value_name = "FILE[=SCALE]", value_parser = LoraFile::parse)]
    pub(super) lora: Vec<LoraFile>,
    /// Textual inversion, and its word in prompts [default: the file's own]; repeat it for several
    #[arg(long, value_name = "[TOKEN=]FILE", value_parser = EmbeddingFile::parse)]
    pub(super) embedding: Vec<EmbeddingFile>,
    /// Custom Diffusion weights; the words they were trained with are given as --embedding
    #[arg(long, value_name = "FILE")]
    pub(super) custom_diffusion: Vec<PathBuf>,
}

const PICTURES: &str = "Pictures";

#[derive(Debug, Args)]
#[command(next_help_heading = PICTURES)]
pub(super) struct Start {
    /// Start from this picture; it also sets the size unless --size does
    #[arg(long, value_name = "FILE")]
    pub(super) init_image: Option<PathBuf>,
    /// How much of the picture gives way to noise, above 0 and up to 1 [default: 0.8, with a mask 1]
    #[arg(long, value_name = "S", value_parser = finite, requires = "init_image")]
    pub(super) strength: Option<f64>,
    /// Paint only the light part of this picture anew
    #[arg(long, value_name = "FILE", requires = "init_image")]
    pub(super) mask: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = PICTURES)]
pub(super) struct Follow {
    #[command(flatten)]
    pub(super) nets: Nets,
    /// Picture for the `ControlNet` to follow, one a --control-model
    #[arg(long, value_name = "FILE", requires = "control_model")]
    pub(super) control_image: Vec<PathBuf>,
    /// Turn the control images into outlines first; thresholds of Canny's edges, between greys of 0 to 255 [default: 100,200]
    #[arg(long, value_name = "LOW,HIGH", num_args = 0..=1, default_missing_value = "100,200",
          require_equals = true, value_parser = CannyThresholds::parse, requires = "control_model")]
    pub(super) control_canny: Option<CannyThresholds>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = PICTURES)]
#[allow(clippy::struct_field_names, reason = "fields have the options' names")]
pub(super) struct Nets {
    /// Folder of a `ControlNet` (config.json and weights); repeat it for several
    #[arg(long, value_name = "DIR")]
    pub(super) control_model: Vec<String>,
    /// How strongly it steers: one for all, or one a --control-model [default: 1]
    #[arg(long, value_name = "S", value_parser = finite, requires = "control_model")]
    pub(super) control_scale: Vec<f64>,
    /// Part of the run it steers, as in 0-0.5: one for all, or one a --control-model [default: 0-1]
    #[arg(long, value_name = "A-B", value_parser = window, requires = "control_model")]
    pub(super) control_window: Vec<Window>,
    /// Steer only the prompt's half of guidance, the inner cells more than the outer: for empty prompts
    #[arg(long, requires = "control_model")]
    pub(super) control_guess: bool,
}

/// A part of the run, 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window(pub(super) Range<f64>);

fn window(text: &str) -> Result<Window, String> {
    let ends = text.split_once('-');
    let read = |text: &str| finite(text).ok();
    match ends.and_then(|(from, until)| read(from).zip(read(until))) {
        Some((from, until)) if 0.0 <= from && from < until && until <= 1.0 => {
            Ok(Window(from..until))
        }
        _ => Err("write start and end of the run's part, 0 to 1, as in 0.2-0.8".into()),
    }
}

const RULES: &str = "Cache";
const OUTPUT: &str = "Output";
const MACHINE: &str = "Machine";
const SAMPLES: &str = "Samples";

#[derive(Debug, Args)]
#[command(next_help_heading = RULES)]
pub(super) struct Cache {
    /// What to reuse between steps: none, deepcache:interval=3,branch=0, encoder-propagation:keys=50ls, …
    #[arg(long = "cache", value_name = "RULE")]
    pub(super) rules: Vec<CacheRule>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = MACHINE)]
pub(super) struct Machine {
    #[command(flatten)]
    pub(super) place: Place,
    /// How linear layers keep their weights: file, as it has them, or q8, in 8 bits (on the CPU)
    #[arg(long, value_name = "W", default_value_t)]
    pub(super) weights: WeightFormat,
    /// Text encoders while the denoiser runs: keep, release (and read them again for the next prompt), or auto, which releases them when memory is short
    #[arg(long, value_name = "POLICY", default_value = "auto")]
    pub(super) text_encoders: Residency,
    /// Do not check the kernels of a GPU on its first use
    #[arg(long)]
    pub(super) no_doctor: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = MACHINE)]
pub(super) struct Place {
    /// auto, cpu, wgpu, vulkan, metal or cuda; a number picks one of several, as in cuda:1
    #[arg(long, value_name = "D", default_value = "auto")]
    pub(super) device: DeviceChoice,
    /// f32, f16 or bf16 [default: f16 on a GPU that has it, else f32]
    #[arg(long, value_name = "T")]
    pub(super) dtype: Option<DtypeChoice>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = OUTPUT)]
pub(super) struct Form {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// The prompt of the bare command.
pub(super) const DEFAULT_PROMPT: &str = "a red circle above a blue square";

/// Pixels a side beyond which no model and no machine of today follows.
const LARGEST_SIDE: usize = 8192;

/// Pictures or rounds beyond which a number is a slip of the hand.
const LARGEST_COUNT: usize = 10_000;

/// The same of samples of an evaluation.
const LARGEST_STUDY: usize = 10_000_000;

fn size(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once(['x', 'X']);
    let parsed =
        sides.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match parsed {
        Some((width, height))
            if (1..=LARGEST_SIDE).contains(&width) && (1..=LARGEST_SIDE).contains(&height) =>
        {
            Ok((width, height))
        }
        Some(_) => Err(format!("a side has 1 to {LARGEST_SIDE} pixels")),
        None => Err("write width and height as in 512x512".into()),
    }
}

/// A number of things that are made, so at least one.
fn count(text: &str) -> Result<usize, String> {
    count_to(text, LARGEST_COUNT)
}

/// Samples of an evaluation.
fn samples(text: &str) -> Result<usize, String> {
    count_to(text, LARGEST_STUDY)
}

fn count_to(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(number) if number > most => Err(format!("at most {most} are made")),
        Ok(number) => Ok(number),
        Err(_) => Err("a whole number is needed".into()),
    }
}

fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "a number is needed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("512x768"), Ok((512, 768)));
        for wrong in [
            "",
            "512",
            "512x",
            "x512",
            "-8x8",
            "0x8",
            "99999999999x8",
            "8x8x8",
            "8*8",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_are_read() {
        assert_eq!(window("0.2-0.8"), Ok(Window(0.2..0.8)));
        assert_eq!(window("0-1"), Ok(Window(0.0..1.0)));
        for wrong in ["", "0.5", "0.8-0.2", "0-2", "-0.1-0.5", "nan-1", "a-b"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(count("3"), Ok(3));
        assert!(count("0").is_err() && count("-1").is_err());
        assert_eq!(finite("7.5"), Ok(7.5));
        assert!(finite("nan").is_err() && finite("inf").is_err() && finite("x").is_err());
    }
}
