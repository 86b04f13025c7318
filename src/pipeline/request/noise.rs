//! Seeds as the noise of a run.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::denoise::Noise;
use crate::rng::TorchRng;

/// Where a run's noise starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a seed is a whole number from 0 to 2^64 - 1, or a list of them"
)]
pub enum Seeds {
    /// One stream for all pictures: `torch.Generator("cpu").manual_seed(seed)`.
    One(u64),
    /// A stream for each picture, so that a picture does not depend on its neighbours.
    Each(Vec<u64>),
}

impl Seeds {
    /// The one that a run is called by.
    pub fn first(&self) -> u64 {
        match self {
            Self::One(seed) => *seed,
            Self::Each(seeds) => seeds.first().copied().unwrap_or(0),
        }
    }
}

/// Normals from torch's CPU generators, drawn on the host in f32.
#[derive(Debug)]
pub struct SeededNoise {
    streams: Vec<TorchRng>,
    device: Device,
}

impl SeededNoise {
    /// Starts the streams.
    ///
    /// # Panics
    ///
    /// If there are seeds for each of no pictures.
    pub fn new(seeds: &Seeds, device: &Device) -> Self {
        assert!(
            *seeds != Seeds::Each(Vec::new()),
            "`seeds` has no seed to start from"
        );
        let streams = match seeds {
            Seeds::One(seed) => vec![TorchRng::new(*seed)],
            Seeds::Each(seeds) => seeds.iter().map(|&seed| TorchRng::new(seed)).collect(),
        };
        Self {
            streams,
            device: device.clone(),
        }
    }
}

impl SeededNoise {
    /// Streams that rows are drawn from, in equal shares.
    pub(in crate::pipeline) fn streams(&self) -> usize {
        self.streams.len()
    }
}

impl Noise for SeededNoise {
    fn draw(&mut self, shape: [usize; 4]) -> Tensor<4> {
        let each = shape.iter().product::<usize>() / self.streams.len();
        let normals = self
            .streams
            .iter_mut()
            .flat_map(|stream| stream.normal(each))
            .collect::<Vec<f32>>();
        Tensor::from_data(TensorData::new(normals, shape), &self.device)
    }
}
