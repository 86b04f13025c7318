//! From latents to pictures by the plainest way that has its place: as a whole, in tiles, on the processor.

use burn::tensor::Tensor;

use super::rescue::{KeptLatents, Rescuer};
use crate::device::Room;
use crate::error::Error;
use crate::models::vae::Tiling;
use crate::pipeline::request::Rescue;

/// A way to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// Each picture at once.
    Whole,
    /// Each picture in overlapping tiles.
    Tiled,
    /// On the processor, where the device is another.
    Processor,
}

impl Rung {
    /// Completes "decoding …".
    fn name(self) -> &'static str {
        match self {
            Self::Whole => "the pictures as a whole",
            Self::Tiled => "in tiles, which changes the pictures a little",
            Self::Processor => "on the CPU",
        }
    }
}

/// What a rung takes, in bytes: in all, and in its largest buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) bytes: u64,
    pub(super) largest: u64,
}

/// The rungs to try, in their order, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ladder {
    pub(super) rungs: Vec<Rung>,
    /// Whether memory is short: the first rungs are left out, or what is left may not have its place either.
    pub(super) tight: bool,
}

/// What a picture's size asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// It has more than one tile.
    pub(super) has_tiles: bool,
    /// It has tiles by default.
    pub(super) is_large: bool,
}

impl Ladder {
    /// The ladder under `tiling`, its first rungs left out while they do not fit into `room`. `processor` says whether one stands beside
    /// the device.
    pub(super) fn new(
        tiling: Tiling,
        shape: Shape,
        need: impl Fn(Rung) -> Need,
        room: Room,
        processor: bool,
    ) -> Self {
        let mut rungs = if tiling == Tiling::Never || !shape.has_tiles {
            vec![Rung::Whole]
        } else if tiling == Tiling::Automatic && !shape.is_large {
            vec![Rung::Whole, Rung::Tiled]
        } else {
            vec![Rung::Tiled]
        };
        rungs.extend(processor.then_some(Rung::Processor));
        let fits = |rung: Rung| {
            let Need { bytes, largest } = need(rung);
            rung == Rung::Processor || room.takes(bytes, largest)
        };
        let last = rungs.len() - 1;
        let first = rungs.iter().position(|rung| fits(*rung));
        Self {
            tight: first != Some(0),
            rungs: rungs.split_off(first.unwrap_or(last)),
        }
    }
}

/// What decodes on every rung.
pub(super) trait Decode {
    /// The rungs for latents of `shape`, `[items, channels, height, width]`.
    fn ladder(&self, shape: [usize; 4], tiling: Tiling) -> Ladder;

    /// Pictures, `[items, 3, height, width]` in 0 to 1; when it answers, the device is done.
    fn decode_on(&self, rung: Rung, latents: Tensor<4>) -> Result<Tensor<4>, Error>;
}

/// Pictures, `[items, 3, height, width]` in 0 to 1, of `latents`, `[items, channels, height, width]`, by the first rung that succeeds;
/// `rescue` is where latents are kept if memory is short, or from the first failure on, until the second value is dropped.
pub(super) fn decode(
    decoder: &impl Decode,
    latents: Tensor<4>,
    tiling: Tiling,
    rescue: Option<&Rescue>,
    warn: &mut dyn FnMut(&str),
) -> Result<(Tensor<4>, Option<KeptLatents>), Error> {
    let ladder = decoder.ladder(latents.dims(), tiling);
    let mut rescue = Rescuer::new(&latents, rescue);
    if ladder.tight {
        let first = ladder.rungs.first().map_or("", |rung| rung.name());
        warn(&format!("memory is short: decoding {first}"));
        rescue.save(warn);
    }
    let mut rungs = ladder.rungs.into_iter().peekable();
    loop {
        let rung = rungs.next().unwrap_or(Rung::Whole);
        let error = match decoder.decode_on(rung, latents.clone()) {
            Ok(images) => return Ok((images, rescue.kept())),
            Err(error) => error,
        };
        rescue.save(warn);
        match rungs.peek() {
            Some(next) if error.is_device() => {
                warn(&format!("{error}\nnow decoding {}", next.name()));
            }
            _ => return Err(rescue.named(error)),
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use std::{cell::RefCell, path::Path};

    use burn::tensor::Device;

    use super::*;
    use crate::error::{DeviceError, RequestError};
    use crate::pipeline::read_latents;

    const SMALL: Shape = Shape {
        has_tiles: true,
        is_large: false,
    };

    /// 100 bytes for the whole, 10 for a tile.
    fn need(rung: Rung) -> Need {
        let bytes = if rung == Rung::Whole { 100 } else { 10 };
        Need {
            bytes,
            largest: bytes / 2,
        }
    }

    fn ladder(tiling: Tiling, shape: Shape, free: u64, processor: bool) -> (Vec<Rung>, bool) {
        let room = Room {
            free: Some(free),
            largest: Some(1000),
        };
        let ladder = Ladder::new(tiling, shape, need, room, processor);
        (ladder.rungs, ladder.tight)
    }

    #[test]
    fn rungs_without_their_place_are_left_out() {
        use Rung::{Processor, Tiled, Whole};
        let automatic = |free, processor| ladder(Tiling::Automatic, SMALL, free, processor);
        assert_eq!(automatic(100, true), (vec![Whole, Tiled, Processor], false));
        assert_eq!(automatic(99, true), (vec![Tiled, Processor], true));
        assert_eq!(automatic(9, true), (vec![Processor], true));
        assert_eq!(
            automatic(9, false),
            (vec![Tiled], true),
            "the last is tried all the same"
        );
        let room = Room {
            free: None,
            largest: Some(49),
        };
        let bound = Ladder::new(Tiling::Automatic, SMALL, need, room, false);
        assert_eq!(bound.rungs, [Tiled], "no buffer is that large");
    }

    #[test]
    fn the_caller_decides_about_tiles() {
        use Rung::{Tiled, Whole};
        let all = |tiling, shape| ladder(tiling, shape, 1000, false);
        assert_eq!(all(Tiling::Never, SMALL), (vec![Whole], false));
        assert_eq!(all(Tiling::Always, SMALL), (vec![Tiled], false));
        let large = Shape {
            is_large: true,
            ..SMALL
        };
        assert_eq!(all(Tiling::Automatic, large), (vec![Tiled], false));
        let tiny = Shape {
            has_tiles: false,
            is_large: false,
        };
        assert_eq!(all(Tiling::Always, tiny), (vec![Whole], false));
    }

    /// Fails on some rungs, and remembers which it was asked for.
    struct Failing {
        on: Vec<Rung>,
        tight: bool,
        asked: RefCell<Vec<Rung>>,
        with: fn() -> Error,
    }

    impl Failing {
        fn new(on: &[Rung]) -> Self {
            Self {
                on: on.to_vec(),
                tight: false,
                asked: RefCell::default(),
                with: || DeviceError::execution("decoding the pictures", &"out of memory").into(),
            }
        }
    }

    impl Decode for Failing {
        fn ladder(&self, _: [usize; 4], _: Tiling) -> Ladder {
            Ladder {
                rungs: vec![Rung::Whole, Rung::Tiled, Rung::Processor],
                tight: self.tight,
            }
        }

        fn decode_on(&self, rung: Rung, latents: Tensor<4>) -> Result<Tensor<4>, Error> {
            self.asked.borrow_mut().push(rung);
            if self.on.contains(&rung) {
                return Err((self.with)());
            }
            Ok(latents)
        }
    }

    /// Finds the latents kept when it is asked.
    struct Looking<'a>(Failing, &'a Path);

    impl Decode for Looking<'_> {
        fn ladder(&self, shape: [usize; 4], tiling: Tiling) -> Ladder {
            self.0.ladder(shape, tiling)
        }

        fn decode_on(&self, rung: Rung, latents: Tensor<4>) -> Result<Tensor<4>, Error> {
            assert!(self.1.exists());
            self.0.decode_on(rung, latents)
        }
    }

    fn latents() -> Tensor<4> {
        Tensor::from_floats([[[[0.25, -0.5]]]], &Device::flex())
    }

    struct Outcome {
        result: Result<Tensor<4>, Error>,
        warnings: Vec<String>,
        kept: Option<Tensor<4>>,
        path: std::path::PathBuf,
    }

    /// The pictures, safe at once.
    fn decoded(
        decoder: &impl Decode,
        rescue: Option<&Path>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Tensor<4>, Error> {
        let rescue = rescue.map(|path| Rescue::from(path.to_owned()));
        let rescue = rescue.as_ref();
        let decoded = decode(decoder, latents(), Tiling::Automatic, rescue, warn);
        decoded.map(|(images, _)| images)
    }

    fn run(decoder: &Failing) -> Outcome {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fox.latents.safetensors");
        let mut warnings = Vec::new();
        let mut warn = |text: &str| warnings.push(text.to_owned());
        let result = decoded(decoder, Some(&path), &mut warn);
        Outcome {
            result,
            warnings,
            kept: path
                .exists()
                .then(|| read_latents(&path, &Device::flex()).expect("latents")),
            path,
        }
    }

    const ALL: [Rung; 3] = [Rung::Whole, Rung::Tiled, Rung::Processor];

    #[test]
    fn a_rung_that_fails_leads_to_the_next() {
        let decoder = Failing::new(&[Rung::Whole, Rung::Tiled]);
        let outcome = run(&decoder);
        assert_eq!(
            outcome.result.expect("pictures").into_data(),
            latents().into_data()
        );
        assert_eq!(*decoder.asked.borrow(), ALL);
        assert!(outcome.kept.is_none(), "there are pictures");
        assert_eq!(outcome.warnings.len(), 2);
        assert!(outcome.warnings[0].starts_with("the device is out of memory"));
        assert!(outcome.warnings[1].ends_with("now decoding on the CPU"));
    }

    #[test]
    fn where_every_rung_fails_the_latents_are_kept() {
        let outcome = run(&Failing::new(&ALL));
        let error = outcome.result.expect_err("no rung is left");
        assert!(error.is_device());
        let message = error.to_string();
        assert!(message.contains("`afterimage decode`"), "{message}");
        assert!(
            message.ends_with(&outcome.path.display().to_string()),
            "{message}"
        );
        let kept = outcome.kept.expect("the latents");
        assert_eq!(kept.into_data(), latents().into_data());
    }

    #[test]
    fn what_is_no_device_s_fault_is_not_tried_again() {
        let mut decoder = Failing::new(&ALL);
        decoder.with = || RequestError::NoPictures.into();
        let outcome = run(&decoder);
        assert!(outcome.result.is_err() && outcome.kept.is_some());
        assert_eq!(*decoder.asked.borrow(), [Rung::Whole]);
    }

    #[test]
    fn when_memory_is_short_latents_are_kept_before_anything_is_tried() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fox.latents.safetensors");
        let mut decoder = Failing::new(&[]);
        decoder.tight = true;
        let decoder = Looking(decoder, &path);
        let rescue = Rescue::from(path.clone());
        let decode = || {
            decode(
                &decoder,
                latents(),
                Tiling::Automatic,
                Some(&rescue),
                &mut |_| {},
            )
        };
        let (_, kept) = decode().expect("pictures");
        assert!(path.exists(), "the pictures are not safe yet");
        drop(kept);
        assert!(!path.exists());
        let (_, kept) = decode().expect("pictures");
        assert_eq!(kept.expect("the latents").leave(), path);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_is_there_already_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fox.latents.safetensors");
        let beside = folder.path().join("fox.latents.1.safetensors");
        let run = |decoder: &Failing| {
            std::fs::write(&path, "another's").expect("a file");
            let result = decoded(decoder, Some(&path), &mut |_| {});
            let other = std::fs::read_to_string(&path).expect("it is still there");
            assert_eq!(other, "another's");
            result
        };
        let mut decoder = Failing::new(&[]);
        decoder.tight = true;
        run(&decoder).expect("pictures");
        assert!(!beside.exists());
        let error = run(&Failing::new(&ALL)).expect_err("no rung is left");
        assert!(error.to_string().ends_with(&beside.display().to_string()));
        assert!(read_latents(&beside, &Device::flex()).is_ok());
    }

    #[test]
    fn without_a_file_the_failure_is_said_as_it_is() {
        let decoder = Failing::new(&ALL);
        let result = decoded(&decoder, None, &mut |_| {});
        let message = result.expect_err("no rung is left").to_string();
        assert!(!message.contains("latents"), "{message}");
    }
}
