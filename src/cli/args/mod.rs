//! The words of the command line.
#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help texts, which are read as they are"
)]

mod elsewhere;
mod files;
mod groups;
mod reading;
#[cfg(feature = "serve")]
mod serve;
mod values;
mod written;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::{
    cache::CacheRule,
    device::{DeviceChoice, DtypeChoice},
    evaluation::Shard,
    samplers::SamplerKind,
    weights::{ActivationFormat, WeightFormat},
};
use values::{calibrated, count, faster, finite, fixed_seed, samples, seed, whole};
use written::{kept, page, plot, tensors, written};

pub(super) use files::{EmbeddingFile, LoraFile};
pub(super) use groups::*;
#[cfg(test)]
pub(super) use reading::parsed;
pub(super) use reading::read;
#[cfg(feature = "serve")]
pub(super) use serve::{LogForm, Serve};
pub(super) use values::{Calibrated, Corner, Seed, Window};
pub(super) use written::ends_in;

/// Makes pictures with diffusion models on any GPU and on the CPU, and makes them sooner by reusing what barely changes between
/// steps.
#[derive(Debug, Parser)]
#[command(name = "afterimage", version, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one command a process")]
pub(super) enum Command {
    /// Make pictures from a text or of a class
    #[command(
        after_help = "Example: afterimage generate \"a red circle above a blue square\" --seed 7 --cache deepcache:interval=3,branch=0 --output shapes.png"
    )]
    Generate(Generate),
    /// Make the pictures of latents that a run has left
    #[command(
        after_help = "Example: afterimage decode shapes.latents.safetensors --output shapes.png"
    )]
    Decode(Decode),
    /// Show what a cache rule would do, from a model's configuration alone
    #[command(
        after_help = "Example: afterimage plan --model stable-diffusion-v1-5 --steps 50 --cache deepcache:interval=5,branch=0"
    )]
    Plan(Plan),
    /// Time cache rules against the plain run
    #[command(
        after_help = "Example: afterimage bench --steps 30 --cache deepcache:interval=3,branch=0 encoder-propagation:keys=50ls"
    )]
    Bench(Bench),
    /// Make a plan for --cache auto: find out where to refresh, and how close that comes to the plain run; or a router for Learning-to-Cache
    #[command(
        after_help = "Example: afterimage calibrate --cache deepcache:branch=0,forecast=linear --steps 30 --prompts prompts.txt --output plan.json"
    )]
    Calibrate(Calibrate),
    /// List devices with their memory, data types, subgroups and matrix units
    #[command(after_help = "Example: afterimage devices")]
    Devices,
    /// Check the kernels of a device against the processor; what it computes wrongly is replaced from then on
    #[command(after_help = "Example: afterimage doctor --device vulkan")]
    Doctor(Doctor),
    /// Measure what cache rules cost in quality, over many pictures
    #[command(
        after_help = "Example: afterimage eval --samples 64 --judge shapes --cache deepcache:interval=3,branch=0 --output evaluation"
    )]
    Eval(Eval),
    /// Show what a model is made of, or what an adapter or an embedding is
    #[command(after_help = "Example: afterimage inspect style.safetensors")]
    Inspect(Inspect),
    /// Serve pictures over HTTP: a page, an interface of its own, OpenAI's, and /sdapi/v1
    #[cfg(feature = "serve")]
    #[command(
        after_help = "Example: afterimage serve --models path/to/models --results path/to/pictures"
    )]
    Serve(Box<Serve>),
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// What the picture shows; weights as in (word:1.3) are not read, and warned of [default, of models that read texts: a red circle above a blue square]
    pub(super) prompt: Option<String>,
    /// Make a picture or film of ours again, or the run that a recipe in JSON describes; options given beside it change it
    #[arg(long, value_name = "FILE")]
    pub(super) replay: Option<PathBuf>,
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) links: Links,
    /// What the picture avoids
    #[arg(long, value_name = "TEXT")]
    pub(super) negative_prompt: Option<String>,
    #[command(flatten)]
    pub(super) course: Course,
    /// How strongly FLUX is led away from the negative prompt: 1 or less switches this off; more costs two calls of the model a step [default: 1]
    #[arg(long, value_name = "G", value_parser = finite)]
    pub(super) true_guidance_scale: Option<f64>,
    /// How far guided predictions are rescaled to the contrast of unguided ones, 0 to 1
    #[arg(long, value_name = "R", value_parser = finite)]
    pub(super) guidance_rescale: Option<f64>,
    /// Guide only this share of the run, 0 to 1; what follows computes one row a picture instead of two
    #[arg(long, value_name = "F", value_parser = finite)]
    pub(super) guidance_until: Option<f64>,
    /// How many channels of the latents are guided, from the first [default: all; 3 for the single files of class-conditional transformers]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(super) guidance_channels: Option<usize>,
    #[command(flatten)]
    pub(super) skip: Skip,
    /// Leave out the last N layers of the text encoder
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(super) clip_skip: Option<usize>,
    /// Noise added by DDIM (0 none, 1 as much as DDPM) and by TCD, whose gamma it is
    #[arg(long, value_name = "E", value_parser = finite)]
    pub(super) eta: Option<f64>,
    /// Seed of the noise, the same as in diffusers; -1 takes a random one, which is printed and kept in the picture [default: -1]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub(super) seed: Option<Seed>,
    /// Start from the tensor latents of a safetensors file instead of the seed's noise
    #[arg(long, value_name = "FILE", value_parser = kept())]
    pub(super) initial_latents: Option<PathBuf>,
    #[command(flatten)]
    pub(super) xl: Xl,
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
    /// Record the launches of a step on a GPU, and play them at later ones: for long runs on GPUs that wait for the processor
    #[arg(long, help_heading = MACHINE)]
    pub(super) step_graphs: bool,
    /// Picture to write (PNG, JPEG, WebP) or film (MP4, GIF, APNG, PNG, Y4M, or a folder of frames as NAME/), or - for the standard output; several are numbered from FILE-0.png on [default: afterimage-SEED.png]
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) previews: Previews,
    /// Write latents and predictions of every step to a file
    #[arg(long, value_name = "FILE.safetensors", value_parser = tensors(), help_heading = OUTPUT)]
    pub(super) trace: Option<PathBuf>,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Decode {
    /// What a run kept because its pictures could not be made: the tensor latents of this file; model, autoencoder and films are those of the recipe in it, if there is one, unless others are given
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
    #[command(flatten)]
    pub(super) film: Projected,
    /// Picture to write (PNG, JPEG, WebP) or film (MP4, GIF, APNG, PNG, Y4M, or a folder of frames as NAME/), or - for the standard output; several are numbered from FILE-0.png on [default: the latents' name with .png]
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(super) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) links: Links,
    #[command(flatten)]
    pub(super) course: Course,
    /// Plan a run that starts from a picture under this much noise, above 0 and up to 1
    #[arg(long, value_name = "S", value_parser = finite)]
    pub(super) strength: Option<f64>,
    #[command(flatten)]
    pub(super) skip: Skip,
    #[command(flatten)]
    pub(super) nets: Nets,
    #[command(flatten)]
    pub(super) cache: Cache,
    /// Show the curve of the model's calibrated plan, and plan what it picks for this speed-up, as in 2x
    #[arg(long, value_name = "Sx", value_parser = faster, conflicts_with = "psnr", help_heading = RULES)]
    pub(super) budget: Option<f64>,
    /// Show the curve of the model's calibrated plan, and plan what it picks for this closeness to the plain run, in dB
    #[arg(long, value_name = "D", value_parser = finite, help_heading = RULES)]
    pub(super) psnr: Option<f64>,
    /// Forecast memory for a denoiser in f32 on the CPU, or in f16 or bf16 on a GPU
    #[arg(long, value_name = "T", default_value = "f32", help_heading = MACHINE)]
    pub(super) dtype: DtypeChoice,
    /// Forecast memory for linear layers as the files have them, file, in 8 bits, q8, or in 4 bits, q4
    #[arg(long, value_name = "W", default_value_t, help_heading = MACHINE)]
    pub(super) weights: WeightFormat,
    /// Forecast memory for linear layers that multiply their weights with the type of --dtype, dtype, or, with --weights q8, with 8 bits, q8
    #[arg(long, value_name = "A", default_value_t, help_heading = MACHINE)]
    pub(super) activations: ActivationFormat,
    #[command(flatten)]
    pub(super) blocks: Blocks,
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
    #[arg(long, value_name = "RULE", required_unless_present = "curve", num_args = 1.., help_heading = RULES)]
    pub(super) cache: Vec<CacheRule>,
    /// Measure speed against difference: how far the pictures of every rule, and of fewer steps at its cost, are from the plain run's; without --cache the rules that go with the model
    #[arg(long, conflicts_with = "step_graphs", help_heading = RULES)]
    pub(super) curve: bool,
    /// What the pictures of a curve show, going round the rounds: a prompt a line, or JSON objects with a prompt in a .jsonl file
    #[arg(long, value_name = "FILE", requires = "curve", help_heading = SAMPLES)]
    pub(super) prompts: Option<PathBuf>,
    /// Draw the curve, and how far the forecasts of rules with `verify` were off, as SVG
    #[arg(long, value_name = "FILE.svg", requires = "curve", value_parser = plot(), help_heading = OUTPUT)]
    pub(super) plot: Option<PathBuf>,
    /// Rounds; in each, the plain run and every rule take their turn; of a curve, each with the next seed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count)]
    pub(super) repeat: usize,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = fixed_seed)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) adapt: Adapt,
    #[command(flatten)]
    pub(super) nets: Nets,
    #[command(flatten)]
    pub(super) machine: Machine,
    /// Time the plain run and every rule with recorded steps too, as with generate --step-graphs
    #[arg(long, help_heading = MACHINE)]
    pub(super) step_graphs: bool,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
pub(super) struct Calibrate {
    #[command(flatten)]
    pub(super) model: Model,
    #[command(flatten)]
    pub(super) course: Course,
    /// Rules to find the best refreshes of, whatever their own are: they cut the trunk; l2c makes a router [default: l2c]
    #[arg(long, value_name = "RULE", num_args = 1.., value_parser = calibrated, help_heading = RULES)]
    pub(super) cache: Vec<Calibrated>,
    /// The most model calls from one refresh of a plan to the next
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = count, help_heading = RULES)]
    pub(super) gap: usize,
    /// Measure less of a plan, for models that take long: of the stretches between refreshes those that others can be told from, and how close plans come on the first picture alone
    #[arg(long, requires = "cache", help_heading = RULES)]
    pub(super) quick: bool,
    /// What the pictures of a plan show, going round the seeds: a prompt a line, or JSON objects with a prompt in a .jsonl file
    #[arg(long, value_name = "FILE", help_heading = SAMPLES)]
    pub(super) prompts: Option<PathBuf>,
    /// Seeds of the runs that are watched, of a plan one a picture
    #[arg(
        long,
        value_name = "N[,N]",
        value_delimiter = ',',
        default_value = "0,1,2,3",
        value_parser = fixed_seed
    )]
    pub(super) seeds: Vec<u64>,
    #[command(flatten)]
    pub(super) machine: Machine,
    /// File to write: a plan for --cache auto:speedup=S,plan=FILE, which is taken by itself where it lies in the model's folder as afterimage-plan.json; or a router for --cache l2c:router=FILE,threshold=T, where T is the share of the branches' work at every other step that is left out
    #[arg(long, value_name = "FILE", value_parser = written(), help_heading = OUTPUT)]
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
    #[command(
        after_help = "Example: afterimage eval merge shard-1 shard-2 --judge shapes --output joined"
    )]
    Merge(Merge),
    /// Write a page about one or several evaluations that are complete
    #[command(after_help = "Example: afterimage eval report evaluation --output quality.md")]
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
    /// Samplers whose fewer steps the rules are compared with, beside those of the run's own
    #[arg(long, value_name = "SAMPLER", num_args = 1.., help_heading = RULES)]
    pub(super) peers: Vec<SamplerKind>,
    /// Make each picture in N plain steps too, and measure how far all are from it: how close to N steps says more than how close to few
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "250", value_parser = count, help_heading = RULES)]
    pub(super) converged: Option<usize>,
    /// Samples; every method makes a picture of each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = samples, help_heading = SAMPLES)]
    pub(super) samples: usize,
    /// What the pictures show: a prompt a line, or JSON objects with a prompt in a .jsonl file; samples go round them
    #[arg(long, value_name = "FILE", help_heading = SAMPLES)]
    pub(super) prompts: Option<PathBuf>,
    /// Seed of the first sample; each next sample has the next seed
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = fixed_seed, help_heading = SAMPLES)]
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
    /// LPIPS weights, for LPIPS and for Fréchet distances in AlexNet's feature space
    #[arg(long, value_name = "FILE")]
    pub(super) lpips: Option<PathBuf>,
    /// Classifier that counts what it recognises, and whose features Fréchet distances are taken in
    #[arg(long, value_name = "DIR", conflicts_with = "judge")]
    pub(super) classifier: Option<PathBuf>,
    /// Pictures that the sets are compared with: a folder, or a .npz file with arr_0
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
    #[arg(long, value_name = "FILE.svg", value_parser = plot(), help_heading = OUTPUT)]
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
    /// Folder for results.json [default: the first of the folders]
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
    /// Folders of evaluations, each with its results.json
    #[arg(value_name = "DIR", required = true)]
    pub(super) folders: Vec<PathBuf>,
    /// Page to write; plots go beside it
    #[arg(long, value_name = "FILE.md", required = true, value_parser = page(), help_heading = OUTPUT)]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Folder, checkpoint file or Hub id, or the file of an adapter or an embedding [default: the bundled model]
    #[arg(value_name = "MODEL")]
    pub(super) model: Option<String>,
    #[command(flatten)]
    pub(super) said: Said,
}

/// The prompt of the bare command.
pub(super) const DEFAULT_PROMPT: &str = "a red circle above a blue square";
