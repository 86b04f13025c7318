//! `afterimage serve`: from arguments to a server.

use std::{io, net::SocketAddr, path::Path, time::Duration};

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
    let tokens = tokens(arguments.gate.tokens.as_deref())?;
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

/// All tokens: of the environment and of a file.
fn tokens(file: Option<&Path>) -> Result<Vec<Token>, Error> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|source| FileError::Read {
            what: "the tokens".into(),
            path: path.to_owned(),
            source,
        })?,
        None => String::new(),
    };
    // A byte order mark belongs to no token.
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let own = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
    let lines: Vec<_> = own.iter().map(String::as_str).chain(lines).collect();
    let tokens = lines.iter().enumerate().map(|(number, line)| {
        Token::read(line, number + 1).ok_or_else(|| RequestError::ServeOption {
            what: "token",
            given: format!("line {} of the tokens", number + 1),
            hint: "write `SECRET` or `NAME SECRET`, one a line",
        })
    });
    let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
    if file.is_some() && tokens.is_empty() {
        let what = "file of tokens";
        let given = file
            .map(|file| file.display().to_string())
            .unwrap_or_default();
        let hint = "write `SECRET` or `NAME SECRET`, one a line";
        return Err(RequestError::ServeOption { what, given, hint }.into());
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

    #[test]
    fn tokens_are_read_as_editors_write_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens");
        std::fs::write(&file, "\u{feff}s3cret\r\n\r\nalice s3\r\n").expect("a file");
        let tokens = tokens(Some(&file)).expect("tokens");
        let read = |secret: &str| tokens.iter().any(|token| token.secret == secret);
        assert!(read("s3cret") && read("s3"), "{tokens:?}");
    }
}
