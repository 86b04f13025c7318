//! GGUF files made by hand.

use std::{fs, io::Write as _, path::Path};

/// Numbers of types.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const Q4_0: u32 = 2;
pub(crate) const Q8_0: u32 = 8;

/// A file.
pub(crate) struct File {
    version: u32,
    alignment: u64,
    words: Vec<(String, Word)>,
    tensors: Vec<Tensor>,
    /// What it says in place of its numbers of tensors and words.
    counts: Option<[u64; 2]>,
}

struct Tensor {
    name: String,
    kind: u32,
    shape: Vec<u64>,
    offset: u64,
    /// Bytes in the file, those of `bytes` or zeros.
    length: u64,
    bytes: Vec<u8>,
}

/// A value beside the tensors.
pub(crate) enum Word {
    Text(&'static str),
    Texts(Vec<String>),
    U32(u32),
    I32s(&'static [i32]),
    /// A type and bytes, right or wrong.
    Raw(u32, Vec<u8>),
}

impl Word {
    fn bytes(&self) -> Vec<u8> {
        let kind = |kind: u32| kind.to_le_bytes().to_vec();
        match self {
            Self::Text(word) => [kind(8), text(word)].concat(),
            Self::Texts(words) => {
                let words_bytes = words.iter().map(|word| text(word)).collect::<Vec<_>>();
                let count = (words.len() as u64).to_le_bytes().to_vec();
                [kind(9), kind(8), count, words_bytes.concat()].concat()
            }
            Self::U32(number) => [kind(4), number.to_le_bytes().to_vec()].concat(),
            Self::I32s(numbers) => {
                let sides: Vec<_> = numbers.iter().map(|side| side.to_le_bytes()).collect();
                let count = (numbers.len() as u64).to_le_bytes().to_vec();
                [kind(9), kind(5), count, sides.concat()].concat()
            }
            Self::Raw(number, bytes) => [kind(*number), bytes.clone()].concat(),
        }
    }
}

/// A text behind its length.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u64).to_le_bytes();
    [&length[..], text.as_bytes()].concat()
}

impl File {
    pub(crate) fn new() -> Self {
        Self {
            version: 3,
            alignment: 32,
            words: Vec::new(),
            tensors: Vec::new(),
            counts: None,
        }
    }

    pub(crate) fn of_version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// Says that it has so many tensors and words.
    pub(crate) fn counting(self, counts: [u64; 2]) -> Self {
        let counts = Some(counts);
        Self { counts, ..self }
    }

    pub(crate) fn word(mut self, key: impl Into<String>, word: Word) -> Self {
        self.words.push((key.into(), word));
        self
    }

    pub(crate) fn aligned(mut self, alignment: u32) -> Self {
        self.alignment = alignment.into();
        self.word("general.alignment", Word::U32(alignment))
    }

    /// A tensor after those before; `shape` with the outermost side first.
    pub(crate) fn tensor(mut self, name: &str, kind: u32, shape: &[usize], bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        self.push(name, kind, shape, (length, bytes));
        self
    }

    /// A tensor of `length` zeros, which [`sparse`](Self::sparse) does not write.
    pub(crate) fn hole(mut self, name: &str, kind: u32, shape: &[usize], length: u64) -> Self {
        self.push(name, kind, shape, (length, Vec::new()));
        self
    }

    fn push(&mut self, name: &str, kind: u32, shape: &[usize], (length, bytes): (u64, Vec<u8>)) {
        let before = self.tensors.last();
        let end = before.map_or(0, |one| one.offset + one.length);
        self.tensors.push(Tensor {
            name: name.to_owned(),
            kind,
            shape: shape.iter().map(|side| *side as u64).collect(),
            offset: end.next_multiple_of(self.alignment),
            length,
            bytes,
        });
    }

    /// Says that the last tensor is elsewhere, and leaves its bytes out.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        let last = self.tensors.last_mut().unwrap();
        last.offset = offset;
        last.bytes.clear();
        self
    }

    /// Everything before the tensors' bytes.
    pub(crate) fn header(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.words.len() as u64];
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.counts.unwrap_or(counts).map(u64::to_le_bytes).concat());
        for (key, word) in &self.words {
            bytes.extend(text(key));
            bytes.extend(word.bytes());
        }
        for tensor in &self.tensors {
            bytes.extend(text(&tensor.name));
            bytes.extend((tensor.shape.len() as u32).to_le_bytes());
            for side in tensor.shape.iter().rev() {
                bytes.extend(side.to_le_bytes());
            }
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend(tensor.offset.to_le_bytes());
        }
        let length = (bytes.len() as u64).next_multiple_of(self.alignment);
        bytes.resize(length as usize, 0);
        bytes
    }

    /// Writes it with all tensors as holes, which take no room on the disk.
    pub(crate) fn sparse(&self, path: &Path) {
        let header = self.header();
        let last = self.tensors.last();
        let end = last.map_or(0, |one| one.offset + one.length);
        let mut file = fs::File::create(path).unwrap();
        file.write_all(&header).unwrap();
        file.set_len(header.len() as u64 + end).unwrap();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let start = bytes.len();
        for tensor in self.tensors.iter().filter(|one| !one.bytes.is_empty()) {
            let place = start + tensor.offset as usize;
            if bytes.len() < place {
                bytes.resize(place, 0);
            }
            bytes.truncate(place);
            bytes.extend(&tensor.bytes);
        }
        bytes
    }
}

/// So many blocks of `Q8_0`, all of the half-precision number with the bits `scale` times `integer`.
pub(crate) fn eights(count: usize, scale: u16, integer: i8) -> Vec<u8> {
    let integers = [integer.cast_unsigned(); 32];
    [&scale.to_le_bytes()[..], &integers].concat().repeat(count)
}

/// Values in blocks of `Q8_0`: each the nearest multiple of a 127th of the largest magnitude.
pub(crate) fn in_eights(values: &[f32]) -> Vec<u8> {
    let block = |values: &[f32]| {
        let largest = values.iter().fold(0.0_f32, |most, one| most.max(one.abs()));
        let (bits, scale) = half(largest / 127.0);
        let integer = |value: &f32| (value / scale.max(f32::MIN_POSITIVE)).round() as i8;
        let integers = values.iter().map(|value| integer(value).cast_unsigned());
        bits.into_iter().chain(integers).collect::<Vec<_>>()
    };
    values.chunks(32).flat_map(block).collect()
}

/// Values in blocks of `Q4_0`: the largest magnitude is eight steps below zero.
pub(crate) fn in_fours(values: &[f32]) -> Vec<u8> {
    let block = |values: &[f32]| {
        let largest = values.iter().fold(
            0.0_f32,
            |most, one| {
                if one.abs() > most.abs() { *one } else { most }
            },
        );
        let (bits, scale) = half(largest / -8.0);
        let step = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let integer = |value: f32| (value * step + 8.5).clamp(0.0, 15.0) as u8;
        let pairs = values[..16].iter().zip(&values[16..]);
        let pairs = pairs.map(|(low, high)| integer(*low) | integer(*high) << 4);
        bits.into_iter().chain(pairs).collect::<Vec<_>>()
    };
    values.chunks(32).flat_map(block).collect()
}

/// Bytes and value of the half-precision number next to `value`.
fn half(value: f32) -> ([u8; 2], f32) {
    let half = burn::tensor::f16::from_f32(value);
    (half.to_le_bytes(), half.to_f32())
}
