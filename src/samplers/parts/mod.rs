//! What rules are made of, from below.
//!
//! - [`json`]: the keys of a scheduler configuration as they stand; [`settings`]: what they mean;
//! - [`steps`]: which solver steps a run makes; [`update`]: the linear step; [`parameterisation`]: what a network takes in and gives
//!   out at a noise level; [`trajectory`]: the evaluations and levels of a run, and the [`Rule`](trajectory::Rule) on them;
//! - [`sigmas`], [`flow`], [`discrete`], [`dpm`]: tables and weights that kin share;
//! - [`class`]: what a rule's file states of itself.

pub(super) mod class;
pub(super) mod discrete;
pub(super) mod dpm;
pub(super) mod flow;
pub(super) mod json;
pub(super) mod parameterisation;
pub(super) mod settings;
pub(super) mod sigmas;
pub(super) mod steps;
pub(super) mod trajectory;
pub(super) mod update;
