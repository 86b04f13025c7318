//! The `option=value` pairs of a rule.

use crate::error::{Error, PlanError};

/// The error for a value that does not fit.
pub(super) fn wrong(option: &str, value: &str, expected: impl Into<String>) -> Error {
    PlanError::Value {
        option: option.into(),
        value: value.into(),
        expected: expected.into(),
    }
    .into()
}

/// The options of a rule that are not read yet.
pub(super) struct Options<'a> {
    rule: &'a str,
    left: Vec<(&'a str, &'a str)>,
    /// Every option that was asked for: what the rule knows.
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    /// Reads `option=value,option=value`.
    pub(super) fn read(rule: &'a str, text: &'a str) -> Result<Self, Error> {
        let mut left: Vec<(&str, &str)> = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (option, value) = part
                .split_once('=')
                .ok_or_else(|| wrong(part, "", format!("write `{part}=VALUE`")))?;
            if left.iter().any(|(earlier, _)| *earlier == option) {
                return Err(PlanError::RepeatedOption {
                    rule: rule.into(),
                    option: option.into(),
                }
                .into());
            }
            left.push((option, value));
        }
        Ok(Self {
            rule,
            left,
            known: Vec::new(),
        })
    }

    /// The value of an option, once.
    pub(super) fn take(&mut self, option: &'static str) -> Option<&'a str> {
        self.known.push(option);
        let index = self.left.iter().position(|(name, _)| *name == option)?;
        Some(self.left.remove(index).1)
    }

    /// A whole number.
    pub(super) fn count(&mut self, option: &'static str) -> Result<Option<usize>, Error> {
        let read = |text: &str| {
            text.parse()
                .map_err(|_| wrong(option, text, "it must be a whole number"))
        };
        self.take(option).map(read).transpose()
    }

    /// A finite number.
    pub(super) fn number(&mut self, option: &'static str) -> Result<Option<f64>, Error> {
        let read = |text: &str| match text.parse() {
            Ok(number) if f64::is_finite(number) => Ok(number),
            _ => Err(wrong(option, text, "it must be a number")),
        };
        self.take(option).map(read).transpose()
    }

    /// Refuses both options together.
    pub(super) fn exclude(
        &self,
        (first, has_first): (&'static str, bool),
        (second, has_second): (&'static str, bool),
    ) -> Result<(), Error> {
        if has_first && has_second {
            return Err(PlanError::Exclusive {
                rule: self.rule.into(),
                first,
                second,
            }
            .into());
        }
        Ok(())
    }

    /// Refuses an option without the one that it depends on.
    pub(super) fn require(
        &self,
        (option, given): (&'static str, bool),
        (needed, met): (&'static str, bool),
    ) -> Result<(), Error> {
        if given && !met {
            return Err(PlanError::Idle {
                rule: self.rule.into(),
                option,
                needed,
            }
            .into());
        }
        Ok(())
    }

    /// The error for an option that must be given.
    pub(super) fn missing(&self, option: &'static str, hint: &'static str) -> Error {
        PlanError::MissingOption {
            rule: self.rule.into(),
            option,
            hint,
        }
        .into()
    }

    /// Refuses what the rule did not ask for.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Some(&(option, _)) = self.left.first() else {
            return Ok(());
        };
        let known = match self.known.as_slice() {
            [] => "no options".to_owned(),
            known => known.join(", "),
        };
        Err(PlanError::UnknownOption {
            rule: self.rule.into(),
            option: option.into(),
            known,
        }
        .into())
    }
}
