//! What the name of an output says, whatever will be written.

use std::path::Path;

use super::{film::FilmFormat, place::is_folder_by_name, save::PictureFormat};
use crate::error::{Error, RequestError};

/// Refuses a name that neither a picture nor a film could have, for those who do not know yet which of the two they will write.
///
/// # Errors
///
/// A request error if there is no such format, or none in this build.
pub fn check_output_name(output: &Path) -> Result<(), Error> {
    if is_folder_by_name(output) {
        return Ok(());
    }
    match (PictureFormat::of(output), FilmFormat::of(output)) {
        (Ok(_), _) | (_, Ok(_)) => Ok(()),
        (Err(_), Err(_)) => Err(unwritten(output).into()),
    }
}

/// Why nothing is written under this name, be it a picture or a film.
fn unwritten(output: &Path) -> RequestError {
    let given = output.display().to_string();
    #[cfg(not(feature = "video"))]
    if super::place::is_film_by_name(output) {
        return RequestError::OutputFeature { given };
    }
    RequestError::OutputFormat { given }
}
