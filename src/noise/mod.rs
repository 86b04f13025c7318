//! Noise schedules and timestep spacings, as f64 tables.
