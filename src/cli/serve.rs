//! `afterimage serve`: from arguments to a server.

use std::{ffi::OsString, io, net::SocketAddr, path::Path, time::Duration};

use super::{
    args::{self, LogForm},
    console,
};
use crate::{
    error::{Error, FileError, RequestError},
    serve::{self, Limits, Options, Token},
};

/// The variable that a token is taken from.
const TOKEN: &str = "AFTERIMAGE_TOKEN";

/// Minutes for which results are kept in a temporary folder, where nothing is said.
const KEPT: u64 = 60;

/// What is logged where `RUST_LOG` does not ask: what the server does, and warnings of all else.
const USUAL: &str = "warn,afterimage=info,burn=error,cubecl=error,cubek=error,naga=error,wgpu=error,\
    cubecl_runtime::tune=off,cubecl_wgpu=off";

/// Serves until the process is told to end.
pub(super) fn run(arguments: args::Serve) -> Result<(), Error> {
    let tokens = tokens(arguments.gate.tokens.as_deref(), std::env::var_os(TOKEN))?;
    let limits = limits(&arguments);
    let args::Serve {
        host,
        port,
        device,
        dtype,
        weights,
        activations,
        memory,
        results,
        together,
        drain,
        names,
        gate,
        ..
    } = arguments;
    let options = Options {
        address: SocketAddr::new(host, port),
        hosts: gate.allow_host,
        origins: gate.cors,
        tokens,
        devices: device,
        dtype,
        weights,
        activations,
        models: models(names.model, names.models.is_empty()),
        model_folders: names.models,
        lora_folders: names.loras,
        embedding_folders: names.embeddings,
        control_folders: names.controls,
        vae_folders: names.vaes,
        memory,
        results,
        together: together.get(),
        drain: Duration::from_secs(drain),
        limits,
    };
    serve::run(options, |address| {
        // Nobody may read it.
        let _ = console::data(&format!("http://{address}"));
    })
}

/// The bundled model is there where nothing else is.
fn models(named: Vec<String>, alone: bool) -> Vec<String> {
    if named.is_empty() && (alone || cfg!(feature = "bundled")) {
        return vec!["bundled".to_owned()];
    }
    named
}

fn limits(arguments: &args::Serve) -> Limits {
    let args::Serve {
        limits, results, ..
    } = arguments;
    let silent = if results.is_some() { None } else { Some(KEPT) };
    Limits {
        max_body: usize::try_from(limits.max_body).unwrap_or(usize::MAX),
        max_pixels: limits.max_pixels,
        max_steps: limits.max_steps,
        max_batch: limits.max_batch,
        max_frames: limits.max_frames,
        max_queue: limits.max_queue,
        max_queue_client: limits.max_queue_client,
        max_seconds: limits.max_seconds,
        max_seconds_client: limits.max_seconds_client,
        max_connections: limits.max_connections,
        keep: limits.keep.or(silent),
        keep_bytes: limits.keep_bytes,
    }
}

/// What a file of tokens has.
const LINES: &str = "write `SECRET` or `NAME SECRET`, one a line";

/// All tokens: of a file, and the one of the environment.
fn tokens(file: Option<&Path>, own: Option<OsString>) -> Result<Vec<Token>, Error> {
    let listed = file.map_or(Ok(Vec::new()), listed)?;
    let own = own.filter(|token| !token.is_empty()).map(own_token);
    Ok(own.transpose()?.into_iter().chain(listed).collect())
}

/// The variable is one token whole, whatever is in it.
fn own_token(token: OsString) -> Result<Token, RequestError> {
    let refused = |hint| RequestError::ServeOption {
        what: "token",
        given: TOKEN.to_owned(),
        hint,
    };
    let token = token.into_string();
    let token =
        token.map_err(|_| refused("its value is no UTF-8: set it to a secret of plain letters"))?;
    match token.trim() {
        "" => Err(refused(
            "its value has nothing but spaces: set it to a secret, or unset it",
        )),
        secret => Ok(Token::unnamed(secret, 0)),
    }
}

/// The tokens of a file, which has one at least.
fn listed(path: &Path) -> Result<Vec<Token>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
        what: "the tokens".into(),
        path: path.to_owned(),
        source,
    })?;
    let refused = |what, given| RequestError::ServeOption {
        what,
        given,
        hint: LINES,
    };
    // A byte order mark belongs to no token.
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let lines = lines.zip(1..);
    let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let tokens = lines.zip(1..).map(|((line, place), number)| {
        Token::read(line, number)
            .ok_or_else(|| refused("token", format!("line {place} of {}", path.display())))
    });
    let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
    if tokens.is_empty() {
        return Err(refused("file of tokens", path.display().to_string()).into());
    }
    Ok(tokens)
}

impl args::Serve {
    /// The server's log on the standard error.
    pub(super) fn start_logging(&self) {
        use tracing_subscriber::{EnvFilter, fmt};

        let filter = if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() {
            EnvFilter::from_default_env()
        } else {
            EnvFilter::new(USUAL)
        };
        let log = fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            // A terminal that is closed takes no line, nor one about that.
            .log_internal_errors(false)
            .with_target(false);
        // A program that embeds the command line may have a log of its own.
        let _ = match self.log {
            LogForm::Text => log.with_ansi(false).try_init(),
            LogForm::Json => log.json().flatten_event(true).try_init(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets of a file with this text and of a variable, by their names.
    fn read(text: &str, own: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens");
        std::fs::write(&file, text).expect("a file");
        let file = Some(file.as_path()).filter(|_| !text.is_empty());
        let tokens = tokens(file, own.map(OsString::from)).map_err(|error| error.to_string())?;
        let tokens = tokens.into_iter();
        Ok(tokens.map(|token| (token.name, token.secret)).collect())
    }

    fn named(name: &str, secret: &str) -> (String, String) {
        (name.to_owned(), secret.to_owned())
    }

    #[test]
    fn tokens_are_read_as_editors_write_them() {
        let tokens = read("\u{feff}s3cret\r\n\r\nalice s3\r\n", None);
        assert_eq!(
            tokens,
            Ok(vec![named("token-1", "s3cret"), named("alice", "s3")])
        );
    }

    #[test]
    fn the_variable_is_one_token_whole() {
        let tokens = read("one\n", Some("my pass phrase\n"));
        let whole = vec![named("token-0", "my pass phrase"), named("token-1", "one")];
        assert_eq!(tokens, Ok(whole));
        assert_eq!(read("", Some("")), Ok(Vec::new()), "as good as unset");
        let refused = read("", Some(" \t")).expect_err("no token");
        assert!(
            refused.starts_with("`AFTERIMAGE_TOKEN` is no token\nhint: "),
            "{refused}"
        );
    }

    #[test]
    fn lines_are_counted_as_editors_do() {
        let refused = read("# ours\n\nalice s3\na b c\n", Some("own")).expect_err("no token");
        assert!(refused.starts_with("`line 4 of "), "{refused}");
    }
}
