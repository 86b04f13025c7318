//! One list of a model's parts for all that look at every one of them: their names, their fit, their weight.

use burn::module::Module;

use crate::error::Error;

/// What a part is for, which says how its weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) enum Role {
    /// Encodes what the request says.
    Encoder,
    /// A table of what a class means.
    Table,
    /// Denoises.
    Denoiser,
    /// Turns latents into pictures.
    Decoder,
}

/// Looks at one part after the other.
pub(in crate::pipeline) trait Visitor {
    /// `module` is the network of `part`, without weights.
    fn part<M: Module>(&mut self, part: &'static str, role: Role, module: &M) -> Result<(), Error>;
}
