//! What only films are told.
//!
//! Source: Blattmann et al., "Stable Video Diffusion" (arXiv 2311.15127, section 4 and appendix D) for frame rates, motion and noise;
//! Khachatryan et al., "Text2Video-Zero" (arXiv 2303.13439, section 3.3) for shifts; behaviour as diffusers'
//! `StableVideoDiffusionPipeline` and `TextToVideoZeroPipeline`.

use serde::{Deserialize, Serialize};

use crate::error::RequestError;
use crate::guidance::FrameScales;
use crate::motion::Motion;
use crate::pipeline::config::{Films, ModelConfig};

/// Frames beyond which nobody has seen a film of one piece.
const MOST_FRAMES: usize = 1024;

/// Frames a second that a model is told of where nobody says otherwise.
pub(super) const FRAMES_A_SECOND: usize = 7;

/// How much moves where nobody says otherwise.
const MOTION_BUCKET: usize = 127;

/// The noise on the picture where nobody says otherwise.
const NOISE_AUG: f64 = 0.02;

/// What only films are told; `None` takes the model's default. Models of pictures refuse it, but for `frames`, which has those of Stable
/// Diffusion 1.x and 2.x make films by Text2Video-Zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilmRequest {
    /// Frames of each film, at least 2.
    pub frames: Option<usize>,
    /// Frames a second that a film of a picture is told of, at least 1. 7 where it is silent.
    pub fps: Option<usize>,
    /// How much is to move in a film of a picture; more moves more. 127 where it is silent.
    pub motion_bucket: Option<usize>,
    /// Deviation of the noise that is put on the picture of such a film, pixels being -1 to 1; more moves more. 0.02 where it is silent.
    pub noise_aug: Option<f64>,
    /// Guidance scale of the first frame of such a film, from which scales grow to that of the last. 1 where it is silent.
    pub guidance_first_frame: Option<f64>,
    /// Frames that are decoded together; all where it is silent.
    pub decode_chunk: Option<usize>,
    /// How far the picture of Text2Video-Zero moves to the left from frame to frame, in pixels of a width of 512. 12 where it is silent.
    pub motion_x: Option<f64>,
    /// The same upwards.
    pub motion_y: Option<f64>,
    /// The evaluation before which Text2Video-Zero moves its first frame, counted from the last, which is 0. 44 of 50 where it is silent.
    pub motion_t0: Option<usize>,
    /// The evaluation from which its frames go on together, counted alike. 47 of 50 where it is silent.
    pub motion_t1: Option<usize>,
}

/// A kind of film, by what it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// None at all.
    Picture,
    /// By a text alone.
    Text,
    /// By a picture and three numbers.
    Numbers,
    /// By a shift.
    Shift,
}

impl FilmRequest {
    /// Frames a second: of the file, and as a model is told that asks for them.
    pub fn rate(&self) -> usize {
        self.fps.unwrap_or(FRAMES_A_SECOND)
    }

    /// How much the model is told to move.
    pub(in crate::pipeline) fn bucket(&self) -> usize {
        self.motion_bucket.unwrap_or(MOTION_BUCKET)
    }

    /// Deviation of the noise that is put on the picture.
    pub(in crate::pipeline) fn noise(&self) -> f64 {
        self.noise_aug.unwrap_or(NOISE_AUG)
    }

    /// Frames of each film, one of which follows so many pictures in its controls, where it has any; 1 for pictures.
    pub(super) fn frames(
        &self,
        model: &ModelConfig,
        followed: Option<usize>,
    ) -> Result<usize, RequestError> {
        let films = model.films();
        let asked = self.frames.or(followed.filter(|&pictures| pictures > 1));
        let told = match (films, asked) {
            (Films::Never, Some(_)) => return Err(RequestError::NoFilms),
            (Films::Never | Films::ZeroShot, None) => Told::Picture,
            (Films::ZeroShot, Some(_)) if followed.is_some() => Told::Text,
            (Films::ZeroShot, Some(_)) => Told::Shift,
            (Films::Trained { .. }, _) if model.reads_text() => Told::Text,
            (Films::Trained { .. }, _) => Told::Numbers,
        };
        self.check_told(told)?;
        self.check_numbers(told)?;
        match (films, asked) {
            (Films::Trained { frames }, None) | (_, Some(frames)) => Ok(frames),
            (Films::Never | Films::ZeroShot, None) => Ok(1),
        }
    }

    /// Refuses what a film of this kind takes no notice of.
    fn check_told(&self, told: Told) -> Result<(), RequestError> {
        let numbers = "models that make films of a picture do";
        let shift = "films of a Stable Diffusion model (`frames`) do, unless they follow pictures";
        let (films, of_picture) = (told != Told::Picture, told == Told::Numbers);
        let shifts = told == Told::Shift;
        let given = |number: Option<f64>| number.is_some();
        let [begins, joins] = [self.motion_t0, self.motion_t1].map(|step| step.is_some());
        let options = [
            (
                "decode_chunk",
                self.decode_chunk.is_some(),
                films,
                "number of frames",
                "models of films do",
            ),
            (
                "motion_bucket",
                self.motion_bucket.is_some(),
                of_picture,
                "amount of motion",
                numbers,
            ),
            (
                "noise_aug",
                given(self.noise_aug),
                of_picture,
                "noise on its picture",
                numbers,
            ),
            (
                "guidance_first_frame",
                given(self.guidance_first_frame),
                of_picture,
                "scale a frame",
                numbers,
            ),
            ("motion_x", given(self.motion_x), shifts, "shift", shift),
            ("motion_y", given(self.motion_y), shifts, "shift", shift),
            ("motion_t0", begins, shifts, "shift", shift),
            ("motion_t1", joins, shifts, "shift", shift),
        ];
        let refused = options
            .into_iter()
            .find(|(_, given, taken, ..)| *given && !taken);
        match refused {
            Some((option, _, _, what, hint)) => Err(RequestError::NotTaken { option, what, hint }),
            None => Ok(()),
        }
    }

    fn check_numbers(&self, told: Told) -> Result<(), RequestError> {
        let range = |name, value, range| Err(RequestError::Range { name, value, range });
        // What a text describes may be one frame: the layers along frames then see it alone.
        let least = if told == Told::Text { 1 } else { 2 };
        let known = if least == 1 {
            "a film has 1 to 1024 frames"
        } else {
            "a film has 2 to 1024 frames; without this option, a model of pictures makes one"
        };
        if let Some(frames) = self
            .frames
            .filter(|one| !(least..=MOST_FRAMES).contains(one))
        {
            return range("frames", frames as f64, known);
        }
        if self.decode_chunk == Some(0) {
            return range("decode_chunk", 0.0, "at least 1 frame is decoded at a time");
        }
        if self.fps == Some(0) {
            return range("fps", 0.0, "at least 1 frame a second");
        }
        let noise = self.noise();
        if !(noise >= 0.0 && noise.is_finite()) {
            return range(
                "noise_aug",
                noise,
                "0, which leaves the picture as it is, or more",
            );
        }
        let reals = [
            ("guidance_first_frame", self.guidance_first_frame),
            ("motion_x", self.motion_x),
            ("motion_y", self.motion_y),
        ];
        match reals
            .into_iter()
            .find_map(|(name, value)| Some((name, value.filter(|one| !one.is_finite())?)))
        {
            Some((name, value)) => range(name, value, "a finite number"),
            None => Ok(()),
        }
    }

    /// Scales that grow from frame to frame, where a model is guided so.
    pub(super) fn scales(&self, model: &ModelConfig, frames: usize) -> Option<FrameScales> {
        let grows = !model.reads_text() && matches!(model.films(), Films::Trained { .. });
        grows.then(|| FrameScales {
            first: self.guidance_first_frame.unwrap_or(1.0),
            frames,
        })
    }

    /// How a film moves in a run of so many evaluations.
    pub(super) fn motion(&self, evaluations: usize) -> Motion {
        let mut motion = Motion::of(evaluations);
        motion.field.x = self.motion_x.unwrap_or(motion.field.x);
        motion.field.y = self.motion_y.unwrap_or(motion.field.y);
        motion.moved_at = self.motion_t0.unwrap_or(motion.moved_at);
        motion.joined_at = self.motion_t1.unwrap_or(motion.joined_at);
        motion
    }
}
