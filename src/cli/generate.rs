//! `afterimage generate`: a text or classes in, pictures or films out.

use std::path::{Path, PathBuf};

use super::{
    account::{Account, Class, Outcome},
    args, cancel, console, decode,
    job::{self, Machine, Model},
    output::{self, Output, Shape, file_beside},
    paced,
    pictures::Sources,
    plan::Summary,
    preview::Preview,
    progress::Watch,
    recipe,
    stages::{Made, Others, Stage, Stages},
    tensors,
    told::Told,
};
use crate::{
    cache::Auto,
    catalog::ModelPart,
    device::DtypeChoice,
    error::{Error, RequestError},
    image_io::check_writable,
    pipeline::{self, Recipe, RecipeMade, Report, Seeds, Trace},
};

/// Everything is checked that can be checked without weights before any are read; then the pictures are made and written.
pub(super) fn run(arguments: &args::Generate) -> Result<(), Error> {
    let mut recipe = recipe::asked(arguments)?;
    let seed = seed(&mut recipe);
    let named = arguments.output.clone().unwrap_or_else(|| silent(seed));
    output::check_name(&named)?;
    let mut asked = Asked::read(arguments, recipe, seed)?;
    let output = asked.output(arguments, &named)?;
    let watch = Watch::with(Preview::asked(&arguments.previews)?);
    let workload = asked.stages.workload();
    let machine = Machine::open(&asked.machine(arguments), &workload)?;
    for stage in asked.stages.iter() {
        machine.check_memory(&stage.model, &stage.request, &stage.resolved)?;
        stage.model.check_weights(&machine)?;
    }
    if let Some(file) = &asked.recipe.initial_latents {
        let latents = pipeline::read_latents(file.place(), machine.device.device())?;
        asked.stages.first_mut().request.initial_latents = Some(latents);
    }
    cancel::listen();
    asked.keep_time(&machine)?;
    asked.settle(&machine)?;
    let trace = arguments.trace.as_deref();
    let (made, traced) = generate(&mut asked.stages, &machine, watch, trace)?;
    machine.note_run(&workload);
    let work = work(&asked.stages, &made.reports);
    let drift = made.computed().drift().map(|drift| drift.to_string());
    let account = Account {
        drift,
        ..asked.account(seed, &machine)
    };
    let shown = made.generated.output();
    let written = shown.and_then(|shown| output.write(shown, &account.texts()));
    if let Err(error) = written {
        return Err(made
            .generated
            .unwritten(error, Some(&rescue(arguments, seed))));
    }
    traced?;
    let outcome = Outcome::new(account, output.names(), work, &made, arguments.step_graphs);
    if arguments.form.json {
        console::json(&outcome)
    } else {
        output.say(&outcome.text())
    }
}

/// The seed that a run is called by; a recipe without one gets a random one.
fn seed(recipe: &mut Recipe) -> u64 {
    let random = || Seeds::One(job::random_seed());
    match recipe.seed.get_or_insert_with(random) {
        Seeds::One(seed) => *seed,
        Seeds::Each(seeds) => seeds.first().copied().unwrap_or(0),
    }
}

/// Where the pictures go if nothing is said.
fn silent(seed: u64) -> PathBuf {
    format!("afterimage-{seed}.png").into()
}

/// What is asked for: models with their parts of the request, and the recipe.
struct Asked {
    stages: Stages,
    recipe: Recipe,
    classes: Vec<Class>,
    /// A budget that is still to be measured.
    timed: Option<Auto>,
}

impl Asked {
    /// Reads everything but weights.
    fn read(arguments: &args::Generate, mut recipe: Recipe, seed: u64) -> Result<Self, Error> {
        let pictures = recipe.pictures(&mut console::warning)?;
        let mut model = Model::open_with(recipe.model.name.as_deref(), recipe.overrides())?;
        recipe.check_model(&model.folder)?;
        model.adapters = recipe.adapters()?;
        for net in recipe.nets() {
            model.add_control(ModelPart::open(net)?)?;
        }
        if model.config.reads_text() && recipe.prompts.is_empty() && recipe.classes.is_empty() {
            recipe.prompts = vec![args::DEFAULT_PROMPT.to_owned()];
        }
        let classes = Class::of(&recipe.classes, &model.folder);
        let mut request = recipe.request(&model.config, pictures)?;
        if model.config.upscale.is_some() && request.low.is_none() {
            return Err(RequestError::NothingToEnlarge.into());
        }
        request.step_graphs = arguments.step_graphs;
        let timed = paced::take(&mut request);
        request.rescue = Some(rescue(arguments, seed));
        let refiner = recipe.refiner.as_ref();
        let upscalers = recipe.upscalers.iter();
        let others = Others {
            refiner: refiner.map(|refiner| refiner.name.as_str()),
            refiner_from: refiner.and_then(|refiner| refiner.from),
            upscalers: upscalers
                .map(|one| (one.name.as_str(), one.noise_level))
                .collect(),
        };
        let stages = Stages::new(model, request, &others, Model::open_with)?;
        let mut others = stages.iter().skip(1).map(|stage| &stage.model.folder);
        if recipe.refiner.is_some() {
            others
                .next()
                .map_or(Ok(()), |folder| recipe.check_refiner(folder))?;
        }
        for (number, folder) in others.enumerate() {
            recipe.check_upscaler(number, folder)?;
        }
        if timed.is_some() && stages.iter().count() > 1 {
            let rule = recipe.cache.as_ref();
            return Err(paced::refused(rule));
        }
        Ok(Self {
            stages,
            recipe,
            classes,
            timed,
        })
    }

    /// Picks what a budget in seconds buys on this machine.
    fn keep_time(&mut self, machine: &Machine) -> Result<(), Error> {
        let timed = self.timed.take();
        timed.map_or(Ok(()), |auto| {
            paced::pick(self.stages.first_mut(), auto, machine)
        })
    }

    /// Where the pictures or films go; nothing starts that could not be written in the end.
    fn output(&self, arguments: &args::Generate, named: &Path) -> Result<Output, Error> {
        let Stage {
            request, resolved, ..
        } = self.stages.first();
        let shape = Shape::new(resolved.rows.frames, request.film.rate())?;
        let output = Output::open(named, request.items(), shape, arguments.form.json)?;
        if let Some(trace) = &arguments.trace {
            check_writable(trace, "the trace")?;
        }
        Ok(output)
    }

    /// The machine that is asked for, computing as the recipe says.
    fn machine(&self, arguments: &args::Generate) -> args::Machine {
        let mut machine = arguments.machine.clone();
        machine.place.dtype = self.recipe.dtype;
        machine.weights = self.recipe.weights;
        machine
    }

    /// Notes in the recipe what the run is made of and by, before it starts: a file may be gone when it ends.
    fn settle(&mut self, machine: &Machine) -> Result<(), Error> {
        let Stage {
            model, resolved, ..
        } = self.stages.first();
        let mut recipe = self.recipe.clone().settled(resolved, &model.config);
        let made = RecipeMade {
            by: concat!("afterimage ", env!("CARGO_PKG_VERSION")).to_owned(),
            on: machine.device.to_string(),
        };
        if let Some(before) = recipe.made.filter(|before| before.on != made.on) {
            console::note(&format!(
                "it was made on {}, and is made on {} now: roundings may differ",
                before.on, made.on
            ));
        }
        recipe.made = Some(made);
        self.note_picked(&mut recipe);
        recipe.dtype = machine.arithmetic().dtype.parse::<DtypeChoice>().ok();
        recipe.model.name = Some(model.folder.name().to_owned());
        recipe.model.hash = Some(model.folder.weights_hash()?);
        let mut others = self.stages.iter().skip(1);
        if let Some(refiner) = &mut recipe.refiner {
            let hash = others.next().map(|stage| stage.model.folder.weights_hash());
            refiner.hash = hash.transpose()?;
            refiner.from = Some(self.stages.handed_over_at());
        }
        for (upscaler, stage) in recipe.upscalers.iter_mut().zip(others) {
            upscaler.hash = Some(stage.model.folder.weights_hash()?);
        }
        recipe.hash_files()?;
        self.recipe = recipe;
        Ok(())
    }

    /// Notes what a rule `auto` has picked, so that another plan changes nothing. A rule that goes for several models is picked for each.
    fn note_picked(&self, recipe: &mut Recipe) {
        let picks = recipe
            .cache
            .as_ref()
            .is_some_and(|rule| rule.auto.is_some());
        if picks && self.stages.iter().count() == 1 {
            let request = &self.stages.first().request;
            recipe.cache = Some(request.cache.clone());
            recipe.sampler = request.sampler.or(recipe.sampler);
        }
    }

    /// How the run could be made again.
    fn account(self, seed: u64, machine: &Machine) -> Account {
        let Self {
            stages,
            recipe,
            classes,
            timed: _,
        } = self;
        let refiner = recipe.refiner.as_ref();
        Account {
            facts: stages.facts(),
            sources: Sources::new(&recipe, &stages.first().model.adapters),
            prompt: recipe.prompts.first().cloned().unwrap_or_default(),
            classes,
            negative_prompt: recipe.negative_prompts.first().cloned(),
            told: Told::new(&recipe),
            seed,
            weights: recipe.model.hash.clone().unwrap_or_default(),
            refiner_weights: refiner.and_then(|refiner| refiner.hash.clone()),
            device: machine.device.to_string(),
            arithmetic: machine.arithmetic(),
            version: env!("CARGO_PKG_VERSION"),
            drift: None,
            recipe,
        }
    }
}

/// Where the finished latents are kept while there are no pictures.
fn rescue(arguments: &args::Generate, seed: u64) -> PathBuf {
    let silent = silent(seed);
    let named = arguments.output.as_deref().unwrap_or(&silent);
    decode::kept(file_beside(named, &silent))
}

/// Makes the pictures under a progress bar, and writes the trace if one is wanted; that it cannot be written loses no picture.
fn generate(
    stages: &mut Stages,
    machine: &Machine,
    mut watch: Watch,
    trace: Option<&Path>,
) -> Result<(Made, Result<(), Error>), Error> {
    let Some(path) = trace else {
        let made = stages.generate(machine, &mut watch);
        watch.finish();
        return Ok((made?, Ok(())));
    };
    let mut trace = Trace::new(&mut watch);
    let made = stages.generate(machine, &mut trace)?;
    let traced = tensors::write_trace(path, &trace, stages.first(), &made);
    watch.finish();
    Ok((made, traced))
}

/// What was planned for the run, in the counts of what was really done.
fn work(stages: &Stages, reports: &[Report]) -> Summary {
    let done = |(stage, report): (&Stage, &Report)| Summary {
        branches_reused: report.account.branches_reused,
        full_evaluations: report.account.refreshes,
        cells_run: report.account.cells.iter().sum(),
        cache_bytes: report.account.store_bytes as u64,
        ..Summary::of(&stage.resolved)
    };
    Summary::joined(stages.iter().zip(reports).map(done))
}
