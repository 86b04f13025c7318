//! A picture of how far a run is.

use std::path::PathBuf;

use burn::tensor::Tensor;

use super::args::Previews;
use crate::{
    error::{Error, RequestError},
    image_io::{Picture, PictureFormat, check_writable, contact_sheet},
};

/// Calls of the model from one preview to the next, where the user is silent.
const EVERY: usize = 5;

/// Pixels between the pictures of a batch.
const MARGIN: usize = 4;

/// Where a run shows how far it is, and how often.
#[derive(Debug)]
pub(super) struct Preview {
    file: PathBuf,
    every: usize,
    decoded: bool,
}

impl Preview {
    /// What is asked for, if anything is; nothing starts that could not be shown.
    ///
    /// # Errors
    ///
    /// A request error if the file is no picture's, or `--preview-every` has none to go with; a file error if it cannot be written.
    pub(super) fn asked(given: &Previews) -> Result<Option<Self>, Error> {
        let Some(file) = &given.preview else {
            let option = match (given.preview_every, given.preview_decoded) {
                (None, false) => return Ok(None),
                (Some(_), _) => "--preview-every",
                (None, true) => "--preview-decoded",
            };
            return Err(RequestError::Without {
                option,
                what: "a preview",
                needed: "--preview",
            }
            .into());
        };
        PictureFormat::of(file)?;
        check_writable(file, "the preview")?;
        Ok(Some(Self {
            file: file.clone(),
            every: given.preview_every.unwrap_or(EVERY),
            decoded: given.preview_decoded,
        }))
    }

    /// Whether it is decoded, and not made by a linear map of the latents.
    pub(super) fn is_decoded(&self) -> bool {
        self.decoded
    }

    /// Whether one is due behind evaluation `index` of `total`. Behind the last the pictures themselves are made.
    pub(super) fn is_due(&self, index: usize, total: usize) -> bool {
        let made = index + 1;
        made < total && made.is_multiple_of(self.every)
    }

    /// Writes `[items, 3, height, width]`, 0 to 1, in place of the preview before; several items side by side.
    pub(super) fn show(&self, images: Tensor<4>) -> Result<(), Error> {
        let pictures = Picture::from_batch(images)?;
        let columns = pictures.len().isqrt().max(1);
        match &pictures[..] {
            [alone] => alone.save(&self.file, &[]),
            several => contact_sheet(several, columns, MARGIN).save(&self.file, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_come_every_so_often_and_not_behind_the_last_call() {
        let preview = Preview {
            file: PathBuf::new(),
            every: 3,
            decoded: false,
        };
        let due = |total| {
            let all = 0..total;
            all.filter(|&index| preview.is_due(index, total))
                .collect::<Vec<_>>()
        };
        assert_eq!(due(7), [2, 5]);
        assert_eq!(due(6), [2]);
    }
}
