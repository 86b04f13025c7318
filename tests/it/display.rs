//! Textures of a device that a program shares with the engine, against what the processor makes of the same values.
//!
//! The device is the first that wgpu's OpenGL backend finds, a software rasteriser where there is no GPU. Where there is none at all, the
//! tests say so and end.

use std::sync::LazyLock;

use afterimage::Error;
use afterimage::device::{self, Host, wgpu};
use afterimage::display::{LinearMap, Painter, Painting, Sampled, compared};
use afterimage::image_io::Picture;
use afterimage::rng::TorchRng;
use burn::tensor::{Device, Tensor, TensorData};

/// One for all tests: drivers of `OpenGL` abort when two threads open a device at once.
static HOST: LazyLock<Option<Host>> = LazyLock::new(|| {
    let (instance, adapter) = adapter()?;
    Some(Host::request(instance, adapter).unwrap())
});

fn adapter() -> Option<(wgpu::Instance, wgpu::Adapter)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::GL,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::GL));
    let adapter = adapters.into_iter().next();
    if adapter.is_none() {
        eprintln!("skipped: no adapter of OpenGL");
    }
    Some((instance, adapter?))
}

/// The host and its device as the engine's, a painter on it.
fn ready() -> Option<(&'static Host, Device, Painter)> {
    let host = HOST.as_ref()?;
    let open = device::from_wgpu(host).unwrap();
    let painter = Painter::new(host, Sampled::Encoded);
    Some((host, open.device().clone(), painter))
}

/// Values around a half, some below 0 and above 1.
fn values(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let normals = TorchRng::new(3).normal(shape.iter().product());
    Tensor::<4>::from_data(TensorData::new(normals, shape), device) * 0.4 + 0.5
}

/// What the texture holds, row by row.
fn seen(host: &Host, painting: &Painting) -> Picture {
    let [width, height] = painting.size();
    let row = (4 * width).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
    let buffer = host.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::from(row * height),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = host
        .device()
        .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(row),
        rows_per_image: None,
    };
    let target = wgpu::TexelCopyBufferInfo {
        buffer: &buffer,
        layout,
    };
    let texture = painting.texture();
    encoder.copy_texture_to_buffer(texture.as_image_copy(), target, texture.size());
    host.queue().submit([encoder.finish()]);
    buffer.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
    let waited = host.device().poll(wgpu::PollType::wait_indefinitely());
    waited.unwrap();
    let bytes = buffer.get_mapped_range(..).unwrap();
    Picture::from_fn(width as usize, height as usize, |x, y| {
        let pixel = &bytes[y * row as usize + 4 * x..][..4];
        assert_eq!(pixel[3], 255, "nothing is transparent");
        [pixel[0], pixel[1], pixel[2]]
    })
}

/// Where a value lies between two bytes, drivers may take either.
fn assert_alike(found: &Picture, expected: &Picture) {
    assert_eq!(found.width(), expected.width());
    assert_eq!(found.pixels().len(), expected.pixels().len());
    let pairs = found.pixels().iter().zip(expected.pixels());
    let furthest = pairs
        .map(|(found, expected)| found.abs_diff(*expected))
        .max();
    assert!(furthest <= Some(1), "{furthest:?}");
}

fn said(error: &Error) -> String {
    error.to_string()
}

#[test]
fn pictures_are_painted_as_files_show_them() {
    let _turn = crate::gpu::turn();
    let Some((host, device, painter)) = ready() else {
        return;
    };
    for device in [device, Device::flex()] {
        let pictures = values([2, 3, 5, 70], &device);
        let expected = Picture::from_batch(pictures.clone()).unwrap();
        for (item, expected) in expected.iter().enumerate() {
            let painting = painter.picture(pictures.clone(), item).unwrap();
            assert_alike(&seen(host, &painting), expected);
        }
    }
}

#[test]
fn previews_are_what_the_map_says() {
    let _turn = crate::gpu::turn();
    let Some((host, device, painter)) = ready() else {
        return;
    };
    let weights = vec![[0.3, -0.2, 0.0], [0.1, 0.4, 0.3], [0.0, 0.1, -0.4]];
    let map = LinearMap::new(weights, [0.2, 0.3, 0.4]);
    let latents = values([2, 3, 9, 6], &device);
    let expected = Picture::from_batch(map.apply(latents.clone())).unwrap();
    for (item, expected) in expected.iter().enumerate() {
        let painting = painter.preview(latents.clone(), item, &map).unwrap();
        assert_alike(&seen(host, &painting), expected);
    }
}

#[test]
fn a_slider_shows_both_pictures() {
    let _turn = crate::gpu::turn();
    let Some((host, device, painter)) = ready() else {
        return;
    };
    let pictures = values([2, 3, 5, 70], &device);
    let [left, right] = [0, 1].map(|item| painter.picture(pictures.clone(), item).unwrap());
    let [first, second] = [&left, &right].map(|painting| seen(host, painting));
    let target = painter.blank([70, 5]).unwrap();
    for at in [0.0, 0.01, 0.5, 0.9, 1.0] {
        painter.compare(&left, &right, at, &target);
        let expected = compared(&first, &second, at);
        assert_eq!(seen(host, &target).pixels(), expected.pixels(), "{at}");
    }
}

/// The same value, computed and painted at once, many times: a painting that came before its values would show older ones.
#[test]
fn paintings_come_behind_what_they_show() {
    let _turn = crate::gpu::turn();
    let Some((host, device, painter)) = ready() else {
        return;
    };
    for round in 0..20 {
        let grey = f32::from(round as u8) / 20.0;
        let picture = Tensor::<4>::zeros([1, 3, 8, 8], &device) + grey;
        let painting = painter.picture(picture, 0).unwrap();
        let byte = (grey * 255.0).round() as u8;
        assert_alike(&seen(host, &painting), &Picture::filled(8, 8, [byte; 3]));
    }
}

#[test]
fn nothing_is_read_back() {
    let _turn = crate::gpu::turn();
    let Some((_, device, painter)) = ready() else {
        return;
    };
    // Larger than anything that the other tests read.
    let pictures = values([1, 3, 64, 64], &device);
    let bytes = 4 * 3 * 64 * 64;
    painter.picture(pictures.clone(), 0).unwrap();
    let read = device::largest_read_back(&device);
    assert!(read < bytes, "{read} bytes");
    // What is not looked at is not fetched.
    assert_eq!(pictures.into_data().iter::<f32>().count(), 3 * 64 * 64);
    let read = device::largest_read_back(&device);
    assert!(read >= bytes, "the counter counts: {read}");
}

#[test]
fn a_host_is_opened_once() {
    let _turn = crate::gpu::turn();
    let Some((host, device, _)) = ready() else {
        return;
    };
    assert!(*device::from_wgpu(host).unwrap().device() == device);
}

#[test]
fn what_cannot_be_painted_is_an_error() {
    let _turn = crate::gpu::turn();
    let Some((host, device, painter)) = ready() else {
        return;
    };
    let map = LinearMap::new(vec![[0.0; 3]; 33], [0.5; 3]);
    let error = painter.preview(values([1, 33, 2, 2], &device), 0, &map);
    assert!(said(&error.unwrap_err()).contains("33 channels"));
    let limit = host.device().limits().max_texture_dimension_2d as usize;
    let error = painter.blank([limit + 1, 1]).unwrap_err();
    assert!(said(&error).contains(&format!("up to {limit}")));
    if let Ok(other) = device::open("wgpu".parse().unwrap()) {
        let error = painter.picture(values([1, 3, 2, 2], other.device()), 0);
        assert!(said(&error.unwrap_err()).contains("another GPU"));
    }
}

#[test]
fn a_host_says_what_its_device_lacks() {
    let _turn = crate::gpu::turn();
    let Some(host) = HOST.as_ref() else {
        return;
    };
    let given = |descriptor: &wgpu::DeviceDescriptor<'_>| {
        let made = pollster::block_on(host.adapter().request_device(descriptor));
        let (device, queue) = made.unwrap();
        Host::new(
            host.instance().clone(),
            host.adapter().clone(),
            device,
            queue,
        )
    };
    assert!(given(&device::required(host.adapter()).descriptor()).is_ok());
    let error = given(&wgpu::DeviceDescriptor {
        required_limits: wgpu::Limits::downlevel_defaults(),
        ..wgpu::DeviceDescriptor::default()
    });
    let error = said(&error.unwrap_err());
    assert!(error.contains("`max_buffer_size`"), "{error}");
}

/// A rasteriser is two adapters, one an interface: the device of one and the adapter of the other are no host.
#[test]
fn two_adapters_are_told_apart() {
    let _turn = crate::gpu::turn();
    let Some(host) = HOST.as_ref() else {
        return;
    };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let Some(other) = adapters.into_iter().next() else {
        eprintln!("skipped: no adapter of Vulkan");
        return;
    };
    let made = pollster::block_on(other.request_device(&wgpu::DeviceDescriptor::default()));
    let (device, queue) = made.unwrap();
    let refused = |adapter: &wgpu::Adapter| {
        let host = Host::new(
            instance.clone(),
            adapter.clone(),
            device.clone(),
            queue.clone(),
        );
        let error = host.unwrap_err();
        assert!(error.is_device());
        said(&error)
    };
    let error = refused(host.adapter());
    assert!(error.contains("hand over the adapter"), "{error}");
    // Of one GPU, and refused for what it is.
    let is_software = other.get_info().device_type == wgpu::DeviceType::Cpu;
    let error = refused(&other);
    let words = if cfg!(target_os = "linux") && is_software {
        "is software Vulkan"
    } else {
        "wgpu's own request"
    };
    assert!(error.contains(words), "{error}");
}
