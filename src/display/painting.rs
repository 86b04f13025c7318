//! A picture that is a texture.

use crate::device::wgpu;

/// Words that rows of pixels are rounded up to: what copies into textures take.
const ROW: u32 = wgpu::COPY_BYTES_PER_ROW_ALIGNMENT / 4;

/// A picture on the host's device.
#[derive(Debug, Clone)]
pub struct Painting {
    texture: wgpu::Texture,
    /// The pixels once more, in rows of whole `ROW`s.
    words: wgpu::Buffer,
}

impl Painting {
    pub(super) fn blank(
        device: &wgpu::Device,
        format: wgpu::TextureFormat,
        [width, height]: [u32; 2],
    ) -> Self {
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some("afterimage"),
            size: wgpu::Extent3d {
                width,
                height,
                depth_or_array_layers: 1,
            },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::TEXTURE_BINDING
                | wgpu::TextureUsages::COPY_DST
                | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let words = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("afterimage"),
            size: u64::from(4 * width.next_multiple_of(ROW)) * u64::from(height),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Self { texture, words }
    }

    /// `Rgba8Unorm` or `Rgba8UnormSrgb`, opaque, to be bound or copied from.
    pub fn texture(&self) -> &wgpu::Texture {
        &self.texture
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [u32; 2] {
        [self.texture.width(), self.texture.height()]
    }

    /// The pixels once more, a word each.
    pub(super) fn words(&self) -> &wgpu::Buffer {
        &self.words
    }

    /// Words from one row of pixels to the next.
    pub(super) fn row(&self) -> u32 {
        self.texture.width().next_multiple_of(ROW)
    }

    /// Copies the words into the texture.
    pub(super) fn fill(&self, encoder: &mut wgpu::CommandEncoder) {
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(4 * self.row()),
            rows_per_image: None,
        };
        let words = wgpu::TexelCopyBufferInfo {
            buffer: &self.words,
            layout,
        };
        let texture = self.texture.as_image_copy();
        encoder.copy_buffer_to_texture(words, texture, self.texture.size());
    }
}
