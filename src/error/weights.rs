//! Weight files and the tensors in them.

use std::{fmt, path::PathBuf};

use super::{
    AdapterError,
    list::{LISTED, listed},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum WeightsError {
    #[error("not a readable safetensors file: {reason}\nfile: {origin}")]
    Header { reason: String, origin: String },
    #[error(
        "tensor `{name}` ends at byte {needed}, the file has {length}\nhint: the file is cut short, fetch it again\nfile: {origin}"
    )]
    Truncated {
        name: String,
        needed: u64,
        length: u64,
        origin: String,
    },
    #[error("the file has {length} bytes, its header describes {described}\nfile: {origin}")]
    Length {
        length: u64,
        described: u64,
        origin: String,
    },
    #[error("tensor `{name}` holds {dtype}, which is not supported\nfile: {origin}")]
    DataType {
        name: String,
        dtype: String,
        origin: String,
    },
    #[error(
        "the weights of `{name}` are quantised by {by}, which is not supported\nhint: use a copy of the model in 16 bits, in scaled fp8 or in GGUF\nfile: {origin}"
    )]
    Quantised {
        name: String,
        by: String,
        origin: String,
    },
    #[error("tensor `{name}` cannot be read: {reason}\nfile: {origin}")]
    Tensor {
        name: String,
        reason: String,
        origin: String,
    },
    #[error(
        "tensor `{name}` holds {wrong} of {total} values that are no finite numbers (NaN or infinity)\nhint: its training diverged, or the file was damaged or converted badly: use another copy or an earlier version\nfile: {origin}"
    )]
    NotFinite {
        name: String,
        wrong: usize,
        total: usize,
        origin: String,
    },
    #[error("there is no tensor `{name}`\nfile: {origin}")]
    NoTensor { name: String, origin: String },
    #[error("two tensors are called `{name}`\nfile: {origin}")]
    Duplicate { name: String, origin: String },
    #[error("the weight index is not readable: {reason}\nfile: {}", path.display())]
    Index { reason: String, path: PathBuf },
    #[error(
        "shard `{shard}` is missing, it holds `{tensor}`{}\nhint: fetch the model again\nfile: {}",
        and_more(*tensors),
        path.display()
    )]
    Shard {
        shard: String,
        tensor: String,
        tensors: usize,
        path: PathBuf,
    },
    #[error("tensor `{tensor}` is not in shard `{shard}` where the index puts it\nfile: {}", path.display())]
    NotInShard {
        tensor: String,
        shard: String,
        path: PathBuf,
    },
    #[error(
        "this is a Git LFS pointer, not the file itself{}\nhint: the folder was cloned without Git LFS: run `git lfs pull` in it, or download the file again\nfile: {}",
        whole.map_or_else(String::new, |whole| format!(", which has {whole} bytes")),
        path.display()
    )]
    LfsPointer { whole: Option<u64>, path: PathBuf },
    #[error(
        "this is a page of the web, not the file itself\nhint: the server asked for a login or a licence, or answered with an error: download the file again\nfile: {}",
        path.display()
    )]
    WebPage { path: PathBuf },
    #[error(
        "this is the text of a link to `{target}`, not the file itself\nhint: git writes links so where it may not make any: download the file that is meant\nfile: {}",
        path.display()
    )]
    LinkText { target: String, path: PathBuf },
    #[error(
        "this is a text, not weights: `{text}`\nhint: it is what a server answered in place of the file: download it again\nfile: {}",
        path.display()
    )]
    Text { text: String, path: PathBuf },
    #[error("this is {kind}, not a file of weights\nhint: {hint}\nfile: {}", path.display())]
    OtherKind {
        kind: &'static str,
        hint: String,
        path: PathBuf,
    },
    #[error("not a readable GGUF file: {reason}\nfile: {origin}")]
    Gguf { reason: String, origin: String },
    #[error("not a readable torch file: {reason}\nfile: {}", path.display())]
    Pickle { reason: String, path: PathBuf },
    #[error(
        "the torch file would run `{callable}`, so it is refused\nhint: use a safetensors file of the same model\nfile: {}",
        path.display()
    )]
    PickleCode { callable: String, path: PathBuf },
    #[error("`{model}` has no weights for {}{}", listed(parts), hinted(hints))]
    NoFile {
        parts: Vec<String>,
        /// What to do, a line a part; lines that repeat are said once.
        hints: Vec<String>,
        model: String,
    },
    #[error("`{model}` has no weights\nhint: {hint}")]
    NoPartFile { hint: String, model: String },
    #[error(transparent)]
    Adapter(Box<AdapterError>),
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error(
        "the parameters of a checkpoint cannot be placed: {}\nhint: is this {family} file?\nfile: {origin}",
        listed(names)
    )]
    Unrecognised {
        names: Vec<String>,
        family: &'static str,
        origin: String,
    },
    #[error(
        "tensors `{first}` and `{second}` differ\nhint: a DiT has one embedder of timestep and class, which diffusers repeats in every block\nfile: {origin}"
    )]
    Unequal {
        first: String,
        second: String,
        origin: String,
    },
}

/// Everything that does not fit between a part's weights and its module.
#[derive(Debug, Default)]
pub(crate) struct Misfit {
    pub(crate) part: String,
    pub(crate) origin: String,
    pub(crate) missing: Vec<String>,
    pub(crate) unused: Vec<String>,
    /// Name, shape in the file, shape the module asks for.
    pub(crate) shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Misfit {
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.shapes.is_empty()
    }
}

impl std::error::Error for Misfit {}

impl fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, origin, .. } = self;
        write!(formatter, "the weights of `{part}` do not fit its config")?;
        for (name, found, expected) in self.shapes.iter().take(LISTED) {
            write!(
                formatter,
                "\ntensor `{name}` has shape {found:?}, the config asks for {expected:?}"
            )?;
        }
        if self.shapes.len() > LISTED {
            write!(
                formatter,
                "\nand {} more shapes differ",
                self.shapes.len() - LISTED
            )?;
        }
        for (what, names) in [("missing", &self.missing), ("unused", &self.unused)] {
            if !names.is_empty() {
                write!(formatter, "\n{} {what}: {}", names.len(), listed(names))?;
            }
        }
        write!(formatter, "\nfile: {origin}")
    }
}

/// What is said of a thing's number behind the first of them.
fn and_more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        _ => format!(" and {} more", count - 1),
    }
}

/// Each hint on a line of its own, once.
fn hinted(hints: &[String]) -> String {
    let mut said: Vec<&String> = Vec::new();
    for hint in hints {
        if !said.contains(&hint) {
            said.push(hint);
        }
    }
    let lines = said.into_iter().flat_map(|hint| ["\nhint: ", hint]);
    lines.collect()
}
