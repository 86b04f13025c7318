//! The shapes as templates that silhouettes are compared with.

/// Samples of a template a pixel, each way.
const SUB: usize = 4;

/// The shape that a silhouette, cut to its bounding box of `size`, width and height, is most like, and how much.
pub(super) fn best_template(silhouette: &[bool], size: [usize; 2]) -> (usize, f64) {
    let mut best = (0, f64::MIN);
    for (template, &shape) in TEMPLATES.iter().enumerate() {
        let iou = template_iou(silhouette, size, template);
        if iou > best.1 {
            best = (shape, iou);
        }
    }
    best
}

/// A star: inner radius, where the tips end, and the bounding box (half width, top, bottom) that
/// this gives for an outer radius of 1.
struct Star {
    inner: f64,
    clip: f64,
    wide: f64,
    top: f64,
    bottom: f64,
}

const SHARP: Star = Star {
    inner: 0.45,
    clip: 1.0,
    wide: 0.951,
    top: -1.0,
    bottom: 0.809,
};
/// With worn tips, as a blurred star has them.
const WORN: Star = Star {
    inner: 0.52,
    clip: 0.8,
    wide: 0.795,
    top: -0.8,
    bottom: 0.715,
};

/// Shapes of the templates; the last is the worn star.
const TEMPLATES: [usize; 7] = [0, 1, 2, 3, 4, 5, 3];

#[allow(
    clippy::many_single_char_names,
    reason = "coordinates in the plane and in the template"
)]
fn star(u: f64, v: f64, profile: &Star) -> bool {
    let deg = |d: f64| d.to_radians();
    let (x, y) = (
        u * profile.wide,
        f64::midpoint(v, 1.0) * (profile.bottom - profile.top) + profile.top,
    );
    let q = profile.inner;
    let (nx, ny) = (q * deg(36.0).sin(), 1.0 - q * deg(36.0).cos());
    // Measured at the nearest tip, the one with the greatest `along`.
    let (mut best, mut far) = (f64::MAX, f64::MIN);
    for k in 0..5 {
        let a = deg(72.0 * f64::from(k));
        let (tx, ty) = (a.sin(), -a.cos());
        let (along, side) = (x * tx + y * ty, (x * ty - y * tx).abs());
        if along > far {
            (best, far) = (along * nx + side * ny - nx, along);
        }
    }
    best <= 0.0 && x * x + y * y <= profile.clip * profile.clip
}

/// Is (u, v) in the shape that fills [-1, 1] x [-1, 1]?  v points down.
pub(super) fn inside(template: usize, u: f64, v: f64) -> bool {
    match template {
        0 => u * u + v * v <= 1.0,
        1 => true,
        2 => u.abs() <= f64::midpoint(v, 1.0),
        3 => star(u, v, &SHARP),
        4 => {
            let r = u * u + v * v;
            (0.58 * 0.58..=1.0).contains(&r)
        }
        5 => u.abs() <= 0.36 || v.abs() <= 0.36,
        _ => star(u, v, &WORN),
    }
}

/// Intersection over union of a silhouette (cut to its bounding box) with a template drawn into that box.
fn template_iou(mask: &[bool], [width, height]: [usize; 2], template: usize) -> f64 {
    let at = |i: usize, n: usize| (i as f64 + 0.5) / (n * SUB) as f64 * 2.0 - 1.0;
    let (mut inter, mut total) = (0usize, 0usize);
    for (i, &own) in mask.iter().enumerate() {
        let (x, y) = (i % width, i / width);
        let mut cover = 0;
        for sy in 0..SUB {
            for sx in 0..SUB {
                let (u, v) = (at(x * SUB + sx, width), at(y * SUB + sy, height));
                cover += usize::from(inside(template, u, v));
            }
        }
        if own {
            inter += cover;
            total += SUB * SUB;
        } else {
            total += cover;
        }
    }
    inter as f64 / total as f64
}
