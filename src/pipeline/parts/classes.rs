//! Models that read a class, or nothing.
//!
//! Source: Peebles and Xie (arXiv 2212.09748, section 3.2) for labels; Rombach et al. (arXiv 2112.10752, section 4.3) for classes as texts
//! of one token.

use std::iter::repeat_n;

use super::source::{Asked, Source};
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::Error;
use crate::models::class_embedder::ClassEmbedder;
use crate::pipeline::request::SeededNoise;

/// Classes, as labels or as what stands for them.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) null_label: usize,
    /// For denoisers that read a class as a text of one token.
    pub(super) embedder: Option<ClassEmbedder>,
}

impl Source for Classes {
    /// One label a row: a class's pictures stand together, and each half is of one kind.
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        _noise: &mut SeededNoise,
        _observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        let Asked {
            request, resolved, ..
        } = asked;
        let labels = request.subject.classes().iter();
        let labels: Vec<usize> = labels
            .flat_map(|&label| repeat_n(label, request.batch))
            .collect();
        let null = vec![self.null_label; labels.len()];
        let labels = resolved.guidance.pair(labels, null);
        let conditioning = match &self.embedder {
            Some(embedder) => Conditioning::of_context(embedder.forward(&labels)),
            None => Conditioning::of_labels(labels),
        };
        Ok(Conditioning {
            rows: resolved.rows,
            ..conditioning
        })
    }
}

/// Nothing but noise.
#[derive(Debug)]
pub(super) struct Nothing;

impl Source for Nothing {
    fn conditioning(
        &self,
        asked: &Asked<'_>,
        _noise: &mut SeededNoise,
        _observer: &mut dyn Observer,
    ) -> Result<Conditioning, Error> {
        Ok(Conditioning::none(asked.resolved.rows))
    }
}
