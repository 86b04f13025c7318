//! Which of the tensors in a pickle are the model's, and what they are called.

use std::collections::{BTreeSet, HashSet};

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
/// How the names of numbers end that belong to a tensor: what a `LoRA`'s product is scaled by.
const NUMBER: &str = ".alpha";
/// What arrays of numpy are called where a tensor is meant.
const ARRAY: &str = "an array of numpy";
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
    /// Numbers beside tensors of their names.
    pub(super) numbers: Vec<(String, f64)>,
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
        arrays: Vec::new(),
        room: ROOM,
    };
    let mut path = Vec::new();
    walk.descend(weights(heap, root), &mut path);
    let Walk {
        mut found, arrays, ..
    } = walk;
    found.numbers = beside(&found);
    // What programs note beside the weights, a state of random numbers, is no weight.
    let weights = arrays
        .into_iter()
        .filter(|(_, inside)| *inside || found.named.is_empty());
    let weights = weights.map(|(name, _)| (name, ARRAY.to_owned()));
    found.unread.extend(weights);
    found
}

/// The numbers whose name but for its end is that of a layer with tensors.
fn beside(found: &Tensors<'_>) -> Vec<(String, f64)> {
    if found.numbers.is_empty() {
        return Vec::new();
    }
    let names: BTreeSet<&str> = found.named.iter().map(|(name, _)| name.as_str()).collect();
    let belongs = |(name, _): &&(String, f64)| {
        let layer = name.strip_suffix(NUMBER).unwrap_or(name);
        let inside = format!("{layer}.");
        let next = names.range(inside.as_str()..).next();
        next.is_some_and(|next| next.starts_with(&inside))
    };
    found.numbers.iter().filter(belongs).cloned().collect()
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
    /// Names of numpy's arrays, and whether each lies among the weights of a model.
    arrays: Vec<(String, bool)>,
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
                let kind = String::from_utf8_lossy(heap.bytes(*kind));
                let kind = format!("a tensor of another kind (`{kind}`)");
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
            if !names.insert(name.clone()) || leftover && !self.is_tensor(*value) {
                continue;
            }
            path.push(name);
            if let Some(number) = value.number() {
                self.number(number, path);
            } else if let Some(Node::Array) = self.heap.node(*value) {
                self.array(entries, path);
            } else {
                self.descend(*value, path);
            }
            path.pop();
        }
    }

    fn number(&mut self, number: f64, path: &[String]) {
        let named = path.last().is_some_and(|last| last.ends_with(NUMBER));
        if named && self.fits(path) {
            self.found.numbers.push((path.join("."), number));
        }
    }

    /// An array that is one of `entries`.
    fn array(&mut self, entries: &[(Value, Value)], path: &[String]) {
        if self.fits(path) {
            let is_tensor = |(_, value): &(Value, Value)| self.is_tensor(*value);
            let of_layer = path.last().is_some_and(|last| last.contains('.'));
            let inside = of_layer && entries.iter().any(is_tensor);
            self.arrays.push((path.join("."), inside));
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

#[cfg(test)]
mod tests {
    use super::super::machine::run;
    use super::*;

    /// `[2, 2]` in f32, the bytes of its storage elsewhere.
    const TENSOR: &[u8] =
        b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n\
        U\x010U\x03cpuK\x04tQK\0(K\x02K\x02t(K\x02K\x01t\x89ccollections\nOrderedDict\n)RtR";
    const ARRAY: &[u8] = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR";

    /// Names of tensors, numbers, and names of what is not read in a dictionary of these entries.
    fn found(entries: &[(&str, &[u8])]) -> (Vec<String>, Vec<(String, f64)>, Vec<String>) {
        let mut pickle = b"\x80\x02}(".to_vec();
        for (name, value) in entries {
            pickle.extend([b'U', name.len() as u8]);
            pickle.extend([name.as_bytes(), value].concat());
        }
        pickle.extend(b"u.");
        let pickled = run(&mut pickle.as_slice(), 1 << 20).unwrap();
        let found = tensors(&pickled.heap, pickled.root);
        let mut named: Vec<_> = found.named.into_iter().map(|(name, _)| name).collect();
        let mut numbers = found.numbers;
        named.sort();
        numbers.sort_by(|one, other| one.0.cmp(&other.0));
        let unread = found.unread.into_iter().map(|(name, _)| name);
        (named, numbers, unread.collect())
    }

    #[test]
    fn numbers_that_scale_a_layer_are_kept() {
        let numpy = b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n(U\x02f4K\0K\x01tR\
            c_codecs\nencode\n(X\x04\0\0\0\0\0\0@U\x06latin1tR\x86R";
        let fraction = [b"G", &0.5_f64.to_be_bytes()[..]].concat();
        let (named, numbers, _) = found(&[
            ("a.lora_up.weight", TENSOR),
            ("a.alpha", b"K\x04"),
            ("b.lora_up.weight", TENSOR),
            ("b.alpha", &fraction),
            ("c.lora_up.weight", TENSOR),
            ("c.alpha", numpy),
            ("d.lora_up.weight", TENSOR),
            ("d.alpha", b"F1e1\n"),
            ("d.steps", b"K\x04"),
            ("optimizer.alpha", b"K\x04"),
        ]);
        assert_eq!(named.len(), 4);
        let expected = [("a", 4.0), ("b", 0.5), ("c", 2.0), ("d", 10.0)];
        let expected = expected.map(|(layer, value)| (format!("{layer}.alpha"), value));
        assert_eq!(numbers, expected);
    }

    #[test]
    fn arrays_of_numpy_are_told_where_they_are_weights() {
        let all = found(&[("a.weight", ARRAY), ("a.bias", ARRAY)]);
        assert_eq!(all.2.len(), 2);
        let one = found(&[("a.weight", TENSOR), ("a.bias", ARRAY)]);
        assert_eq!(one.2, ["a.bias"]);
        // Its bytes as such, as protocols since 3 have them.
        let number = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f4tRC\x04\0\0\0@tR";
        let alpha = found(&[("a.weight", TENSOR), ("a.alpha", number)]);
        assert_eq!((alpha.1.len(), alpha.2), (0, vec!["a.alpha".to_owned()]));
        let beside = found(&[("a.weight", TENSOR), ("random_state", ARRAY)]);
        assert_eq!((beside.0.len(), beside.2.len()), (1, 0));
    }
}
