//! The calls of a pickle: those that make tensors are understood, the others are left undone.
//!
//! **Source.** `torch._utils` and `torch._tensor`, whose functions `_rebuild_…` a saved tensor names.

use burn::tensor::DType;

use super::super::stored::Stored;
use super::fault::Fault;
use super::value::{Heap, Node, Storage, Value, View};

/// Modules whose functions no training program leaves to be called: whoever does wants a command to run.
const COMMANDS: [&str; 20] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "commands",
    "sys",
    "socket",
    "shutil",
    "runpy",
    "importlib",
    "imp",
    "ctypes",
    "pty",
    "webbrowser",
    "pip",
    "code",
    "codeop",
    "timeit",
    "pdb",
    "urllib",
];
/// Such functions among the built-in ones.
const EVALUATE: [&str; 8] = [
    "eval",
    "exec",
    "execfile",
    "compile",
    "__import__",
    "open",
    "input",
    "breakpoint",
];
/// Modules whose functions make what numpy has, of its second age and of its first.
const ARRAYS: [&str; 4] = [
    "numpy._core.multiarray",
    "numpy._core.numeric",
    "numpy.core.multiarray",
    "numpy.core.numeric",
];
/// How far the rebuilding of a tensor may hand on to another function.
const DETOURS: usize = 8;
/// Elements of a tensor that may be more than its storage has: what repeats itself (a stride of 0) could be of any size.
const REPEATED: usize = 1 << 18;
/// The most sides of a tensor.
const SIDES: usize = 32;

/// What calling `class` with the tuple `arguments` gives.
pub(super) fn call(heap: &mut Heap, class: Value, arguments: Value) -> Result<Value, Fault> {
    let (mut class, mut arguments) = (class, arguments);
    for _ in 0..DETOURS {
        let Some((module, name)) = heap.class(class) else {
            return heap.add(Node::Object(Value::Other));
        };
        refuse_command(&module, &name)?;
        let given = heap.items(arguments).unwrap_or_default().to_vec();
        match (module.as_str(), name.as_str()) {
            ("torch._tensor" | "torch.tensor", "_rebuild_from_type_v2") => match given[..] {
                [function, _, inner, ..] => (class, arguments) = (function, inner),
                _ => return heap.add(Node::Object(Value::Other)),
            },
            // A parameter is its tensor; and what numbers of numpy are made of is a type, and bytes as the text of their codes.
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("_codecs", "encode")
            | ("numpy", "dtype") => {
                return Ok(given.first().copied().unwrap_or(Value::Other));
            }
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                return tensor(heap, &given, None);
            }
            ("torch._utils", "_rebuild_tensor_v3") => {
                let kind = given.get(6).and_then(|kind| heap.class(*kind));
                let stored = kind.and_then(|(_, name)| element(&name));
                return match stored {
                    Some(stored) => tensor(heap, &given, Some(stored)),
                    None => unread(heap, class),
                };
            }
            ("torch._utils", name) if name.starts_with("_rebuild_") => return unread(heap, class),
            (module, name) if ARRAYS.contains(&module) => return numpy(heap, name, &given),
            ("collections", "OrderedDict" | "defaultdict" | "Counter")
            | ("builtins" | "__builtin__", "dict") => return dictionary(heap, &given),
            ("builtins" | "__builtin__", "set" | "list" | "tuple" | "frozenset") => {
                let given = given.first().filter(|one| heap.items(**one).is_some());
                return given.map_or_else(|| heap.add(Node::Items(Vec::new())), |one| Ok(*one));
            }
            _ => return heap.add(Node::Object(Value::Other)),
        }
    }
    Err(Fault::wrong("a tensor is rebuilt by too many functions"))
}

/// Gives `object` its attributes.
pub(super) fn build(heap: &mut Heap, object: Value, state: Value) -> Result<(), Fault> {
    heap.charge(0)?;
    if let Some(Node::Object(attributes)) = heap.node_mut(object) {
        *attributes = state;
    }
    Ok(())
}

fn refuse_command(module: &str, name: &str) -> Result<(), Fault> {
    let package = module.split('.').next().unwrap_or_default();
    let builtin = matches!(package, "builtins" | "__builtin__");
    if COMMANDS.contains(&package) || builtin && EVALUATE.contains(&name) {
        return Err(Fault::Code(format!("{module}.{name}")));
    }
    Ok(())
}

/// A tensor, or the storage of one, of a kind that cannot be read.
pub(super) fn unread(heap: &mut Heap, class: Value) -> Result<Value, Fault> {
    match heap.node(class) {
        Some(Node::Class { name, .. }) => {
            let name = *name;
            heap.add(Node::Unread(name))
        }
        _ => Ok(Value::Other),
    }
}

/// What a function of numpy makes: a number, or an array, which is not read.
fn numpy(heap: &mut Heap, name: &str, given: &[Value]) -> Result<Value, Fault> {
    match (name, given) {
        ("scalar", [kind, bytes, ..]) => match scalar(heap, *kind, *bytes) {
            Some(number) => Ok(number),
            None => heap.add(Node::Array),
        },
        ("_reconstruct" | "_frombuffer", _) => heap.add(Node::Array),
        _ => heap.add(Node::Object(Value::Other)),
    }
}

/// A number of numpy: its type as `f4`, and its bytes, the lowest first.
fn scalar(heap: &Heap, kind: Value, bytes: Value) -> Option<Value> {
    let codes = heap.name(bytes)?;
    let bytes = codes.chars().map(|code| u8::try_from(u32::from(code)).ok());
    let bytes = bytes.collect::<Option<Vec<_>>>()?;
    let (four, eight) = (bytes.as_array().copied(), bytes.as_array().copied());
    match heap.name(kind)?.as_str() {
        "f8" => eight.map(|bytes| Value::of(f64::from_le_bytes(bytes))),
        "f4" => four.map(|bytes| Value::of(f32::from_le_bytes(bytes).into())),
        "i8" => eight.map(|bytes| Value::Int(i64::from_le_bytes(bytes))),
        "i4" => four.map(|bytes| Value::Int(i32::from_le_bytes(bytes).into())),
        _ => None,
    }
}

/// A dictionary of the pairs that are given, if any.
fn dictionary(heap: &mut Heap, given: &[Value]) -> Result<Value, Fault> {
    let mut entries = Vec::new();
    for argument in given {
        if let Some(known) = heap.entries(*argument) {
            entries.extend_from_slice(known);
        }
        let items = heap.items(*argument).unwrap_or_default();
        entries.extend(items.iter().filter_map(|pair| match heap.items(*pair) {
            Some(&[key, value]) => Some((key, value)),
            _ => None,
        }));
    }
    heap.charge(2 * size_of_val(entries.as_slice()))?;
    heap.add(Node::Entries(entries))
}

/// The element that `Float` of `FloatStorage` or `float32` of `torch.float32` means.
pub(super) fn element(name: &str) -> Option<Stored> {
    Some(match name {
        "Double" | "float64" | "double" => Stored::Plain(DType::F64),
        "Float" | "float32" | "float" => Stored::Plain(DType::F32),
        "Half" | "float16" | "half" => Stored::Plain(DType::F16),
        "BFloat16" | "bfloat16" => Stored::Plain(DType::BF16),
        "Long" | "int64" | "long" => Stored::Plain(DType::I64),
        "Int" | "int32" | "int" => Stored::Plain(DType::I32),
        "Short" | "int16" | "short" => Stored::Plain(DType::I16),
        "Char" | "int8" => Stored::Plain(DType::I8),
        "Byte" | "uint8" => Stored::Plain(DType::U8),
        "uint16" => Stored::Plain(DType::U16),
        "uint32" => Stored::Plain(DType::U32),
        "uint64" => Stored::Plain(DType::U64),
        "Bool" | "bool" => Stored::Bool,
        "float8_e4m3fn" => Stored::E4m3,
        "float8_e5m2" => Stored::E5m2,
        _ => return None,
    })
}

/// A tensor of `[storage, offset, shape, strides, …]`.
fn tensor(heap: &mut Heap, given: &[Value], kind: Option<Stored>) -> Result<Value, Fault> {
    let [storage, offset, shape, strides, ..] = *given else {
        return Err(Fault::wrong("a tensor has too few arguments"));
    };
    let storage = match heap.node(storage) {
        Some(Node::Storage(storage)) => *storage,
        Some(Node::Unread(name)) => {
            let name = *name;
            return heap.add(Node::Unread(name));
        }
        _ => return Err(Fault::wrong("a tensor has no storage")),
    };
    let (shape, strides) = (sizes(heap, shape)?, sizes(heap, strides)?);
    let Some(stored) = kind.or(storage.stored) else {
        return Err(Fault::wrong("a tensor does not say its type"));
    };
    let elements = match storage.stored {
        Some(_) => storage.elements,
        None => storage.elements / stored.size(),
    };
    let start = size(offset).and_then(|offset| offset.checked_add(storage.start));
    let start = start.ok_or_else(|| Fault::wrong("the start of a tensor is no number"))?;
    let storage = Storage {
        elements,
        start,
        ..storage
    };
    let view = View {
        storage,
        stored,
        shape,
        strides,
    };
    view.check()?;
    heap.charge(size_of::<View>() + 4 * size_of_val(view.shape.as_slice()))?;
    heap.add(Node::Tensor(Box::new(view)))
}

pub(super) fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(number) => number.try_into().ok(),
        _ => None,
    }
}

fn sizes(heap: &Heap, value: Value) -> Result<Vec<usize>, Fault> {
    let items = heap.items(value).filter(|items| items.len() <= SIDES);
    let sizes = items.and_then(|items| items.iter().map(|&one| size(one)).collect());
    sizes.ok_or_else(|| Fault::wrong("the shape of a tensor is not one"))
}

impl View {
    /// Elements of the tensor.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements of the storage, from the first to the last that the tensor has.
    pub(super) fn extent(&self) -> usize {
        let last = self.shape.iter().zip(&self.strides);
        let last = last.map(|(&side, &stride)| side.saturating_sub(1) * stride);
        if self.elements() == 0 {
            0
        } else {
            last.sum::<usize>() + 1
        }
    }

    /// Holds the tensor to its storage, so that the two above can be computed.
    fn check(&self) -> Result<(), Fault> {
        let wrong = || Fault::wrong("a tensor reaches beyond its storage");
        if self.shape.len() != self.strides.len() {
            return Err(Fault::wrong("a tensor has not as many strides as sides"));
        }
        let elements = self.shape.iter().try_fold(1_usize, |product, &side| {
            // A side of zero makes all of it nothing, but not the overflow of the others.
            product.checked_mul(side.max(1))
        });
        let mut last = Some(0_usize);
        for (&side, &stride) in self.shape.iter().zip(&self.strides) {
            let span = side.saturating_sub(1).checked_mul(stride);
            last = last
                .zip(span)
                .and_then(|(last, span)| last.checked_add(span));
        }
        let (elements, last) = elements.zip(last).ok_or_else(wrong)?;
        let bytes = |elements: usize| elements.checked_mul(self.stored.size().max(2));
        if bytes(elements).and(bytes(self.storage.elements)).is_none() {
            return Err(wrong());
        }
        let end = last
            .checked_add(1)
            .and_then(|end| end.checked_add(self.storage.start));
        let inside = end.is_some_and(|end| end <= self.storage.elements);
        if self.elements() > 0 && !inside {
            return Err(wrong());
        }
        if self.elements() > self.storage.elements.max(REPEATED) {
            return Err(Fault::wrong("a tensor is larger than its storage"));
        }
        Ok(())
    }
}
