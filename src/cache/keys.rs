//! Published lists of refresh steps, by name.
//!
//! **Source**: Faster Diffusion (arXiv 2312.09608), its `U-Net` lists for Stable Diffusion and `DeepFloyd` IF, its LDM-4-G lists and its
//! `DiT-XL/2` lists. All are absolute step indices, made for one number of steps.

use std::fmt;

/// A published list of refresh steps. Steps at or beyond the end of a run are left out.
#[derive(Clone, Copy)]
pub struct KeyList(&'static Entry);

struct Entry {
    name: &'static str,
    /// The number of steps the list was tuned for.
    made_for: usize,
    members: Members,
}

enum Members {
    /// Steps and ranges, both ends included.
    Listed(&'static str),
    /// Every step that passes.
    Where(fn(usize) -> bool),
}

use Members::{Listed, Where};

const fn entry(name: &'static str, made_for: usize, members: Members) -> Entry {
    Entry {
        name,
        made_for,
        members,
    }
}

/// `DiT` B, 175 keys: the quality script since 2025-03.
const DIT_B: &str = "0-1 3-5 8-11 13 17-18 21-22 25-26 28-32 35 37-40 42-45 47-48 50 53 55 57 59 61 63 66-68 71 73 75-80 82-83 86 \
    89 91-93 95-98 100 102-115 117-120 122 124-125 127-128 131-134 136-141 144 146-149 152-153 155 157-161 164-171 174-177 182-183 185 \
    188-199 202-209 211-219 221 224-232 234 236-238 240 242-249";

/// `DiT` C, 166 keys: the later fork, run in parallel.
const DIT_C: &str = "0-6 10 12-14 16-20 22 25 27 29-37 45 49 51-54 58-60 62 64 67-68 70 72-73 75 77-78 81-88 90-92 95 97 99 101-104 \
    106-107 109-112 115-121 123 125 128 130-132 134 137-139 141-145 147 150 152 155 157-158 160-164 166 168-170 172-175 178 180-182 184 \
    187-191 193-196 198 200-210 212-214 216-219 221 223-229 231-234 237 239 241-243 245-247 249";

/// LDM-4-G, the quality list.
const LDM_48: &str = "0-5 10 15 25 35 55 75 85 95-99 110 125 135 140 145-149 155 160 170-174 185 195-199 210 222-224 235 247-249";

/// LDM-4-G, the demonstration list.
const LDM_19: &str = "0-5 10 25 55 85 110 135 155 160 185 195 235 248 249";

static LISTS: [Entry; 16] = [
    entry("50ls", 50, Listed("0-3 5 10 15 25 35")),
    entry("personalised", 50, Listed("0-3 5 10 15 25 35 40")),
    entry("50ls2", 50, Listed("0 10-12 15 20 25 30 35 45")),
    entry("50ls3", 50, Listed("0 20 25 30 35 45-49")),
    entry("50ls4", 50, Listed("0 9 13-15 28-29 32 36 45")),
    entry("pro", 75, Where(|step| is_square(9 + 8 * step))),
    entry(
        "100ls",
        100,
        Where(|step| !(10..=85).contains(&step) || step.is_multiple_of(5)),
    ),
    entry(
        "75ls",
        75,
        Where(|step| !(10..=65).contains(&step) || step.is_multiple_of(5)),
    ),
    entry("75ls2", 75, Listed("0-3 5 10 15 25 35 45 55 65")),
    entry(
        "s2",
        50,
        Where(|step| !(20..=40).contains(&step) || step.is_multiple_of(2)),
    ),
    entry("ldm-48", 250, Listed(LDM_48)),
    entry("ldm-19", 250, Listed(LDM_19)),
    entry(
        "a",
        250,
        Where(|step| !((1..230).contains(&step) && step % 10 < 6)),
    ),
    entry(
        "a-prime",
        250,
        Where(|step| !((1..230).contains(&step) && step % 10 < 5)),
    ),
    entry("b", 250, Listed(DIT_B)),
    entry("c", 250, Listed(DIT_C)),
];

/// How the lists of `DiT` are called in writing.
const ALIASES: [(&str, &str); 5] = [
    ("A", "a"),
    ("A'", "a-prime"),
    ("a'", "a-prime"),
    ("B", "b"),
    ("C", "c"),
];

fn is_square(number: usize) -> bool {
    number.isqrt().pow(2) == number
}

impl KeyList {
    /// The published list of Stable Diffusion for 50 steps, `50ls`.
    pub const STABLE_DIFFUSION: Self = Self(&LISTS[0]);

    /// The list of that name: `50ls`, `personalised`, `50ls2`, `50ls3`, `50ls4`, `pro`, `100ls`, `75ls`, `75ls2`, `s2` (Stable
    /// Diffusion and IF), `ldm-48`, `ldm-19` (LDM-4-G), `a`, `a-prime`, `b`, `c` (`DiT`; also `A`, `A'`, `B`, `C`).
    pub fn named(name: &str) -> Option<Self> {
        let name = ALIASES
            .iter()
            .find_map(|(alias, list)| (*alias == name).then_some(*list))
            .unwrap_or(name);
        LISTS.iter().find(|list| list.name == name).map(Self)
    }

    /// All lists.
    pub fn all() -> impl Iterator<Item = Self> {
        LISTS.iter().map(Self)
    }

    /// Its name in a rule.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The number of steps the list was made for. It is not rescaled to any other.
    pub fn made_for(self) -> usize {
        self.0.made_for
    }

    /// The refresh steps of a run of `steps`.
    pub fn steps(self, steps: usize) -> Vec<usize> {
        match self.0.members {
            Listed(text) => expand(text).filter(|&step| step < steps).collect(),
            Where(passes) => (0..steps).filter(|&step| passes(step)).collect(),
        }
    }
}

/// `0-3 5` gives 0, 1, 2, 3, 5.
fn expand(text: &'static str) -> impl Iterator<Item = usize> {
    text.split_whitespace().flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        number(first)..=number(last)
    })
}

fn number(text: &str) -> usize {
    text.parse().expect("the lists above hold numbers only")
}

impl PartialEq for KeyList {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for KeyList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyList({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str) -> usize {
        let list = KeyList::named(name).unwrap();
        list.steps(list.made_for()).len()
    }

    #[test]
    fn lists_have_the_published_sizes() {
        let sizes = [
            ("50ls", 9),
            ("personalised", 10),
            ("50ls2", 10),
            ("50ls3", 10),
            ("50ls4", 10),
            ("pro", 11),
            ("100ls", 40),
            ("75ls2", 12),
            ("s2", 40),
            ("ldm-48", 48),
            ("ldm-19", 19),
            ("a", 113),
            ("a-prime", 136),
            ("b", 175),
            ("c", 166),
        ];
        for (name, size) in sizes {
            assert_eq!(count(name), size, "{name}");
        }
    }

    #[test]
    fn the_list_of_stable_diffusion_is_the_one_by_that_name() {
        assert_eq!(Some(KeyList::STABLE_DIFFUSION), KeyList::named("50ls"));
    }

    #[test]
    fn every_list_starts_at_zero_and_ascends() {
        for list in KeyList::all() {
            let steps = list.steps(list.made_for());
            assert_eq!(steps[0], 0, "{list:?}");
            assert!(steps.is_sorted_by(|a, b| a < b), "{list:?}");
            assert!(*steps.last().unwrap() < list.made_for(), "{list:?}");
        }
    }

    #[test]
    fn longest_groups_of_the_dit_lists() {
        for (name, longest) in [("a", 7), ("b", 5), ("c", 8)] {
            let mut steps = KeyList::named(name).unwrap().steps(250);
            steps.push(250);
            let found = steps.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert_eq!(found, Some(longest), "{name}");
        }
    }
}
