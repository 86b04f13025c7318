//! The driver: spans in, latents out.
