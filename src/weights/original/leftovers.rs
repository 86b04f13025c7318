//! What programs leave in a file beside the model: averages, tables of the noise schedule, switches, the halves of networks that a picture
//! needs nothing of.
//!
//! **Source.** Checkpoints of CompVis/latent-diffusion and Stability-AI/generative-models and their derivatives; the empty tensors by which
//! `ComfyUI` marks what a model predicts.

/// Beginnings of names.
const BEGINNINGS: [&str; 34] = [
    "model_ema.",
    "ema.",
    "ema_model.",
    "first_stage_model.loss.",
    "first_stage_model.model_ema.",
    "first_stage_model.logvar",
    "alphas",
    "betas",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "log_sigmas",
    "sigmas",
    "posterior_",
    "logvar",
    "lvlb_weights",
    "scale_factor",
    "denoiser.",
    "model_sampling.",
    "loss.",
    "loss_fn.",
    "optimizer",
    "lr_scheduler",
    "global_step",
    "epoch",
    "embedding_manager.",
    "edm_",
    "v_pred",
    "ztsnr",
    "zsnr",
    "__",
    // What CLIP-L makes of a whole text, which no model of these reads.
    "cond_stage_model.text_projection",
    "cond_stage_model.clip_l.text_projection",
    "conditioner.embedders.0.text_projection",
    "text_encoders.clip_l.text_projection",
];

/// Endings of names: buffers that are computed, scales of a loss, the mark of files in eight bits.
const ENDINGS: [&str; 4] = ["position_ids", "logit_scale", "attn_mask", "scaled_fp8"];

pub(super) fn is_leftover(name: &str) -> bool {
    BEGINNINGS.iter().any(|one| name.starts_with(one))
        || ENDINGS.iter().any(|one| name.ends_with(one))
}
