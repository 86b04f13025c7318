//! Weights that other programs quantised in ways that are not read, known by the names of what lies beside them.
//!
//! **Source.** The files of bitsandbytes (in 4 bits `weight.quant_state.bitsandbytes__nf4` and `weight.absmax`, in 8 `SCB`), of
//! optimum-quanto (`weight._data`), of nunchaku (`wscales`), and of GPTQ and AWQ (`qzeros`).

use super::super::unread::Unread;
use crate::error::WeightsError;

/// How names go on after a layer's, and who names them so.
const MARKS: [(&str, &str); 7] = [
    (NAMED, "bitsandbytes"),
    (".absmax", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight._data", "optimum-quanto"),
    (".wscales", "nunchaku"),
    (".qzeros", "GPTQ or AWQ"),
    (".qweight", "GPTQ or AWQ"),
];
/// The mark after which a kind is named.
const NAMED: &str = ".quant_state.bitsandbytes__";

/// Refuses a file with such weights.
pub(super) fn refuse(tensors: &[Unread], origin: &str) -> Result<(), WeightsError> {
    let found = MARKS.iter().find_map(|&(mark, by)| {
        let mut names = tensors.iter().map(|tensor| tensor.name.as_str());
        names.find_map(|name| {
            let (layer, rest) = name.split_once(mark)?;
            (rest.is_empty() || mark == NAMED).then(|| refused(layer, by, origin))
        })
    });
    found.map_or(Ok(()), Err)
}

/// What is said of the weights of `name` that are quantised `by` something.
pub(super) fn refused(name: &str, by: &str, origin: &str) -> WeightsError {
    WeightsError::Quantised {
        name: name.to_owned(),
        by: by.to_owned(),
        origin: origin.to_owned(),
    }
}
