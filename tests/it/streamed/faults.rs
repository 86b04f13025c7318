//! Files that change, shrink or were damaged while their blocks are read from them.

use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;
use std::path::PathBuf;

use afterimage::denoise::{Observer, Progress};
use afterimage::pipeline::Pipeline;

use super::Opened;
use crate::fixture::values;
use crate::folders::copied;
use crate::transformers::small;

const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

/// Cuts a file short after the first evaluation.
struct Shrinks(PathBuf);

impl Observer for Shrinks {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        if progress.evaluation.index == 0 {
            let file = OpenOptions::new().write(true).open(&self.0).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length / 2).unwrap();
        }
        ControlFlow::Continue(())
    }
}

fn said(pipeline: &Pipeline, observer: &mut dyn Observer) -> String {
    let error = pipeline.generate(&small(), observer).unwrap_err();
    assert!(error.is_weights(), "{error}");
    error.to_string()
}

/// The run ends with an error that names a tensor and the file; and the next one runs once the file is whole again.
#[test]
fn a_file_that_shrinks_ends_the_run() {
    for name in ["flux-schnell", "sd35", "pixart-sigma"] {
        let folder = copied(name);
        let path = folder.path().join(WEIGHTS);
        let whole = fs::read(&path).unwrap();
        let pipeline = Opened::at(folder.path()).streamed();
        let expected = values(pipeline.generate(&small(), &mut ()).unwrap().latents);
        let said = said(&pipeline, &mut Shrinks(path.clone()));
        assert!(
            said.contains("cannot be read") && said.contains(WEIGHTS),
            "{name}: {said}"
        );
        fs::write(&path, whole).unwrap();
        let again = values(pipeline.generate(&small(), &mut ()).unwrap().latents);
        assert!(again == expected, "{name}");
    }
}

/// Values that are no numbers are told when their block is read, by name; of T5's blocks as well.
#[test]
fn damaged_blocks_are_told() {
    for (name, file, part) in [
        ("flux-schnell", WEIGHTS, "transformer_blocks"),
        (
            "flux-schnell",
            "text_encoder_2/model.safetensors",
            "encoder.block",
        ),
    ] {
        let folder = copied(name);
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize + 8;
        let middle = (header + (bytes.len() - header) / 2) & !3;
        bytes[middle..middle + 64].fill(0xff);
        fs::write(&path, bytes).unwrap();
        let said = said(&Opened::at(folder.path()).streamed(), &mut ());
        assert!(
            said.contains("no finite numbers") && said.contains(part) && said.contains(file),
            "{said}"
        );
    }
}
