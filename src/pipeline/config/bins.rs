//! Sizes that models were trained at: pictures of others are made at the nearest proportions and brought to their size afterwards.
//!
//! **Source**: the lists of sizes of Chen et al. (arXiv 2310.00426, appendix; arXiv 2403.04692), which diffusers has too.

/// The tallest half of the list, and the square: height and width in parts of a 32nd of the model's side, and whether the models of the
/// largest size alone were trained at it. Its mirror image is the other half, but for what [`MIRRORED_AT_2048`] says.
const TALL: [(usize, usize); 21] = [
    (16, 64),
    (16, 62),
    (16, 60),
    (16, 58),
    (18, 56),
    (18, 54),
    (18, 52),
    (20, 50),
    (20, 48),
    (22, 46),
    (22, 44),
    (22, 42),
    (24, 42),
    (24, 40),
    (26, 38),
    (26, 36),
    (28, 36),
    (28, 34),
    (30, 34),
    (30, 32),
    (32, 32),
];

/// Of those, the ones that only the models of 2048 pixels know.
const WIDE_AT_2048: [(usize, usize); 2] = [(16, 62), (16, 60)];

/// Mirror images that only they know.
const MIRRORED_AT_2048: [(usize, usize); 5] = [(62, 16), (60, 16), (58, 16), (56, 18), (52, 18)];

/// Mirror images that nobody knows.
const UNKNOWN: [(usize, usize); 1] = [(42, 22)];

/// Sides of latents whose models have a list.
const SIDES: [usize; 4] = [32, 64, 128, 256];

/// Pixels a latent.
const FACTOR: usize = 8;

/// Height and width in pixels that a picture of the `asked` height and width is made at by a model of latents of `side`; `None` where it
/// has no list.
pub(super) fn nearest(side: usize, asked: [usize; 2]) -> Option<[usize; 2]> {
    if !SIDES.contains(&side) {
        return None;
    }
    let unit = side * FACTOR / 32;
    let ratio = asked[0] as f64 / asked[1].max(1) as f64;
    let mut best: Option<(f64, [usize; 2])> = None;
    for (height, width) in list(side == 256) {
        // Ratios are known to two digits.
        let known = (100.0 * height as f64 / width as f64).round_ties_even() / 100.0;
        let distance = (known - ratio).abs();
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, [height * unit, width * unit]));
        }
    }
    best.map(|(_, size)| size)
}

/// The list, from the widest to the tallest.
fn list(largest: bool) -> impl Iterator<Item = (usize, usize)> {
    let mirrored = TALL
        .iter()
        .rev()
        .skip(1)
        .map(|&(short, long)| (long, short));
    let all = TALL.into_iter().chain(mirrored);
    all.filter(move |size| {
        let rare = WIDE_AT_2048.contains(size) || MIRRORED_AT_2048.contains(size);
        !UNKNOWN.contains(size) && (largest || !rare)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_long_as_those_published() {
        assert_eq!((list(false).count(), list(true).count()), (33, 40));
    }

    #[test]
    fn pictures_are_made_at_the_nearest_proportions() {
        assert_eq!(nearest(32, [200, 320]), Some([192, 320]));
        assert_eq!(nearest(128, [1024, 1024]), Some([1024, 1024]));
        assert_eq!(nearest(128, [512, 768]), Some([832, 1216]));
        assert_eq!(nearest(128, [1, 100]), Some([512, 2048]));
        assert_eq!(nearest(256, [1100, 300]), Some([3712, 1024]));
        assert_eq!(nearest(128, [1100, 300]), Some([2048, 512]));
        assert_eq!(nearest(100, [512, 512]), None);
    }
}
