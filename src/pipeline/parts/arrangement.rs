//! What of a model is in memory at a time: the order in which parts are read, and whether their blocks stay.

use super::residency::Residency;
use super::streaming::Streaming;
use crate::error::{Error, bytes};
use crate::models::t5::T5Config;
use crate::pipeline::config::{ModelConfig, SENTENCE_ENCODER, SourceConfig};

/// What of a model is in memory at a time. What it makes is the same, bit for bit, however it is arranged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// The texts are read, by one encoder after the other, and the encoders released, before the denoiser is read.
    pub texts_first: bool,
    /// Blocks of the encoder of T5 are read as they are needed.
    pub streams_texts: bool,
    /// Blocks of the denoiser are read as they are needed.
    pub streams_denoiser: bool,
}

/// An arrangement that was picked, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arranged {
    pub(crate) arrangement: Arrangement,
    /// Why it is not what it would be in a larger memory.
    pub(crate) note: Option<String>,
}

impl Arrangement {
    /// Of a model of which nothing else is said: all of it in memory, but for an encoder of T5 that is read before all else
    /// ([`ModelConfig::reads_texts_first`]).
    pub fn of(config: &ModelConfig) -> Self {
        Self {
            texts_first: config.reads_texts_first(),
            ..Self::default()
        }
    }

    /// The one that takes least memory.
    pub fn least(config: &ModelConfig) -> Self {
        Self {
            texts_first: config.reads_texts_first() || has_joint_texts(config),
            streams_texts: config.has_t5(),
            streams_denoiser: config.trunk.streams(),
        }
    }

    /// With the denoiser in memory and nothing of the text encoders beside it, T5 a block at a time: what releasing them comes to.
    pub fn releasing(config: &ModelConfig) -> Self {
        Self {
            streams_denoiser: false,
            ..Self::least(config)
        }
    }

    /// Those that serve what is wished, the fastest first.
    fn choices(config: &ModelConfig, residency: Residency, streaming: Streaming) -> Vec<Self> {
        let (plain, least) = (Self::of(config), Self::least(config));
        let keeps = residency == Residency::Keep;
        let texts_first = if keeps { plain } else { least }.texts_first;
        let first = Self {
            texts_first,
            ..plain
        };
        // Released encoders are read for every prompt, so their blocks need not wait for each other.
        let texts = Self {
            streams_texts: least.streams_texts && !keeps,
            ..first
        };
        let all = Self {
            texts_first,
            ..least
        };
        let denoiser = Self {
            streams_denoiser: least.streams_denoiser,
            ..texts
        };
        let mut choices = match (streaming, residency) {
            (Streaming::Always, _) => vec![all],
            (Streaming::Never, Residency::Release) => vec![first],
            (Streaming::Never, _) => vec![plain, first],
            (Streaming::Auto, Residency::Release) => vec![texts, denoiser],
            (Streaming::Auto, _) => vec![plain, first, texts, denoiser],
        };
        choices.dedup();
        choices
    }

    /// The first that serves what is wished and whose `peak`, in bytes, is within what is `free`; else the one that takes least.
    pub(crate) fn pick(
        config: &ModelConfig,
        (residency, streaming): (Residency, Streaming),
        free: Option<u64>,
        mut peak: impl FnMut(Self) -> Result<u64, Error>,
    ) -> Result<Arranged, Error> {
        let choices = Self::choices(config, residency, streaming);
        let (fastest, others) = choices.split_first().expect("something always serves");
        let (Some(free), false) = (free, others.is_empty()) else {
            return Ok(Arranged::wished(*fastest));
        };
        let most = peak(*fastest)?;
        if most <= free {
            return Ok(Arranged::wished(*fastest));
        }
        let mut arrangement = *fastest;
        for other in others {
            arrangement = *other;
            if peak(arrangement)? <= free {
                break;
            }
        }
        let [most, free] = [most, free].map(bytes);
        let done = arrangement.beyond(*fastest);
        Ok(Arranged {
            arrangement,
            note: Some(format!(
                "the run would hold {most} and {free} are free: {done}"
            )),
        })
    }

    /// What it does that `other` does not.
    fn beyond(self, other: Self) -> String {
        let texts = self.texts_first && !other.texts_first;
        let blocks = [
            (
                self.streams_texts && !other.streams_texts,
                "the text encoder",
            ),
            (
                self.streams_denoiser && !other.streams_denoiser,
                "the denoiser",
            ),
        ];
        let blocks = blocks.into_iter().filter(|(does, _)| *does);
        let blocks: Vec<_> = blocks.map(|(_, whose)| whose).collect();
        let texts = texts.then(|| "texts are read before the denoiser".to_owned());
        let blocks = (!blocks.is_empty()).then(|| {
            let whose = blocks.join(" and of ");
            format!("blocks of {whose} are read from the file as they are needed")
        });
        let done: Vec<_> = texts.into_iter().chain(blocks).collect();
        done.join(", and ")
    }
}

impl Arranged {
    /// As it was wished.
    fn wished(arrangement: Arrangement) -> Self {
        let note = None;
        Self { arrangement, note }
    }
}

/// Whether texts are read through encoders of CLIP beside T5.
fn has_joint_texts(config: &ModelConfig) -> bool {
    matches!(config.source, SourceConfig::Joint(_))
}

impl ModelConfig {
    /// Whether it reads prompts through an encoder of T5 of its own.
    pub(in crate::pipeline) fn has_t5(&self) -> bool {
        self.t5().is_some()
    }

    /// That encoder, and the part that it is.
    pub(super) fn t5(&self) -> Option<(&'static str, &T5Config)> {
        let (part, t5) = match &self.source {
            SourceConfig::Joint(texts) => (texts.parts[0], &texts.t5),
            SourceConfig::Sentences(sentences) => (SENTENCE_ENCODER, &sentences.t5),
            _ => return None,
        };
        Some((part, t5.as_ref()?))
    }

    /// Whether any of its blocks can be read as they are needed.
    pub(crate) fn streams(&self) -> bool {
        let least = Arrangement::least(self);
        least.streams_texts || least.streams_denoiser
    }

    /// Whether it can be arranged in more ways than one.
    pub(crate) fn can_be_arranged(&self) -> bool {
        Arrangement::of(self) != Arrangement::least(self)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::catalog::ModelFolder;

    const PLAIN: Arrangement = Arrangement {
        texts_first: false,
        streams_texts: false,
        streams_denoiser: false,
    };
    const TEXTS_FIRST: Arrangement = Arrangement {
        texts_first: true,
        ..PLAIN
    };
    const TEXTS: Arrangement = Arrangement {
        streams_texts: true,
        ..TEXTS_FIRST
    };
    const ALL: Arrangement = Arrangement {
        streams_denoiser: true,
        ..TEXTS
    };

    fn config(name: &str) -> ModelConfig {
        let folder = ModelFolder::open_configs(name).expect("a card");
        ModelConfig::read(&folder).expect("a configuration")
    }

    #[test]
    fn the_fastest_comes_first_and_wishes_are_followed() {
        let flux = config("FLUX.1-schnell");
        let choices = |residency, streaming| Arrangement::choices(&flux, residency, streaming);
        let (auto, keep, release) = (Residency::Auto, Residency::Keep, Residency::Release);
        let all = vec![PLAIN, TEXTS_FIRST, TEXTS, ALL];
        assert_eq!(choices(auto, Streaming::Auto), all);
        assert_eq!(choices(release, Streaming::Auto), [TEXTS, ALL]);
        let kept = Arrangement {
            streams_denoiser: true,
            ..PLAIN
        };
        assert_eq!(choices(keep, Streaming::Auto), [PLAIN, kept]);
        assert_eq!(choices(auto, Streaming::Always), [ALL]);
        assert_eq!(choices(auto, Streaming::Never), [PLAIN, TEXTS_FIRST]);
        assert_eq!(choices(release, Streaming::Never), [TEXTS_FIRST]);
        assert_eq!(choices(keep, Streaming::Never), [PLAIN]);
        assert!(!config("stable-diffusion-v1-5").can_be_arranged());
    }

    /// The first that fits is taken, else the least; and what is not as it would be is told.
    #[test]
    fn memory_decides_what_nobody_asked_for() {
        let flux = config("FLUX.1-schnell");
        let peak = |one: Arrangement| {
            let taken = [one.texts_first, one.streams_texts, one.streams_denoiser];
            Ok(4_u64 - taken.into_iter().filter(|taken| *taken).count() as u64)
        };
        let pick = |free| {
            let wished = (Residency::Auto, Streaming::Auto);
            Arrangement::pick(&flux, wished, free, peak).expect("an arrangement")
        };
        assert_eq!(pick(None), Arranged::wished(PLAIN));
        assert_eq!(pick(Some(4)), Arranged::wished(PLAIN));
        assert_eq!(pick(Some(3)).arrangement, TEXTS_FIRST);
        assert_eq!(pick(Some(2)).arrangement, TEXTS);
        let least = pick(Some(0));
        assert_eq!((least.arrangement, pick(Some(1))), (ALL, Arranged { note: Some("the run would hold 4 B and 1 B are free: texts are read before the denoiser, and blocks of the text encoder and of the denoiser are read from the file as they are needed".into()), arrangement: ALL }));
    }
}
