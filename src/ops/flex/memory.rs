//! Tensors over memory that goes back to the kernels' own when nobody holds it any more.

#![allow(
    unsafe_code,
    reason = "burn's bytes are of memory that their controller answers for"
)]

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use burn::tensor::{Bytes, Element, Shape};
use burn_flex::{FlexTensor, Layout};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty};

use crate::kernels::cpu::memory;

/// A kernel's output.
pub(super) fn tensor<T: Element>(values: Vec<T>, shape: Shape) -> FlexTensor {
    assert_eq!(values.len(), shape.num_elements());
    let size = size_of_val(values.as_slice());
    memory::used(&values);
    // SAFETY: the values are there, and their bytes may be anything.
    let bytes = unsafe { Bytes::from_controller(Box::new(Lent(values)), size) };
    FlexTensor::new(bytes, Layout::contiguous(shape), T::dtype())
}

/// Memory of a kernel's output.
struct Lent<T: Element>(Vec<T>);

impl<T: Element> Lent<T> {
    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<T>()
    }
}

impl<T: Element> Drop for Lent<T> {
    fn drop(&mut self) {
        memory::unused(&self.0);
        memory::given(std::mem::take(&mut self.0));
    }
}

impl<T: Element> AllocationController for Lent<T> {
    fn alloc_align(&self) -> usize {
        align_of::<T>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Native
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: the vector's memory, for as long as it is borrowed.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.bytes()) })
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let size = self.bytes();
        // SAFETY: as above; the caller writes nothing that is not there.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size) })
    }

    /// The vector's memory is the allocator's, and whoever takes it gives it back there.
    fn try_detach(&mut self) -> Option<NonNull<u8>> {
        let values = std::mem::take(&mut self.0);
        memory::unused(&values);
        NonNull::new(std::mem::ManuallyDrop::new(values).as_mut_ptr().cast())
    }
}
