//! Paintings as egui shows them.

use afterimage::display::Painting;
use eframe::egui::{TextureId, Vec2, vec2};
use eframe::egui_wgpu::RenderState;
use eframe::wgpu;

/// Makes egui's textures of paintings, on the same device.
#[derive(Clone)]
pub(crate) struct Textures(RenderState);

/// A painting that egui can show. Nothing is copied; it is forgotten when this is dropped.
pub(crate) struct Shown {
    pub(crate) id: TextureId,
    pub(crate) painting: Painting,
    textures: Textures,
}

impl Textures {
    pub(crate) fn new(state: RenderState) -> Self {
        Self(state)
    }

    /// `painting`, its pixels as squares when they are enlarged, or one running into the next.
    pub(crate) fn show(&self, painting: Painting, filter: wgpu::FilterMode) -> Shown {
        let view = wgpu::TextureViewDescriptor::default();
        let view = painting.texture().create_view(&view);
        let mut renderer = self.0.renderer.write();
        let id = renderer.register_native_texture(&self.0.device, &view, filter);
        Shown {
            id,
            painting,
            textures: self.clone(),
        }
    }
}

impl Shown {
    /// In its own pixels.
    pub(crate) fn size(&self) -> Vec2 {
        let [width, height] = self.painting.size();
        vec2(width as f32, height as f32)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.textures.0.renderer.write().free_texture(&self.id);
    }
}
