//! Finds the coloured shapes of a picture: the port of `checker.py`, without dependencies.
//!
//! 1. every pixel gets the nearest colour of the palette;
//! 2. colours with flat areas (3 x 3 of one label) are present, the background is the most
//!    common of them on the frame; pixels are labelled again with present colours only;
//! 3. 4-connected components of the other colours, small ones dropped;
//! 4. each silhouette is compared (IoU) with the shapes drawn into its bounding box.

/// Names of the shapes, in the order of the templates.
pub const SHAPES: [&str; 6] = ["circle", "square", "triangle", "star", "ring", "cross"];

/// The colours; the first [`COLOURS`] are those of shapes, the others occur as backgrounds only.
pub const PALETTE: [(&str, [i64; 3]); 11] = [
    ("red", [225, 35, 35]),
    ("orange", [250, 140, 20]),
    ("yellow", [250, 220, 40]),
    ("green", [30, 160, 60]),
    ("blue", [40, 80, 225]),
    ("purple", [150, 50, 190]),
    ("white", [250, 250, 250]),
    ("black", [15, 15, 15]),
    ("light grey", [200, 200, 200]),
    ("grey", [140, 140, 140]),
    ("dark grey", [80, 80, 80]),
];

/// How many of [`PALETTE`] are colours of shapes.
pub const COLOURS: usize = 8;

/// A shape found with a lower `iou` is no clear shape.
pub const MIN_IOU: f64 = 0.65;

const MIN_FLAT: usize = 24;
const FRAME: usize = 4;
const SUB: usize = 4;

/// One shape of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// One of [`SHAPES`].
    pub shape: &'static str,
    /// One of the first [`COLOURS`] names of [`PALETTE`].
    pub colour: &'static str,
    /// Overlap with the best template, 0 to 1.
    pub iou: f64,
    /// Centre of the bounding box in pixels.
    pub x: f64,
    /// Centre of the bounding box in pixels, downwards.
    pub y: f64,
    /// Width of the bounding box.
    pub width: usize,
    /// Height of the bounding box.
    pub height: usize,
}

/// The shapes of an RGB picture (8 bit, rows from the top), largest first.
pub fn find_shapes(rgb: &[u8], width: usize, height: usize) -> Vec<Found> {
    find_scene(rgb, width, height).0
}

/// The shapes, largest first, and the name of the background colour ("" if nothing is flat).
pub fn find_scene(rgb: &[u8], width: usize, height: usize) -> (Vec<Found>, &'static str) {
    assert_eq!(rgb.len(), width * height * 3, "RGB, 8 bit, no padding");
    let n = PALETTE.len();
    let all: Vec<usize> = (0..n).collect();
    let first = nearest(rgb, &all);
    let mut counts = vec![0usize; n];
    for (i, flat) in flat(&first, width, height).into_iter().enumerate() {
        if flat {
            counts[first[i]] += 1;
        }
    }
    let present: Vec<usize> = (0..n).filter(|&c| counts[c] >= MIN_FLAT).collect();
    if present.is_empty() {
        return (Vec::new(), "");
    }
    let label = nearest(rgb, &present);
    let mut counts = vec![0usize; n];
    for y in 0..height {
        for x in 0..width {
            let core = y >= FRAME && y + FRAME < height && x >= FRAME && x + FRAME < width;
            if !core {
                counts[label[y * width + x]] += 1;
            }
        }
    }
    let background = first_max(&counts);
    let level = flat(&label, width, height);

    let mut parts: Vec<(usize, usize, Vec<bool>)> = Vec::new();
    for &c in present.iter().filter(|&&c| c != background && c < COLOURS) {
        let mask: Vec<bool> = label.iter().map(|&l| l == c).collect();
        let (ids, count) = components(&mask, width, height);
        for id in 0..count {
            let own: Vec<bool> = ids.iter().map(|&i| i == Some(id)).collect();
            let solid = own.iter().zip(&level).filter(|(a, b)| **a && **b).count();
            if solid >= MIN_FLAT {
                parts.push((own.iter().filter(|v| **v).count(), c, own));
            }
        }
    }
    parts.sort_by_key(|p| std::cmp::Reverse(p.0));

    let mut found = Vec::new();
    let mut seen_through: Vec<(usize, Vec<bool>)> = Vec::new();
    for (_, c, mask) in &parts {
        // What one sees of the outer shape through a ring is no shape of its own.
        let hidden = seen_through
            .iter()
            .any(|(colour, hole)| colour == c && mask.iter().zip(hole).all(|(m, h)| !m || *h));
        if hidden {
            continue;
        }
        let (filled, holes) = fill(mask, width, height);
        let outer = around(&filled, &label, width, height);
        let mut silhouette = mask.clone();
        for hole in holes {
            let size = hole.iter().filter(|v| **v).count();
            let same = hole
                .iter()
                .zip(&label)
                .filter(|(h, l)| **h && Some(**l) == outer)
                .count();
            if let (Some(colour), true) = (outer, 10 * same >= 3 * size) {
                seen_through.push((colour, hole));
            } else {
                silhouette.iter_mut().zip(&hole).for_each(|(s, h)| *s |= *h);
            }
        }
        let (mut x0, mut x1, mut y0, mut y1) = (width, 0, height, 0);
        for (i, _) in mask.iter().enumerate().filter(|(_, m)| **m) {
            let (x, y) = (i % width, i / width);
            (x0, x1, y0, y1) = (x0.min(x), x1.max(x + 1), y0.min(y), y1.max(y + 1));
        }
        let (w, h) = (x1 - x0, y1 - y0);
        let cut: Vec<bool> = (0..w * h)
            .map(|i| silhouette[(y0 + i / w) * width + x0 + i % w])
            .collect();
        let (mut best, mut iou) = (0, f64::MIN);
        for template in 0..TEMPLATES.len() {
            let score = template_iou(&cut, w, h, template);
            if score > iou {
                (best, iou) = (template, score);
            }
        }
        found.push(Found {
            shape: SHAPES[TEMPLATES[best]],
            colour: PALETTE[*c].0,
            iou,
            x: (x0 + x1) as f64 / 2.0,
            y: (y0 + y1) as f64 / 2.0,
            width: w,
            height: h,
        });
    }
    (found, PALETTE[background].0)
}

fn first_max(counts: &[usize]) -> usize {
    let mut best = 0;
    for (i, c) in counts.iter().enumerate() {
        if *c > counts[best] {
            best = i;
        }
    }
    best
}

fn nearest(rgb: &[u8], allowed: &[usize]) -> Vec<usize> {
    rgb.chunks_exact(3)
        .map(|p| {
            let mut best = (i64::MAX, 0);
            for &c in allowed {
                let d: i64 = (0..3)
                    .map(|k| (i64::from(p[k]) - PALETTE[c].1[k]).pow(2))
                    .sum();
                if d < best.0 {
                    best = (d, c);
                }
            }
            best.1
        })
        .collect()
}

/// True where the 3 x 3 neighbourhood (inside the picture) has one label.
fn flat(label: &[usize], width: usize, height: usize) -> Vec<bool> {
    let mut out = vec![false; label.len()];
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let mid = label[y * width + x];
            out[y * width + x] =
                (y - 1..y + 2).all(|yy| (x - 1..x + 2).all(|xx| label[yy * width + xx] == mid));
        }
    }
    out
}

/// 4-connected components, numbered in order of their first pixel.
fn components(mask: &[bool], width: usize, height: usize) -> (Vec<Option<usize>>, usize) {
    let mut ids = vec![None; mask.len()];
    let mut count = 0;
    let mut stack = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || ids[start].is_some() {
            continue;
        }
        ids[start] = Some(count);
        stack.push(start);
        while let Some(at) = stack.pop() {
            let (x, y) = (at % width, at / width);
            let mut visit = |next: usize| {
                if mask[next] && ids[next].is_none() {
                    ids[next] = Some(count);
                    stack.push(next);
                }
            };
            if y > 0 {
                visit(at - width);
            }
            if y + 1 < height {
                visit(at + width);
            }
            if x > 0 {
                visit(at - 1);
            }
            if x + 1 < width {
                visit(at + 1);
            }
        }
        count += 1;
    }
    (ids, count)
}

/// The mask with its holes, and the holes: 4-connected areas that do not touch the border.
fn fill(mask: &[bool], width: usize, height: usize) -> (Vec<bool>, Vec<Vec<bool>>) {
    let free: Vec<bool> = mask.iter().map(|m| !m).collect();
    let (ids, count) = components(&free, width, height);
    let mut open = vec![false; count];
    for (i, id) in ids.iter().enumerate() {
        let (x, y) = (i % width, i / width);
        if let (Some(id), true) = (id, x == 0 || y == 0 || x + 1 == width || y + 1 == height) {
            open[*id] = true;
        }
    }
    let holes: Vec<Vec<bool>> = (0..count)
        .filter(|id| !open[*id])
        .map(|id| ids.iter().map(|i| *i == Some(id)).collect())
        .collect();
    let mut filled = mask.to_vec();
    for hole in &holes {
        filled.iter_mut().zip(hole).for_each(|(f, h)| *f |= *h);
    }
    (filled, holes)
}

/// The most common label within 3 pixels (square) outside of a silhouette.
fn around(filled: &[bool], label: &[usize], width: usize, height: usize) -> Option<usize> {
    let mut near = vec![false; filled.len()];
    for i in (0..filled.len()).filter(|i| filled[*i]) {
        let (x, y) = (i % width, i / width);
        for yy in y.saturating_sub(3)..(y + 4).min(height) {
            for xx in x.saturating_sub(3)..(x + 4).min(width) {
                near[yy * width + xx] = true;
            }
        }
    }
    let mut counts = vec![0usize; PALETTE.len()];
    for i in (0..filled.len()).filter(|i| near[*i] && !filled[*i]) {
        counts[label[i]] += 1;
    }
    if counts.iter().all(|c| *c == 0) {
        None
    } else {
        Some(first_max(&counts))
    }
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

fn star(u: f64, v: f64, profile: &Star) -> bool {
    let deg = |d: f64| d.to_radians();
    let (x, y) = (
        u * profile.wide,
        (v + 1.0) / 2.0 * (profile.bottom - profile.top) + profile.top,
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
fn inside(template: usize, u: f64, v: f64) -> bool {
    match template {
        0 => u * u + v * v <= 1.0,
        1 => true,
        2 => u.abs() <= (v + 1.0) / 2.0,
        3 => star(u, v, &SHARP),
        4 => {
            let r = u * u + v * v;
            (0.58 * 0.58..=1.0).contains(&r)
        }
        5 => u.abs() <= 0.36 || v.abs() <= 0.36,
        _ => star(u, v, &WORN),
    }
}

/// IoU of a silhouette (cut to its bounding box) with a template drawn into that box.
fn template_iou(mask: &[bool], width: usize, height: usize, template: usize) -> f64 {
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
