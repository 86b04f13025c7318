//! Learned words: textual inversion embeddings and the modifier tokens of Custom Diffusion.
//!
//! Source: Gal et al., "An Image is Worth One Word" (arXiv 2208.01618, section 4): a token whose embedding is trained while the model
//! stays. A token with several vectors takes as many places in the prompt. Files as diffusers, `AUTOMATIC1111`'s web interface and
//! SDXL's trainers write them.

use std::path::Path;

use burn::tensor::DType;

use crate::error::{AdapterError, Error};
use crate::weights::{
    WeightSource,
    adapt::{hypernetwork, told},
};

/// The tensor of a file that does not say its token.
const BARE: [&str; 2] = ["emb_params", "string_to_param.*"];
/// What the tensor's name begins with in files of before, whose program asks for a token: `*` where none was given.
const BY_TOKEN: &str = "string_to_param.";
/// Beside it: which of the tokens that there were it took the place of.
const TOKENS: &str = "string_to_token.";
/// SDXL's tensors, and the part whose tokens they are.
const EACH: [(&str, &str); 4] = [
    ("clip_l", "text_encoder"),
    ("clip_g", "text_encoder_2"),
    ("text_encoders_0", "text_encoder"),
    ("text_encoders_1", "text_encoder_2"),
];
/// What the tensors are called, for those who meet something else.
const HINT: &str =
    "an embedding holds one tensor called by its token, `emb_params`, or `clip_l` and `clip_g`";

/// What is said where it seems to hold several words.
const SEVERAL: &str =
    "it holds several words: ask for one of them by its name, as in `--embedding TOKEN=FILE`";
/// More vectors than a prompt has room for are a layer's.
const MANY: usize = 76;

/// What is said where a tensor has too many sides, or none.
const SIDES: &str = "its vectors are `[count, width]`, or one `[width]`";
/// What is said where it holds integers or the like.
const FLOATS: &str = "its vectors must be floats: save it as f32, f16 or bf16";

/// A token and its vectors.
#[derive(Debug, Clone)]
pub struct Embedding {
    token: String,
    origin: String,
    vectors: Vectors,
    left_out: Vec<String>,
    bundled: bool,
}

#[derive(Debug, Clone)]
enum Vectors {
    /// For a model with one text encoder.
    One(Rows),
    /// For each of SDXL's, by part.
    Each(Vec<(&'static str, Rows)>),
}

/// Vectors of one token, `[count, width]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    pub(crate) values: Vec<f32>,
    pub(crate) width: usize,
}

impl Rows {
    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.width
    }
}

impl Embedding {
    /// Opens a file. Without `token` it is the one that the file says, else the file's name.
    ///
    /// # Errors
    ///
    /// As [`WeightSource::open`] and [`from_source`](Self::from_source).
    pub fn open(path: impl AsRef<Path>, token: Option<&str>) -> Result<Self, Error> {
        Self::from_source(&WeightSource::open(path)?, token)
    }

    /// Reads the vectors of a source. Without `token` it is the one that the source says, else its file's name.
    ///
    /// # Errors
    ///
    /// When it holds something else, the token is empty, or a value is no finite number.
    pub fn from_source(source: &WeightSource, token: Option<&str>) -> Result<Self, Error> {
        if hypernetwork::is_one(source) {
            return Err(strange(source).into());
        }
        let origin = source.origin().to_owned();
        let (used, mut left_out): (Vec<_>, Vec<_>) = {
            let used = used(source, token);
            source.names().partition(|name| used.contains(name))
        };
        left_out.retain(|name| !name.starts_with(TOKENS));
        let (own, vectors) = match used.as_slice() {
            [] => return Err(strange(source).into()),
            [name] if part(name).is_none() => {
                // A tensor that was saved alone has no name.
                let own = name.strip_prefix(BY_TOKEN).unwrap_or(name);
                let own = (!BARE.contains(name) && !own.is_empty()).then_some(own);
                (own, Vectors::One(rows(source, name)?))
            }
            names => {
                let named = names.iter().filter_map(|name| Some((part(name)?, name)));
                let rows = named.map(|(part, name)| Ok((part, rows(source, name)?)));
                let rows = rows.collect::<Result<Vec<_>, Error>>()?;
                (None, Vectors::Each(rows))
            }
        };
        let stem = Path::new(&origin).file_stem();
        let stem = stem.and_then(|stem| stem.to_str());
        let token = token.or(own).or(stem).unwrap_or_default().trim().to_owned();
        if token.is_empty() {
            return Err(AdapterError::EmptyToken { origin }.into());
        }
        Ok(Self {
            token,
            vectors,
            left_out: left_out.into_iter().map(str::to_owned).collect(),
            bundled: false,
            origin,
        })
    }

    /// The same, as part of another adapter: where it does not fit a model it is left out with a word, and the adapter is used.
    #[must_use]
    pub(crate) fn bundled(self) -> Self {
        Self {
            bundled: true,
            ..self
        }
    }

    pub(crate) fn is_bundled(&self) -> bool {
        self.bundled
    }

    /// Names of the tensors beside its vectors, which are not read.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Whether its word stands in `prompt`, in capitals or not.
    pub fn is_in(&self, prompt: &str) -> bool {
        let lower = |text: &str| text.to_lowercase();
        lower(prompt).contains(&lower(&self.token))
    }

    /// Whether a source looks like one.
    pub fn is_one(source: &WeightSource) -> bool {
        let mut names = source.names();
        match (names.next(), names.next(), names.next()) {
            (Some(one), None, None) => shape(source, one).is_some(),
            (Some(_), Some(_), _) => source.names().any(is_marked),
            _ => false,
        }
    }

    /// The word that stands for it in prompts.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Path of the file, or what else errors call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Count and width of its vectors, for each text encoder.
    pub fn vectors(&self) -> Vec<(usize, usize)> {
        let size = |rows: &Rows| (rows.count(), rows.width);
        match &self.vectors {
            Vectors::One(rows) => vec![size(rows)],
            Vectors::Each(each) => each.iter().map(|(_, rows)| size(rows)).collect(),
        }
    }

    /// The vectors for the text encoder `part`, one of `encoders` in the model, whose tokens have this width.
    pub(crate) fn rows(
        &self,
        part: &'static str,
        encoders: usize,
        width: usize,
    ) -> Result<&Rows, AdapterError> {
        let sdxl = "the text encoders of SDXL";
        let rows = match &self.vectors {
            Vectors::One(rows) if encoders == 1 => Some(rows),
            Vectors::Each(each) if encoders >= each.len() || part == EACH[1].1 => {
                let mut own = each.iter().filter(|(name, _)| *name == part);
                own.next().map(|(_, rows)| rows)
            }
            _ => None,
        };
        let rows = rows.ok_or_else(|| AdapterError::Encoders {
            token: self.token.clone(),
            found: match &self.vectors {
                Vectors::One(_) => "one text encoder",
                Vectors::Each(each) if each.len() == 1 => "one text encoder of SDXL",
                Vectors::Each(_) => sdxl,
            },
            expected: if encoders == 1 { "one" } else { "two" },
            origin: self.origin.clone(),
        })?;
        if rows.width == width {
            return Ok(rows);
        }
        Err(AdapterError::Width {
            token: self.token.clone(),
            found: rows.width,
            part,
            expected: width,
            origin: self.origin.clone(),
        })
    }
}

fn part(name: &str) -> Option<&'static str> {
    let known = EACH.iter().find(|(tensor, _)| *tensor == name);
    known.map(|(_, part)| *part)
}

/// Whether a name is an embedding's and nothing else's.
fn is_marked(name: &str) -> bool {
    part(name).is_some() || BARE.contains(&name) || name.starts_with(BY_TOKEN)
}

/// The names of the tensors that hold the vectors: those that are marked so, else the only one, or of several words that which is asked for.
fn used<'a>(source: &'a WeightSource, token: Option<&str>) -> Vec<&'a str> {
    let marked: Vec<_> = source.names().filter(|name| is_marked(name)).collect();
    let (each, bare): (Vec<_>, Vec<_>) = marked.into_iter().partition(|name| part(name).is_some());
    let known = bare.iter().find(|name| BARE.contains(name));
    match (each.is_empty(), known, bare.as_slice()) {
        (false, ..) => each,
        (true, Some(known), _) => vec![*known],
        (true, None, [only]) => vec![*only],
        (true, None, []) if source.len() == 1 => source.names().collect(),
        (true, None, []) => source.names().filter(|name| token == Some(*name)).collect(),
        (true, None, _) => Vec::new(),
    }
}

/// Count and width of a tensor of vectors: `[count, width]` or one vector, `[width]`.
fn shape(source: &WeightSource, name: &str) -> Option<[usize; 2]> {
    let float = source.dtype(name).is_some_and(|dtype| dtype.is_float());
    match *source.shape(name)?.as_slice() {
        [width] if float && width > 0 => Some([1, width]),
        [count, width] if float && count * width > 0 => Some([count, width]),
        _ => None,
    }
}

fn rows(source: &WeightSource, name: &str) -> Result<Rows, Error> {
    let float = source.dtype(name).is_some_and(|dtype| dtype.is_float());
    let hint = if float { SIDES } else { FLOATS };
    let [_, width] = shape(source, name).ok_or_else(|| unfit(source, hint))?;
    let data = source.read_finite(name)?.convert_dtype(DType::F32);
    let values = data.iter::<f32>().collect();
    Ok(Rows { values, width })
}

fn strange(source: &WeightSource) -> AdapterError {
    let vectors = |name: &str| shape(source, name).is_some_and(|[count, _]| count < MANY);
    let words = source.len() > 1
        && source
            .names()
            .all(|name| vectors(name) && !name.contains('.'));
    let otherwise = if words { SEVERAL } else { HINT };
    unfit(source, told::hint(source, otherwise))
}

fn unfit(source: &WeightSource, hint: &'static str) -> AdapterError {
    let shown = |name: &str| {
        let shape = source.shape(name).unwrap_or_default();
        let dtype = source.dtype(name).filter(|dtype| !dtype.is_float());
        let of = dtype.map_or_else(String::new, |dtype| format!(" of {dtype:?}"));
        format!("{name} {shape:?}{of}")
    };
    AdapterError::Kind {
        expected: "embedding",
        found: source.names().map(shown).collect(),
        hint,
        origin: source.origin().to_owned(),
    }
}
