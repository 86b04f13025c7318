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
    let named = words.get(1).and_then(|word| word.to_str());
    let command = signed(Arguments::command());
    let matches = command.clone().try_get_matches_from(&words);
    let knows = |option: &str| {
        let asked = named.and_then(|name| command.find_subcommand(name));
        asked.is_some_and(|asked| {
            let mut options = asked.get_arguments();
            options.any(|known| known.get_long() == Some(option))
        })
    };
    Arguments::from_arg_matches_mut(&mut matches.map_err(|error| told(error, knows))?)
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

/// The hint about an option that another program has, and about a value that begins with a dash, which is an option's as a rule and not the
/// prompt.
fn told(mut error: Error, knows: impl Fn(&str) -> bool) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let tip = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => elsewhere::tip(option, knows),
        _ => None,
    };
    if let Some(tip) = tip {
        // What clap proposes is in the usage too.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::Usage);
        let tip = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tip);
    } else if error.get(ContextKind::Suggested).is_some() {
        let hint = "a value that begins with a dash is joined to its option, as in `--output=-a.png`; a prompt stands behind `--`";
        let hint = ContextValue::StyledStrs(vec![hint.into()]);
        error.insert(ContextKind::Suggested, hint);
    }
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
    fn options_of_other_programs_are_named() {
        for (words, said) in [
            (["--prompt", "a cat"], "a prompt stands alone"),
            (["--cfg-scale", "7"], "it is `--guidance-scale` here"),
            (["--negative", "dog"], "it is `--negative-prompt` here"),
        ] {
            let error = generate(&words).expect_err("an option that is not known");
            let shown = error.to_string();
            assert!(shown.contains(said), "{shown}");
            assert!(
                !shown.contains("similar") && !shown.contains("begins with a dash"),
                "{shown}"
            );
        }
        // An option that the command does not have is not proposed.
        let words = ["afterimage", "doctor", "--cfg-scale", "7"].map(OsString::from);
        let shown = parsed(words).expect_err("no such option").to_string();
        assert!(!shown.contains("--guidance-scale"), "{shown}");
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
