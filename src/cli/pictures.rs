//! Pictures that a run starts from or follows, from the words of the command line.

use std::ops::Range;

use super::{args, job};
use crate::{
    catalog::ModelPart,
    engine::Model,
    error::{Error, RequestError},
    image_io::{Mask, Picture},
    pipeline::{Control, Edit, MOST_PIXELS, SourceConfig, Subject, numbered},
};

/// One `ControlNet` of the command line.
pub(super) struct Group<'a> {
    pub(super) model: &'a str,
    pub(super) scale: f64,
    pub(super) window: Range<f64>,
}

/// Options for each net: none, one for all, or one each.
pub(super) fn spread<T: Clone>(
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

pub(super) fn groups<'a>(arguments: &'a args::Nets) -> Result<Vec<Group<'a>>, RequestError> {
    let models = &arguments.control_model;
    let given = [
        ("--control-scale", !arguments.control_scale.is_empty()),
        ("--control-window", !arguments.control_window.is_empty()),
        ("--control-guess", arguments.control_guess),
    ];
    let alone = given
        .into_iter()
        .find(|(_, given)| *given && models.is_empty());
    if let Some((option, _)) = alone {
        return Err(RequestError::Without {
            option,
            what: "a ControlNet",
            needed: "--control-model",
        });
    }
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

/// The controls of a plan or of runs that are timed: what is in a picture changes no count and no time, so blank ones of the run's size
/// are followed.
pub(super) fn blank_controls(
    arguments: &args::Nets,
    model: &mut Model,
    size: Option<(usize, usize)>,
) -> Result<Vec<Control>, Error> {
    let groups = groups(arguments)?;
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let blank = blank(model, size)?;
    let (nets, numbers) = numbered(groups.iter().map(|group| group.model));
    for net in nets {
        model.add_control(ModelPart::open(net)?)?;
    }
    let controls = groups.into_iter().zip(numbers).map(|(group, net)| Control {
        name: "a blank picture".into(),
        scale: group.scale,
        window: group.window,
        guess: arguments.control_guess,
        ..Control::new(net, blank.clone())
    });
    Ok(controls.collect())
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
    let blank = blank(model, size)?;
    let mut edit = Edit::new(blank.clone());
    edit.strength = strength;
    if fills {
        edit = edit.with_mask(Mask::new(blank)?);
    }
    Ok(Some(edit))
}

/// Any subject that the model accepts, for commands to which it does not matter.
pub(super) fn any_subject(course: &args::Course, model: &Model) -> Result<Subject, RequestError> {
    Ok(match (&model.config.source, &course.class_label[..]) {
        (SourceConfig::Classes(_), []) => Subject::Classes(vec![0]),
        (SourceConfig::Picture(_), []) => Subject::picture(blank(model, course.size)?),
        (_, classes) => job::subject(None, classes, model),
    })
}

/// White, of the run's size: made where it is needed alone, and never larger than a run's pictures may be.
fn blank(model: &Model, size: Option<(usize, usize)>) -> Result<Picture, RequestError> {
    let canvas = model.config.canvas();
    let [height, width] = canvas.sides.map(|side| side.saturating_mul(canvas.factor));
    let (width, height) = size.unwrap_or((width, height));
    if width.saturating_mul(height) > MOST_PIXELS {
        return Err(RequestError::TooLarge {
            width,
            height,
            pictures: 1,
            most: MOST_PIXELS,
        });
    }
    Ok(Picture::filled(width, height, [255; 3]))
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
