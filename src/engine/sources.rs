//! What a run starts from, follows and is adapted by, for its record.

use serde::Serialize;

#[cfg(feature = "cli")]
use crate::pipeline::Control;
use crate::{
    pipeline::{Adapters, Recipe, RecipeControl, RecipeFile},
    text::Embedding,
    weights::adapt::Lora,
};

/// What the pictures and adapters of a run were, for its record.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sources {
    #[serde(skip_serializing_if = "Option::is_none")]
    init_image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controls: Vec<Source>,
    #[serde(flatten)]
    adapted: Adapted,
}

#[derive(Debug, Clone, Serialize)]
struct Source {
    model: String,
    image: String,
    scale: f64,
    window: [f64; 2],
}

impl Sources {
    /// What a run by `recipe` starts from, follows and is adapted by.
    pub(crate) fn new(recipe: &Recipe, adapters: &Adapters) -> Self {
        let shown = |file: &RecipeFile| file.path.clone();
        let source = |control: &RecipeControl| Source {
            model: control.model.clone(),
            image: shown(&control.image),
            scale: control.scale,
            window: control.window,
        };
        Self {
            init_image: recipe.init_image.as_ref().map(shown),
            strength: recipe.strength,
            mask: recipe.mask.as_ref().map(shown),
            controls: recipe.controls.iter().map(source).collect(),
            adapted: Adapted::new(adapters),
        }
    }

    /// The same of runs that follow `controls`, whose nets are called `models`.
    #[cfg(feature = "cli")]
    pub(crate) fn followed(models: &[String], controls: &[Control], adapters: &Adapters) -> Self {
        let source = |(control, model): (&Control, &String)| Source {
            model: model.clone(),
            image: control.name.clone(),
            scale: control.scale,
            window: [control.window.start, control.window.end],
        };
        Self {
            controls: controls.iter().zip(models).map(source).collect(),
            adapted: Adapted::new(adapters),
            ..Self::default()
        }
    }

    /// For the text chunks of the PNG; empty texts are left out there.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        let control = |source: &Source| {
            let Source {
                model,
                image,
                scale,
                window: [from, until],
            } = source;
            format!("{model} on {image}, scale {scale}, from {from} to {until}")
        };
        let controls = self.controls.iter().map(control).collect::<Vec<_>>();
        let pictures = [
            ("init image", self.init_image.clone().unwrap_or_default()),
            ("mask", self.mask.clone().unwrap_or_default()),
            (
                "strength",
                self.strength
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
            ("control", controls.join("; ")),
        ];
        pictures.into_iter().chain(self.adapted.texts())
    }

    /// Lines of the report.
    #[cfg(feature = "cli")]
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        self.texts().filter(|(_, text)| !text.is_empty()).collect()
    }
}

/// The adapters of a run, for its record.
#[derive(Debug, Clone, Default, Serialize)]
struct Adapted {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    loras: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    embeddings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    custom_diffusions: Vec<String>,
}

impl Adapted {
    fn new(adapters: &Adapters) -> Self {
        let lora = |lora: &Lora| format!("{}={}", lora.origin(), lora.scale());
        let embedding = |one: &Embedding| format!("{}={}", one.token(), one.origin());
        let customs = adapters.custom_diffusions.iter();
        Self {
            loras: adapters.loras.iter().map(lora).collect(),
            embeddings: adapters.embeddings.iter().map(embedding).collect(),
            custom_diffusions: customs.map(|custom| custom.origin().to_owned()).collect(),
        }
    }

    /// For the text chunks of the PNG; empty texts are left out there.
    fn texts(&self) -> [(&'static str, String); 3] {
        [
            ("lora", self.loras.join("; ")),
            ("embedding", self.embeddings.join("; ")),
            ("custom diffusion", self.custom_diffusions.join("; ")),
        ]
    }
}
