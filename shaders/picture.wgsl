// A picture's planes to pixels, a word each: red in the lowest byte, nothing transparent.
// An invocation makes one pixel.

struct Given {
    width: u32,
    height: u32,
    row: u32,    // words from one row of pixels to the next
    first: u32,  // values in front of the picture
}

@group(0) @binding(0) var<uniform> given: Given;
@group(0) @binding(1) var<storage, read> planes: array<f32>;  // [3, height, width], sRGB in 0 to 1
@group(0) @binding(2) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= given.width || id.y >= given.height {
        return;
    }
    let area = given.width * given.height;
    let place = given.first + id.y * given.width + id.x;
    let colour = vec3(planes[place], planes[place + area], planes[place + 2u * area]);
    words[id.y * given.row + id.x] = pack4x8unorm(vec4(colour, 1.0));
}
