//! Devices of the machine the tests run on.

use afterimage::device::{DeviceChoice, DeviceClass, DtypeChoice, list, open};
use burn::tensor::FloatDType;

#[test]
fn the_processor_is_always_there_and_computes_in_f32() {
    let device = open(DeviceChoice::Cpu).expect("the processor");
    assert_eq!(device.info().selector, "cpu");
    assert_eq!(device.info().class, DeviceClass::Processor);
    assert_eq!(device.dtype(None).expect("a type"), FloatDType::F32);
    assert_eq!(
        device.dtype(Some(DtypeChoice::F32)).expect("a type"),
        FloatDType::F32
    );
}

#[test]
fn auto_takes_no_software_rasteriser() {
    let _turn = crate::gpu::turn();
    let device = open(DeviceChoice::Auto).expect("a device");
    assert!(!device.is_software(), "{device}");
    assert!(!device.reason().is_empty());
}

#[test]
fn every_listed_device_opens_by_its_name() {
    let _turn = crate::gpu::turn();
    for info in list() {
        let info = info.expect("a device that starts");
        let choice: DeviceChoice = info.selector.parse().expect("a device name");
        let device = open(choice).expect("a listed device");
        assert_eq!(device.info(), &info);
        assert!(info.dtypes.contains(&DtypeChoice::F32));
    }
}

#[test]
fn a_device_beyond_the_last_is_an_error() {
    let _turn = crate::gpu::turn();
    for name in ["cuda:99", "wgpu:99", "vulkan:99", "metal:99"] {
        let choice: DeviceChoice = name.parse().expect("a device name");
        let error = open(choice).expect_err("no such device");
        assert!(error.is_device());
        assert!(error.to_string().contains("\nhint: "), "{error}");
    }
}
