//! Files that are named together with something else.

use std::path::{Path, PathBuf};

/// `FILE[=SCALE]`
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct LoraFile {
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) scale: f64,
}

/// `[TOKEN=]FILE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct EmbeddingFile {
    pub(in crate::cli) token: Option<String>,
    pub(in crate::cli) path: PathBuf,
}

impl LoraFile {
    /// Reads `style.safetensors=0.6`; a file whose whole name has a `=` is taken as it is.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('=');
        let (path, scale) = match parts {
            Some((path, scale)) if !Path::new(text).is_file() => {
                let number = scale.parse::<f64>().ok().filter(|scale| scale.is_finite());
                (
                    path,
                    number.ok_or_else(|| format!("the scale `{scale}` is not a number"))?,
                )
            }
            _ => (text, 1.0),
        };
        let path = PathBuf::from(path);
        Ok(Self { path, scale })
    }
}

impl EmbeddingFile {
    /// Reads `<fox>=fox.pt`; a file whose whole name has a `=` is taken as it is.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("", _)) => Err("the token is empty".into()),
            Some((token, path)) if !Path::new(text).is_file() => Ok(Self {
                token: Some(token.to_owned()),
                path: path.into(),
            }),
            _ => Ok(Self {
                token: None,
                path: text.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_stand_after_the_last_sign() {
        let parse = |text: &str| LoraFile::parse(text).map(|file| (file.path, file.scale));
        assert_eq!(parse("a.safetensors"), Ok(("a.safetensors".into(), 1.0)));
        assert_eq!(
            parse("a.safetensors=0.6"),
            Ok(("a.safetensors".into(), 0.6))
        );
        assert_eq!(parse("a=b.pt=-1"), Ok(("a=b.pt".into(), -1.0)));
        for wrong in ["a=x", "a=", "a=nan", "a=inf"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tokens_stand_in_front_of_the_first_sign() {
        let parse = |text: &str| EmbeddingFile::parse(text).map(|file| (file.token, file.path));
        assert_eq!(parse("a.pt"), Ok((None, "a.pt".into())));
        assert_eq!(parse("<a>=a.pt"), Ok((Some("<a>".into()), "a.pt".into())));
        assert!(parse("=a.pt").is_err());
    }
}
