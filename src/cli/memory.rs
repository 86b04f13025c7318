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
        let options = [
            (self.released_peak, "--text-encoders release"),
            (self.streamed_peak, "--stream-weights"),
        ];
        let less = options.into_iter().filter_map(|(peak, option)| {
            let peak = console::bytes(peak?);
            Some(format!("; {peak} with {option}"))
        });
        let less: String = less.collect();
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
