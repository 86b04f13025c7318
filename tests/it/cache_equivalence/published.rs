//! `DeepCache` against its published loop, straight: one number a pixel, no cells, no spans, no store but `deep`.

use afterimage::cache::CacheRule;

use crate::toy_trunk::{Request, ToyUnet, embedding, gain, run_unet, shift};

fn squash(value: f32) -> f32 {
    value / (value * value + 1.0)
}

/// Encoder levels `0..=upto`, then, if asked for, the middle and the decoder from `deep`. Gives the prediction and the
/// tensor in front of decoder `skip`.
fn unet(
    pixel: f32,
    embedding: f32,
    skips: usize,
    skip: usize,
    deep: Option<&[f32]>,
) -> (f32, Vec<f32>) {
    let through = |cell: usize, value: f32| squash(value * gain(cell) + shift(cell, embedding));
    let upto = if deep.is_some() { skip + 1 } else { skips };
    let mut encoded: Vec<Vec<f32>> = Vec::new();
    for level in 0..upto {
        let next = match encoded.last() {
            None => vec![through(0, pixel)],
            Some(previous) => {
                let mut next = previous.clone();
                next.push(through(level, previous[0]));
                next
            }
        };
        encoded.push(next);
    }
    let start = deep.map_or(skips - 1, |_| skip);
    let mut hidden = match deep {
        Some(deep) => deep.to_vec(),
        None => encoded[skips - 1]
            .iter()
            .map(|&value| through(skips, value))
            .collect(),
    };
    let mut tapped = hidden.clone();
    for level in (0..=start).rev() {
        if level == skip {
            tapped.clone_from(&hidden);
        }
        let cell = 2 * skips - level;
        let mixed = hidden.iter().zip(&encoded[level]);
        let mut next: Vec<f32> = mixed
            .map(|(&value, &skip)| {
                squash((value * gain(cell) + shift(cell, embedding)) + skip * 0.5)
            })
            .collect();
        next.truncate(level.max(1));
        hidden = next;
    }
    (hidden[0], tapped)
}

/// Latents after the run, without guidance and with one picture.
fn deepcache(request: &Request, skips: usize, skip: usize, full: &[usize]) -> Vec<f32> {
    let condition = request.conditions()[0];
    let denoise = |start: f32| {
        let (mut pixel, mut deep) = (start, None::<Vec<f32>>);
        for (index, &timestep) in request.timesteps.iter().enumerate() {
            let embedding = embedding(timestep, condition);
            let kept = deep.as_deref().filter(|_| !full.contains(&index));
            let (prediction, tapped) = unet(pixel, embedding, skips, skip, kept);
            if kept.is_none() {
                deep = Some(tapped);
            }
            pixel -= prediction * (0.1 + timestep as f32 / 4000.0);
        }
        pixel
    };
    request.latents().into_iter().map(denoise).collect()
}

/// Every branch and interval against the published loop.
#[test]
fn deepcache_is_the_published_loop() {
    let unet = ToyUnet::new(5);
    let request = Request::new(11, 1, 1);
    for skip in 0..5 {
        for interval in 1..=12 {
            let full: Vec<usize> = (0..11).step_by(interval).collect();
            let expected = deepcache(&request, 5, skip, &full);
            let found = run_unet(&unet, &CacheRule::deepcache(interval, skip), &request);
            for (found, expected) in found.latents.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "skip {skip}, interval {interval}: {found} and {expected}"
                );
            }
        }
    }
}
