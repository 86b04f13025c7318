//! What a pickle builds: as much of it as tensors need.
//!
//! Values are small and are copied, containers lie in one arena and are named by number: nothing is ever copied with its contents, and
//! what refers to itself is neither endless nor lost. A budget bounds what an arena may take.

use super::super::stored::Stored;
use super::fault::Fault;

/// Bytes that a value takes with its places on the stack, in the memo and in a container that grows.
const COST: usize = 64;

/// A piece of the arena's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Text {
    start: u32,
    length: u32,
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// One that no tensor needs: nothing, bytes, a long text.
    Other,
    Int(i64),
    /// A fraction, by its bits.
    Float(u64),
    Text(Text),
    /// A place in the arena.
    Node(u32),
}

impl Value {
    pub(super) fn of(fraction: f64) -> Self {
        Self::Float(fraction.to_bits())
    }

    /// The number that it is.
    pub(super) fn number(self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(number as f64),
            Self::Float(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }
}

/// What values refer to.
#[derive(Debug)]
pub(super) enum Node {
    /// A list, tuple or set.
    Items(Vec<Value>),
    /// A dictionary.
    Entries(Vec<(Value, Value)>),
    /// A class or a function by its name.
    Class {
        module: Text,
        name: Text,
    },
    Storage(Storage),
    Tensor(Box<View>),
    /// A tensor of a kind that cannot be read, by the function that makes it.
    Unread(Text),
    /// An array of numpy, or a number of a type that no weights have: not read.
    Array,
    /// Any other object, and its attributes.
    Object(Value),
}

/// A run of elements in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    pub(super) key: Value,
    /// `None` where only the tensor knows.
    pub(super) stored: Option<Stored>,
    /// Number of elements; of bytes where `stored` is `None`.
    pub(super) elements: usize,
    /// Where in it the elements begin.
    pub(super) start: usize,
}

/// A tensor: part of a storage.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) storage: Storage,
    pub(super) stored: Stored,
    pub(super) shape: Vec<usize>,
    /// Elements from one index of a side to the next.
    pub(super) strides: Vec<usize>,
}

/// The arena.
#[derive(Debug)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    text: Vec<u8>,
    budget: usize,
}

impl Heap {
    /// One that takes about `budget` bytes at most.
    pub(super) fn new(budget: usize) -> Self {
        let (nodes, text) = (Vec::new(), Vec::new());
        Self {
            nodes,
            text,
            budget,
        }
    }

    /// Accounts for a value and `bytes` more.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        let left = self.budget.checked_sub(COST + bytes);
        self.budget = left.ok_or_else(|| Fault::wrong("it holds too much beside its tensors"))?;
        Ok(())
    }

    pub(super) fn add(&mut self, node: Node) -> Result<Value, Fault> {
        self.charge(2 * size_of::<Node>())?;
        self.nodes.push(node);
        Ok(Value::Node((self.nodes.len() - 1) as u32))
    }

    pub(super) fn add_text(&mut self, text: &[u8]) -> Result<Value, Fault> {
        self.charge(3 * text.len())?;
        let (start, length) = (self.text.len() as u32, text.len() as u32);
        self.text.extend(text);
        Ok(Value::Text(Text { start, length }))
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(place) => self.nodes.get(place as usize),
            _ => None,
        }
    }

    pub(super) fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Node(place) => self.nodes.get_mut(place as usize),
            _ => None,
        }
    }

    pub(super) fn bytes(&self, text: Text) -> &[u8] {
        let (start, length) = (text.start as usize, text.length as usize);
        self.text.get(start..start + length).unwrap_or_default()
    }

    /// A text, or a number as text: what can be part of a tensor's name.
    pub(super) fn name(&self, value: Value) -> Option<String> {
        match value {
            Value::Int(number) => Some(number.to_string()),
            Value::Text(text) => std::str::from_utf8(self.bytes(text))
                .ok()
                .map(str::to_owned),
            _ => None,
        }
    }

    pub(super) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::Items(items) => Some(items),
            _ => None,
        }
    }

    /// Module and name of a class.
    pub(super) fn class(&self, value: Value) -> Option<(String, String)> {
        let text = |text: &Text| String::from_utf8_lossy(self.bytes(*text)).into_owned();
        match self.node(value)? {
            Node::Class { module, name } => Some((text(module), text(name))),
            _ => None,
        }
    }

    /// The entries of a dictionary.
    pub(super) fn entries(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value)? {
            Node::Entries(entries) => Some(entries),
            _ => None,
        }
    }

    /// What an entry of `value` is called by `key`; the last one, as in Python.
    pub(super) fn entry(&self, value: Value, key: &str) -> Option<Value> {
        let named = |(name, value): &(Value, Value)| match name {
            Value::Text(text) if self.bytes(*text) == key.as_bytes() => Some(*value),
            _ => None,
        };
        self.entries(value)?.iter().rev().find_map(named)
    }
}
