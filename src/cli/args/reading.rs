//! From the words of the command line to arguments.

use std::ffi::OsString;

use clap::{
    Arg, Command, CommandFactory as _, Error, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{Arguments, elsewhere};

/// The arguments of this process.
///
/// # Errors
///
/// What is wrong with them, or help and version where these are asked for.
pub(in crate::cli) fn read() -> Result<Arguments, Error> {
    parsed(std::env::args_os())
}

/// The arguments that `words` are, the program's name first.
///
/// # Errors
///
/// As [`read`].
pub(in crate::cli) fn parsed(
    words: impl IntoIterator<Item = OsString>,
) -> Result<Arguments, Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let matches = signed(Arguments::command()).try_get_matches_from(&words);
    let told = |error| hinted(error, &words);
    Arguments::from_arg_matches_mut(&mut matches.map_err(told)?)
}

/// Lets every option be given a negative number: whoever reads it says what is wrong with it, where it would be taken for an option that
/// is not known.
fn signed(command: Command) -> Command {
    let option = |arg: Arg| {
        let takes_one = !arg.is_positional() && arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_one)
    };
    command.mut_args(option).mut_subcommands(signed)
}

/// What helps with an argument that is not known: what other programs call so; words of a prompt without quotes; a value that begins with a dash,
/// which is an option's as a rule and not the prompt.
fn hinted(mut error: Error, words: &[OsString]) -> Error {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(unknown)) if error.kind() == ErrorKind::UnknownArgument => {
            unknown.clone()
        }
        _ => return error,
    };
    // Of a value as `-blue`, the first letter is told.
    let is_whole = unknown.starts_with("--") || words.contains(&OsString::from(&unknown));
    let command = Arguments::command();
    let given = words.get(1).and_then(|word| word.to_str());
    let command = given.and_then(|name| command.find_subcommand(name));
    let theirs = command.filter(|_| is_whole);
    let hint = if let Some(ours) = theirs.and_then(|command| elsewhere::hint(&unknown, command)) {
        // Names that look alike by chance.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::Usage);
        ours
    } else if given == Some("generate") && !unknown.starts_with('-') {
        "a prompt of several words stands in quotes, as in \"a red circle\"".to_owned()
    } else if error.get(ContextKind::Suggested).is_some() {
        "a value that begins with a dash is joined to its option, as in `--output=-a.png`; a prompt stands behind `--`".to_owned()
    } else {
        return error;
    };
    let hint = ContextValue::StyledStrs(vec![hint.into()]);
    error.insert(ContextKind::Suggested, hint);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(words: &[&str]) -> Result<Arguments, Error> {
        let words = [&["afterimage", "generate"], words].concat();
        parsed(words.into_iter().map(OsString::from))
    }

    #[test]
    fn the_declaration_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn negative_numbers_are_values_of_every_option() {
        for words in [
            ["--guidance-scale", "-3"],
            ["--strength", "-0"],
            ["--eta", "-0.5"],
            ["--seed", "-1"],
        ] {
            assert!(generate(&words).is_ok(), "{words:?}");
        }
        for words in [["--steps", "-1"], ["--batch", "-2"], ["--clip-skip", "-1"]] {
            let error = generate(&words).expect_err("no negative number");
            let said = error.to_string();
            assert!(
                said.contains(&format!("'{}' for '{}", words[1], words[0])),
                "{said}"
            );
        }
    }

    #[test]
    fn what_other_programs_call_an_option_is_told() {
        let said = |words: &[&str]| generate(words).expect_err("not known").to_string();
        for (words, hint) in [
            (["--width", "512"], "`--size` here, as in 512x512"),
            (["--cfg-scale", "7"], "`--guidance-scale`"),
            (["--num_inference_steps", "20"], "`--steps`"),
            (["-n", "blue"], "`--negative-prompt`"),
            (["a", "red"], "stands in quotes"),
        ] {
            let said = said(&words);
            assert!(said.contains(hint) && !said.contains("--weights"), "{said}");
        }
        assert!(said(&["--outpt", "a.png"]).contains("'--output'"));
        let words = ["afterimage", "devices", "--width", "512"].map(OsString::from);
        let said = parsed(words).expect_err("no option").to_string();
        assert!(!said.contains("--size"), "{said}");
    }

    #[test]
    fn values_that_begin_with_a_dash_are_joined() {
        for words in [["--output", "-a.png"], ["--negative-prompt", "-blue"]] {
            let error = generate(&words).expect_err("an option that is not known");
            let said = error.to_string();
            assert!(
                said.contains("--output=-a.png") && !said.contains("'-- -"),
                "{said}"
            );
        }
        assert!(generate(&["--output=-a.png", "--", "-a fox"]).is_ok());
    }
}
