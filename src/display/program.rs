//! A shader that writes the pixels of a picture, on the host's device.

use bytemuck::Pod;

use super::painting::Painting;
use crate::device::{Host, wgpu};

/// Pixels that a workgroup makes in each direction.
const GROUP: u32 = 8;

/// A shader of `shaders/`, ready to run: a uniform, some inputs, and the words of the pixels.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
}

impl Program {
    pub(super) fn new(
        device: &wgpu::Device,
        name: &'static str,
        source: &'static str,
        inputs: u32,
    ) -> Self {
        let read = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let mut types = vec![wgpu::BufferBindingType::Uniform];
        types.extend((0..inputs).map(|_| read(true)));
        types.push(read(false));
        let entries: Vec<_> = types.into_iter().zip(0..).map(entry).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(name),
            entries: &entries,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let layouts = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&layouts),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Self {
            name,
            layout,
            pipeline,
        }
    }

    /// Hands in the commands that paint `painting` from `inputs` as `given` says, and that fill its texture.
    pub(super) fn paint(
        &self,
        host: &Host,
        given: &impl Pod,
        inputs: &[wgpu::BindingResource<'_>],
        painting: &Painting,
    ) {
        let (device, queue) = (host.device(), host.queue());
        let bytes = bytemuck::bytes_of(given);
        let uniform = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(self.name),
            size: bytes.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        queue.write_buffer(&uniform, 0, bytes);
        let words = painting.words().as_entire_binding();
        let bound = [uniform.as_entire_binding()].into_iter();
        let bound = bound.chain(inputs.iter().cloned()).chain([words]);
        let entries: Vec<_> = bound
            .zip(0..)
            .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.name),
            layout: &self.layout,
            entries: &entries,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor {
            label: Some(self.name),
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        let [width, height] = painting.size().map(|side| side.div_ceil(GROUP));
        pass.dispatch_workgroups(width, height, 1);
        drop(pass);
        painting.fill(&mut encoder);
        queue.submit([encoder.finish()]);
    }
}

fn entry((ty, binding): (wgpu::BufferBindingType, u32)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
