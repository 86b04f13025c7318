//! Pipelines: a request in, pictures out.
