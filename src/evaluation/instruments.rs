//! What pictures are measured with, from files.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use burn::tensor::Device;

use super::{data::for_each_picture, measure::Instruments};
use crate::error::Error;
use crate::metrics::{
    Classifier, ClipScore, FeatureSpace, FeatureStatistics, Judge, Lpips, ShapeJudge,
};

/// What pictures are measured with, beside their pixels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measures {
    /// LPIPS weights, for LPIPS and for Fréchet distances in `AlexNet`'s feature space.
    pub lpips: Option<PathBuf>,
    /// Folder of a classifier that counts what it recognises, and whose features Fréchet distances are taken in.
    pub classifier: Option<PathBuf>,
    /// Pictures that the sets are compared with: a folder, or a `.npz` file with `arr_0`.
    pub data: Option<PathBuf>,
    /// Whether coloured shapes that a text names are looked for.
    pub shapes: bool,
    /// Folder of a CLIP model in transformers' layout.
    pub clip: Option<PathBuf>,
}

impl Instruments {
    /// Loads what is named. The data are read at once, so that a mistake shows before hours of sampling; `go_on` is asked picture by picture.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, data are too small for their feature space, or `go_on` fails.
    pub fn load(
        named: &Measures,
        device: &Device,
        go_on: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let load = |path: &PathBuf| Lpips::load(path, device);
        let lpips = named.lpips.as_ref().map(load).transpose()?;
        let load = |folder: &PathBuf| Classifier::load(folder, device).map(Rc::new);
        let classifier = named.classifier.as_ref().map(load).transpose()?;
        let space = classifier.clone().map(|it| it as Rc<dyn FeatureSpace>);
        let space = space.or_else(|| Some(Rc::new(lpips.clone()?)));
        let data = match (&named.data, &space) {
            (Some(path), Some(space)) => {
                let set = features(path, &**space, go_on)?;
                Some((path.display().to_string(), set))
            }
            _ => None,
        };
        let shapes = named.shapes.then(|| Rc::new(ShapeJudge) as Rc<dyn Judge>);
        let clip = named.clip.as_deref();
        let clip = clip.map(|folder| ClipScore::load(folder, device));
        Ok(Self {
            lpips,
            space,
            data,
            judge: shapes.or_else(|| Some(classifier?)),
            clip: clip.transpose()?,
        })
    }
}

fn features(
    path: &Path,
    space: &dyn FeatureSpace,
    go_on: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<FeatureStatistics, Error> {
    let mut set = FeatureStatistics::new(space.width());
    for_each_picture(path, &mut |picture| {
        go_on()?;
        space.check_size(picture.width(), picture.height())?;
        let features = space.features(&[picture])?;
        for features in &features {
            set.add(features);
        }
        Ok(())
    })?;
    Ok(set)
}
