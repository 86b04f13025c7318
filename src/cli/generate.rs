//! `afterimage generate`: a text in, pictures out.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    args, cancel, console,
    job::{self, Facts, Machine, Model},
    pictures::{self, Sources},
    plan::Summary,
    progress::{Watch, speed},
    tensors,
};
use crate::{
    cache::CacheRule,
    error::Error,
    image_io::{batch_paths, check_writable},
    pipeline::{Generated, Pipeline, Report, Request, Resolved, Trace},
};

/// Everything is checked that can be checked without weights before any are read; then the pictures are made and written.
pub(super) fn run(arguments: &args::Generate) -> Result<(), Error> {
    let seed = arguments.seed.unwrap_or_else(job::random_seed);
    let files = files(arguments, seed)?;
    let mut request = request(arguments, seed)?;
    request.edit = pictures::edit(&arguments.start)?;
    let mut model = Model::open(arguments.model.name.as_deref())?;
    request.controls = pictures::followed(&arguments.follow, &mut model)?;
    let prompt = job::prompt(arguments.prompt.as_deref(), &model.config);
    request.prompts = vec![prompt.clone()];
    let resolved = request.resolve(&model.config)?;
    let machine = Machine::open(&arguments.machine)?;
    machine.check_memory(&resolved)?;
    if let Some(path) = &arguments.initial_latents {
        request.initial_latents = Some(tensors::read_latents(path, machine.device.device())?);
    }
    cancel::listen();
    let loading = Instant::now();
    let pipeline = model.load(&machine)?;
    let loading = loading.elapsed();
    cancel::check()?;
    let generated = generate(&pipeline, &request, arguments.trace.as_deref())?;
    let account = Account {
        facts: Facts::new(&model, &request, &resolved),
        sources: Sources::new(arguments, &request.controls),
        prompt: &prompt,
        negative_prompt: arguments.negative_prompt.as_deref(),
        seed,
        weights: model.folder.weights_hash()?,
        device: machine.device.to_string(),
        dtype: machine.dtype_name(),
        version: env!("CARGO_PKG_VERSION"),
    };
    write(&generated, &files, &account.texts())?;
    let outcome = Outcome {
        files: files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        account,
        work: work(&resolved, &generated.report),
        seconds: Seconds::new(loading, &generated.report),
    };
    if arguments.form.json {
        console::json(&outcome);
    } else {
        console::data(&outcome.text());
    }
    Ok(())
}

/// Where the pictures go; nothing starts that could not be written in the end.
fn files(arguments: &args::Generate, seed: u64) -> Result<Vec<PathBuf>, Error> {
    let output = arguments.output.clone();
    let output = output.unwrap_or_else(|| format!("afterimage-{seed}.png").into());
    let files = batch_paths(&output, arguments.course.batch)?;
    for file in &files {
        check_writable(file, "the picture")?;
    }
    if let Some(trace) = &arguments.trace {
        check_writable(trace, "the trace")?;
    }
    Ok(files)
}

fn request(arguments: &args::Generate, seed: u64) -> Result<Request, Error> {
    let rule = CacheRule::combine(arguments.cache.rules.iter().cloned())?;
    let mut request = job::request(&arguments.course, rule, seed);
    request.negative_prompts = arguments.negative_prompt.iter().cloned().collect();
    request.guidance_rescale = arguments.guidance_rescale.unwrap_or(0.0);
    request.clip_skip = arguments.clip_skip.unwrap_or(0);
    request.eta = arguments.eta.unwrap_or(0.0);
    Ok(request)
}

/// Makes the pictures under a progress bar, and writes the trace if one is wanted.
fn generate(
    pipeline: &Pipeline,
    request: &Request,
    trace: Option<&std::path::Path>,
) -> Result<Generated, Error> {
    let mut watch = Watch::new();
    let Some(path) = trace else {
        let generated = pipeline.generate(request, &mut watch);
        watch.finish();
        return generated;
    };
    let mut trace = Trace::new(&mut watch);
    let generated = pipeline.generate(request, &mut trace)?;
    tensors::write_trace(path, &trace, &generated)?;
    watch.finish();
    Ok(generated)
}

fn write(
    generated: &Generated,
    files: &[PathBuf],
    texts: &[(String, String)],
) -> Result<(), Error> {
    let pictures = generated.pictures()?;
    let mut pairs = pictures.iter().zip(files);
    pairs.try_for_each(|(picture, file)| picture.save(file, texts))
}

/// What was planned for the run, in the counts of what was really done.
fn work(resolved: &Resolved, report: &Report) -> Summary {
    Summary {
        full_evaluations: report.account.refreshes,
        cells_run: report.account.cells.iter().sum(),
        cache_bytes: report.account.store_bytes as u64,
        ..Summary::new(&resolved.plan, &report.forecast)
    }
}

/// How a run could be made again.
#[derive(Serialize)]
struct Account<'a> {
    #[serde(flatten)]
    facts: Facts,
    #[serde(flatten)]
    sources: Sources,
    prompt: &'a str,
    negative_prompt: Option<&'a str>,
    seed: u64,
    weights: String,
    device: String,
    dtype: &'static str,
    version: &'static str,
}

impl Account<'_> {
    /// The text chunks of the PNG.
    fn texts(&self) -> Vec<(String, String)> {
        let facts = &self.facts;
        let texts = [
            ("Software", format!("afterimage {}", self.version)),
            ("prompt", self.prompt.into()),
            ("negative prompt", self.negative_prompt.unwrap_or("").into()),
            ("seed", self.seed.to_string()),
            ("model", facts.model.clone()),
            ("weights", self.weights.clone()),
            ("sampler", facts.sampler.clone()),
            ("steps", facts.steps.to_string()),
            ("guidance scale", facts.guidance_scale.to_string()),
            ("cache", facts.cache.clone()),
            ("device", self.device.clone()),
            ("dtype", self.dtype.into()),
        ];
        let texts = texts.into_iter().chain(self.sources.texts());
        let texts = texts.map(|(key, text)| (key.to_owned(), text));
        texts.filter(|(_, text)| !text.is_empty()).collect()
    }
}

#[derive(Serialize)]
struct Seconds {
    loading: f64,
    text: f64,
    denoising: f64,
    decoding: f64,
}

impl Seconds {
    fn new(loading: Duration, report: &Report) -> Self {
        Self {
            loading: loading.as_secs_f64(),
            text: report.text.as_secs_f64(),
            denoising: report.denoising.as_secs_f64(),
            decoding: report.decoding.as_secs_f64(),
        }
    }

    fn text(&self, evaluations: usize) -> String {
        format!(
            "{:.2} s loading, {:.2} s text, {:.2} s denoising ({}), {:.2} s decoding",
            self.loading,
            self.text,
            self.denoising,
            speed(evaluations as f64 / self.denoising),
            self.decoding,
        )
    }
}

#[derive(Serialize)]
struct Outcome<'a> {
    files: Vec<String>,
    #[serde(flatten)]
    account: Account<'a>,
    work: Summary,
    seconds: Seconds,
}

impl Outcome<'_> {
    fn text(&self) -> String {
        let facts = &self.account.facts;
        let prompt = self.account.prompt;
        let mut lines = Vec::new();
        lines.extend((!prompt.is_empty()).then(|| ("prompt", prompt.to_owned())));
        lines.extend([
            ("seed", self.account.seed.to_string()),
            ("run", facts.course()),
            (
                "device",
                format!("{} in {}", self.account.device, self.account.dtype),
            ),
            ("time", self.seconds.text(facts.evaluations)),
        ]);
        lines.splice(0..0, self.account.sources.lines());
        if facts.cache != "none" {
            lines.push(("cache", format!("{}: {}", facts.cache, self.work.spared())));
        }
        format!("{}\n{}", console::pairs(&lines), self.files.join("\n"))
    }
}
