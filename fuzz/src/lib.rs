//! The fuzzer's way to the parsers, which live with the tests: `cargo test` calls the same functions with what was found.
#![cfg_attr(
    test,
    allow(
        dead_code,
        reason = "what changes seeds is for the tests of the other package"
    )
)]

#[path = "../../tests/it/parsers/mod.rs"]
mod parsers;

#[global_allocator]
static ALLOCATOR: parsers::meter::Counting = parsers::meter::Counting;

/// Calls the parser of this name.
///
/// # Panics
///
/// If there is none, or it has a fault.
pub fn parse(name: &str, data: &[u8]) {
    let found = parsers::PARSERS.iter().find(|(parser, _)| *parser == name);
    let (_, parser) = found.expect("a parser's name");
    parser(data);
}
