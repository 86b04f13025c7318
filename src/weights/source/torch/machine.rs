//! The stack machine that a pickle is a program for.
//!
//! **Source.** Python's `pickletools` documents the instructions, protocols 0 to 5. Calls are looked at (see [`call`](super::call)) and
//! never made.

use std::{collections::HashMap, io::BufRead};

use super::call::{build, call};
use super::value::{Heap, Node, Value};
use super::{fault::Fault, persistent::storage};

/// Bytes of the longest text that is kept; no name is longer.
const LONGEST: u64 = 1 << 16;

/// The object that a pickle ends with, and what it refers to.
pub(super) struct Pickled {
    pub(super) heap: Heap,
    pub(super) root: Value,
}

/// Runs one pickle, which ends where `input` stands afterwards. It takes about `budget` bytes of memory at most.
pub(super) fn run(input: &mut dyn BufRead, budget: usize) -> Result<Pickled, Fault> {
    let mut machine = Machine {
        input,
        heap: Heap::new(budget),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok(Pickled {
        heap: machine.heap,
        root,
    })
}

struct Machine<'a> {
    input: &'a mut dyn BufRead,
    heap: Heap,
    stack: Vec<Value>,
    /// Heights of the stack where it is marked.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
}

impl Machine<'_> {
    /// Executes one instruction; whether there are more.
    fn step(&mut self) -> Result<bool, Fault> {
        let [op] = self.bytes()?;
        match op {
            b'.' => return Ok(false),
            0x80 => {
                self.skip(1)?;
            }
            // The length of a frame.
            0x95 => {
                self.skip(8)?;
            }
            b'(' => {
                self.heap.charge(0)?;
                self.marks.push(self.stack.len());
            }
            b'0' => self.drop_one()?,
            b'1' => drop(self.marked()?),
            b'2' => self.push(self.top()?)?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.remember(op)?,
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill(op)?,
            b']' | b')' | b'}' | 0x8f | b'l' | b't' | b'd' | 0x85..=0x87 | 0x91 => {
                self.collect(op)?;
            }
            b'c' | b'i' | b'o' | b'R' | b'b' | b'Q' | b'P' | 0x81..=0x84 | 0x92 | 0x93 => {
                self.object(op)?;
            }
            _ => self.literal(op)?,
        }
        Ok(true)
    }

    /// Numbers, texts and bytes.
    fn literal(&mut self, op: u8) -> Result<(), Fault> {
        let value = match op {
            b'K' => Value::Int(self.bytes().map(u8::from_le_bytes)?.into()),
            b'M' => Value::Int(self.bytes().map(u16::from_le_bytes)?.into()),
            b'J' => Value::Int(self.bytes().map(i32::from_le_bytes)?.into()),
            b'I' | b'L' => self.written_number()?,
            0x8a => self.long_number(1)?,
            0x8b => self.long_number(4)?,
            b'N' | 0x88 | 0x89 => Value::Other,
            b'G' => Value::of(self.bytes().map(f64::from_be_bytes)?),
            b'F' => {
                let line = self.line()?;
                let number = std::str::from_utf8(&line).ok();
                let number = number.and_then(|digits| digits.trim().parse().ok());
                number.map_or(Value::Other, Value::of)
            }
            b'S' => {
                let line = self.line()?;
                let quoted = line.get(1..line.len().saturating_sub(1));
                self.heap.add_text(quoted.unwrap_or_default())?
            }
            b'V' => {
                let line = self.line()?;
                self.heap.add_text(&line)?
            }
            b'U' | 0x8c => self.text(1)?,
            b'T' | b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' => self.skipped(1)?,
            b'B' => self.skipped(4)?,
            0x8e | 0x96 => self.skipped(8)?,
            _ => {
                let reason = format!("it has the unknown instruction {op:#04x}");
                return Err(Fault::Malformed(reason));
            }
        };
        self.push(value)
    }

    /// Containers that are made empty, or of what lies on the stack.
    fn collect(&mut self, op: u8) -> Result<(), Fault> {
        let node = match op {
            b']' | b')' | 0x8f => Node::Items(Vec::new()),
            b'}' => Node::Entries(Vec::new()),
            b'd' => Node::Entries(pairs(&self.marked()?)),
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                let floor = self.marks.last().copied().unwrap_or(0);
                let start = self.stack.len().checked_sub(count);
                let start = start.filter(|start| *start >= floor).ok_or_else(empty)?;
                Node::Items(self.stack.split_off(start))
            }
            _ => Node::Items(self.marked()?),
        };
        let value = self.heap.add(node)?;
        self.push(value)
    }

    /// Puts what lies on the stack into the container below it.
    fn fill(&mut self, op: u8) -> Result<(), Fault> {
        let added = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.marked()?,
        };
        let into = self.top()?;
        let Some(node) = self.heap.node_mut(into) else {
            return Ok(());
        };
        let keyed = matches!(op, b's' | b'u');
        match node {
            Node::Items(items) if !keyed => items.extend(added),
            Node::Entries(entries) if keyed => entries.extend(pairs(&added)),
            // A dictionary or list of a class of its own.
            Node::Object(_) if keyed => *node = Node::Entries(pairs(&added)),
            Node::Object(_) => *node = Node::Items(added),
            _ => {}
        }
        Ok(())
    }

    /// Classes, calls and what lies outside of the pickle.
    fn object(&mut self, op: u8) -> Result<(), Fault> {
        let value = match op {
            b'c' => self.class()?,
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                self.class_of(module, name)?
            }
            b'i' => {
                let class = self.class()?;
                let arguments = Node::Items(self.marked()?);
                let arguments = self.heap.add(arguments)?;
                call(&mut self.heap, class, arguments)?
            }
            b'o' => {
                let marked = self.marked()?;
                let (class, arguments) = marked.split_first().ok_or_else(empty)?;
                let arguments = self.heap.add(Node::Items(arguments.to_vec()))?;
                call(&mut self.heap, *class, arguments)?
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                call(&mut self.heap, class, arguments)?
            }
            0x92 => {
                let (_named, arguments) = (self.pop()?, self.pop()?);
                let class = self.pop()?;
                call(&mut self.heap, class, arguments)?
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                return build(&mut self.heap, object, state);
            }
            b'Q' => {
                let id = self.pop()?;
                storage(&mut self.heap, id)?
            }
            b'P' => {
                self.line()?;
                Value::Other
            }
            // Numbers of classes that both sides agreed on elsewhere.
            0x82 => self.bytes::<1>().map(|_| Value::Other)?,
            0x83 => self.bytes::<2>().map(|_| Value::Other)?,
            _ => self.bytes::<4>().map(|_| Value::Other)?,
        };
        self.push(value)
    }

    fn remember(&mut self, op: u8) -> Result<(), Fault> {
        let place = match op {
            b'p' | b'g' => self.written_place()?,
            b'q' | b'h' => self.bytes().map(u8::from_le_bytes)?.into(),
            b'r' | b'j' => self.bytes().map(u32::from_le_bytes)?.into(),
            _ => self.memo.len() as u64,
        };
        if matches!(op, b'g' | b'h' | b'j') {
            let value = self.memo.get(&place).copied();
            let value = value.ok_or_else(|| Fault::wrong("it recalls what it did not note"))?;
            return self.push(value);
        }
        let top = self.top()?;
        self.heap.charge(0)?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn class(&mut self) -> Result<Value, Fault> {
        let (module, name) = (self.line()?, self.line()?);
        let (module, name) = (self.heap.add_text(&module)?, self.heap.add_text(&name)?);
        self.class_of(module, name)
    }

    fn class_of(&mut self, module: Value, name: Value) -> Result<Value, Fault> {
        match (module, name) {
            (Value::Text(module), Value::Text(name)) => self.heap.add(Node::Class { module, name }),
            _ => Err(Fault::wrong("a class has no name")),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), Fault> {
        self.heap.charge(0)?;
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(empty());
        }
        self.stack.pop().ok_or_else(empty)
    }

    fn top(&self) -> Result<Value, Fault> {
        self.stack.last().copied().ok_or_else(empty)
    }

    /// Takes a value away, or a mark that lies above all values.
    fn drop_one(&mut self) -> Result<(), Fault> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    /// Everything above the last mark, which goes with it.
    fn marked(&mut self) -> Result<Vec<Value>, Fault> {
        let mark = self.marks.pop();
        let mark = mark.filter(|mark| *mark <= self.stack.len());
        let mark = mark.ok_or_else(|| Fault::wrong("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A number of bytes, which takes `width` bytes itself.
    fn length(&mut self, width: usize) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.input.read_exact(&mut bytes[..width])?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self, width: usize) -> Result<Value, Fault> {
        let length = self.length(width)?;
        if length > LONGEST {
            return self.skip(length);
        }
        let mut text = vec![0; length as usize];
        self.input.read_exact(&mut text)?;
        self.heap.add_text(&text)
    }

    fn skipped(&mut self, width: usize) -> Result<Value, Fault> {
        let length = self.length(width)?;
        self.skip(length)
    }

    fn skip(&mut self, mut length: u64) -> Result<Value, Fault> {
        while length > 0 {
            let read = self.input.fill_buf()?.len();
            if read == 0 {
                return Err(Fault::cut("it ends too early"));
            }
            let taken = (read as u64).min(length);
            self.input.consume(taken as usize);
            length -= taken;
        }
        Ok(Value::Other)
    }

    /// A line without its end.
    fn line(&mut self) -> Result<Vec<u8>, Fault> {
        let mut line = Vec::new();
        loop {
            let [byte] = self.bytes()?;
            if byte == b'\n' {
                return Ok(line);
            }
            if line.len() as u64 >= LONGEST {
                return Err(Fault::wrong("a line is too long"));
            }
            line.push(byte);
        }
    }

    fn written_number(&mut self) -> Result<Value, Fault> {
        let line = self.line()?;
        let digits = std::str::from_utf8(&line).ok();
        let number = digits.and_then(|digits| digits.trim_end_matches('L').parse().ok());
        Ok(number.map_or(Value::Other, Value::Int))
    }

    fn written_place(&mut self) -> Result<u64, Fault> {
        let line = self.line()?;
        let number = std::str::from_utf8(&line).ok();
        let number = number.and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| Fault::wrong("a place in the memo is no number"))
    }

    /// An integer of any size; those beyond 64 bits are of no use here.
    fn long_number(&mut self, width: usize) -> Result<Value, Fault> {
        let length = self.length(width)?;
        if length > 8 {
            return self.skip(length);
        }
        let mut bytes = [0; 8];
        let (used, rest) = bytes.split_at_mut(length as usize);
        self.input.read_exact(used)?;
        if used.last().is_some_and(|last| last & 0x80 != 0) {
            rest.fill(0xff);
        }
        Ok(Value::Int(i64::from_le_bytes(bytes)))
    }
}

fn empty() -> Fault {
    Fault::wrong("its stack is empty")
}

/// Keys and values that follow each other.
fn pairs(values: &[Value]) -> Vec<(Value, Value)> {
    let (pairs, _) = values.as_chunks::<2>();
    pairs.iter().map(|&[key, value]| (key, value)).collect()
}
