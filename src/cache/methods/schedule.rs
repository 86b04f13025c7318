//! Schedules as methods write them: `interval=3`, `keys=50ls`, `schedule=quadratic`.

use crate::{
    cache::{
        keys::KeyList,
        options::{Options, wrong},
        refresh::Refresh,
    },
    error::Error,
};

/// How a family of methods calls its schedule.
pub(super) struct Words {
    /// The option that takes an interval.
    pub(super) every: &'static str,
    /// The option that takes a list.
    pub(super) list: &'static str,
}

/// The words of the methods that propagate.
pub(super) const PROPAGATION: Words = Words {
    every: "every",
    list: "keys",
};

/// `interval=3`, `at=0+4`, `keys=50ls`, and the forms that `schedule` names; `None` if no schedule is given.
pub(super) fn schedule(options: &mut Options, words: &Words) -> Result<Option<Refresh>, Error> {
    let interval = options.count(words.every)?;
    let list = options.take(words.list);
    let form = options.take("schedule");
    let center = options.count("center")?;
    let power = options.number("power")?;
    let (spaced, listed) = (interval.is_some(), list.is_some());
    options.exclude((words.every, spaced), (words.list, listed))?;
    options.require(("schedule", form.is_some()), (words.every, spaced))?;
    let quadratic = form == Some("quadratic");
    options.require(
        ("center", center.is_some()),
        ("schedule=quadratic", quadratic),
    )?;
    options.require(("power", power.is_some()), ("schedule", form.is_some()))?;
    match (interval, list) {
        (Some(interval), _) => spacing(options, form, interval, center, power).map(Some),
        (None, Some(text)) => listed_steps(words, text).map(Some),
        (None, None) => Ok(None),
    }
}

fn spacing(
    options: &Options,
    form: Option<&str>,
    interval: usize,
    center: Option<usize>,
    power: Option<f64>,
) -> Result<Refresh, Error> {
    let power =
        || power.ok_or_else(|| options.missing("power", "1.4 works well (quadratic), 1.5 (power)"));
    match form {
        None => Ok(Refresh::every(interval)),
        Some("quadratic") => Ok(Refresh::Quadratic {
            interval,
            center: center.ok_or_else(|| {
                options.missing("center", "about a third of the steps works well")
            })?,
            power: power()?,
        }),
        Some("power") => Ok(Refresh::Power {
            interval,
            power: power()?,
        }),
        Some(other) => Err(wrong("schedule", other, "one of quadratic, power")),
    }
}

/// `0+1+5`, or the name of a published list.
fn listed_steps(words: &Words, text: &str) -> Result<Refresh, Error> {
    if let Some(list) = KeyList::named(text) {
        return Ok(list.into());
    }
    let steps: Result<Vec<usize>, _> = text.split('+').map(str::parse).collect();
    steps.map(Refresh::At).map_err(|_| {
        let names: Vec<&str> = KeyList::all().map(KeyList::name).collect();
        let expected = format!("numbers joined by `+`, or one of {}", names.join(", "));
        wrong(words.list, text, expected)
    })
}

/// What [`schedule`] reads.
pub(super) fn text(refresh: &Refresh, Words { every, list }: &Words) -> String {
    match refresh {
        Refresh::EveryStep => format!("{every}=1"),
        Refresh::Uniform { interval } => format!("{every}={interval}"),
        Refresh::Keys(keys) => format!("{list}={}", keys.name()),
        Refresh::At(steps) => {
            let steps: Vec<String> = steps.iter().map(usize::to_string).collect();
            format!("{list}={}", steps.join("+"))
        }
        Refresh::Quadratic {
            interval,
            center,
            power,
        } => format!("{every}={interval},schedule=quadratic,center={center},power={power}"),
        Refresh::Power { interval, power } => {
            format!("{every}={interval},schedule=power,power={power}")
        }
    }
}
