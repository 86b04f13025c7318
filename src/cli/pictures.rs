//! Pictures that a run starts from or follows, from the words of the command line.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    adapters::Adapted,
    args, console,
    job::{self, Model},
};
use crate::{
    catalog::ModelPart,
    error::{Error, FileError, RequestError},
    image_io::{CannyThresholds, Dropped, Mask, Picture},
    pipeline::{Adapters, Control, Edit, Request, SourceConfig, Subject},
};

/// What the pictures of a folder of frames end in.
const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// What a run starts from, read from the files that are named.
pub(super) fn edit(arguments: &args::Start) -> Result<Option<Edit>, Error> {
    let Some(path) = &arguments.init_image else {
        return Ok(None);
    };
    let mut edit = Edit::new(read(path)?);
    edit.strength = arguments.strength;
    edit.name = path.display().to_string();
    if let Some(path) = &arguments.mask {
        edit = edit.with_mask(Mask::read_with(path, &mut |dropped| say(dropped, path))?);
    }
    Ok(Some(edit))
}

/// Has a run start from the picture of `edit`: a film of it, or a picture on its way.
pub(super) fn begin(request: &mut Request, edit: Option<Edit>, model: &Model) -> Result<(), Error> {
    let of_picture = matches!(model.config.source, SourceConfig::Picture(_));
    if !of_picture || !matches!(request.subject, Subject::Nothing) {
        request.edit = edit;
        return Ok(());
    }
    let Some(mut edit) = edit else {
        return Ok(());
    };
    let refused = [
        ("strength", edit.strength.is_some()),
        ("mask", !edit.masks.is_empty()),
    ];
    if let Some((option, _)) = refused.into_iter().find(|(_, given)| *given) {
        return Err(RequestError::NotOfFilms { option }.into());
    }
    request.subject = Subject::Picture {
        picture: Box::new(edit.pictures.remove(0)),
        name: edit.name,
    };
    Ok(())
}

fn read(path: &Path) -> Result<Picture, Error> {
    Picture::read_with(path, &mut |dropped| say(dropped, path))
}

/// Warns of what a file has and a picture has not.
fn say(dropped: Dropped, path: &Path) {
    console::warning(&format!("{dropped}\nfile: {}", path.display()));
}

/// One `ControlNet` of the command line.
struct Group<'a> {
    model: &'a str,
    scale: f64,
    window: Range<f64>,
}

/// Options for each net: none, one for all, or one each.
fn spread<T: Clone>(
    option: &'static str,
    given: &[T],
    nets: usize,
    silent: &T,
) -> Result<Vec<T>, RequestError> {
    match given.len() {
        0 => Ok(vec![silent.clone(); nets]),
        1 => Ok(vec![given[0].clone(); nets]),
        found if found == nets => Ok(given.to_vec()),
        found => Err(RequestError::ControlOptions {
            option,
            found,
            nets,
        }),
    }
}

fn groups<'a>(arguments: &'a args::Nets) -> Result<Vec<Group<'a>>, RequestError> {
    let models = &arguments.control_model;
    let scales = spread(
        "--control-scale",
        &arguments.control_scale,
        models.len(),
        &1.0,
    )?;
    let whole = args::Window(0.0..1.0);
    let windows = &arguments.control_window;
    let windows = spread("--control-window", windows, models.len(), &whole)?;
    let options = scales.into_iter().zip(windows);
    let group = |(model, (scale, window)): (&'a String, (f64, args::Window))| Group {
        model,
        scale,
        window: window.0,
    };
    Ok(models.iter().zip(options).map(group).collect())
}

/// Puts the nets that are named beside `model`, and makes a control of each, with `pictures(number)`; a net that is named twice is
/// loaded once.
fn controls(
    arguments: &args::Nets,
    model: &mut Model,
    pictures: impl Fn(usize) -> Result<(Vec<Picture>, String), Error>,
) -> Result<Vec<Control>, Error> {
    let mut names: Vec<&str> = Vec::new();
    let mut controls = Vec::new();
    for (number, group) in groups(arguments)?.into_iter().enumerate() {
        let known = names.iter().position(|name| *name == group.model);
        let net = match known {
            Some(net) => net,
            None => model.add_control(ModelPart::open(group.model)?)?,
        };
        if known.is_none() {
            names.push(group.model);
        }
        let (pictures, name) = pictures(number)?;
        controls.push(Control {
            name,
            scale: group.scale,
            window: group.window,
            guess: arguments.control_guess,
            ..Control::of_frames(net, pictures)
        });
    }
    Ok(controls)
}

/// The controls of a run.
pub(super) fn followed(arguments: &args::Follow, model: &mut Model) -> Result<Vec<Control>, Error> {
    let (nets, images) = (arguments.nets.control_model.len(), &arguments.control_image);
    if images.len() != nets {
        return Err(RequestError::ControlImages {
            images: images.len(),
            nets,
        }
        .into());
    }
    controls(&arguments.nets, model, |number| {
        let path = &images[number];
        let read = |path: &PathBuf| {
            let picture = read(path)?;
            Ok(match arguments.control_canny {
                Some(thresholds) => outlines(&picture, thresholds, path),
                None => picture,
            })
        };
        let pictures = frames(path)?.iter().map(read).collect::<Result<_, Error>>();
        Ok((pictures?, path.display().to_string()))
    })
}

/// The pictures that a path names: one, or those of a folder in the order of their names, which are the frames of a film.
fn frames(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let read = |source| FileError::Read {
        what: "the folder of frames".into(),
        path: path.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(path).map_err(read)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let mut pictures: Vec<_> = entries.iter().map(std::fs::DirEntry::path).collect();
    let known = |path: &PathBuf| {
        let extension = path.extension().and_then(std::ffi::OsStr::to_str);
        extension.is_some_and(|one| PICTURES.contains(&one.to_lowercase().as_str()))
    };
    pictures.retain(known);
    pictures.sort();
    if pictures.is_empty() {
        return Err(RequestError::NoFrames {
            path: path.to_owned(),
        }
        .into());
    }
    Ok(pictures)
}

/// The edges of a picture; a warning where there are none, since a net that follows nothing changes little.
fn outlines(picture: &Picture, thresholds: CannyThresholds, path: &Path) -> Picture {
    let edges = picture.canny(thresholds);
    if edges.pixels().iter().all(|value| *value == 0) {
        let CannyThresholds { low, high } = thresholds;
        console::warning(&format!(
            "`--control-canny` found no edge in {} between its thresholds {low} and {high}\nhint: lower ones, as in `--control-canny=50,100`, find more",
            path.display()
        ));
    }
    edges
}

/// The controls of a plan or of runs that are timed: what is in a picture changes no count and no time, so blank ones of the run's size
/// are followed.
pub(super) fn blank_controls(
    arguments: &args::Nets,
    model: &mut Model,
    size: Option<(usize, usize)>,
) -> Result<Vec<Control>, Error> {
    let blank = blank(model, size);
    controls(arguments, model, |_| {
        Ok((vec![blank.clone()], "a blank picture".into()))
    })
}

/// What a plan starts from: a blank picture under a strength, with a mask for models that fill one.
pub(super) fn planned_edit(
    strength: Option<f64>,
    model: &Model,
    size: Option<(usize, usize)>,
) -> Result<Option<Edit>, Error> {
    let fills = model.config.fills_masks();
    if strength.is_none() && !fills {
        return Ok(None);
    }
    let mut edit = Edit::new(blank(model, size));
    edit.strength = strength;
    if fills {
        edit = edit.with_mask(Mask::new(blank(model, size))?);
    }
    Ok(Some(edit))
}

/// Any subject that the model accepts, for commands to which it does not matter.
pub(super) fn any_subject(course: &args::Course, model: &Model) -> Subject {
    match (&model.config.source, &course.class_label[..]) {
        (SourceConfig::Classes(_), []) => Subject::Classes(vec![0]),
        (SourceConfig::Picture(_), []) => Subject::picture(blank(model, course.size)),
        (_, classes) => job::subject(None, classes, model),
    }
}

/// White, of the run's size.
fn blank(model: &Model, size: Option<(usize, usize)>) -> Picture {
    let canvas = model.config.canvas();
    let [height, width] = canvas.sides.map(|side| side * canvas.factor);
    let (width, height) = size.unwrap_or((width, height));
    Picture::filled(width, height, [255; 3])
}

/// What the pictures and adapters of a run were, for its record.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Sources {
    #[serde(skip_serializing_if = "Option::is_none")]
    init_image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controls: Vec<Source>,
    #[serde(flatten)]
    adapted: Adapted,
}

#[derive(Debug, Clone, Serialize)]
struct Source {
    model: String,
    image: String,
    scale: f64,
    window: [f64; 2],
}

impl Sources {
    /// What a run follows and is adapted by.
    pub(super) fn new(nets: &args::Nets, controls: &[Control], adapters: &Adapters) -> Self {
        let source = |(control, model): (&Control, &String)| Source {
            model: model.clone(),
            image: control.name.clone(),
            scale: control.scale,
            window: [control.window.start, control.window.end],
        };
        let models = &nets.control_model;
        Self {
            controls: controls.iter().zip(models).map(source).collect(),
            adapted: Adapted::new(adapters),
            ..Self::default()
        }
    }

    /// The same of a run that starts from a picture.
    pub(super) fn started(self, start: &args::Start) -> Self {
        let shown = |path: &std::path::PathBuf| Path::display(path).to_string();
        Self {
            init_image: start.init_image.as_ref().map(shown),
            strength: start.strength,
            mask: start.mask.as_ref().map(shown),
            ..self
        }
    }

    /// For the text chunks of the PNG; empty texts are left out there.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        let control = |source: &Source| {
            let Source {
                model,
                image,
                scale,
                window: [from, until],
            } = source;
            format!("{model} on {image}, scale {scale}, from {from} to {until}")
        };
        let controls = self.controls.iter().map(control).collect::<Vec<_>>();
        let pictures = [
            ("init image", self.init_image.clone().unwrap_or_default()),
            ("mask", self.mask.clone().unwrap_or_default()),
            (
                "strength",
                self.strength
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            ("control", controls.join("; ")),
        ];
        pictures.into_iter().chain(self.adapted.texts())
    }

    /// Lines of the report.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        self.texts().filter(|(_, text)| !text.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_for_all_nets_or_one_each() {
        assert_eq!(spread("--x", &[], 2, &1.0).ok(), Some(vec![1.0, 1.0]));
        assert_eq!(spread("--x", &[0.5], 2, &1.0).ok(), Some(vec![0.5, 0.5]));
        assert_eq!(
            spread("--x", &[0.5, 0.2], 2, &1.0).ok(),
            Some(vec![0.5, 0.2])
        );
        assert!(spread("--x", &[0.5, 0.2], 3, &1.0).is_err());
    }
}
