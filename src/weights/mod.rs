//! Weight files: reading, naming, strict loading.
//!
//! A [`WeightSource`] knows the names, shapes and data types of what a file holds and reads a tensor only when asked;
//! [`names`] turns the names that files use into those of the diffusers layout, which are the ones our modules have; and
//! [`load_strict`] fills a module, or says in one error everything that does not fit.

pub mod adapt;
pub mod adm;
pub mod dit;
pub mod flux;
pub mod mmdit;
pub mod names;
pub mod original;

mod blocks;
#[cfg(any(feature = "cpu", feature = "gpu"))]
mod carried;
#[cfg(feature = "cpu")]
mod eight;
mod filters;
mod finite;
mod format;
mod load;
#[cfg(feature = "cpu")]
mod packed;
#[cfg(feature = "cpu")]
mod pairs;
#[cfg(feature = "cpu")]
mod quantise;
mod slots;
mod source;
mod stack;
mod streamed;
mod transpose;
mod unread;

#[cfg(all(test, feature = "gpu"))]
pub(crate) use unread::Unread;

pub(crate) use filters::placed;
pub use format::{ActivationFormat, Format, Storage, WeightFormat};
pub use load::{check_fit, load_merged, load_strict, reload};
pub use slots::{FileTypes, shapes, weight_bytes};
pub(crate) use slots::{Weight, weight};
pub use source::WeightSource;
#[cfg(feature = "hub")]
pub(crate) use source::shard_files;
pub(crate) use source::{refuse_stand_in, text_of};
pub(crate) use stack::{AnyStack, Stack, Stacked};
pub use stack::{BlockReader, BlocksRead};
pub(crate) use streamed::load_streamed;
