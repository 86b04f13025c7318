//! The networks. Each is a burn module whose fields are named as in the checkpoint (diffusers layout), built from the checkpoint's
//! own JSON.

pub mod class_embedder;
pub mod clip;
pub mod clip_vision;
pub mod control;
pub mod dit;
pub mod spatio_temporal;
pub mod t5;
pub mod unet;
pub mod unet3d;
pub mod vae;

mod json;

pub(crate) use json::{bounded, current_class};
