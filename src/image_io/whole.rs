//! Whether a file goes on to its end: decoders fill in what is missing, or do not look.

use std::borrow::Cow;

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

/// A `WebP` file without what follows its end, as some programs and downloads add.
pub(super) fn to_its_end(bytes: &[u8]) -> &[u8] {
    const HEADER: usize = 8;
    let announced = bytes.get(4..).and_then(<[u8]>::first_chunk);
    let announced = announced.map_or(usize::MAX, |length| u32::from_le_bytes(*length) as usize);
    let end = announced
        .saturating_add(announced % 2)
        .saturating_add(HEADER);
    &bytes[..end.min(bytes.len())]
}

/// A `WebP` file that announces no more metadata than it has: programs take it out and leave the word, and our decoder refuses that.
///
/// Source: RFC 9649, section 2.7.1 (the flags of `VP8X`).
pub(super) fn kept_word(bytes: &[u8]) -> Cow<'_, [u8]> {
    const FLAGS: usize = 20;
    const METADATA: [(&[u8; 4], u8); 3] = [(b"ICCP", 0x20), (b"EXIF", 0x08), (b"XMP ", 0x04)];
    let chunks = bytes.get(12..).unwrap_or_default();
    let Some((b"VP8X", &flags)) = chunks.first_chunk().zip(bytes.get(FLAGS)) else {
        return bytes.into();
    };
    let has = |name: &[u8; 4]| {
        webp_chunks(chunks).any(|chunk| matches!(chunk, Ok((own, _)) if own == *name))
    };
    let broken = METADATA
        .iter()
        .filter(|(name, flag)| flags & flag > 0 && !has(name));
    let broken = broken.fold(0, |all, (_, flag)| all | flag);
    if broken == 0 {
        return bytes.into();
    }
    let mut bytes = bytes.to_vec();
    bytes[FLAGS] &= !broken;
    bytes.into()
}

/// Refuses a WebP file that is not as long as it says (a byte of padding at its end is often left out), or that holds a picture of another
/// size than it says: decoders take as much memory as each asks for.
///
/// Source: RFC 9649, sections 2.4 to 2.7: `RIFF`, the length of what follows, and chunks; RFC 6386, section 9.1 (the head of a lossy
/// picture), RFC 9649, section 3.4 (of a lossless one).
///
/// # Errors
///
/// What is wrong.
pub(super) fn webp(bytes: &[u8]) -> Result<(), &'static str> {
    const CUT: &str = "it is cut off";
    const HEADER: usize = 8;
    let announced = bytes.get(4..).and_then(<[u8]>::first_chunk).ok_or(CUT)?;
    if bytes.len() + 1 < HEADER + u32::from_le_bytes(*announced) as usize {
        return Err(CUT);
    }
    let mut canvas = None;
    for chunk in webp_chunks(bytes.get(HEADER + 4..).ok_or(CUT)?) {
        let (name, data) = chunk?;
        match &name {
            b"VP8X" => canvas = Some([4, 7].map(|at| u24(data, at).map(|side| side + 1))),
            b"ANMF" => {
                const FRAME: usize = 16;
                let size = [6, 9].map(|at| u24(data, at).map(|side| side + 1));
                let beyond = |canvas: Sides| canvas.iter().zip(&size).any(|(all, one)| one > all);
                if canvas.is_none_or(beyond) {
                    return Err("a frame goes beyond the picture");
                }
                let mut before = None;
                for chunk in webp_chunks(data.get(FRAME..).ok_or(CUT)?) {
                    let (name, data) = chunk?;
                    // Whatever it is called, decoders take it for the picture, and for as large as it says.
                    if before == Some(*b"ALPH") && name != *b"VP8 " {
                        return Err("a frame has opacity and no colours");
                    }
                    webp_size((name, data), Some(size))?;
                    before = Some(name);
                }
            }
            _ => webp_size((name, data), canvas)?,
        }
    }
    Ok(())
}

/// Width and height, as far as they are there.
type Sides = [Option<u32>; 2];

/// Refuses a picture of another size than `said`.
fn webp_size((name, data): ([u8; 4], &[u8]), said: Option<Sides>) -> Result<(), &'static str> {
    let found: Sides = match &name {
        b"VP8 " => [6, 8].map(|at| Some(u32::from(u16_at(data, at)? & 0x3fff))),
        b"VP8L" => {
            let sides = data.get(1..).and_then(<[u8]>::first_chunk);
            let sides = sides.map(|sides| u32::from_le_bytes(*sides));
            [0, 14].map(|shift| sides.map(|sides| (sides >> shift & 0x3fff) + 1))
        }
        _ => return Ok(()),
    };
    match said {
        Some(said) if said != found => Err("its picture has another size than it says"),
        _ => Ok(()),
    }
}

/// Name and data of each chunk; of the last one, padding may be missing.
fn webp_chunks(mut rest: &[u8]) -> impl Iterator<Item = Result<([u8; 4], &[u8]), &'static str>> {
    std::iter::from_fn(move || {
        let (name, after) = rest.split_first_chunk()?;
        let Some((length, after)) = after.split_first_chunk() else {
            rest = &[];
            return Some(Err("it is cut off"));
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(data) = after.get(..length) else {
            rest = &[];
            return Some(Err("a part of it goes beyond its end"));
        };
        rest = after.get(length + length % 2..).unwrap_or_default();
        Some(Ok((*name, data)))
    })
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u24(data: &[u8], at: usize) -> Option<u32> {
    let low = u16_at(data, at)?;
    let high = *data.get(at + 2)?;
    Some(u32::from(low) | u32::from(high) << 16)
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

    /// A file of these chunks.
    fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut body = b"WEBP".to_vec();
        for (name, data) in chunks {
            body.extend_from_slice(*name);
            body.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_le_bytes());
            body.extend_from_slice(data);
            body.resize(body.len().next_multiple_of(2), 0);
        }
        let length = u32::try_from(body.len()).unwrap_or(0);
        [&b"RIFF"[..], &length.to_le_bytes(), &body].concat()
    }

    #[test]
    fn a_webp_is_as_long_as_it_says() {
        let whole = riff(&[(b"EXIF", b"abc")]);
        assert_eq!(webp(&whole), Ok(()));
        assert_eq!(webp(&whole[..whole.len() - 1]), Ok(()), "padding");
        let cut = Err("it is cut off");
        assert_eq!(webp(&whole[..whole.len() - 2]), cut);
        assert_eq!(webp(b"RIFF"), cut);
        let more = [&whole[..], b"\nand more"].concat();
        assert_eq!(to_its_end(&more), whole);
        assert_eq!(to_its_end(&whole[..9]), &whole[..9]);
        assert_eq!(to_its_end(b"RIFF"), b"RIFF");
        let mut long = whole;
        long[16] = 200;
        assert_eq!(webp(&long), Err("a part of it goes beyond its end"));
    }

    #[test]
    fn a_webp_announces_what_it_has() {
        let flagged = |flags: u8, chunks: &[(&[u8; 4], &[u8])]| {
            let canvas = [flags, 0, 0, 0, 6, 0, 0, 4, 0, 0];
            riff(&[&[(b"VP8X", &canvas[..])], chunks].concat())
        };
        let exif: (&[u8; 4], &[u8]) = (b"EXIF", b"abc");
        assert_eq!(kept_word(&flagged(0x2c, &[])), flagged(0, &[]));
        assert_eq!(kept_word(&flagged(0x1c, &[exif])), flagged(0x18, &[exif]));
        for kept in [flagged(0x18, &[exif]), riff(&[exif]), b"RIFF".to_vec()] {
            assert!(matches!(kept_word(&kept), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn a_webp_holds_pictures_of_the_size_that_it_says() {
        const LOSSY: [u8; 10] = [0, 0, 0, 0x9d, 1, 0x2a, 7, 0, 5, 0];
        const LOSSLESS: [u8; 5] = [0x2f, 6, 0, 1, 0];
        let canvas = [0, 0, 0, 0, 6, 0, 0, 4, 0, 0];
        for (name, picture) in [(b"VP8 ", &LOSSY[..]), (b"VP8L", &LOSSLESS)] {
            assert_eq!(webp(&riff(&[(b"VP8X", &canvas), (name, picture)])), Ok(()));
            let mut frame = [0; 16].to_vec();
            (frame[6], frame[9]) = (6, 4);
            frame.extend_from_slice(&riff(&[(name, picture)])[12..]);
            assert_eq!(
                webp(&riff(&[(b"VP8X", &canvas), (b"ANMF", &frame)])),
                Ok(())
            );
            let other = Err("its picture has another size than it says");
            frame[9] = 3;
            assert_eq!(webp(&riff(&[(b"VP8X", &canvas), (b"ANMF", &frame)])), other);
            frame[6] = 9;
            let beyond = Err("a frame goes beyond the picture");
            assert_eq!(
                webp(&riff(&[(b"VP8X", &canvas), (b"ANMF", &frame)])),
                beyond
            );
            let wide = [0, 0, 0, 0, 7, 0, 0, 4, 0, 0];
            assert_eq!(webp(&riff(&[(b"VP8X", &wide), (name, picture)])), other);
        }
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
