//! The boxes round the frames: what they are first, so that a player can start before it has all of the file.

use std::io::{self, Write};

use mp4_atom::{
    Any, Av01, Av1c, Codec, Colr, Desc, Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr, Ilst,
    Mdat, Mdhd, Mdia, Meta, Minf, Moov, Mvhd, Stbl, Stco, Stsc, StscEntry, Stsd, Stss, Stsz,
    StszSamples, Stts, SttsEntry, Tkhd, Tool, Trak, Udta, Url, Visual, Vmhd,
};

use super::Sample;
use crate::image_io::{
    film::{Film, side},
    texts::lines,
};

/// Ticks that a frame is shown: fine enough for players that shift frames against each other.
const TICKS: u32 = 512;

/// Bytes of a box before what it holds.
const HEADER: usize = 8;

/// BT.709, as the numbers of ITU-T H.273.
const BT709: u16 = 1;

/// "Any level": what `rav1e` announces in the stream as well.
const LEVEL: u8 = 31;

/// The type of the unit that says what all frames share.
const SEQUENCE: u8 = 1;

pub(super) fn write(
    film: &Film,
    samples: &[Sample],
    texts: &[(String, String)],
    writer: &mut impl Write,
) -> io::Result<()> {
    let kind = |name: &[u8; 4]| FourCC::new(name);
    let brand = Ftyp {
        major_brand: kind(b"isom"),
        minor_version: 512,
        compatible_brands: [b"isom", b"iso6", b"av01", b"mp41"].map(kind).to_vec(),
    };
    let head = encoded(&brand)?;
    // The film's box says where its frames are, which is after this box, whatever numbers it holds.
    let length = encoded(&film_box(film, samples, texts, 0)?)?.len();
    let start = count(head.len() + length + HEADER)?;
    let film_box = encoded(&film_box(film, samples, texts, start)?)?;
    let data = samples.iter().flat_map(|sample| &sample.bytes);
    let frames = Mdat {
        data: data.copied().collect(),
    };
    for part in [head, film_box, encoded(&frames)?] {
        writer.write_all(&part)?;
    }
    writer.flush()
}

fn encoded(part: &impl Encode) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    part.encode(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn count(number: usize) -> io::Result<u32> {
    u32::try_from(number).map_err(io::Error::other)
}

fn film_box(
    film: &Film,
    samples: &[Sample],
    texts: &[(String, String)],
    start: u32,
) -> io::Result<Moov> {
    let timescale = u32::from(film.fps().get()) * TICKS;
    let duration = u64::from(TICKS) * samples.len() as u64;
    let track = Trak {
        tkhd: Tkhd {
            track_id: 1,
            duration,
            enabled: true,
            in_movie: true,
            width: side::<u16>(film.width())?.into(),
            height: side::<u16>(film.height())?.into(),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                timescale,
                duration,
                language: "und".into(),
                ..Mdhd::default()
            },
            hdlr: handler(*b"vide"),
            minf: Minf {
                vmhd: Some(Vmhd::default()),
                dinf: Dinf {
                    dref: Dref {
                        entries: vec![DrefEntry::Url(Url::default())],
                    },
                },
                stbl: table(film, samples, start)?,
                ..Minf::default()
            },
        },
        ..Trak::default()
    };
    Ok(Moov {
        mvhd: Mvhd {
            timescale,
            duration,
            rate: 1.into(),
            next_track_id: 2,
            ..Mvhd::default()
        },
        trak: vec![track],
        udta: Some(settings(texts)),
        ..Moov::default()
    })
}

fn handler(kind: [u8; 4]) -> Hdlr {
    Hdlr {
        handler: FourCC::new(&kind),
        name: String::new(),
    }
}

/// Which frame is where, and how long it is shown.
fn table(film: &Film, samples: &[Sample], start: u32) -> io::Result<Stbl> {
    let frames = count(samples.len())?;
    let sizes = samples.iter().map(|sample| count(sample.bytes.len()));
    let keys = (1u32..).zip(samples).filter(|(_, sample)| sample.key);
    Ok(Stbl {
        stsd: Stsd {
            codecs: vec![Codec::Av01(codec(film, samples)?)],
        },
        stts: Stts {
            entries: vec![SttsEntry {
                sample_count: frames,
                sample_delta: TICKS,
            }],
        },
        stss: Some(Stss {
            entries: keys.map(|(number, _)| number).collect(),
        }),
        stsc: Stsc {
            entries: vec![StscEntry {
                first_chunk: 1,
                samples_per_chunk: frames,
                sample_description_index: 1,
            }],
        },
        stsz: Stsz {
            samples: StszSamples::Different {
                sizes: sizes.collect::<io::Result<_>>()?,
            },
        },
        stco: Some(Stco {
            entries: vec![start],
        }),
        ..Stbl::default()
    })
}

fn codec(film: &Film, samples: &[Sample]) -> io::Result<Av01> {
    let first = samples.first().map(|sample| &sample.bytes[..]);
    Ok(Av01 {
        visual: Visual {
            data_reference_index: 1,
            width: side(film.width())?,
            height: side(film.height())?,
            ..Visual::default()
        },
        av1c: Av1c {
            seq_level_idx_0: LEVEL,
            chroma_subsampling_x: true,
            chroma_subsampling_y: true,
            config_obus: first.and_then(sequence).unwrap_or_default().to_vec(),
            ..Av1c::default()
        },
        colr: Some(Colr::Nclx {
            colour_primaries: BT709,
            transfer_characteristics: BT709,
            matrix_coefficients: BT709,
            full_range_flag: false,
        }),
        ..Av01::default()
    })
}

/// The unit at the start of a key frame that says what all frames share; `None` if another is there.
fn sequence(sample: &[u8]) -> Option<&[u8]> {
    let (&[head, length], _) = sample.split_first_chunk()?;
    // Its length follows, and fits into 7 bits.
    let is_sequence = head >> 3 & 15 == SEQUENCE && head & 2 != 0 && length < 0x80;
    is_sequence.then(|| sample.get(..2 + usize::from(length)))?
}

fn settings(texts: &[(String, String)]) -> Udta {
    let tool = concat!("afterimage ", env!("CARGO_PKG_VERSION"));
    let description = (!texts.is_empty()).then(|| Desc {
        country_indicator: 0,
        language_indicator: 0,
        text: lines(texts),
    });
    let list = Ilst {
        desc: description,
        ctoo: Some(Tool {
            country_indicator: 0,
            language_indicator: 0,
            text: tool.into(),
        }),
        ..Ilst::default()
    };
    Udta {
        meta: Some(Meta {
            hdlr: handler(*b"mdir"),
            items: vec![Any::Ilst(list)],
        }),
        ..Udta::default()
    }
}
