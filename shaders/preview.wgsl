// Latents to pixels by a linear map, a word each: red in the lowest byte, nothing transparent.
// An invocation makes one pixel of one cell of the latents.

struct Given {
    width: u32,
    height: u32,
    row: u32,       // words from one row of pixels to the next
    first: u32,     // values in front of the latents
    channels: u32,
    offset: vec4<f32>,
    weights: array<vec4<f32>, 32>,  // a channel's share of red, green and blue
}

@group(0) @binding(0) var<uniform> given: Given;
@group(0) @binding(1) var<storage, read> latents: array<f32>;  // [channels, height, width]
@group(0) @binding(2) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= given.width || id.y >= given.height {
        return;
    }
    let area = given.width * given.height;
    let place = given.first + id.y * given.width + id.x;
    var colour = given.offset;
    for (var channel = 0u; channel < given.channels; channel++) {
        colour += given.weights[channel] * latents[place + channel * area];
    }
    words[id.y * given.row + id.x] = pack4x8unorm(vec4(colour.rgb, 1.0));
}
