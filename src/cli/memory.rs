//! A forecast of memory, in words.

use super::console;
use crate::engine::MemoryFacts;

impl MemoryFacts {
    pub(in crate::cli) fn text(&self) -> String {
        let total: u64 = self.weights.iter().map(|part| part.bytes).sum();
        let parts = self.weights.iter();
        let parts: Vec<_> = parts
            .map(|entry| {
                let bytes = console::bytes(entry.bytes);
                match entry.streamed {
                    Some(read) => {
                        let read = console::bytes(read);
                        format!("{} {bytes} at a time of {read}", entry.part)
                    }
                    None => format!("{} {bytes}", entry.part),
                }
            })
            .collect();
        let (peak, phase) = (console::bytes(self.peak), self.phase);
        let less = self.streamed_peak.map(|peak| {
            let peak = console::bytes(peak);
            format!("; {peak} with --stream-weights")
        });
        let less = less.unwrap_or_default();
        console::pairs(&[
            ("memory", format!("{peak} at most, while {phase}{less}")),
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
