//! The `afterimage` program.

fn main() {}
