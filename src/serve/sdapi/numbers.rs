//! Numbers as clients of the web interface send them: `20`, `20.0` and `"20"` alike. So with truths: `true`, `"True"` and `1`.

use serde::{Deserialize as _, Deserializer, de::Error};
use serde_json::Value;

use crate::serve::read::short;

/// The whole numbers that are floats without a loss.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number, within the bounds of `T`.
pub(super) fn whole<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    let value = Value::deserialize(deserializer)?;
    let of_float = |number: f64| {
        let whole = number.fract() == 0.0 && number.abs() <= EXACT;
        whole.then_some(number as i64)
    };
    let number = match &value {
        Value::Number(number) => number.as_i64().or_else(|| of_float(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            let plain = text.parse().ok();
            plain.or_else(|| of_float(text.parse().ok()?))
        }
        _ => None,
    };
    let number = number.and_then(|number| T::try_from(number).ok());
    number
        .map(Some)
        .ok_or_else(|| refused(&value, "a whole number within bounds"))
}

/// A number.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| number.is_finite());
    number.map(Some).ok_or_else(|| refused(&value, "a number"))
}

/// Whether something is so.
pub(super) fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let truth = match &value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => word(&number.to_string()),
        Value::String(text) => word(text),
        _ => None,
    };
    truth
        .map(Some)
        .ok_or_else(|| refused(&value, "true or false"))
}

/// A truth as languages write it.
pub(super) fn word(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    }
}

fn refused<E: Error>(value: &Value, expected: &str) -> E {
    let given = value.to_string();
    E::custom(format!("`{}` is not {expected}", short(&given)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_in_every_form_that_says_the_same() {
        for value in [json!(20), json!(20.0), json!("20"), json!(" 20.0 ")] {
            assert_eq!(whole::<_, usize>(&value).unwrap(), Some(20), "{value}");
            assert_eq!(number(&value).unwrap(), Some(20.0), "{value}");
        }
        let (least, most) = (json!(i64::MIN), json!(i64::MAX.to_string()));
        assert_eq!(whole(&least).unwrap(), Some(i64::MIN));
        assert_eq!(whole(&most).unwrap(), Some(i64::MAX));
    }

    #[test]
    fn truths_are_read_as_languages_write_them() {
        for (value, expected) in [
            (json!(true), true),
            (json!("True"), true),
            (json!(1), true),
            (json!("False"), false),
            (json!(0), false),
        ] {
            assert_eq!(truth(&value).unwrap(), Some(expected), "{value}");
        }
        for value in [json!("perhaps"), json!(2), json!([])] {
            assert!(truth(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn what_is_no_number_is_named() {
        let values = [
            json!("seven"),
            json!(""),
            json!([20]),
            json!(true),
            json!({}),
        ];
        for value in &values {
            let error = whole::<_, i64>(value).unwrap_err().to_string();
            assert!(error.contains(&value.to_string()), "{error}");
            assert!(number(value).is_err(), "{value}");
        }
        for value in [json!(20.5), json!("1e40"), json!(-1), json!("inf")] {
            assert!(whole::<_, usize>(&value).is_err(), "{value}");
        }
        assert!(number(&json!("nan")).is_err());
    }
}
