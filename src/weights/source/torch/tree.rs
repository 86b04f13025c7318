//! Which of the tensors in a pickle are the model's, and what they are called.

use std::collections::HashSet;

use super::value::{Heap, Node, Value, View};

/// Where training programs put the weights among their other things, the preferred first: of a model and its moving average the average,
/// as those who publish both sample from it.
const WEIGHTS: [&str; 10] = [
    "state_dict",
    "model_state_dict",
    "ema_state_dict",
    "ema",
    "model_ema",
    "params_ema",
    "model",
    "module",
    "net",
    "params",
];
/// What lies beside them and is of no use without the training program.
const LEFTOVERS: [&str; 17] = [
    "callbacks",
    "epoch_state",
    "grad_scaler",
    "hparams",
    "hyper_parameters",
    "loops",
    "lr_scheduler",
    "lr_schedulers",
    "native_amp_scaling_state",
    "opt",
    "optim",
    "optimizer",
    "optimizer_state",
    "optimizer_state_dict",
    "optimizer_states",
    "optimizers",
    "rng_states",
];
/// Tables of a module that was saved whole: parameters, buffers, modules inside.
const TABLES: [&str; 3] = ["_parameters", "_buffers", "_modules"];
/// Bytes that tensors and their names may take; one name can stand in many others, at little cost to the file.
const ROOM: usize = 32 << 20;
/// Bytes of a tensor that is not read, without its name.
const TENSOR: usize = 512;
/// Dictionaries inside each other, at most.
const DEPTH: usize = 64;

/// The tensors of a file.
#[derive(Default)]
pub(super) struct Tensors<'a> {
    pub(super) named: Vec<(String, &'a View)>,
    /// Name and kind of what cannot be read.
    pub(super) unread: Vec<(String, String)>,
    /// Whether there are more than fit the room for them.
    pub(super) excess: bool,
}

/// The tensors of the model in `root`.
pub(super) fn tensors(heap: &Heap, root: Value) -> Tensors<'_> {
    let mut walk = Walk {
        heap,
        seen: HashSet::new(),
        found: Tensors::default(),
        room: ROOM,
    };
    let mut path = Vec::new();
    walk.descend(weights(heap, root), &mut path);
    walk.found
}

/// The dictionary that holds the weights.
fn weights(heap: &Heap, mut root: Value) -> Value {
    for _ in 0..DEPTH {
        let inner = WEIGHTS.iter().find_map(|key| {
            let inner = heap.entry(root, key)?;
            let named_so = *key == WEIGHTS[0] && heap.entries(inner).is_some();
            (named_so || holds_tensors(heap, inner)).then_some(inner)
        });
        match inner {
            Some(inner) => root = inner,
            None => break,
        }
    }
    root
}

/// Whether `value` is a module, or a dictionary that has tensors by name or leads to some.
fn holds_tensors(heap: &Heap, value: Value) -> bool {
    let leads = |key: &&str| heap.entry(value, key).is_some();
    has_tensor(heap, value) || WEIGHTS.iter().any(leads) || module(heap, value).is_some()
}

fn has_tensor(heap: &Heap, value: Value) -> bool {
    let entries = heap.entries(value).unwrap_or_default();
    entries.iter().any(|(key, value)| {
        let tensor = matches!(heap.node(*value), Some(Node::Tensor(_) | Node::Unread(_)));
        tensor && heap.name(*key).is_some()
    })
}

/// The attributes of a module that was saved whole.
fn module(heap: &Heap, value: Value) -> Option<Value> {
    match heap.node(value)? {
        Node::Object(state) => {
            let tables = TABLES
                .iter()
                .any(|table| heap.entry(*state, table).is_some());
            tables.then_some(*state)
        }
        _ => None,
    }
}

struct Walk<'a> {
    heap: &'a Heap,
    /// Containers that were walked through: each is, once, so that no knot of them takes long.
    seen: HashSet<Value>,
    found: Tensors<'a>,
    room: usize,
}

impl<'a> Walk<'a> {
    fn descend(&mut self, value: Value, path: &mut Vec<String>) {
        let heap = self.heap;
        match heap.node(value) {
            Some(Node::Tensor(view)) if self.fits(path) => {
                self.found.named.push((path.join("."), view));
            }
            Some(Node::Unread(kind)) if self.fits(path) => {
                let kind = String::from_utf8_lossy(heap.bytes(*kind)).into_owned();
                self.found.unread.push((path.join("."), kind));
            }
            Some(_) if path.len() >= DEPTH || !self.seen.insert(value) => {}
            Some(Node::Entries(entries)) => self.entries(entries, path),
            Some(Node::Items(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.inside(index.to_string(), *item, path);
                }
            }
            Some(Node::Object(_)) => {
                let state = module(heap, value);
                let tables = TABLES.map(|table| heap.entry(state?, table));
                for table in tables.into_iter().flatten() {
                    self.descend(table, path);
                }
            }
            _ => {}
        }
    }

    /// The later of two entries with one key is the one that counts; keys that are no names have no tensors of the model.
    fn entries(&mut self, entries: &'a [(Value, Value)], path: &mut Vec<String>) {
        let mut names = HashSet::new();
        for (key, value) in entries.iter().rev() {
            let Some(name) = self.heap.name(*key) else {
                continue;
            };
            let leftover = path.is_empty() && LEFTOVERS.contains(&name.as_str());
            if names.insert(name.clone()) && (!leftover || self.is_tensor(*value)) {
                self.inside(name, *value, path);
            }
        }
    }

    /// Whether there is room for one more tensor, which takes it.
    fn fits(&mut self, path: &[String]) -> bool {
        let name: usize = path.iter().map(|part| part.len() + 1).sum();
        let left = self.room.checked_sub(name + TENSOR);
        self.room = left.unwrap_or(0);
        self.found.excess |= left.is_none();
        left.is_some()
    }

    fn is_tensor(&self, value: Value) -> bool {
        matches!(self.heap.node(value), Some(Node::Tensor(_)))
    }

    fn inside(&mut self, name: String, value: Value, path: &mut Vec<String>) {
        path.push(name);
        self.descend(value, path);
        path.pop();
    }
}
