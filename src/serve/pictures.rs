//! Pictures that come with requests, as the engine has them: turned upright as their camera says.

use image::DynamicImage;

use super::fault::Fault;
use crate::image_io::{self, PictureFault};

/// `param` is no picture that can be read.
pub(super) fn unread(param: &str, fault: PictureFault) -> Fault {
    let (reason, hint) = fault.said();
    Fault::value(param, format!("`{param}` cannot be read: {reason}")).hint(hint)
}

/// The picture of a file, with its transparency.
pub(super) fn upright(param: &str, bytes: &[u8]) -> Result<DynamicImage, Fault> {
    image_io::upright(bytes).map_err(|fault| unread(param, fault))
}

/// Refuses a mask of another size than the picture that it is for, `param`.
pub(super) fn check_mask(mask: [usize; 2], param: &str, sides: [usize; 2]) -> Result<(), Fault> {
    if mask == sides {
        return Ok(());
    }
    let [[across, down], [width, height]] = [mask, sides];
    let message = format!("`mask` is {across}x{down}, and `{param}` is {width}x{height}");
    let hint = if [down, across] == sides {
        "send both in one size: pictures are measured upright, as their Exif turns them"
    } else {
        "send both in one size"
    };
    Err(Fault::value("mask", message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_another_size_are_told_with_both() {
        assert_eq!(check_mask([64, 32], "image", [64, 32]), Ok(()));
        let fault = check_mask([8, 8], "image", [64, 32]).unwrap_err();
        assert_eq!(fault.message, "`mask` is 8x8, and `image` is 64x32");
        assert_eq!(fault.param.as_deref(), Some("mask"));
        let turned = check_mask([32, 64], "image", [64, 32]).unwrap_err();
        assert!(turned.hint.is_some_and(|hint| hint.contains("Exif")));
    }
}
