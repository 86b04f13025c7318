//! Learned words: textual inversion embeddings and the modifier tokens of Custom Diffusion.
//!
//! Source: Gal et al., "An Image is Worth One Word" (arXiv 2208.01618, section 4): a token whose embedding is trained while the model
//! stays. A token with several vectors takes as many places in the prompt. Files as diffusers, `AUTOMATIC1111`'s web interface and
//! SDXL's trainers write them.

use std::path::Path;

use burn::tensor::DType;

use crate::error::{AdapterError, Error};
use crate::weights::WeightSource;

/// The tensor of a file that does not say its token.
const BARE: [&str; 2] = ["emb_params", "string_to_param.*"];
/// SDXL's tensors, and the part whose tokens they are.
const EACH: [(&str, &str); 2] = [("clip_l", "text_encoder"), ("clip_g", "text_encoder_2")];
/// What the tensors are called, for those who meet something else.
const HINT: &str =
    "an embedding holds one tensor called by its token, `emb_params`, or `clip_l` and `clip_g`";

/// A token and its vectors.
#[derive(Debug, Clone)]
pub struct Embedding {
    token: String,
    origin: String,
    vectors: Vectors,
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
    /// When it holds something else, or the token is empty.
    pub fn from_source(source: &WeightSource, token: Option<&str>) -> Result<Self, Error> {
        let origin = source.origin().to_owned();
        let names: Vec<_> = source.names().collect();
        let (own, vectors) = match names.as_slice() {
            names if names.iter().all(|name| part(name).is_some()) && !names.is_empty() => {
                let named = names.iter().filter_map(|name| Some((part(name)?, name)));
                let rows = named.map(|(part, name)| Ok((part, rows(source, name)?)));
                let rows = rows.collect::<Result<Vec<_>, Error>>()?;
                (None, Vectors::Each(rows))
            }
            [name] => {
                let own = (!BARE.contains(name)).then_some(*name);
                (own, Vectors::One(rows(source, name)?))
            }
            _ => return Err(strange(source).into()),
        };
        let stem = Path::new(&origin).file_stem();
        let stem = stem.and_then(|stem| stem.to_str());
        let token = token.or(own).or(stem).unwrap_or_default().trim().to_owned();
        if token.is_empty() {
            return Err(AdapterError::EmptyToken { origin }.into());
        }
        Ok(Self {
            token,
            origin,
            vectors,
        })
    }

    /// Whether a source looks like one.
    pub fn is_one(source: &WeightSource) -> bool {
        let mut names = source.names();
        match (names.next(), names.next(), names.next()) {
            (Some(one), None, None) => shape(source, one).is_some(),
            (Some(one), Some(two), None) => part(one).is_some() && part(two).is_some(),
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
    let [_, width] = shape(source, name).ok_or_else(|| strange(source))?;
    let data = source.read(name)?.convert_dtype(DType::F32);
    let values = data.iter::<f32>().collect();
    Ok(Rows { values, width })
}

fn strange(source: &WeightSource) -> AdapterError {
    let shown = |name: &str| {
        let shape = source.shape(name).unwrap_or_default();
        format!("{name} {shape:?}")
    };
    AdapterError::Kind {
        expected: "embedding",
        found: source.names().map(shown).collect(),
        hint: HINT,
        origin: source.origin().to_owned(),
    }
}
