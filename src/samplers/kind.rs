//! Samplers by the words of the command line.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::elsewhere;
use super::parts::{
    class::{Class, Word},
    json::{Key, SchedulerJson},
};
use super::rules::CLASSES;
use crate::Error;
use crate::error::RequestError;

/// A sampler as the command line names it: a word such as `euler`, and for samplers over sigmas also how these are laid out
/// (`euler-karras`, `euler-exponential`, `euler-beta`).
///
/// ```
/// use afterimage::samplers::SamplerKind;
///
/// let kind: SamplerKind = "dpmsolver++-karras".parse()?;
/// assert_eq!(kind.to_string(), "dpmsolver++-karras");
/// assert!("dpm".parse::<SamplerKind>().is_err());
/// # Ok::<(), afterimage::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct SamplerKind(&'static Entry);

/// A word with an ending or none.
struct Entry {
    name: String,
    class: &'static Class,
    word: &'static Word,
    layout: Option<Layout>,
}

/// How a word's ending lays sigmas out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Karras,
    Exponential,
    Beta,
}

impl Layout {
    const ALL: [Self; 3] = [Self::Karras, Self::Exponential, Self::Beta];

    fn ending(self) -> &'static str {
        match self {
            Self::Karras => "-karras",
            Self::Exponential => "-exponential",
            Self::Beta => "-beta",
        }
    }

    fn set(self, json: &mut SchedulerJson) {
        json.use_karras_sigmas = Some(self == Self::Karras);
        json.use_exponential_sigmas = Some(self == Self::Exponential);
        json.use_beta_sigmas = Some(self == Self::Beta);
    }

    /// What a configuration asks for.
    fn of(json: &SchedulerJson) -> Option<Self> {
        let asked = [
            (json.use_karras_sigmas, Self::Karras),
            (json.use_exponential_sigmas, Self::Exponential),
            (json.use_beta_sigmas, Self::Beta),
        ];
        let asked = asked.iter().find(|(flag, _)| *flag == Some(true));
        asked.map(|(_, layout)| *layout)
    }
}

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let words = CLASSES.iter().copied().flat_map(|class| {
        let layouts = class.knows(Key::Sigmas).then_some(Layout::ALL);
        let layouts = layouts.into_iter().flatten().map(Some);
        let layouts: Vec<Option<Layout>> = std::iter::once(None).chain(layouts).collect();
        let words = class.words.iter();
        words.flat_map(move |word| {
            let entry = move |layout: Option<Layout>| Entry {
                name: format!("{}{}", word.name, layout.map_or("", Layout::ending)),
                class,
                word,
                layout,
            };
            layouts.clone().into_iter().map(entry)
        })
    });
    words.collect()
});

impl SamplerKind {
    /// Every sampler on its usual sigmas, in the order they are listed to users.
    pub fn all() -> impl Iterator<Item = Self> {
        let usual = ENTRIES.iter().filter(|entry| entry.layout.is_none());
        usual.map(Self)
    }

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    /// The words that `--sampler` takes, for help and messages.
    pub fn words() -> String {
        let words: Vec<&str> = Self::all().map(Self::name).collect();
        let over_sigmas = ENTRIES.iter().filter(|entry| entry.layout.is_some());
        let mut ending: Vec<&str> = over_sigmas.map(|entry| entry.word.name).collect();
        ending.dedup();
        let endings = Layout::ALL.map(Layout::ending).join(", ");
        format!(
            "{}; {} also end in {endings}",
            words.join(", "),
            ending.join(", ")
        )
    }

    /// What a configuration of `class` is called.
    pub(super) fn of(class: &'static Class, json: &SchedulerJson) -> Self {
        let word = class.words.iter().find(|word| (word.is)(json));
        let word = word.unwrap_or(&class.words[0]).name;
        let layout = Layout::of(json).filter(|_| class.knows(Key::Sigmas));
        let found = ENTRIES
            .iter()
            .find(|entry| entry.word.name == word && entry.layout == layout);
        Self(found.expect("every word of every class has its entries"))
    }

    pub(super) fn class(self) -> &'static Class {
        self.0.class
    }

    /// Sets the keys that the word stands for.
    pub(super) fn set(self, json: &mut SchedulerJson) {
        (self.0.word.set)(json);
        if let Some(layout) = self.0.layout {
            layout.set(json);
        }
    }
}

impl PartialEq for SamplerKind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for SamplerKind {}

impl fmt::Debug for SamplerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SamplerKind({})", self.name())
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for SamplerKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = ENTRIES.iter().find(|entry| entry.name == name);
        let is_ours = |word: &str| ENTRIES.iter().any(|entry| entry.name == word);
        let unknown = || RequestError::UnknownSampler {
            name: name.to_owned(),
            hint: elsewhere::hint(name, is_ours)
                .unwrap_or_else(|| format!("choose one of {}", Self::words())),
        };
        Ok(Self(found.ok_or_else(unknown)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_samplers_share_a_name() {
        let mut names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    #[test]
    fn keys_know_the_word_they_were_set_by() {
        for entry in ENTRIES.iter() {
            let mut json = SchedulerJson::default();
            SamplerKind(entry).set(&mut json);
            assert_eq!(SamplerKind::of(entry.class, &json).name(), entry.name);
        }
    }
}
