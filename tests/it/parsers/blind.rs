//! Changed at random: what can be tried where the fuzzer's compiler is not, without looking at what is reached.

/// George Marsaglia's xorshift, 64 bits (Journal of Statistical Software 8, 2003): the same inputs everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// Words of a dictionary in the fuzzer's own form: a quoted word a line, with `\xAB` for a byte and `\"` for a quote.
pub(crate) fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let inner = |line: &str| Some(line.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    dictionary
        .lines()
        .filter_map(inner)
        .map(|word| unescaped(&word))
        .collect()
}

fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after
            .get(1..3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (byte, used) = match (first, after.first(), hex) {
            (b'\\', Some(b'x'), Some(byte)) => (byte, 4),
            (b'\\', Some(&escaped), _) => (escaped, 2),
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    bytes
}

/// An input made from `seeds` by one to eight changes.
pub(crate) fn changed(random: &mut Random, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        let place = random.below(data.len() + 1);
        let end = (place + 1 + random.below(32)).min(data.len());
        match random.below(9) {
            0 if place < data.len() => data[place] ^= 1 << random.below(8),
            1 if place < data.len() => data[place] = random.byte(),
            2 => data.insert(place, random.byte()),
            3 => drop(data.drain(place..end)),
            4 => {
                let copy = data[place..end].repeat(1 + random.below(4));
                data.splice(place..place, copy);
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                data.truncate(place);
                data.extend_from_slice(&other[from..]);
            }
            6 if !words.is_empty() => {
                let word = words[random.below(words.len())].iter().copied();
                data.splice(place..place, word);
            }
            7 if !words.is_empty() => {
                let word = words[random.below(words.len())].iter().copied();
                data.splice(place..end, word);
            }
            8 => {
                let number =
                    [0, 1, 0x7f, 0xff, 0x7fff_ffff, u64::MAX][random.below(6)].to_le_bytes();
                for (byte, new) in data[place..]
                    .iter_mut()
                    .zip(&number[..1 << random.below(4)])
                {
                    *byte = *new;
                }
            }
            _ => {}
        }
    }
    data
}
