//! Cache rules that cannot be planned.

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {}
