//! What a caller asked for.

use super::{least_strength, number};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("`steps` is 0\nhint: ask for at least one step")]
    ZeroSteps,
    #[error("`steps` is {steps}, the most is {most}\nhint: models are trained on a thousand or so")]
    StepsBeyondReason { steps: usize, most: usize },
    #[error(
        "{steps} steps do not fit the {train_timesteps} {places}\nhint: ask for {}",
        most.map_or_else(|| "fewer steps".to_owned(), |most| format!("at most {most}"))
    )]
    TooManySteps {
        steps: usize,
        train_timesteps: usize,
        places: &'static str,
        /// The most that do fit, where that is known.
        most: Option<usize>,
    },
    #[error(
        "the motion's places are {moved_at} and {joined_at} in a run of {evaluations} steps\nhint: `motion_t0` is below `motion_t1`, and that is below the number of steps: take more steps, or give both"
    )]
    MotionPlaces {
        moved_at: usize,
        joined_at: usize,
        evaluations: usize,
    },
    #[error("`eta` is {}, which is not between 0 and 1", number(*eta))]
    Eta { eta: f64 },
    #[error("size {width}x{height} has a side without pixels\nhint: a side has 1 to 8192 pixels")]
    NoSize { width: usize, height: usize },
    #[error("there is no sampler `{name}`\nhint: {hint}")]
    UnknownSampler { name: String, hint: String },
    #[error("size {width}x{height} is not a multiple of {multiple}\nhint: try {}x{}", nearest(*width, *multiple), nearest(*height, *multiple))]
    Size {
        width: usize,
        height: usize,
        multiple: usize,
    },
    #[error("there is no model `{name}`\nhint: {hint}")]
    Model { name: String, hint: String },
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
    #[error(
        "the output `{given}` does not end in .png, .jpg or .webp\nhint: these are the formats that pictures are written in"
    )]
    OutputName { given: String },
    #[error(
        "the output `{given}` is of no format that is written here\nhint: end the name of a picture in .png, .jpg or .webp, that of a film in .mp4, .gif, .apng, .png or .y4m, or in / for a folder of frames"
    )]
    OutputFormat { given: String },
    #[error(
        "the output `{given}` is a film's, and this run makes pictures\nhint: end its name in .png, .jpg or .webp; a model of films, or `frames`, makes films"
    )]
    FilmAsPicture { given: String },
    #[error(
        "{count} {what} for `{given}`, which takes one\nhint: name a file as the output, its {what} are numbered"
    )]
    OneStream {
        given: String,
        count: usize,
        what: &'static str,
    },
    #[error(
        "the output `{given}` is of no format that films are written in\nhint: end its name in .mp4, .gif, .apng, .png or .y4m, or in / for a folder of frames"
    )]
    FilmName { given: String },
    #[cfg(not(feature = "video"))]
    #[error(
        "the output `{given}` is an MP4, which this program was built without\nhint: end the name of a picture in .png, .jpg or .webp, that of a film in .gif, .apng or .y4m; the Cargo feature `video` adds .mp4 for films"
    )]
    OutputFeature { given: String },
    #[cfg(not(feature = "video"))]
    #[error(
        "the output `{given}` is an MP4, which this program was built without\nhint: .gif, .apng and .y4m are always there; the Cargo feature `video` adds .mp4"
    )]
    FilmFeature { given: String },
    #[error(
        "the folder `{given}` has `{found}`, which would follow the {frames} frames of the new film\nhint: name another folder, or remove the old frames"
    )]
    FilmFolder {
        given: String,
        found: String,
        frames: usize,
    },
    #[error("these latents cannot be used: {reason}\nhint: a safetensors file with a tensor `latents` of floating point numbers is needed\nfile: {}", path.display())]
    InitialLatents {
        path: std::path::PathBuf,
        reason: String,
    },
    #[cfg(feature = "cli")]
    #[error(
        "`--prediction` says what a denoiser predicts, and latents become pictures without one\nhint: leave it out"
    )]
    NothingPredicts,
    #[cfg(feature = "cli")]
    #[error(
        "the file holds latents of {rows} pictures or frames, which are no films of {frames}\nhint: give `--frames` a divisor of {rows}; 1 makes pictures"
    )]
    LatentFrames { frames: usize, rows: usize },
    #[error(
        "{pictures} pictures of {width}x{height} are more than {most} pixels\nhint: make them smaller, or fewer at a time"
    )]
    TooLarge {
        width: usize,
        height: usize,
        pictures: usize,
        most: usize,
    },
    #[error(
        "the recipe asks for `{asked}`, and the engine has {}\nhint: open a model as the recipe asks, or leave this out of the recipe", own.as_ref().map_or_else(|| "none".to_owned(), |own| format!("`{own}`"))
    )]
    OtherModel { asked: String, own: Option<String> },
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
        "this model reads no third prompt\nhint: Stable Diffusion 3 and 3.5 have three text encoders"
    )]
    NoThirdEncoder,
    #[error(
        "`{option}` says how layers guide that are left out, and none are\nhint: name them as `skip_layers`"
    )]
    NoSkippedLayers { option: &'static str },
    #[error(
        "`skip_layer_from` is {from} and `skip_layer_until` is {until}\nhint: they are shares of the run, and the first is the smaller; where one is left out, it is 0.01 or 0.2"
    )]
    SkippedWindow { from: f64, until: f64 },
    #[error("the model has no layer {layer}\nhint: it has {layers}, counted from 0")]
    SkippedLayer { layer: usize, layers: usize },
    #[error(
        "pictures of {width}x{height} are larger than the model has positions for\nhint: {most} pixels a side are the most"
    )]
    Positions {
        width: usize,
        height: usize,
        most: usize,
    },
    #[error(
        "this model is a refiner: it finishes what a base model has begun\nhint: name a base model as `--model`, and this one as `--refiner`"
    )]
    RefinerAlone,
    #[error(
        "the {role} is no SDXL model\nhint: SDXL's base models and its refiner share their latents"
    )]
    NotSdxl { role: &'static str },
    #[error(
        "handing over at {} leaves the {model} none of the {steps} steps\nhint: ask for more steps, or hand over elsewhere",
        number(*share)
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
    #[error(
        "`{option}` is given, and this model takes no {what}\nhint: {hint}; leave the option out"
    )]
    NotTaken {
        option: &'static str,
        what: &'static str,
        hint: &'static str,
    },
    #[error(
        "`guidance_channels` is {asked}, and the latents have {latents} channels\nhint: ask for 1 to {latents}, or leave it out"
    )]
    GuidedChannels { asked: usize, latents: usize },
    #[error(
        "`text_length` is {tokens}, the model reads 1 to {longest} tokens of a prompt\nhint: leave it out for as many as the model was trained with"
    )]
    TextLength { tokens: usize, longest: usize },
    #[error(
        "this model makes a picture larger, and there is none\nhint: `--init-image` names it; or the model goes on after another, as its `--upscaler`"
    )]
    NothingToEnlarge,
    #[error(
        "this model has no text encoder of its own, and none has read its prompts\nhint: name it as `--upscaler` of a model that reads prompts as it does (the first stage of DeepFloyd IF), or add a folder `text_encoder`"
    )]
    NoTextEncoder,
    #[error(
        "encoded prompts of shape {found:?}, the model reads {expected:?}\nhint: they are one row a prompt, as `PromptEmbeds::read` makes them for this request"
    )]
    PromptEmbeds {
        found: [usize; 3],
        expected: [usize; 3],
    },
    #[error(
        "encoded prompts as one vector each, of shape {found:?}, the model reads {expected:?}\nhint: they are one row a prompt, as `PromptEmbeds::read` makes them for this request"
    )]
    PooledEmbeds {
        found: [usize; 2],
        expected: [usize; 2],
    },
    #[error(
        "`{option}` is {found:?}, for {prompts} prompts of {tokens} tokens\nhint: it is how many of them are read, one number a prompt; leave both lists empty where all are"
    )]
    EmbedLengths {
        option: &'static str,
        found: Vec<usize>,
        prompts: usize,
        tokens: usize,
    },
    #[cfg(feature = "cli")]
    #[error(
        "{found} noise levels for {upscalers} upscalers\nhint: give one for all of them, or one each"
    )]
    NoiseLevels { found: usize, upscalers: usize },
    #[error("the noise level is {level}, and this model knows levels of 0 to {most}")]
    NoiseLevel { level: usize, most: usize },
    #[error(
        "the small picture has {width}x{height} pixels, of which the model makes {large_width}x{large_height}, not {asked_width}x{asked_height}\nhint: leave the size out"
    )]
    EnlargedSize {
        width: usize,
        height: usize,
        large_width: usize,
        large_height: usize,
        asked_width: usize,
        asked_height: usize,
    },
    #[error(
        "{low} small pictures for {pictures} pictures\nhint: give one for all of them, or one each"
    )]
    LowPictures { low: usize, pictures: usize },
    #[error("{seeds} seeds for {pictures} pictures\nhint: give one for all of them, or one each")]
    Seeds { seeds: usize, pictures: usize },
    #[error("`{name}` is {}, which is out of range\nhint: {range}", number(*value))]
    Range {
        name: &'static str,
        value: f64,
        range: &'static str,
    },
    #[error(
        "the latents have shape {found:?}, the model and the request ask for {expected:?}\nhint: the shape is [pictures or frames, channels, height / 8, width / 8]"
    )]
    LatentShape {
        found: [usize; 4],
        expected: [usize; 4],
    },
    #[error(
        "`strength` is {}\nhint: it is above 0, where the picture stays as it is, and at most 1, where nothing is kept",
        number(*strength)
    )]
    Strength { strength: f64 },
    #[error(
        "a strength of {} leaves none of the {steps} steps to run\nhint: give a strength of at least {}, or more steps",
        number(*strength),
        least_strength(*steps)
    )]
    StrengthOfNoStep { strength: f64, steps: usize },
    #[error(
        "the picture has {width}x{height} pixels, and the model makes none smaller than {multiple}x{multiple}\nhint: use a larger picture, or ask for a size (`--size`)\nfile: {name}"
    )]
    SmallPicture {
        name: String,
        width: usize,
        height: usize,
        multiple: usize,
    },
    #[error("{found} {what} for {prompts} prompts\nhint: give one for all of them, or one each")]
    Pictures {
        what: &'static str,
        found: usize,
        prompts: usize,
    },
    #[error(
        "the mask is dark all over, so nothing would be painted: its lightest grey is {lightest}, of 255, and from {least} on is painted\nhint: {}", super::file::lighter(*lightest)
    )]
    EmptyMask { lightest: u8, least: u8 },
    #[error(
        "no light part of the mask is large enough to be painted at {width}x{height}\nhint: the model paints in squares of {multiple} pixels, make the light part larger"
    )]
    ThinMask {
        width: usize,
        height: usize,
        multiple: usize,
    },
    #[error(
        "this model fills the masked part of a picture, and the request has no {missing}\nhint: give a picture and a mask (`--init-image`, `--mask`), or use a model that is not for inpainting"
    )]
    NothingToFill { missing: &'static str },
    #[error(
        "this model has no skips that a ControlNet could steer\nhint: ControlNets steer the UNets of Stable Diffusion 1.x, 2.x and XL"
    )]
    NoControl,
    #[error(
        "control {index} names net {net}, and there are {nets}\nhint: nets are numbered from 0, in the order they were added"
    )]
    ControlIndex {
        index: usize,
        net: usize,
        nets: usize,
    },
    #[error("the control image has {}x{} pixels, the picture is to have {}x{}\nhint: resize the control image, or have the picture as large: `--size {}x{}`\nfile: {name}", found.0, found.1, expected.0, expected.1, found.0, found.1)]
    ControlSize {
        name: String,
        found: (usize, usize),
        expected: (usize, usize),
    },
    #[error("`{option}` is given without {what}\nhint: name one with `{needed}`")]
    Without {
        option: &'static str,
        what: &'static str,
        needed: &'static str,
    },
    #[cfg(feature = "cli")]
    #[error(
        "{images} control images for {nets} ControlNets\nhint: give a `--control-image` with every `--control-model`"
    )]
    ControlImages { images: usize, nets: usize },
    #[cfg(feature = "cli")]
    #[error(
        "`{option}` is given {found} times for {nets} ControlNets\nhint: give it once for all of them, or once for each"
    )]
    ControlOptions {
        option: &'static str,
        found: usize,
        nets: usize,
    },
    #[error(
        "a control window from {} to {}\nhint: both lie between 0, the start of the run, and 1, its end, and the first is the smaller",
        number(*from),
        number(*until)
    )]
    ControlWindow { from: f64, until: f64 },
    #[error(
        "thresholds of outlines from {} to {}\nhint: write the lower and the upper one, as in 100 and 200",
        number((*low).into()),
        number((*high).into())
    )]
    Outlines { low: f32, high: f32 },
    #[error(
        "this model starts from noise alone and cannot start from a picture\nhint: `--init-image` and `--mask` need a text-to-image model with an autoencoder"
    )]
    NoPictureStart,
    #[error(
        "routers are calibrated for class-to-image models\nhint: other models have plans, of rules that cut the trunk, as in `calibrate --cache deepcache:branch=0,forecast=linear`; `deepcache` and `tgate` go without"
    )]
    NoRouter,
    #[error(
        "this model takes no adapters\nhint: `--lora`, `--embedding` and `--custom-diffusion` are for text-to-image models"
    )]
    NoAdapters,
    #[error(
        "this model learns no words\nhint: `--embedding` is for models that read prompts through CLIP alone or among others"
    )]
    NoWords,
    #[error("no class is named\nhint: this model makes pictures of classes: `--class-label N`, 0 to {}", classes - 1)]
    NoClass { classes: usize },
    #[error("there is no class {label}\nhint: the model knows {classes}, 0 to {}", classes - 1)]
    Class { label: usize, classes: usize },
    #[error("this model makes pictures of classes and reads no text\nhint: leave the text out; `--class-label N` names a class, 0 to {}", classes - 1)]
    NoText { classes: usize },
    #[error("this model knows no classes\nhint: leave out the class label")]
    NoClasses,
    #[error(
        "this model is told what to show by a prompt, and the request gives {given}\nhint: give a prompt; it may be empty"
    )]
    NoPrompt { given: &'static str },
    #[error(
        "this model makes a film of a picture, and none is given\nhint: name one with `--init-image`"
    )]
    NothingToFilm,
    #[error(
        "`{condition}` is given, and this model makes a film of a picture and reads no text\nhint: leave it out"
    )]
    NoTextInFilms { condition: &'static str },
    #[error(
        "`frames` is given, and this model makes no films\nhint: models of films do, and Stable Diffusion 1.x and 2.x by Text2Video-Zero; leave it out"
    )]
    NoFilms,
    #[error("`{option}` has no place in a film that this model makes\nhint: leave it out")]
    NotOfFilms { option: &'static str },
    #[error(
        "`cache` has prior noise (`noise`, as in faster-diffusion), which has no place in a film that this model makes\nhint: use it without, as in encoder-propagation:keys=50ls"
    )]
    NoiseInFilm,
    #[error(
        "the sampler `{sampler}` scales its latents, which the motion of Text2Video-Zero does not follow\nhint: choose another, as in `--sampler ddim`"
    )]
    ScaledMotion { sampler: String },
    #[error("the folder of frames has no picture\nhint: its frames are .png, .jpg or .webp files, in the order of their names\nfile: {}", path.display())]
    NoFrames { path: std::path::PathBuf },
    #[error(
        "a control has {found} pictures for a film of {frames} frames\nhint: give one for all frames, or one a frame"
    )]
    ControlFrames { found: usize, frames: usize },
    #[error(
        "`{condition}` is given, and this model makes its pictures from noise alone\nhint: leave it out"
    )]
    Unconditional { condition: &'static str },
    #[error("`{given}` is not known\nhint: use auto, keep or release")]
    UnknownResidency { given: String },
    #[error("`{given}` is not known\nhint: use auto, always or never")]
    UnknownStreaming { given: String },
    #[error("`{given}` is not a data type\nhint: use f32, f16 or bf16")]
    UnknownDtype { given: String },
    #[error("`{given}` is not known as what a model predicts\nhint: use epsilon, v or sample")]
    UnknownPrediction { given: String },
    #[error("`{given}` is not a format of weights\nhint: use file, q8 or q4")]
    UnknownWeights { given: String },
    #[error("`{given}` is not a format of activations\nhint: use dtype or q8")]
    UnknownActivations { given: String },
    #[error("a run cannot begin within another on its model\nhint: begin it when that one is done")]
    WithinRun,
    #[cfg(feature = "serve")]
    #[error(
        "`{host}` is no loopback address, and no token is set\nhint: set AFTERIMAGE_TOKEN or give `--tokens`, or stay with `--host 127.0.0.1`"
    )]
    NoToken { host: String },
    #[cfg(feature = "serve")]
    #[error("`{given}` is no {what}\nhint: {hint}")]
    ServeOption {
        what: &'static str,
        given: String,
        hint: &'static str,
    },
}

/// The multiple of `multiple` nearest to `side`, at least one of it.
fn nearest(side: usize, multiple: usize) -> usize {
    (side.saturating_add(multiple / 2) / multiple).max(1) * multiple
}
