//! What a caller asked for.

#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("`steps` is 0\nhint: ask for at least one step")]
    ZeroSteps,
    #[error(
        "{steps} steps do not fit the {train_timesteps} timesteps the model was trained on\nhint: ask for fewer steps"
    )]
    TooManySteps {
        steps: usize,
        train_timesteps: usize,
    },
    #[error("`eta` is {eta}, which is not between 0 and 1")]
    Eta { eta: f64 },
    #[error("there is no sampler `{name}`\nhint: choose one of {known}")]
    UnknownSampler { name: String, known: String },
    #[error("size {width}x{height} is not a multiple of {multiple}\nhint: try {}x{}", nearest(*width, *multiple), nearest(*height, *multiple))]
    Size {
        width: usize,
        height: usize,
        multiple: usize,
    },
    #[error("there is no model `{name}`\nhint: name a folder, a checkpoint file, `bundled`, a Hub id `owner/name` or a card ({})", cards.join(", "))]
    Model {
        name: String,
        cards: Vec<&'static str>,
    },
    #[error("this build carries no model\nhint: build with the `bundled` feature, or name a model")]
    NoBundledModel,
    #[error(
        "`clip_skip` is {clip_skip}, the text encoder has {layers} layers\nhint: 1 leaves out the last layer"
    )]
    ClipSkip { clip_skip: usize, layers: usize },
    #[error(
        "`{given}` is not a device\nhint: use auto, cpu, wgpu, vulkan, metal or cuda; a number picks one of several, as in cuda:1"
    )]
    UnknownDevice { given: String },
    #[error("the output `{given}` does not end in .png\nhint: pictures are written as PNG")]
    OutputName { given: String },
    #[cfg(feature = "cli")]
    #[error("these initial latents cannot be used: {reason}\nhint: a safetensors file with a tensor `latents` of floating point numbers is needed\nfile: {}", path.display())]
    InitialLatents {
        path: std::path::PathBuf,
        reason: String,
    },
    #[error(
        "{pictures} pictures of {width}x{height} are more than {most} pixels\nhint: make them smaller, or fewer at a time"
    )]
    TooLarge {
        width: usize,
        height: usize,
        pictures: usize,
        most: usize,
    },
    #[error("no pictures are asked for\nhint: give at least one prompt, and a batch of at least 1")]
    NoPictures,
    #[error(
        "{negative} negative prompts for {prompts} prompts\nhint: give one for all of them, or one each"
    )]
    NegativePrompts { prompts: usize, negative: usize },
    #[error("{second} second prompts for {prompts} prompts\nhint: give one each, or none")]
    SecondPrompts { prompts: usize, second: usize },
    #[error(
        "this model has one text encoder and reads no second prompt\nhint: SDXL base models have two"
    )]
    NoSecondEncoder,
    #[error(
        "this model is a refiner: it finishes what a base model has begun\nhint: name a base model as `--model`, and this one as `--refiner`"
    )]
    RefinerAlone,
    #[error(
        "the {role} is no SDXL model\nhint: SDXL's base models and its refiner share their latents"
    )]
    NotSdxl { role: &'static str },
    #[error(
        "handing over at {share} leaves the {model} none of the {steps} steps\nhint: ask for more steps, or hand over elsewhere"
    )]
    HandOver {
        share: f64,
        steps: usize,
        model: &'static str,
    },
    #[error(
        "a refiner goes on from another model's latents, and the request has none\nhint: set `initial_latents` to what the base model left"
    )]
    NothingToFinish,
    #[error("{seeds} seeds for {pictures} pictures\nhint: give one for all of them, or one each")]
    Seeds { seeds: usize, pictures: usize },
    #[error("`{name}` is {value}, which is out of range\nhint: {range}")]
    Range {
        name: &'static str,
        value: f64,
        range: &'static str,
    },
    #[error(
        "the initial latents have shape {found:?}, the request asks for {expected:?}\nhint: the shape is [pictures, channels, height / 8, width / 8]"
    )]
    LatentShape {
        found: [usize; 4],
        expected: [usize; 4],
    },
    #[error(
        "`{condition}` is given, and this model makes its pictures from noise alone\nhint: leave it out"
    )]
    Unconditional { condition: &'static str },
    #[error("`{given}` is not a data type\nhint: use f32, f16 or bf16")]
    UnknownDtype { given: String },
}

/// The multiple of `multiple` nearest to `side`, at least one of it.
fn nearest(side: usize, multiple: usize) -> usize {
    ((side + multiple / 2) / multiple).max(1) * multiple
}
