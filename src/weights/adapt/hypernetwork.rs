//! Files of hypernetworks, which are told from other adapters and not read.
//!
//! **Source.** The files of `AUTOMATIC1111`'s web interface: for each width of attention two small networks, of keys and of values
//! (`768.0.linear.0.weight`; the oldest `768.0.linear1.weight`).

use crate::weights::WeightSource;

/// What such a file is told, whatever it was given as.
pub(crate) const HINT: &str = "this is a hypernetwork: networks that change what attention reads while it runs, which cannot be merged into weights and are not supported; \
     a LoRA or an embedding of the same style is";

/// Whether a source is one, by the names of its tensors.
pub(crate) fn is_one(source: &WeightSource) -> bool {
    source.names().any(is_layer)
}

fn is_layer(name: &str) -> bool {
    let mut words = name.split('.');
    let mut next = || words.next().unwrap_or_default();
    let (width, which, layer) = (next(), next(), next());
    width.parse::<usize>().is_ok() && ["0", "1"].contains(&which) && layer.starts_with("linear")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbered_by_their_widths() {
        assert!(is_layer("768.0.linear.0.weight"));
        assert!(is_layer("320.1.linear1.bias"));
        for other in ["768.2.linear.0.weight", "768", "0.weight", "a.0.linear.0"] {
            assert!(!is_layer(other), "{other}");
        }
    }
}
