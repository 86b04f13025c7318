//! Whether a file goes on to its end: decoders fill in what is missing, or do not look.

/// Whether a JPEG file has its end-of-image marker, whatever follows it.
///
/// Source: ITU-T T.81, annex B: segments are `FF`, a marker and a length; in coded data, `FF` is followed by 0 or a restart marker.
pub(super) fn jpeg(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        let Some(start) = rest.iter().position(|&byte| byte == 0xff) else {
            return false;
        };
        rest = &rest[start..];
        let Some(fill) = rest.iter().position(|&byte| byte != 0xff) else {
            return false;
        };
        let marker = rest[fill];
        rest = &rest[fill + 1..];
        match marker {
            0xd9 => return true,
            0x00 | 0x01 | 0xd0..=0xd8 => (),
            _ => match rest.first_chunk() {
                Some(&length) => rest = skipped(rest, u16::from_be_bytes(length).into()),
                None => return false,
            },
        }
    }
}

/// Whether a WebP file is as long as it says; a byte of padding at its end is often left out.
///
/// Source: RFC 9649, section 2.4: `RIFF`, and the length of what follows.
pub(super) fn webp(bytes: &[u8]) -> bool {
    const HEADER: usize = 8;
    let length = bytes.get(4..).and_then(<[u8]>::first_chunk);
    length.is_some_and(|length| {
        let announced = u32::from_le_bytes(*length) as usize;
        bytes.len() + 1 >= HEADER + announced
    })
}

/// How many frames a GIF file holds.
///
/// Source: `CompuServe`, `GIF89a` specification, section 12 on.
///
/// # Errors
///
/// What is wrong, if it breaks off inside a frame, or a frame does not lie within the picture, as section 20 demands: decoders take as
/// much memory as it asks for.
pub(super) fn gif_frames(bytes: &[u8]) -> Result<usize, &'static str> {
    const CUT: &str = "it is cut off";
    const HEADER: usize = 13;
    const SCREEN: usize = 6;
    const DESCRIPTOR: usize = 9;
    let flags = *bytes.get(10).ok_or(CUT)?;
    let mut rest = bytes.get(HEADER + colours(flags)..).ok_or(CUT)?;
    let mut frames = 0;
    loop {
        match rest.split_first() {
            Some((0x21, extension)) => {
                let after = extension.get(1..).and_then(blocks);
                rest = after.ok_or(CUT)?;
            }
            Some((0x2c, frame)) => {
                let flags = *frame.get(DESCRIPTOR - 1).ok_or(CUT)?;
                let side = |bytes: &[u8], at: usize| {
                    u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
                };
                let ends = |axis: usize| side(frame, axis) + side(frame, 4 + axis);
                if [0, 2]
                    .iter()
                    .any(|&axis| ends(axis) > side(bytes, SCREEN + axis))
                {
                    return Err("a frame goes beyond the picture");
                }
                let after = frame.get(DESCRIPTOR + colours(flags) + 1..);
                rest = after.and_then(blocks).ok_or(CUT)?;
                frames += 1;
            }
            // The trailer, or what stands in for it.
            _ => return Ok(frames),
        }
    }
}

/// The first comment of a GIF file.
///
/// Source: `CompuServe`, `GIF89a` specification, section 24. Only what stands before the first frame is looked at.
pub(super) fn gif_comment(bytes: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 13;
    const COMMENT: u8 = 0xfe;
    let mut rest = bytes.get(HEADER + colours(*bytes.get(10)?)..)?;
    while let [0x21, label, data @ ..] = rest {
        if *label == COMMENT {
            return joined(data);
        }
        rest = blocks(data)?;
    }
    None
}

/// What a chain of blocks holds.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let (&length, after) = rest.split_first()?;
        let (block, after) = after.split_at_checked(length.into())?;
        if block.is_empty() {
            return Some(text);
        }
        text.extend_from_slice(block);
        rest = after;
    }
}

/// Bytes of the colour table that these flags announce.
fn colours(flags: u8) -> usize {
    if flags & 0x80 == 0 {
        return 0;
    }
    3 << ((flags & 7) + 1)
}

/// What follows a chain of blocks, each a length and as many bytes, that ends in an empty one.
fn blocks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, after) = rest.split_first()?;
        rest = after.get(length.into()..)?;
        if length == 0 {
            return Some(rest);
        }
    }
}

/// `rest` without its first `count` bytes; nothing if it has fewer.
fn skipped(rest: &[u8], count: usize) -> &[u8] {
    rest.get(count..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_ends_in_its_marker() {
        // Begin, a segment of four bytes with a false end in it, a scan with a stuffed and a restart marker.
        let start = b"\xff\xd8\xff\xe1\0\x04\xff\xd9\xff\xda\0\x02ab\xff\0c\xff\xd0d";
        assert!(!jpeg(start) && !jpeg(b"") && !jpeg(b"\xff\xd8\xff"));
        assert!(jpeg(&[&start[..], b"\xff\xff\xd9 and more"].concat()));
    }

    #[test]
    fn a_webp_is_as_long_as_it_says() {
        assert!(webp(b"RIFF\x06\0\0\0WEBPxx") && webp(b"RIFF\x06\0\0\0WEBPx"));
        assert!(!webp(b"RIFF\x06\0\0\0WEBP") && !webp(b"RIFF"));
    }

    #[test]
    fn frames_of_a_gif_are_counted() {
        let head = b"GIF89a\x01\0\x01\0\x80\0\0abcdef";
        let frame = b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0";
        let one = [&head[..], frame].concat();
        assert_eq!(gif_frames(&one), Ok(1));
        let two = [&one[..], frame, b"\x3b"].concat();
        assert_eq!(gif_frames(&two), Ok(2));
        let cut = Err("it is cut off");
        assert_eq!(gif_frames(&one[..one.len() - 2]), cut);
        assert_eq!(gif_frames(b"GIF89a"), cut);
        let mut wide = one;
        wide[head.len() + 13] = 2; // the frame's width
        assert_eq!(gif_frames(&wide), Err("a frame goes beyond the picture"));
    }
}
