//! What only some models take besides a prompt: sizes, crops, scores, a prompt for the second text encoder.
//!
//! Source: Podell et al., SDXL (arXiv 2307.01952, sections 2.2 and 2.5); behaviour as diffusers' `StableDiffusionXLPipeline`.

use crate::error::RequestError;
use crate::pipeline::config::Numbers;

/// The size of the picture a prompt is imagined to come from, and the part of it that is shown. In pixels, height first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Framing {
    /// Height and width before anything was cut off; the picture's own where it is silent. Small ones ask for a blurred picture.
    pub original: Option<[usize; 2]>,
    /// Rows and columns cut off above and on the left. None asks for a centred subject.
    pub crop: [usize; 2],
    /// Height and width that the picture is to have; its own where it is silent.
    pub target: Option<[usize; 2]>,
}

/// What models that ask for it (SDXL) take besides the prompts; other models refuse it.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// What the second text encoder reads, one entry a prompt; none for what the first reads.
    pub second_prompts: Vec<String>,
    /// The same for the negative prompts: none, one for all, or one a prompt.
    pub second_negative_prompts: Vec<String>,
    /// What the third text encoder reads (Stable Diffusion 3), likewise.
    pub third_prompts: Vec<String>,
    /// The same for the negative prompts.
    pub third_negative_prompts: Vec<String>,
    /// Sizes and crop.
    pub framing: Framing,
    /// Sizes and crop of the unconditioned half; those of the other where it is silent.
    pub negative_framing: Option<Framing>,
    /// How good the picture is to look, 1 to 10, for refiners.
    pub aesthetic_score: f64,
    /// How good the unconditioned half looks.
    pub negative_aesthetic_score: f64,
}

impl Default for Added {
    /// As in diffusers.
    fn default() -> Self {
        Self {
            second_prompts: Vec::new(),
            second_negative_prompts: Vec::new(),
            third_prompts: Vec::new(),
            third_negative_prompts: Vec::new(),
            framing: Framing::default(),
            negative_framing: None,
            aesthetic_score: 6.0,
            negative_aesthetic_score: 2.5,
        }
    }
}

impl Added {
    /// Refuses what a denoiser that takes these numbers, or none, would take no notice of.
    pub(super) fn check(&self, taken: Option<Numbers>) -> Result<(), RequestError> {
        let silent = Self::default();
        let framed = self.framing != silent.framing || self.negative_framing.is_some();
        let framings = [Some(self.framing), self.negative_framing];
        let aimed = framings.iter().flatten().any(|one| one.target.is_some());
        let scored = self.clone().without_scores() != *self;
        let scores = [
            ("aesthetic_score", self.aesthetic_score),
            ("negative_aesthetic_score", self.negative_aesthetic_score),
        ];
        let endless = scores.into_iter().find(|(_, score)| !score.is_finite());
        match taken {
            None if framed => Err(RequestError::NotTaken {
                option: "framing",
                what: "sizes",
                hint: "SDXL models do",
            }),
            None | Some(Numbers::Sizes) if scored => Err(RequestError::NotTaken {
                option: "aesthetic_score",
                what: "aesthetic scores",
                hint: "SDXL's refiner does",
            }),
            Some(Numbers::Score) if aimed => Err(RequestError::NotTaken {
                option: "framing.target",
                what: "target size",
                hint: "SDXL's base models do",
            }),
            _ => match endless {
                Some((name, value)) => {
                    let range = "a finite number; 1 to 10 are usual";
                    Err(RequestError::Range { name, value, range })
                }
                None => Ok(()),
            },
        }
    }

    /// What is left for a base model whose refiner takes the scores.
    pub(super) fn without_scores(self) -> Self {
        let silent = Self::default();
        Self {
            aesthetic_score: silent.aesthetic_score,
            negative_aesthetic_score: silent.negative_aesthetic_score,
            ..self
        }
    }

    /// What is left for a refiner: it has one text encoder and takes no target size.
    pub(super) fn for_refiner(mut self) -> Self {
        self.second_prompts.clear();
        self.second_negative_prompts.clear();
        self.framing.target = None;
        self.negative_framing = self.negative_framing.map(|framing| Framing {
            target: None,
            ..framing
        });
        self
    }

    /// The numbers of the unconditioned and of the conditioned half, for a picture of `size`, height and width.
    pub(in crate::pipeline) fn halves(&self, numbers: Numbers, size: [usize; 2]) -> [Vec<f64>; 2] {
        let negative = self.negative_framing.unwrap_or(self.framing);
        [
            (negative, self.negative_aesthetic_score),
            (self.framing, self.aesthetic_score),
        ]
        .map(|(framing, score)| row(framing, score, numbers, size))
    }
}

fn row(framing: Framing, score: f64, numbers: Numbers, size: [usize; 2]) -> Vec<f64> {
    let pixels = |pair: [usize; 2]| pair.map(|side| side as f64);
    let mut row = pixels(framing.original.unwrap_or(size)).to_vec();
    row.extend(pixels(framing.crop));
    match numbers {
        Numbers::Sizes => row.extend(pixels(framing.target.unwrap_or(size))),
        Numbers::Score => row.push(score),
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_sizes_are_the_pictures_own() {
        let [negative, positive] = Added::default().halves(Numbers::Sizes, [136, 104]);
        assert_eq!(positive, [136.0, 104.0, 0.0, 0.0, 136.0, 104.0]);
        assert_eq!(negative, positive);
    }

    #[test]
    fn what_a_model_does_not_take_is_refused() {
        let framed = Added {
            framing: Framing {
                target: Some([64, 64]),
                ..Framing::default()
            },
            ..Added::default()
        };
        let scored = Added {
            aesthetic_score: 9.0,
            ..Added::default()
        };
        let (sizes, score) = (Some(Numbers::Sizes), Some(Numbers::Score));
        assert!(framed.check(sizes).is_ok() && scored.check(score).is_ok());
        for (added, told) in [
            (&framed, None),
            (&scored, None),
            (&scored, sizes),
            (&framed, score),
        ] {
            let refused = added.check(told).expect_err("not taken").to_string();
            assert!(refused.contains("this model takes no "), "{refused}");
        }
        let endless = Added {
            negative_aesthetic_score: f64::NAN,
            ..Added::default()
        };
        let refused = endless.check(score).expect_err("no number").to_string();
        assert!(
            refused.starts_with("`negative_aesthetic_score` is NaN"),
            "{refused}"
        );
        assert!(framed.for_refiner().check(score).is_ok());
        assert!(scored.without_scores().check(None).is_ok());
    }

    #[test]
    fn a_refiner_is_told_scores() {
        let [negative, positive] = Added::default().halves(Numbers::Score, [8, 16]);
        assert_eq!(positive, [8.0, 16.0, 0.0, 0.0, 6.0]);
        assert_eq!(negative, [8.0, 16.0, 0.0, 0.0, 2.5]);
    }
}
