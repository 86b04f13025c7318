//! What is too much.

use serde_json::Value;

use super::{fault::Fault, options::Limits, pictures};
use crate::{
    image_io::{PictureFault, picture_sides},
    pipeline::Recipe,
};

/// Characters of a prompt.
const LONGEST_PROMPT: usize = 1 << 16;

impl Limits {
    /// Refuses a recipe that says too much itself, before anything is made of it.
    pub(super) fn check_said(&self, recipe: &Recipe) -> Result<(), Fault> {
        let subjects = recipe.prompts.len().max(recipe.classes.len()).max(1);
        let items = subjects.saturating_mul(recipe.batch.unwrap_or(1));
        let [width, height] = recipe.size.unwrap_or_default();
        self.check_numbers(recipe.steps, Some(items), recipe.film.frames)?;
        self.check_pixels("size", width, height)?;
        let texts = [
            &recipe.prompts,
            &recipe.negative_prompts,
            &recipe.second_prompts,
            &recipe.second_negative_prompts,
            &recipe.third_prompts,
            &recipe.third_negative_prompts,
        ];
        let long = texts
            .into_iter()
            .flatten()
            .find(|text| text.len() > LONGEST_PROMPT);
        match long {
            Some(text) => {
                let message = format!(
                    "a prompt has {} bytes, and {LONGEST_PROMPT} are read",
                    text.len()
                );
                Err(Fault::value("prompt", message))
            }
            None => Ok(()),
        }
    }

    /// The same of what a plan has filled in.
    pub(super) fn check_plan(&self, plan: &Value) -> Result<(), Fault> {
        let number = |key: &str| plan[key].as_u64().map(|number| number as usize);
        self.check_numbers(number("steps"), number("batch"), number("frames"))?;
        let sides = [number("width"), number("height")];
        let [width, height] = sides.map(Option::unwrap_or_default);
        self.check_pixels("size", width, height)
    }

    fn check_numbers(
        &self,
        steps: Option<usize>,
        items: Option<usize>,
        frames: Option<usize>,
    ) -> Result<(), Fault> {
        let rows = [
            ("steps", steps, self.max_steps, "--max-steps"),
            ("batch", items, self.max_batch, "--max-batch"),
            ("frames", frames, self.max_frames, "--max-frames"),
        ];
        for (param, found, most, option) in rows {
            if let Some(found) = found.filter(|found| *found > most) {
                return Err(Fault::limit(param, found, most, option));
            }
        }
        Ok(())
    }

    fn check_pixels(&self, param: &str, width: usize, height: usize) -> Result<(), Fault> {
        if width.saturating_mul(height) <= self.max_pixels {
            return Ok(());
        }
        let found = format!("{width}x{height}");
        let most = format!("{} pixels", self.max_pixels);
        Err(Fault::limit(param, found, most, "--max-pixels"))
    }

    /// Width and height of a picture, upright; refuses a file that is none, or says that it has too many pixels. They are not unpacked for
    /// that.
    pub(super) fn check_picture(&self, param: &str, bytes: &[u8]) -> Result<[usize; 2], Fault> {
        let sides = picture_sides(bytes);
        let found = match &sides {
            Ok(sides) => *sides,
            Err(PictureFault::TooLarge(width, height)) => {
                [*width, *height].map(|side| side as usize)
            }
            Err(_) => [0, 0],
        };
        self.check_pixels(param, found[0], found[1])?;
        sides.map_err(|fault| pictures::unread(param, fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn limits() -> Limits {
        Limits {
            max_body: 1 << 20,
            max_pixels: 10_000,
            max_steps: 50,
            max_batch: 4,
            max_frames: 8,
            max_queue: 4,
            max_queue_client: 2,
            max_seconds: 60,
            max_seconds_client: 60,
            max_connections: 8,
            keep: Some(1),
            keep_bytes: 1 << 20,
        }
    }

    #[test]
    fn what_is_too_much_is_named_with_its_option() {
        let recipe = Recipe {
            prompts: vec![String::new(); 3],
            batch: Some(2),
            ..Recipe::default()
        };
        let fault = limits().check_said(&recipe).unwrap_err();
        assert!(fault.message.contains("`batch` is 6") && fault.message.contains("--max-batch"));
        let recipe = Recipe {
            size: Some([usize::MAX, 2]),
            ..Recipe::default()
        };
        let fault = limits().check_said(&recipe).unwrap_err();
        assert_eq!(fault.code, "limit");
        assert!(fault.message.contains("--max-pixels"));
        let plan = serde_json::json!({"steps": 51, "width": 64, "height": 64});
        assert!(
            limits()
                .check_plan(&plan)
                .is_err_and(|fault| fault.message.contains("--max-steps"))
        );
    }

    #[test]
    fn pictures_are_measured_by_their_headers() {
        let mut small = Vec::new();
        let picture = crate::image_io::Picture::filled(16, 16, [9; 3]);
        picture.encode(&mut small, &[]).unwrap();
        assert_eq!(limits().check_picture("image", &small), Ok([16, 16]));
        // More than anything decodes, which the server's own limit comes before.
        let fault = limits().check_picture("image", b"P6 30000 30000 255\n");
        let fault = fault.unwrap_err();
        assert!(fault.message.contains("--max-pixels"), "{fault:?}");
    }

    /// The same list of formats as the command line's, and the same words.
    #[test]
    fn pictures_that_are_not_read_are_called_by_their_format() {
        for (bytes, words) in [
            (&b"no picture"[..], "it begins like no format that is known"),
            (
                b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
                "it is of the format HEIC, which is not read",
            ),
            (
                b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
                "it is of the format AVIF, which is not read",
            ),
        ] {
            let fault = limits().check_picture("image", bytes).unwrap_err();
            assert_eq!(fault.message, format!("`image` cannot be read: {words}"));
            assert!(fault.hint.is_some_and(|hint| hint.contains("TGA and PNM")));
        }
        let read = |bytes: &[u8]| limits().check_picture("image", bytes);
        let tga = include_bytes!("../../tests/fixtures/pictures/plain.tga");
        let pnm = include_bytes!("../../tests/fixtures/pictures/plain.ppm");
        assert_eq!((read(tga), read(pnm)), (Ok([40, 24]), Ok([40, 24])));
    }

    #[test]
    fn pictures_are_measured_upright() {
        let turned = include_bytes!("../../tests/fixtures/pictures/turned.jpg");
        let shown = include_bytes!("../../tests/fixtures/pictures/turned.jpg.png");
        let stored = image::ImageReader::new(std::io::Cursor::new(turned)).with_guessed_format();
        let (width, height) = stored.unwrap().into_dimensions().unwrap();
        let sides = limits().check_picture("image", turned);
        assert_eq!(sides, Ok([height as usize, width as usize]));
        assert_eq!(sides, limits().check_picture("image", shown));
    }
}
