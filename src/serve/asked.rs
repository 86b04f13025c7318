//! From what a client has sent to a job: names become places, limits are held, and a plan is made before anything waits.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use axum::http::StatusCode;
use serde_json::Value;

use super::{
    fault::Fault,
    job::{Door, Job, Order, Previews},
    pictures, read,
    server::Server,
    shelf::{Named, Shelf},
    store::Folder,
    together, words,
    work::{Format, Work},
};
use crate::{
    cache::CacheRule,
    catalog::FetchProgress,
    engine::{Listener, outline, plan, random_seed},
    pipeline::{Recipe, RecipeFile, Seeds},
};

/// Options of rules that name files.
const FILES_OF_RULES: [&str; 2] = ["router=", "plan="];

/// A request, whichever interface it came by.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// The recipe as JSON, names in place of paths.
    pub(super) recipe: Value,
    /// Files by their names.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) format: Option<String>,
    pub(super) previews: Previews,
    pub(super) warnings: Vec<String>,
}

/// A recipe that was understood, and what it comes to.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) work: Work,
    pub(super) folder: Folder,
    pub(super) warnings: Vec<String>,
}

/// Puts a job of `owner` at the end of the queue.
pub(super) async fn submit(
    server: &Arc<Server>,
    owner: &str,
    door: Door,
    mut ask: Ask,
) -> Result<Arc<Job>, Fault> {
    server.queue.check(owner)?;
    let owner = owner.to_owned();
    let previews = ask.previews;
    let order = move |server: &Server| {
        let warnings = std::mem::take(&mut ask.warnings);
        let understood = understand(server, &owner, ask)?;
        Ok(Order {
            owner,
            door,
            work: understood.work,
            folder: understood.folder,
            previews,
            warnings: [warnings, understood.warnings].concat(),
        })
    };
    let job = Arc::new(Job::new(server.aside(order).await?));
    server.queue.add(Arc::clone(&job))?;
    Ok(job)
}

/// Understands a request of `owner`.
pub(super) fn understand(server: &Server, owner: &str, ask: Ask) -> Result<Understood, Fault> {
    let limits = &server.options.limits;
    let mut shown = recipe(ask.recipe)?;
    limits.check_said(&shown)?;
    shown.seed.get_or_insert_with(|| Seeds::One(random_seed()));
    let folder = server.store.folder().map_err(|cause| {
        tracing::error!("results cannot be written: {cause}");
        Fault::internal()
    })?;
    let mut resolver = Resolver {
        server,
        owner,
        shelf: &server.shelf(),
        folder: &folder,
        files: ask.files,
        names: Vec::new(),
        inputs: Vec::new(),
        sides: BTreeMap::new(),
    };
    let (model, recipe) = resolver.resolve(&mut shown)?;
    let unused = resolver.unused();
    let names = resolver.names;
    let mut heard = Heard::default();
    let known = outline(&recipe, &mut heard);
    let known = known.and_then(|known| Ok((known, server.weights_of(&recipe)?)));
    let (known, weights) = known.map_err(|error| refused(error).with_names(&names))?;
    let plan = serde_json::to_value(known).unwrap_or_default();
    limits.check_plan(&plan)?;
    let films = plan["frames"].as_u64() > Some(1);
    let format = Format::read(ask.format.as_deref(), films)?;
    let evaluations = plan["evaluations"].as_u64().unwrap_or(0) as usize;
    let kind = together::kind(&recipe, &plan);
    let work = Work {
        model,
        recipe,
        shown,
        names,
        format,
        evaluations,
        weights,
        kind,
    };
    Ok(Understood {
        warnings: heard
            .0
            .iter()
            .map(|text| named(text, &work.names))
            .chain(unused)
            .collect(),
        work,
        folder,
    })
}

/// What `afterimage plan --json` says of what was understood.
pub(super) fn forecast(understood: &Understood) -> Result<Value, Fault> {
    let Work {
        recipe,
        names,
        model,
        ..
    } = &understood.work;
    let planned = plan(recipe, &mut ());
    let planned = planned.map_err(|error| refused(error).with_names(names))?;
    let mut plan: Value = serde_json::from_str(&planned).unwrap_or_default();
    plan["model"] = model.clone().into();
    Ok(plan)
}

/// What does not fit into the device is the request's fault, before it runs.
fn refused(error: crate::Error) -> Fault {
    let fault = Fault::from(error);
    if fault.status.is_server_error() {
        return fault.with_status(StatusCode::BAD_REQUEST);
    }
    fault
}

/// A text for clients: places by their names, options by their keys, and lines about files left out.
pub(super) fn named(text: &str, names: &[(String, String)]) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("file: "));
    let text = words::keyed(&lines.collect::<Vec<_>>().join("\n"));
    names.iter().fold(text, |text, (place, name)| {
        text.replace(place.as_str(), name)
    })
}

/// Reads a recipe from a request: nothing in it may name a file of this machine.
fn recipe(value: Value) -> Result<Recipe, Fault> {
    let Value::Object(mut recipe) = value else {
        return Err(Fault::value("recipe", "`recipe` is no JSON object"));
    };
    recipe.entry("version").or_insert(1.into());
    let rule = recipe
        .get("cache")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let of_rule = FILES_OF_RULES.iter().any(|option| rule.contains(option));
    let router = recipe.get("router").is_some_and(|router| !router.is_null());
    if of_rule || router {
        let named = if of_rule { rule } else { "router" };
        let message =
            format!("`{named}` names a file, and files of rules are not taken from requests");
        let hint = "`auto` finds the plan in the model's own folder";
        return Err(Fault::value("cache", message).hint(hint));
    }
    if !rule.is_empty() {
        let read = rule.parse::<CacheRule>();
        read.map_err(|error| Fault::from(error).of("cache"))?;
    }
    Recipe::from_value(&Value::Object(recipe)).map_err(|error| Fault::from(error).of("recipe"))
}

/// Puts places for names.
struct Resolver<'a> {
    server: &'a Server,
    owner: &'a str,
    shelf: &'a Shelf,
    folder: &'a Folder,
    files: BTreeMap<String, Vec<u8>>,
    names: Vec<(String, String)>,
    /// Names of files that are written already, and where.
    inputs: Vec<(String, PathBuf)>,
    /// Of pictures that came with the request, by what they are for.
    sides: BTreeMap<&'static str, [usize; 2]>,
}

impl Resolver<'_> {
    /// The name of the model, and `shown` with places in it; in `shown`, names become those of this server.
    fn resolve(&mut self, shown: &mut Recipe) -> Result<(String, Recipe), Fault> {
        let (name, place) = self.shelf.model(shown.model.name.as_deref())?;
        let (name, place) = (name.to_owned(), place.to_owned());
        shown.model.name = Some(name.clone());
        let mut recipe = shown.clone();
        self.names.push((place.clone(), name.clone()));
        recipe.model.name = Some(place);
        for vae in [&mut recipe.model.vae, &mut recipe.model.tiny_vae]
            .into_iter()
            .flatten()
        {
            self.place(&self.shelf.vaes, vae, "autoencoder")?;
        }
        let refiner = recipe.refiner.iter_mut().map(|refiner| &mut refiner.name);
        let upscalers = recipe
            .upscalers
            .iter_mut()
            .map(|upscaler| &mut upscaler.name);
        for model in refiner.chain(upscalers) {
            let (name, place) = self.shelf.model(Some(model))?;
            self.names.push((place.to_owned(), name.to_owned()));
            *model = place.to_owned();
        }
        for control in &mut recipe.controls {
            self.place(&self.shelf.controls, &mut control.model, "ControlNet")?;
        }
        let loras = recipe.loras.iter_mut().map(|lora| &mut lora.file);
        for file in loras.chain(&mut recipe.custom_diffusions) {
            Self::adapter(&self.shelf.loras, file, "LoRA")?;
        }
        for embedding in &mut recipe.embeddings {
            Self::adapter(&self.shelf.embeddings, &mut embedding.file, "embedding")?;
        }
        for (param, file) in uploads(&mut recipe) {
            self.upload(param, file)?;
        }
        self.check_mask()?;
        Ok((name, recipe))
    }

    /// Refuses a mask of another size than the picture that it is for.
    fn check_mask(&self) -> Result<(), Fault> {
        let of = |param: &str| self.sides.get(param);
        match (of("mask"), of("init_image")) {
            (Some(mask), Some(image)) => pictures::check_mask(*mask, "init_image", *image),
            _ => Ok(()),
        }
    }

    /// Puts the place for a name of a part.
    fn place(&mut self, named: &Named, name: &mut String, what: &str) -> Result<(), Fault> {
        let place = Shelf::find(named, name, what)?;
        self.names.push((place.to_owned(), name.clone()));
        place.clone_into(name);
        Ok(())
    }

    /// The same for the file of an adapter.
    fn adapter(named: &Named, file: &mut RecipeFile, what: &str) -> Result<(), Fault> {
        let place = Shelf::find(named, &file.path, what)?;
        let hash = file.hash.take();
        *file = RecipeFile::placed(&file.path, place.as_ref());
        file.hash = hash;
        Ok(())
    }

    /// Finds a file that came with the request, or one that a kept result was made with.
    fn upload(&mut self, param: &'static str, file: &mut RecipeFile) -> Result<(), Fault> {
        let place = self.written(param, file)?;
        self.names
            .push((place.display().to_string(), file.path.clone()));
        let hash = file.hash.take();
        *file = RecipeFile::placed(&file.path, &place);
        file.hash = hash;
        Ok(())
    }

    fn written(&mut self, param: &'static str, file: &RecipeFile) -> Result<PathBuf, Fault> {
        if let Some((_, place)) = self.inputs.iter().find(|(name, _)| *name == file.path) {
            return Ok(place.clone());
        }
        let name = format!("in-{}", self.inputs.len());
        let written = match (self.files.get(&file.path), self.kept(file)) {
            (Some(bytes), _) => {
                if param != "initial_latents" {
                    let limits = &self.server.options.limits;
                    let sides = limits.check_picture(param, bytes)?;
                    self.sides.insert(param, sides);
                }
                self.folder.write(&name, bytes)
            }
            (None, Some(kept)) => self.folder.borrow(&name, &kept),
            (None, None) => {
                let message = format!("there is no file `{}` for `{param}`", file.path);
                let fault =
                    Fault::new(StatusCode::BAD_REQUEST, "file_not_found", message).of(param);
                return Err(fault.hint(
                    "send it under this name in `files`; paths are not taken from requests",
                ));
            }
        };
        let place = written.map_err(|cause| {
            tracing::error!("a file of a request cannot be written: {cause}");
            Fault::internal()
        })?;
        self.inputs.push((file.path.clone(), place.clone()));
        Ok(place)
    }

    /// Words about files that came with the request and are nothing of it.
    fn unused(&self) -> Vec<String> {
        let used = |file: &str| self.inputs.iter().any(|(name, _)| name == file);
        let unused = self.files.keys().filter(|file| !used(file));
        let unused = unused.take(read::MOST_NAMED);
        unused
            .map(|file| {
                let file = read::short(file);
                format!("the file `{file}` is named by nothing in the recipe and was ignored")
            })
            .collect()
    }

    /// A file of this hash that a kept result of the same client was made with.
    fn kept(&self, file: &RecipeFile) -> Option<PathBuf> {
        let hash = file.hash.as_ref()?;
        let jobs = self.server.queue.of(self.owner);
        jobs.iter().find_map(|job| {
            let mut inputs = job.inputs.get()?.iter();
            let found = inputs.find(|(known, _)| known == hash);
            found.map(|(_, name)| job.folder.path.join(name))
        })
    }
}

/// The files of a recipe that come with a request, and what they are for.
pub(super) fn uploads(
    recipe: &mut Recipe,
) -> impl Iterator<Item = (&'static str, &mut RecipeFile)> {
    let start = [
        ("init_image", &mut recipe.init_image),
        ("mask", &mut recipe.mask),
        ("initial_latents", &mut recipe.initial_latents),
    ];
    let start = start.into_iter();
    let start = start.filter_map(|(param, file)| Some((param, file.as_mut()?)));
    let controls = recipe.controls.iter_mut();
    start.chain(controls.map(|control| ("controls", &mut control.image)))
}

/// Keeps what there is to say.
#[derive(Debug, Default)]
pub(super) struct Heard(pub(super) Vec<String>);

impl FetchProgress for Heard {
    fn begin(&mut self, _file: &str, _size: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}

impl Listener for Heard {
    fn warn(&mut self, text: &str) {
        if !self.0.iter().any(|said| said == text) {
            self.0.push(text.to_owned());
        }
    }

    fn note(&mut self, text: &str) {
        self.warn(text);
    }
}
