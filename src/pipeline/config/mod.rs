//! What a model folder says of itself, read without its weights: a source, a trunk and a space, and how they are sampled.

mod bins;
mod defaults;
mod distilled;
mod encoders;
mod families;
mod fit;
mod joint;
mod json;
mod model;
mod repairs;
mod sentences;
mod shared;
mod source;
mod space;
mod transformers;
mod trunk;
mod upscale;
mod visit;

pub use defaults::Defaults;
pub use distilled::Distilled;
pub(super) use distilled::FewStepRun;
pub use encoders::{AddedInputs, EncoderConfig, Numbers, TextConfig};
pub use fit::{check_control_weights, check_weights};
pub use joint::JointTextConfig;
pub(super) use json::json;
pub(crate) use model::MOST_PIXELS;
pub use model::{Canvas, Films, ModelConfig};
pub(super) use sentences::SENTENCE_ENCODER;
pub use sentences::SentenceConfig;
pub(super) use source::PICTURE_ENCODER;
pub use source::{ClassesConfig, SourceConfig};
pub use space::SpaceConfig;
pub use trunk::TrunkConfig;
pub use upscale::UpscaleConfig;
pub(super) use visit::{Role, Visitor};
