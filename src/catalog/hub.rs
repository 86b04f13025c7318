//! Models from the Hugging Face Hub.
//!
//! Fetches what a pipeline reads and nothing else (no `safety_checker`), into the cache that Python's `huggingface_hub` uses as well.
//! The environment decides as there: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`. A download that was
//! cut goes on where it stopped.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, CacheRepo, Repo, RepoType,
    api::{
        Progress,
        sync::{Api, ApiBuilder, ApiError, ApiRepo},
    },
};

use super::{
    FetchProgress, ModelFolder, Needs, UNREAD, files,
    hub_faults::{failed, is_passing, is_past_the_end, no_cache, not_on_hub, offline},
    index,
    index::ModelIndex,
    unknown::unknown,
    variants,
};
use crate::{
    error::{Error, FileError},
    reading::{LONGEST_TEXT, read_text_bounded},
    weights::shard_files,
};

/// How often a download that broke off is taken up again.
const RETRIES: usize = 4;

/// Files of a tokenizer folder.
const TOKENIZER: [&str; 7] = [
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
];

/// What a model says of its use to this program, where it does.
const DEFAULTS: &str = "afterimage.json";

/// What the guess at a model that is not in the cache calls the files of its parts.
const REST: &str = "the files of its parts";

/// The Hub, or a mirror of it, and the local cache.
#[derive(Debug, Clone)]
pub struct Hub {
    api: Api,
    cache: Cache,
    offline: bool,
}

impl Hub {
    /// The Hub as the environment describes it.
    ///
    /// # Errors
    ///
    /// When there is no place for a cache.
    pub fn from_env() -> Result<Self, Error> {
        let cache = env::var_os("HF_HUB_CACHE").map(PathBuf::from);
        let home = env::var_os("HF_HOME").map(|home| PathBuf::from(home).join("hub"));
        let user = || env::home_dir().map(|home| home.join(".cache/huggingface/hub"));
        let cache = cache.or(home).or_else(user).ok_or_else(no_cache)?;
        let endpoint = env::var("HF_ENDPOINT").ok();
        let token = env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
        let offline = env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_yes(&value));
        Ok(Self::build(cache, endpoint, token)?.with_offline(offline))
    }

    /// A Hub at `endpoint` (`https://…`), cached in `cache`, without a token.
    ///
    /// # Errors
    ///
    /// When the client cannot be set up.
    pub fn new(cache: impl Into<PathBuf>, endpoint: &str) -> Result<Self, Error> {
        Self::build(cache.into(), Some(endpoint.to_owned()), None)
    }

    fn build(
        cache: PathBuf,
        endpoint: Option<String>,
        token: Option<String>,
    ) -> Result<Self, Error> {
        let cache = Cache::new(cache);
        let token = token.or_else(|| cache.token());
        let mut builder = ApiBuilder::from_cache(cache.clone())
            .with_progress(false)
            .with_token(token);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let api = builder
            .build()
            .map_err(|error| failed("the Hub", &error, &[]))?;
        let offline = false;
        Ok(Self {
            api,
            cache,
            offline,
        })
    }

    /// Never uses the network when `offline`.
    #[must_use]
    pub fn with_offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// Opens a model of the Hub, fetching what the cache lacks.
    ///
    /// # Errors
    ///
    /// When the model or a file of it is not there, or the network is not and the cache is incomplete: the error says what was
    /// wanted.
    pub fn open(
        &self,
        id: &str,
        needs: Needs,
        progress: &mut dyn FetchProgress,
    ) -> Result<ModelFolder, Error> {
        if !is_id(id) {
            return Err(unknown(id));
        }
        let repo = Repo::new(id.to_owned(), RepoType::Model);
        // Twice, since the model may change on the Hub between one file and the next: the second pass completes the new one.
        for _ in 0..2 {
            let missing = match self.snapshot(&repo) {
                Some(folder) => lacking(&folder, needs)?,
                None => vec![index::FILE.to_owned(), REST.to_owned()],
            };
            if missing.is_empty() {
                break;
            }
            if self.offline {
                return Err(offline(id, missing));
            }
            self.fetch(id, &repo, needs, &missing, progress)?;
        }
        match self.snapshot(&repo) {
            Some(folder) => ModelFolder::from_files(id, files::Files::Disk(folder)),
            None => Err(not_on_hub(id, index::FILE)),
        }
    }

    /// The cached folder of a model, complete or not.
    fn snapshot(&self, repo: &Repo) -> Option<PathBuf> {
        let file = self.cache.repo(repo.clone()).get(index::FILE)?;
        file.parent().map(Path::to_owned)
    }

    fn fetch(
        &self,
        id: &str,
        repo: &Repo,
        needs: Needs,
        missing: &[String],
        progress: &mut dyn FetchProgress,
    ) -> Result<(), Error> {
        let remote = self.api.repo(repo.clone());
        let info = remote.info().map_err(|error| failed(id, &error, missing))?;
        let present = info.siblings.into_iter().map(|file| file.rfilename);
        let mut download = Download {
            id,
            cached: self.cache.repo(repo.clone()),
            blobs: self.cache.path().join(repo.folder_name()).join("blobs"),
            remote,
            present: present.collect(),
            progress,
        };
        let index = download.file(index::FILE)?;
        for file in download.wanted(&read_index(&index)?, needs) {
            let path = download.file(&file)?;
            if is_shard_index(&file) {
                download.shards(&file, &path)?;
            }
        }
        Ok(())
    }
}

/// One model's download.
struct Download<'a> {
    id: &'a str,
    cached: CacheRepo,
    /// The folder of the cache where files are until they are whole.
    blobs: PathBuf,
    remote: ApiRepo,
    present: BTreeSet<String>,
    progress: &'a mut dyn FetchProgress,
}

impl Download<'_> {
    /// Fetches a file unless the cache has it.
    fn file(&mut self, file: &str) -> Result<PathBuf, Error> {
        if let Some(path) = self.cached.get(file) {
            return Ok(path);
        }
        if !self.present.contains(file) {
            return Err(not_on_hub(self.id, file));
        }
        let (mut attempt, mut is_anew) = (0, false);
        loop {
            match self.attempt(file) {
                Err(error) if !is_anew && is_past_the_end(&error) => {
                    forget_parts(&self.blobs);
                    is_anew = true;
                }
                Err(error) if attempt < RETRIES && is_passing(&error) => attempt += 1,
                Err(error) => return Err(failed(self.id, &error, &[file.to_owned()])),
                Ok(path) => return Ok(path),
            }
        }
    }

    fn attempt(&mut self, file: &str) -> Result<PathBuf, ApiError> {
        let progress = Told {
            progress: self.progress,
            begun: false,
        };
        self.remote.download_with_progress(file, progress)
    }

    /// The shards that an index lists.
    fn shards(&mut self, file: &str, path: &Path) -> Result<(), Error> {
        for shard in shard_files(path)? {
            let beside = Path::new(file).with_file_name(shard);
            self.file(&beside.display().to_string())?;
        }
        Ok(())
    }

    /// The files to have, besides shards, of what the Hub has.
    fn wanted(&self, index: &ModelIndex, needs: Needs) -> Vec<String> {
        let files = |part: &str| {
            let present: Vec<_> = self.present.iter().map(String::as_str).collect();
            part_files(part, index, &present, needs)
        };
        let ours = self.present.get(DEFAULTS).cloned();
        ours.into_iter()
            .chain(read_parts(index).flat_map(files))
            .collect()
    }
}

/// Hands a download's progress on.
struct Told<'a> {
    progress: &'a mut dyn FetchProgress,
    begun: bool,
}

impl Progress for Told<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        // The client says it twice a file.
        if !self.begun {
            self.progress.begin(filename, size as u64);
        }
        self.begun = true;
    }

    fn update(&mut self, size: usize) {
        self.progress.advance(size as u64);
    }

    fn finish(&mut self) {
        self.progress.end();
    }
}

fn read_index(path: &Path) -> Result<ModelIndex, Error> {
    let text = read_text_bounded(path, LONGEST_TEXT).map_err(|source| FileError::Read {
        what: format!("`{}`", index::FILE),
        path: path.to_owned(),
        source,
    })?;
    let folder = path.parent().unwrap_or(path);
    ModelIndex::parse(&text, &folder.display().to_string())
}

fn read_parts(index: &ModelIndex) -> impl Iterator<Item = &str> {
    index.parts().filter(|part| !UNREAD.contains(part))
}

fn is_shard_index(file: &str) -> bool {
    file.contains(".index.")
}

/// The beginning of a part's paths in a model that has the files `present`, and the names behind it.
fn home<'a>(part: &str, present: &[&'a str]) -> (String, Vec<&'a str>) {
    let prefix = format!("{part}/");
    let inside = present.iter().filter_map(|file| file.strip_prefix(&prefix));
    let inside: Vec<_> = inside.collect();
    let loose = |(loose, tells): &(&str, &str)| *loose == part && present.contains(tells);
    if inside.is_empty() && files::LOOSE.iter().any(loose) {
        let beside = present.iter().copied().filter(|file| !file.contains('/'));
        return (String::new(), beside.collect());
    }
    (prefix, inside)
}

/// The files of a part, as paths in the model, when the model has the files `present`. What is required and absent is listed under
/// the name it usually has.
fn part_files(part: &str, index: &ModelIndex, present: &[&str], needs: Needs) -> Vec<String> {
    let class = index.class(part).unwrap_or_default();
    let (prefix, names) = home(part, present);
    let mut wanted = Vec::new();
    if class.contains("Tokenizer") {
        wanted.extend(TOKENIZER.into_iter().filter(|file| names.contains(file)));
        if wanted.is_empty() {
            wanted.push(TOKENIZER[0]);
        }
    } else if class.ends_with("Scheduler") {
        wanted.push("scheduler_config.json");
    } else {
        wanted.push("config.json");
        if needs == Needs::All {
            wanted.push(variants::choose(&names).unwrap_or_else(|| variants::usual(part)));
        }
    }
    wanted
        .into_iter()
        .map(|file| format!("{prefix}{file}"))
        .collect()
}

/// What a cached folder lacks.
fn lacking(folder: &Path, needs: Needs) -> Result<Vec<String>, Error> {
    let index = read_index(&folder.join(index::FILE))?;
    let mut lacking = Vec::new();
    for part in read_parts(&index) {
        let inside = files::names(&folder.join(part)).into_iter();
        let inside = inside.map(|file| format!("{part}/{file}"));
        let present: Vec<_> = files::names(folder).into_iter().chain(inside).collect();
        let present: Vec<_> = present.iter().map(String::as_str).collect();
        for file in part_files(part, &index, &present, needs) {
            let path = folder.join(&file);
            if !path.is_file() {
                lacking.push(file);
            } else if is_shard_index(&file) {
                let shards = shard_files(&path)?.into_iter();
                let absent = shards.filter(|shard| !path.with_file_name(shard).is_file());
                let beside = |shard: &Path| Path::new(&file).with_file_name(shard);
                lacking.extend(absent.map(|shard| beside(&shard).display().to_string()));
            }
        }
    }
    Ok(lacking)
}

/// Whether `name` has the form of a Hub id, `owner/name`.
pub fn is_id(name: &str) -> bool {
    let plain = |part: &str| {
        let allowed = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
    };
    name.split_once('/')
        .is_some_and(|(owner, model)| plain(owner) && plain(model))
}

fn is_yes(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}

/// Has what was fetched in part be fetched from its beginning.
fn forget_parts(blobs: &Path) {
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|kind| kind == "part") {
            tracing::debug!("`{}` is fetched anew", path.display());
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_owner_and_name() {
        assert!(is_id("stabilityai/stable-diffusion-2-1"));
        for name in ["a", "a/", "/a", "a/b/c", "../b", "a/..", "C:/x y", "a/b?c"] {
            assert!(!is_id(name), "{name}");
        }
    }
}
