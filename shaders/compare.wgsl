// Two pictures of one size behind a slider: one to the left of it, the other to the right, a white line between them.
// An invocation makes one pixel.

struct Given {
    width: u32,
    height: u32,
    row: u32,    // words from one row of pixels to the next, in all three
    split: u32,  // the first column that shows the right picture
    line: u32,   // columns of the line, in front of `split`
}

const WHITE = 0xffffffffu;

@group(0) @binding(0) var<uniform> given: Given;
@group(0) @binding(1) var<storage, read> left: array<u32>;
@group(0) @binding(2) var<storage, read> right: array<u32>;
@group(0) @binding(3) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= given.width || id.y >= given.height {
        return;
    }
    let place = id.y * given.row + id.x;
    let is_inside = given.split > 0u && given.split < given.width;
    if is_inside && id.x < given.split && id.x + given.line >= given.split {
        words[place] = WHITE;
    } else if id.x < given.split {
        words[place] = left[place];
    } else {
        words[place] = right[place];
    }
}
