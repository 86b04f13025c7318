//! Weight files: reading, naming, strict loading.
