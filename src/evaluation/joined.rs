//! The folders of all shards as one evaluation.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::store::{Batch, Store};
use super::study::Study;
use crate::error::{Error, EvaluationError};

/// A complete evaluation, in one folder or in several.
#[derive(Debug)]
pub struct Joined {
    stores: Vec<Store>,
    /// By batch, the store that has it.
    places: Vec<usize>,
}

impl Joined {
    /// Opens the folders and makes sure that they are the whole of one evaluation.
    ///
    /// # Errors
    ///
    /// If a folder holds none, they are of different evaluations or versions, a batch is there twice, or one is missing.
    ///
    /// # Panics
    ///
    /// If no folder is named.
    pub fn open(folders: &[PathBuf]) -> Result<Self, Error> {
        assert!(!folders.is_empty(), "at least one folder");
        let open = |folder: &PathBuf| Store::open(folder);
        let stores = folders.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        for store in &stores[1..] {
            check_same(&stores[0], store)?;
        }
        let places = places(&stores)?;
        Ok(Self { stores, places })
    }

    /// What was evaluated.
    pub fn study(&self) -> &Study {
        self.stores[0].study()
    }

    /// The batches in order, read one at a time.
    pub fn batches(&self) -> impl Iterator<Item = Result<Batch, Error>> {
        let places = self.places.iter().enumerate();
        places.map(|(batch, &store)| self.stores[store].read(batch))
    }
}

fn check_same(first: &Store, second: &Store) -> Result<(), EvaluationError> {
    match first.study().difference(second.study()) {
        None => Ok(()),
        Some((field, ours, theirs)) => Err(EvaluationError::Mixed {
            field,
            first: ours,
            first_path: first.folder().into(),
            second: theirs,
            second_path: second.folder().into(),
        }),
    }
}

fn places(stores: &[Store]) -> Result<Vec<usize>, EvaluationError> {
    let total = stores[0].study().batches();
    let mut places = BTreeMap::new();
    for batch in 0..total {
        for (index, store) in stores
            .iter()
            .enumerate()
            .filter(|(_, store)| store.has(batch))
        {
            if let Some(first) = places.insert(batch, index) {
                let path = |store: &Store| -> PathBuf { Path::new(store.folder()).into() };
                return Err(EvaluationError::Twice {
                    batch,
                    first: path(&stores[first]),
                    second: path(store),
                });
            }
        }
    }
    let missing: Vec<_> = (0..total)
        .filter(|batch| !places.contains_key(batch))
        .collect();
    if missing.is_empty() {
        Ok(places.into_values().collect())
    } else {
        Err(EvaluationError::Holes { missing, total })
    }
}
