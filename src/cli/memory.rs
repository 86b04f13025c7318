//! A forecast of memory, in words.

use super::console;
use crate::engine::MemoryFacts;

impl MemoryFacts {
    pub(in crate::cli) fn text(&self) -> String {
        let total: u64 = self.weights.iter().map(|part| part.bytes).sum();
        let parts = self.weights.iter();
        let parts: Vec<_> = parts
            .map(|entry| format!("{} {}", entry.part, console::bytes(entry.bytes)))
            .collect();
        console::pairs(&[
            (
                "memory",
                format!(
                    "{} at most, while {}",
                    console::bytes(self.peak),
                    self.phase
                ),
            ),
            (
                "weights",
                format!(
                    "{}: {}; {}",
                    console::bytes(total),
                    parts.join(", "),
                    self.assumption
                ),
            ),
            (
                "beside",
                format!(
                    "{} while encoding, {} while denoising, {} while decoding, {} kept by kernels",
                    console::bytes(self.encoding),
                    console::bytes(self.denoising + self.cache),
                    console::bytes(self.decoding),
                    console::bytes(self.kernels),
                ),
            ),
        ])
    }
}
