//! The kernels behind burn's cubecl backend.

use burn::backend::TensorMetadata as _;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;

use super::{Operations, reference};
use crate::kernels::gpu::copy;
use crate::kernels::gpu::group_norm::{self, Options};

impl Operations for CubeBackend {
    fn group_normalised(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        activate: bool,
    ) -> FloatTensor<Self> {
        if !group_norm::suits(input.dtype(), scale.dtype()) {
            return reference::group_norm::<Self>(input, scale, shift, groups, epsilon, activate);
        }
        let options = Options {
            groups,
            epsilon,
            activate,
        };
        group_norm::group_norm(input, scale, shift, options)
    }

    fn overwritten(target: FloatTensor<Self>, source: FloatTensor<Self>) -> FloatTensor<Self> {
        copy::overwrite(&target, source);
        target
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::sync::{Mutex, OnceLock};

    use burn::backend::{Backend, Dispatch, backend_extension};
    use burn::nn::conv::Conv2dConfig;
    use burn::nn::{GroupNorm, GroupNormConfig};
    use burn::tensor::{Device, FloatDType, Tensor};

    use super::super::tests::{assert_close, wave};
    use super::super::{
        AttentionPath, AttentionShape, Graph, attention_along, copied, group_normalised,
        join_channels, overwrite, to_map, to_tokens,
    };
    use super::*;

    /// Shows what the operations inside of cubecl get.
    #[backend_extension(Cube, Fusion)]
    trait Spy: Backend {
        #[fusion(dtype = input, shape = input)]
        fn seen(input: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    static STRIDES: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    impl Spy for CubeBackend {
        fn seen(input: FloatTensor<Self>) -> FloatTensor<Self> {
            *STRIDES.lock().unwrap() = input.meta.strides().to_vec();
            input
        }
    }

    /// Strides of `tensor` in memory.
    fn strides(tensor: Tensor<4>) -> Vec<usize> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        Tensor::<4>::from_dispatch(Dispatch::seen(tensor.into_dispatch())).into_data();
        STRIDES.lock().unwrap().clone()
    }

    /// The devices that `AFTERIMAGE_TEST_DEVICES` names, `wgpu` where it does not; absent ones are skipped and said. Opened once: OpenGL
    /// drivers do not start twice at a time.
    fn devices() -> Vec<Device> {
        static OPENED: OnceLock<Vec<Device>> = OnceLock::new();
        OPENED.get_or_init(open).clone()
    }

    #[allow(clippy::print_stderr, reason = "skips are said")]
    fn open() -> Vec<Device> {
        let default = if cfg!(feature = "wgpu") { "wgpu" } else { "" };
        let names = std::env::var("AFTERIMAGE_TEST_DEVICES").unwrap_or_else(|_| default.to_owned());
        let names = names.split(',').filter(|name| !name.is_empty());
        let opened = names.map(|name| crate::device::open(name.parse().unwrap()));
        let (opened, absent): (Vec<_>, Vec<_>) = opened.partition(Result::is_ok);
        for error in absent.iter().filter_map(|absent| absent.as_ref().err()) {
            eprintln!("skipped: {error}");
        }
        let opened = opened.into_iter().flatten();
        opened.map(|open| open.device().clone()).collect()
    }

    /// `map` on `device`: in the logical order, with channels innermost, and as part of a wider map whose rows have a gap.
    fn orders(map: &Tensor<4>, device: &Device) -> [Tensor<4>; 3] {
        let [rows, channels, height, width] = map.dims();
        let there = map.clone().to_device(device);
        let last = map.clone().permute([0, 2, 3, 1]).to_device(device) + 0.0;
        let wider = Tensor::zeros([rows, channels, height, width + 3], device);
        let slices = [0..rows, 0..channels, 0..height, 1..width + 1];
        let part = wider.slice_assign(slices.clone(), there.clone());
        [there, last.permute([0, 3, 1, 2]), part.slice(slices)]
    }

    fn norm(groups: usize, channels: usize) -> GroupNorm {
        let mut norm = GroupNormConfig::new(groups, channels).init(&Device::flex());
        norm.gamma = norm.gamma.map(|param| param.map(|_| wave([channels], 3.0)));
        norm.beta = norm.beta.map(|param| param.map(|_| wave([channels], 4.0)));
        norm
    }

    /// A norm between operations that fuse.
    fn work(norm: &GroupNorm, input: Tensor<4>) -> Tensor<4> {
        group_normalised(norm, input * 2.0 + 1.0, true).exp() * 0.5
    }

    #[test]
    fn recorded_launches_read_what_is_written_over() {
        use burn::module::Module as _;

        for device in devices() {
            let norm = norm(2, 8).to_device(&device);
            let made = |shift| wave([2, 8, 5, 4], shift).to_device(&device);
            let input = copied(made(0.0));
            let graph = Graph::record(&device, || work(&norm, input.clone())).expect("a graph");
            let play = |shift| {
                let _written = overwrite(&input, made(shift));
                copied(graph.play().unwrap().clone())
            };
            let found = [1.0, 2.0, 1.0].map(play);
            for (found, shift) in found.into_iter().zip([1.0, 2.0, 1.0]) {
                assert_close(found, work(&norm, made(shift)), 1e-6, "played");
            }
        }
    }

    /// What brings values onto the device cannot be recorded, and computes as ever afterwards.
    #[test]
    fn what_cannot_be_recorded_goes_on_without() {
        use burn::module::Module as _;

        for device in devices() {
            let norm = norm(2, 8).to_device(&device);
            let input = copied(wave([2, 8, 5, 4], 0.0).to_device(&device));
            let brings =
                |input: Tensor<4>| work(&norm, input + wave([1, 8, 1, 1], 1.0).to_device(&device));
            assert!(Graph::record(&device, || brings(input.clone())).is_none());
            let expected = work(&norm, input.clone() + 0.0).mean();
            assert!(expected.into_scalar::<f32>().is_finite());
            assert!(Graph::record(&device, || work(&norm, input.clone())).is_some());
        }
        assert!(Graph::record(&Device::flex(), || ()).is_none());
    }

    #[test]
    fn group_norm_is_the_composed_one() {
        use burn::module::Module as _;

        let cases = [
            ([2, 64, 8, 8], 32),
            ([1, 30, 5, 7], 3),
            ([1, 4, 1, 1], 2),
            ([2, 8, 70, 70], 1),
            ([1, 6, 1, 9], 6),
        ];
        for device in devices() {
            for (shape, groups) in cases {
                let (norm, map) = (norm(groups, shape[1]), wave(shape, 0.0));
                let there = norm.clone().to_device(&device);
                for activate in [false, true] {
                    let expected = group_normalised(&norm, map.clone(), activate);
                    for (order, input) in orders(&map, &device).into_iter().enumerate() {
                        let found = group_normalised(&there, input, activate);
                        let case = format!("{shape:?} {groups} {activate} order {order}");
                        assert_close(found, expected.clone(), 2e-5, &case);
                    }
                }
            }
        }
    }

    #[test]
    fn group_norm_survives_a_large_mean_and_large_values() {
        use burn::module::Module as _;

        let map = wave([1, 8, 40, 40], 0.0);
        for device in devices() {
            let norm = norm(4, 8);
            let there = norm.clone().to_device(&device);
            for (input, tolerance) in [(map.clone() + 4096.0, 1e-3), (map.clone() * 1e6, 2e-5)] {
                let found = group_normalised(&there, input.clone().to_device(&device), false);
                let expected = group_normalised(&norm, input, false);
                assert_close(found, expected, tolerance, "large");
            }
        }
    }

    /// Where the device has halves: its squares are far beyond them.
    #[test]
    #[allow(clippy::print_stderr, reason = "skips are said")]
    fn group_norm_of_halves_has_statistics_in_f32() {
        use burn::module::Module as _;

        let map = wave([1, 16, 8, 8], 0.0) * 4000.0;
        for device in devices() {
            if !device.supports_dtype(FloatDType::F16) {
                eprintln!("skipped: {device:?} has no f16");
                continue;
            }
            let norm = norm(4, 16);
            let there = norm.clone().to_device(&device);
            let input = map.clone().cast(FloatDType::F16);
            let found = group_normalised(&there, input.clone().to_device(&device), true);
            assert_eq!(found.dtype(), burn::tensor::DType::F16);
            let expected = group_normalised(&norm, input.cast(FloatDType::F32), true);
            assert_close(found.cast(FloatDType::F32), expected, 5e-3, "f16");
        }
    }

    /// Elementwise operations around the kernel, as fusion records them; no map changes its order on the way.
    #[test]
    fn maps_between_convolutions_keep_their_channels_innermost() {
        use burn::module::Module as _;

        for device in devices() {
            let conv = Conv2dConfig::new([4, 8], [3, 3])
                .with_padding(burn::nn::PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(&Device::flex());
            let norm = norm(4, 8);
            let both = (conv.clone(), norm.clone()).to_device(&device);
            let run = |(conv, norm): &(burn::nn::conv::Conv2d, burn::nn::GroupNorm), input| {
                let map: Tensor<4> = super::super::conv2d(conv, input);
                let map = group_normalised(norm, map * 2.0, true);
                let tokens = to_tokens(map.clone()) * 0.5;
                let map = to_map(tokens, map.dims()) + map;
                join_channels(map.clone(), map)
            };
            let input = wave([1, 4, 6, 5], 0.0);
            let found = run(&both, input.clone().to_device(&device));
            assert_eq!(strides(found.clone()), [480, 1, 80, 16]);
            assert_close(found, run(&(conv, norm), input), 1e-4, "chain");
        }
    }

    /// As they are loaded, and as an adapter that comes or goes has them loaded again.
    #[test]
    fn filters_lie_as_convolutions_read_them() {
        use crate::weights::adapt::Patches;
        use crate::weights::{Unread, WeightSource, load_strict, reload};

        let tensor = |name: &str, data| Unread::of(data, name);
        let (weight, bias) = (wave([8, 4, 3, 3], 0.0), wave([8], 1.0));
        for device in devices() {
            let tensors = vec![
                tensor("weight", weight.clone().into_data()),
                tensor("bias", bias.clone().into_data()),
            ];
            let source = WeightSource::from_tensors("test".into(), tensors).unwrap();
            let conv = Conv2dConfig::new([4, 8], [3, 3]).init(&device);
            let conv = load_strict(conv, &source, "test", burn::tensor::DType::F32).unwrap();
            assert_eq!(strides(conv.weight.val()), [36, 1, 12, 4]);
            assert_close(conv.weight.val(), weight.clone(), 0.0, "loaded");
            let names = ["weight"].into();
            let dtype = burn::tensor::DType::F32;
            let conv = reload(conv, &source, "test", dtype, &Patches::default(), &names).unwrap();
            assert_eq!(strides(conv.weight.val()), [36, 1, 12, 4]);
            let mut flat = Conv2dConfig::new([4, 8], [3, 3]).init(&Device::flex());
            flat = load_strict(flat, &source, "test", dtype).unwrap();
            let input = wave([1, 4, 6, 5], 2.0);
            let found = super::super::conv2d(&conv, input.clone().to_device(&device));
            assert_close(found, super::super::conv2d(&flat, input), 1e-4, "convolved");
        }
    }

    /// The zeros after the operands and the scale of burn's own attention, on the smallest map that has both.
    #[test]
    fn fused_attention_is_the_composed_one() {
        let [query, key, value] = [0.0, 1.0, 2.0].map(|shift| wave([1, 1, 70, 40], shift));
        let shape = AttentionShape {
            queries: 70,
            tokens: 70,
            width: 40,
        };
        let paths = [
            AttentionPath::fused(shape),
            AttentionPath::WrittenOut { bytes: 70 * 4 * 32 },
        ];
        for device in devices() {
            let there = [&query, &key, &value].map(|tensor| tensor.clone().to_device(&device));
            let [query, key, value] = [&query, &key, &value].map(Clone::clone);
            let expected = attention_along(query, key, value, AttentionPath::BOUNDED);
            for path in paths {
                let [query, key, value] = there.clone();
                let found = attention_along(query, key, value, path);
                assert_close(found, expected.clone(), 1e-4, &format!("{path:?}"));
            }
        }
    }
}
