//! What is left of a run: files with their recipe, and what clients are told of it.

use std::{
    io,
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use super::{
    asked::uploads,
    fault::Fault,
    infotext,
    job::{Door, Job, Seen, State, Step, recipe_value},
    server::Server,
    store::Record,
    together::Run,
    work::{Format, Work, with_names},
};
use crate::{
    cache::Account,
    engine::Finished,
    image_io::{Film, Picture, RECIPE},
    pipeline::{Output, Recipe, Report},
};

/// A picture or a film.
enum Item {
    Picture(Picture),
    Film(Film),
}

impl Item {
    fn size(&self) -> [usize; 2] {
        match self {
            Self::Picture(picture) => [picture.width(), picture.height()],
            Self::Film(film) => [film.width(), film.height()],
        }
    }

    fn encode(&self, format: Format, texts: &[(String, String)]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match (self, format) {
            (Self::Picture(picture), Format::Picture(format)) => {
                picture.encode_as(&mut bytes, format, texts)?;
            }
            (Self::Film(film), Format::Film(format)) => film.encode(&mut bytes, format, texts)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(bytes)
    }
}

/// Writes what was made for every job of a run, and ends them.
pub(super) fn write(server: &Server, runs: &[Run], mut finished: Finished) -> Result<(), Fault> {
    let account = counts(&finished.account, runs.len());
    if let [run] = runs {
        keep_inputs(&run.job, &mut finished.recipe);
    }
    let items = items(&finished)?;
    if runs.len() > 1 && items.len() != runs.len() {
        tracing::error!("{} pictures for {} jobs", items.len(), runs.len());
        return Err(Fault::internal());
    }
    for (number, Run { job, work }) in runs.iter().enumerate() {
        let recipe = with_names(finished.recipe.clone(), &work.shown);
        let (recipe, items) = if runs.len() > 1 {
            let own = recipe.alone(number, runs.len());
            (own.ok_or_else(Fault::internal)?, &items[number..=number])
        } else {
            (recipe, &items[..])
        };
        job.change(|seen| seen.phase = Some(Step::Encoding));
        let told = (&finished, account.clone());
        one(server, (job, work), (&recipe, items), told)?;
    }
    Ok(())
}

/// Writes what was made for one job, and ends it.
fn one(
    server: &Server,
    (job, work): (&Arc<Job>, &Work),
    (recipe, items): (&Recipe, &[Item]),
    (finished, account): (&Finished, Value),
) -> Result<(), Fault> {
    let begun = Instant::now();
    let mut images = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let own = recipe.alone(number, items.len());
        let image = image(job, work, (number, item), (own.as_ref(), recipe));
        images.push(image.map_err(|cause| {
            tracing::error!(job = job.id, "a result cannot be written: {cause}");
            Fault::internal()
        })?);
    }
    let seconds = seconds(job, finished, begun.elapsed());
    let fill = |seen: &mut Seen| {
        seen.recipe = Arc::new(recipe_value(recipe));
        seen.images = Arc::new(Value::Array(images));
        seen.seconds = Arc::new(seconds);
        seen.work = Arc::new(account);
        seen.phase = None;
    };
    if !job.change(fill) {
        return Ok(());
    }
    if server.store.lasts() && job.door == Door::Own {
        keep(job);
    }
    job.end(State::Done, None);
    server.queue.tell(job);
    Ok(())
}

/// Writes the record by which the next server finds the job; without one its pictures go with this server.
fn keep(job: &Job) {
    let mut seen = job.now();
    seen.state = State::Done;
    seen.finished = Some(SystemTime::now());
    let record = Record {
        owner: job.owner.clone(),
        key: job.key.clone(),
        job: serde_json::to_value(seen).unwrap_or_default(),
        inputs: job.inputs.get().cloned().unwrap_or_default(),
    };
    if let Err(cause) = job.folder.keep(&record) {
        tracing::warn!(
            job = job.id,
            "its results will not outlive the server: {cause}"
        );
    }
}

/// Notes what came with the request by its hash, so that the recipe can be sent again without it.
fn keep_inputs(job: &Job, recipe: &mut Recipe) {
    let files = uploads(recipe).filter_map(|(_, file)| {
        let name = file.place().file_name()?.to_str()?.to_owned();
        Some((file.hash.clone()?, name))
    });
    let files: Vec<_> = files.collect();
    // Set once: a job is written once.
    let _ = job.inputs.set(files);
}

fn items(finished: &Finished) -> Result<Vec<Item>, Fault> {
    Ok(match finished.generated.output()? {
        Output::Pictures(pictures) => pictures.into_iter().map(Item::Picture).collect(),
        Output::Frames(films) => {
            let rate = u16::try_from(finished.recipe.film.rate())
                .ok()
                .and_then(NonZeroU16::new);
            let rate =
                rate.ok_or_else(|| Fault::value("fps", "no film shows so many frames a second"))?;
            films
                .into_iter()
                .map(|frames| Item::Film(Film::new(frames, rate)))
                .collect()
        }
    })
}

fn image(
    job: &Job,
    work: &Work,
    (number, item): (usize, &Item),
    (own, whole): (Option<&Recipe>, &Recipe),
) -> io::Result<Value> {
    let recipe = own.unwrap_or(whole);
    let seed = whole.seed_of(number).filter(|_| own.is_some());
    let texts = [
        (
            "Software",
            concat!("afterimage ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("parameters", infotext::write(recipe, &work.model)),
        (RECIPE, recipe.to_json()),
    ];
    let texts = texts.map(|(key, text)| (key.to_owned(), text));
    let ending = work.format.ending();
    let name = format!("{number}.{ending}");
    job.folder
        .write(&name, &item.encode(work.format, &texts)?)?;
    let [width, height] = item.size();
    let mut image = json!({
        "url": format!("/results/{}/{name}", job.key),
        "type": Format::media(ending),
        "width": width,
        "height": height,
        "seed": seed,
        "recipe": recipe_value(recipe),
    });
    if let Item::Film(film) = item {
        image["frames"] = film.frames().len().into();
        image["fps"] = film.fps().get().into();
    }
    Ok(image)
}

fn seconds(job: &Job, finished: &Finished, encoding: Duration) -> Value {
    let sum = |time: fn(&Report) -> Duration| {
        finished
            .reports
            .iter()
            .map(time)
            .sum::<Duration>()
            .as_secs_f64()
    };
    let seen = job.now();
    let started = seen
        .started
        .and_then(|started| started.duration_since(seen.created).ok());
    json!({
        "waiting": started.unwrap_or_default().as_secs_f64(),
        "loading": finished.loading.as_secs_f64(),
        "text": sum(|report| report.text),
        "denoising": sum(|report| report.denoising),
        "decoding": sum(|report| report.decoding),
        "encoding": encoding.as_secs_f64(),
        "total": job.begun.elapsed().as_secs_f64(),
    })
}

fn counts(account: &Account, together: usize) -> Value {
    let evaluations = account.refreshes + account.reuses;
    let cells: usize = account.cells.iter().sum();
    let all = account.cells.len() * evaluations;
    json!({
        "evaluations": evaluations,
        "full": account.refreshes,
        "cells": cells,
        "reused": all.saturating_sub(cells),
        "together": together,
    })
}
