//! The words of `afterimage serve`.
#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help texts, which are read as they are"
)]

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf};

use clap::{Args, ValueEnum};

use super::values::{bytes, limit, origin, whole};
use crate::{
    device::{DeviceChoice, DtypeChoice},
    weights::{ActivationFormat, WeightFormat},
};

const NAMES: &str = "What requests may name";
const GATE: &str = "Who may ask";
const LIMITS: &str = "Limits, beyond which requests are refused";

#[derive(Debug, Args)]
pub(in crate::cli) struct Serve {
    /// Address to listen on; any but loopback needs a token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(in crate::cli) host: IpAddr,
    /// Port to listen on; 0 takes any that is free, and the first line of the standard output says which
    #[arg(long, value_name = "N", default_value_t = 7860)]
    pub(in crate::cli) port: u16,
    /// auto, cpu, wgpu, vulkan, metal or cuda; a number picks one of several, as in cuda:1; repeat it for a worker on each
    #[arg(long, value_name = "D", default_value = "auto")]
    pub(in crate::cli) device: Vec<DeviceChoice>,
    /// f32, f16 or bf16 [default: f16 on a GPU that has it, else f32]
    #[arg(long, value_name = "T")]
    pub(in crate::cli) dtype: Option<DtypeChoice>,
    /// How linear layers keep their weights: file, q8 or q4 [default: file]
    #[arg(long, value_name = "W")]
    pub(in crate::cli) weights: Option<WeightFormat>,
    /// What the denoiser's layers multiply their weights with: dtype or q8 [default: dtype]
    #[arg(long, value_name = "A")]
    pub(in crate::cli) activations: Option<ActivationFormat>,
    /// Bytes that weights of models take together on each device, as in 8GiB; the model that was used longest ago makes way [default: half of the device's memory]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(in crate::cli) memory: Option<u64>,
    /// Folder in which results are kept beyond the life of the server [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) results: Option<PathBuf>,
    /// Waiting requests that are made in one run, at most, where they differ in text and seed alone: more pictures in all, each of them later
    #[arg(long, value_name = "N", default_value = "1")]
    pub(in crate::cli) together: NonZeroUsize,
    /// Seconds for which running jobs are waited for when the server is told to end
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub(in crate::cli) drain: u64,
    /// How the log is written, on the standard error: text, or json, an object a line
    #[arg(
        long,
        value_name = "FORM",
        default_value = "text",
        hide_possible_values = true
    )]
    pub(in crate::cli) log: LogForm,
    #[command(flatten)]
    pub(in crate::cli) names: Names,
    #[command(flatten)]
    pub(in crate::cli) gate: Gate,
    #[command(flatten)]
    pub(in crate::cli) limits: Limits,
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LogForm {
    /// Lines for people
    Text,
    /// A JSON object a line
    Json,
}

#[derive(Debug, Args)]
#[command(next_help_heading = NAMES)]
pub(in crate::cli) struct Names {
    /// Model: folder, checkpoint file or Hub id; repeat it for several, of which the first is taken where a request names none [default: the bundled model]
    #[arg(long, value_name = "DIR|ID")]
    pub(in crate::cli) model: Vec<String>,
    /// Folder in which every folder and file of a model is one; repeatable
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) models: Vec<PathBuf>,
    /// Folder of LoRA files; repeatable
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) loras: Vec<PathBuf>,
    /// Folder of textual inversions; repeatable
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) embeddings: Vec<PathBuf>,
    /// Folder of ControlNets, each a folder or a file; repeatable
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) controls: Vec<PathBuf>,
    /// Folder of autoencoders; repeatable
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) vaes: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = GATE)]
pub(in crate::cli) struct Gate {
    /// File of tokens, one a line, with a name before it or none; AFTERIMAGE_TOKEN in the environment is one more
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) tokens: Option<PathBuf>,
    /// Name by which requests may call this machine where no token is asked for; repeatable
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) allow_host: Vec<String>,
    /// Site whose pages may ask, as in https://example.org, or * for all; repeatable
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub(in crate::cli) cors: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = LIMITS)]
pub(in crate::cli) struct Limits {
    /// Bytes of a request
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    pub(in crate::cli) max_body: u64,
    /// Pixels of a picture, made or sent
    #[arg(long, value_name = "N", default_value_t = 1 << 22, value_parser = limit)]
    pub(in crate::cli) max_pixels: usize,
    /// Steps
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = limit)]
    pub(in crate::cli) max_steps: usize,
    /// Pictures or films of a request
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = limit)]
    pub(in crate::cli) max_batch: usize,
    /// Frames of a film
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = whole)]
    pub(in crate::cli) max_frames: usize,
    /// Jobs that wait
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = limit)]
    pub(in crate::cli) max_queue: usize,
    /// Jobs of one client that wait
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = limit)]
    pub(in crate::cli) max_queue_client: usize,
    /// Seconds that a job may compute
    #[arg(long, value_name = "S", default_value_t = 1800)]
    pub(in crate::cli) max_seconds: u64,
    /// Seconds that the jobs of one client may compute within an hour
    #[arg(long, value_name = "S", default_value_t = 3600)]
    pub(in crate::cli) max_seconds_client: u64,
    /// Connections at once; more wait
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = limit)]
    pub(in crate::cli) max_connections: usize,
    /// Minutes for which results are kept [default: 60, or for ever with --results]
    #[arg(long, value_name = "MINUTES")]
    pub(in crate::cli) keep: Option<u64>,
    /// Bytes of results that are kept; the oldest go first
    #[arg(long, value_name = "BYTES", default_value = "2GiB", value_parser = bytes)]
    pub(in crate::cli) keep_bytes: u64,
}
