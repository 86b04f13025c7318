//! Evaluations: folders that do not belong together, holes, damaged files.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluationError {
    #[error(
        "an evaluation goes over texts, classes or noise, and this model makes films of a picture\nhint: time cache rules with `afterimage bench`"
    )]
    FilmsOfPictures,
    #[error(
        "`{given}` is not a shard\nhint: write its number and how many there are, as in 1/4 to 4/4"
    )]
    Shard { given: String },
    #[error("this folder holds another evaluation: `{field}` is {found} there and {wanted} here\nhint: name another folder, or give the arguments it was begun with (its `manifest.json` has them)\nfile: {}", path.display())]
    OtherStudy {
        field: String,
        found: String,
        wanted: String,
        path: PathBuf,
    },
    #[error("shards of different evaluations: `{field}` is {first} in {} and {second} in {}\nhint: join what one version made with the same arguments", first_path.display(), second_path.display())]
    Mixed {
        field: String,
        first: String,
        first_path: PathBuf,
        second: String,
        second_path: PathBuf,
    },
    #[error("batch {batch} is there twice, in {} and in {}\nhint: name every folder once, and give every shard another `--shard`", first.display(), second.display())]
    Twice {
        batch: usize,
        first: PathBuf,
        second: PathBuf,
    },
    #[error("{} of {total} batches are missing: {}\nhint: run their shards again with the same arguments; what is there is kept", missing.len(), listed(missing))]
    Holes { missing: Vec<usize>, total: usize },
    #[error("there is no evaluation in this folder\nhint: name folders that `afterimage eval --output` wrote\nfile: {}", path.display())]
    NoStudy { path: PathBuf },
    #[error("the manifest of the evaluation cannot be read: {reason}\nhint: name another folder, or delete this one; without its manifest nobody knows what its pictures are\nfile: {}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error("a batch cannot be read: {reason}\nhint: delete the file and run its shard again; its pictures alone are made anew\nfile: {}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the data cannot be used: {reason}\nhint: a folder of PNG or JPEG pictures is needed, or a .npz file whose `arr_0` is u8 [pictures, height, width, 1 or 3]\nfile: {}", path.display())]
    Data { path: PathBuf, reason: String },
    #[error("the prompts cannot be used: {reason}\nhint: a .txt file has a prompt a line, a .jsonl file an object with `prompt` a line\nfile: {}", path.display())]
    Prompts { path: PathBuf, reason: String },
    #[error(
        "pictures of {width}x{height} are too small for LPIPS\nhint: it needs {least} pixels a side; leave `--lpips` out"
    )]
    TooSmall {
        width: usize,
        height: usize,
        least: usize,
    },
    #[error(
        "`{classifier}` cannot judge pictures of {width}x{height}\nhint: it was trained on {side}x{side}; leave `--classifier` out"
    )]
    OtherSize {
        width: usize,
        height: usize,
        classifier: String,
        side: usize,
    },
    #[error(
        "{steps} steps are no more than the {fewest} of the runs that are measured to them\nhint: give `--converged` several times as many, as in `--converged {}`", (8 * fewest).max(250)
    )]
    NotConverged { steps: usize, fewest: usize },
    #[error(
        "`{sampler}` draws noise at its steps: another number of them makes another picture, however many there are\nhint: leave `--converged` out, or take a sampler that draws none, as in `--sampler ddim`"
    )]
    NeverConverges { sampler: String },
    #[error(
        "the {network} makes values of these pictures that are not finite\nhint: its weights are damaged or overflow: name others, or leave it out"
    )]
    NotFinite { network: &'static str },
    #[error(
        "{count} seeds from {first} on go beyond the largest, {}\nhint: begin at {} or before", u64::MAX, u64::MAX - (*count as u64 - 1)
    )]
    Seeds { first: u64, count: usize },
    #[error("the plot cannot be drawn: {reason}")]
    Plot { reason: String },
}

/// Refuses `count` seeds from `first` on that go beyond the largest there is.
#[cfg(feature = "eval")]
pub(crate) fn check_seeds(first: u64, count: usize) -> Result<(), EvaluationError> {
    let last = (count as u64).checked_sub(1);
    let beyond = last.is_some_and(|last| first.checked_add(last).is_none());
    if beyond {
        return Err(EvaluationError::Seeds { first, count });
    }
    Ok(())
}

/// Numbers that a message lists before it counts the rest.
const LISTED: usize = 10;

fn listed(numbers: &[usize]) -> String {
    let first = numbers.iter().take(LISTED).map(ToString::to_string);
    let text = first.collect::<Vec<_>>().join(", ");
    match numbers.len().saturating_sub(LISTED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "eval")]
    #[test]
    fn seeds_end_with_the_largest() {
        assert!(check_seeds(u64::MAX, 1).is_ok() && check_seeds(u64::MAX, 0).is_ok());
        assert!(check_seeds(u64::MAX - 3, 4).is_ok());
        let refused = check_seeds(u64::MAX - 2, 4).unwrap_err().to_string();
        assert_eq!(
            refused,
            "4 seeds from 18446744073709551613 on go beyond the largest, 18446744073709551615\n\
             hint: begin at 18446744073709551612 or before"
        );
    }

    #[test]
    fn many_holes_are_counted() {
        let error = EvaluationError::Holes {
            missing: (0..12).collect(),
            total: 16,
        };
        let text = error.to_string();
        assert!(
            text.starts_with("12 of 16 batches are missing: 0, 1,"),
            "{text}"
        );
        assert!(text.contains("9 and 2 more\nhint: "), "{text}");
    }
}
