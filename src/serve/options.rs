//! What a server is started with.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    device::{DeviceChoice, DtypeChoice},
    weights::{ActivationFormat, WeightFormat},
};

/// What a server is started with.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) address: SocketAddr,
    /// Names that requests may call this machine by, beside its loopback names.
    pub(crate) hosts: Vec<String>,
    /// Sites whose pages may ask.
    pub(crate) origins: Vec<String>,
    /// Who may ask; nobody is asked for a token where there is none.
    pub(crate) tokens: Vec<Token>,
    /// A worker each.
    pub(crate) devices: Vec<DeviceChoice>,
    pub(crate) dtype: Option<DtypeChoice>,
    pub(crate) weights: Option<WeightFormat>,
    pub(crate) activations: Option<ActivationFormat>,
    /// Models by name, the first of which is taken where a request names none: folders, checkpoint files, Hub ids.
    pub(crate) models: Vec<String>,
    /// Folders in which every folder and file of a model is one.
    pub(crate) model_folders: Vec<PathBuf>,
    pub(crate) lora_folders: Vec<PathBuf>,
    pub(crate) embedding_folders: Vec<PathBuf>,
    pub(crate) control_folders: Vec<PathBuf>,
    pub(crate) vae_folders: Vec<PathBuf>,
    /// Bytes that weights of models may take together, on each device; as much as half of its memory where it is silent.
    pub(crate) memory: Option<u64>,
    /// Where results are kept beyond the life of the server.
    pub(crate) results: Option<PathBuf>,
    /// Waiting jobs that are made in one run, at most.
    pub(crate) together: usize,
    /// How long running jobs are waited for when the server is told to stop.
    pub(crate) drain: Duration,
    pub(crate) limits: Limits,
}

/// A secret, and what its bearer is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) secret: String,
}

/// What is refused. The names are those of the options.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Limits {
    pub(crate) max_body: usize,
    pub(crate) max_pixels: usize,
    pub(crate) max_steps: usize,
    pub(crate) max_batch: usize,
    pub(crate) max_frames: usize,
    pub(crate) max_queue: usize,
    pub(crate) max_queue_client: usize,
    pub(crate) max_seconds: u64,
    pub(crate) max_seconds_client: u64,
    #[serde(skip)]
    pub(crate) max_connections: usize,
    /// Minutes; for ever where it is silent.
    pub(crate) keep: Option<u64>,
    pub(crate) keep_bytes: u64,
}

impl Token {
    /// Reads `SECRET` or `NAME SECRET`; one without a name is called by its `number`.
    pub(crate) fn read(line: &str, number: usize) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [secret] => Some(Self::unnamed(secret, number)),
            [name, secret] => Some(Self {
                name: name.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => None,
        }
    }

    /// A token without a name is called by a number: its own of a file's, or 0.
    pub(crate) fn unnamed(secret: &str, number: usize) -> Self {
        Self {
            name: format!("token-{number}"),
            secret: secret.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_name_or_a_number() {
        let token = |name: &str, secret: &str| Token {
            name: name.into(),
            secret: secret.into(),
        };
        assert_eq!(Token::read("s3cret", 2), Some(token("token-2", "s3cret")));
        assert_eq!(Token::read(" alice  s3 ", 1), Some(token("alice", "s3")));
        assert_eq!(Token::read("a b c", 1), None);
        assert_eq!(Token::read("  ", 1), None);
    }
}
