//! Requests of `OpenAI`'s form as recipes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{
    engine::random_seed,
    serve::{asked::Ask, fault::Fault},
};

/// Previews of one stream, as `OpenAI`'s interface counts them.
const MOST_PARTIAL: u32 = 3;

/// A request for pictures of a text
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(in crate::serve) struct ImageRequest {
    /// What the picture shows
    #[schema(required = true)]
    pub(super) prompt: Option<String>,
    /// One of the server's models; the first where it is absent
    pub(super) model: Option<String>,
    /// Pictures
    #[schema(minimum = 1)]
    pub(super) n: Option<usize>,
    /// Width and height as `512x512`, or `auto`
    pub(super) size: Option<String>,
    /// `b64_json` or `url`
    pub(super) response_format: Option<String>,
    /// `png`, `jpeg` or `webp`
    pub(super) output_format: Option<String>,
    /// Answer with events
    pub(super) stream: Option<bool>,
    /// Previews of a stream
    #[schema(minimum = 0, maximum = 3)]
    pub(super) partial_images: Option<u32>,
    /// Seed of the first picture; each next one has the next
    #[schema(minimum = -1)]
    pub(super) seed: Option<i64>,
    /// Denoising steps
    #[schema(minimum = 1)]
    pub(super) steps: Option<usize>,
    /// What the picture avoids
    pub(super) negative_prompt: Option<String>,
    /// A rule that makes it sooner, as `deepcache:interval=3,branch=0`
    pub(super) cache: Option<String>,
    /// How strongly the text guides
    pub(super) guidance_scale: Option<f64>,
    /// The update rule
    pub(super) sampler: Option<String>,
    /// How much of a picture gives way to noise, above 0 and up to 1
    pub(super) strength: Option<f64>,
    /// Without effect
    pub(super) quality: Option<Value>,
    /// Without effect
    pub(super) style: Option<Value>,
    /// Without effect
    pub(super) background: Option<Value>,
    /// Without effect
    pub(super) moderation: Option<Value>,
    /// Without effect
    pub(super) output_compression: Option<Value>,
    /// Without effect
    pub(super) input_fidelity: Option<Value>,
    /// Without effect
    pub(super) user: Option<Value>,
}

/// A request to change a picture: the fields of one for pictures of a text, and files
#[derive(Debug, Default, ToSchema)]
#[expect(
    dead_code,
    reason = "it is the form's description; the form itself is read part by part"
)]
pub(in crate::serve) struct EditRequest {
    /// The picture; as `image[]` too
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// Of the picture's size; what is transparent is painted anew
    #[schema(value_type = Option<String>, format = Binary)]
    mask: Option<Vec<u8>>,
    /// What the picture shows
    prompt: String,
    /// One of the server's models
    model: Option<String>,
    /// Pictures
    n: Option<usize>,
    /// Width and height as `512x512`, or `auto`
    size: Option<String>,
    /// Seed of the first picture
    seed: Option<i64>,
    /// Denoising steps
    steps: Option<usize>,
    /// How much of the picture gives way to noise
    strength: Option<f64>,
}

/// What is to be made, and how it is answered.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) ask: Ask,
    pub(super) reply: Reply,
}

/// How pictures are answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) by_url: bool,
    pub(super) streams: bool,
    pub(super) partial_images: u32,
    /// `png`, `jpeg` or `webp`
    pub(super) format: String,
    /// What events are called by.
    pub(super) kind: &'static str,
}

impl ImageRequest {
    /// Understands what is asked for; `warnings` are told with the pictures.
    pub(super) fn wanted(self, mut warnings: Vec<String>) -> Result<Wanted, Fault> {
        let format = self.output_format.clone().unwrap_or_else(|| "png".into());
        let by_url = match self.response_format.as_deref() {
            None | Some("b64_json") => false,
            Some("url") => true,
            Some(other) => {
                let message =
                    format!("`response_format` is `{other}`, and `b64_json` and `url` are known");
                return Err(Fault::value("response_format", message));
            }
        };
        let partial_images = self.partial_images.unwrap_or(0);
        if partial_images > MOST_PARTIAL {
            let message =
                format!("`partial_images` is {partial_images}, and 0 to {MOST_PARTIAL} are made");
            return Err(Fault::value("partial_images", message));
        }
        let without = [
            ("quality", &self.quality),
            ("style", &self.style),
            ("background", &self.background),
            ("output_compression", &self.output_compression),
            ("input_fidelity", &self.input_fidelity),
        ];
        let given = without
            .iter()
            .filter(|(_, value)| value.as_ref().is_some_and(|value| value != "auto"));
        warnings
            .extend(given.map(|(key, _)| format!("`{key}` has no effect here and was ignored")));
        let reply = Reply {
            by_url,
            streams: self.stream.unwrap_or(false),
            partial_images,
            format: format.clone(),
            kind: "image_generation",
        };
        let ask = Ask {
            recipe: self.recipe()?,
            format: Some(format),
            warnings,
            ..Ask::default()
        };
        Ok(Wanted { ask, reply })
    }

    fn recipe(self) -> Result<Value, Fault> {
        let prompt = self.prompt.filter(|prompt| !prompt.is_empty());
        let prompt =
            prompt.ok_or_else(|| Fault::value("prompt", "`prompt` is missing or empty"))?;
        let pictures = self.n.unwrap_or(1);
        if pictures == 0 {
            return Err(Fault::value("n", "`n` is 0"));
        }
        let mut recipe = Map::new();
        recipe.insert("prompts".into(), json!([prompt]));
        recipe.insert("seed".into(), seeds(self.seed, pictures)?);
        if let Some(model) = self.model.filter(|model| !model.is_empty()) {
            recipe.insert("model".into(), json!({"name": model}));
        }
        if let Some(negative) = self.negative_prompt.filter(|text| !text.is_empty()) {
            recipe.insert("negative_prompts".into(), json!([negative]));
        }
        let given = [
            ("batch", (pictures > 1).then(|| pictures.into())),
            ("size", size(self.size.as_deref())?),
            ("steps", self.steps.map(Value::from)),
            ("guidance_scale", self.guidance_scale.map(Value::from)),
            ("sampler", self.sampler.map(Value::from)),
            ("cache", self.cache.map(Value::from)),
            ("strength", self.strength.map(Value::from)),
        ];
        let given = given
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        recipe.extend(given);
        Ok(Value::Object(recipe))
    }
}

/// A seed each, from the one that is asked for on; silence or -1 draws the first. One picture has one stream, whatever asks for it.
pub(in crate::serve) fn seeds(first: Option<i64>, pictures: usize) -> Result<Value, Fault> {
    let first = match first {
        None | Some(-1) => random_seed(),
        Some(seed) => u64::try_from(seed).map_err(|_| {
            Fault::value("seed", format!("`seed` is {seed}, and -1 alone draws one"))
        })?,
    };
    if pictures == 1 {
        return Ok(first.into());
    }
    // More are refused by their number.
    let pictures = pictures.min(1 << 16) as u64;
    Ok((0..pictures)
        .map(|number| first.wrapping_add(number))
        .collect())
}

/// `512x512` as width and height.
fn size(text: Option<&str>) -> Result<Option<Value>, Fault> {
    let Some(text) = text.filter(|text| *text != "auto") else {
        return Ok(None);
    };
    let sides = text.split_once('x').and_then(|(width, height)| {
        Some([width.parse::<usize>().ok()?, height.parse::<usize>().ok()?])
    });
    let sides = sides.ok_or_else(|| {
        let message = format!(
            "`size` is `{}`, and is written as `512x512` or `auto`",
            crate::serve::read::short(text)
        );
        Fault::value("size", message)
    })?;
    Ok(Some(json!(sides)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(value: Value) -> ImageRequest {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_request_becomes_a_recipe() {
        let request = request(
            json!({"prompt": "a fox", "n": 2, "size": "64x32", "seed": 7, "quality": "hd", "stream": true}),
        );
        let Wanted { ask, reply } = request.wanted(Vec::new()).unwrap();
        let expected = json!({"prompts": ["a fox"], "seed": [7, 8], "batch": 2, "size": [64, 32]});
        assert_eq!(ask.recipe, expected);
        assert_eq!(ask.warnings.len(), 1);
        assert!(reply.streams && !reply.by_url);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (value, param) in [
            (json!({}), "prompt"),
            (json!({"prompt": "a", "n": 0}), "n"),
            (json!({"prompt": "a", "size": "big"}), "size"),
            (json!({"prompt": "a", "seed": -2}), "seed"),
            (
                json!({"prompt": "a", "response_format": "gif"}),
                "response_format",
            ),
            (
                json!({"prompt": "a", "partial_images": 4}),
                "partial_images",
            ),
        ] {
            let fault = request(value).wanted(Vec::new()).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param));
        }
    }
}
