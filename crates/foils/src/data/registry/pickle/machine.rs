//! The stack machine that pickles are programs for.

use std::collections::HashMap;

/// A value's place in the heap. Pickles share values (a dtype is built once and referred to), so they are held by place.
pub type Id = usize;

#[derive(Clone, Debug)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Python 2 strings, bytes and Unicode text alike.
    Bytes(Vec<u8>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// `module name` of a class or function.
    Global(String),
    /// What calling `class` would have made, with what was put into it afterwards.
    Object {
        class: Id,
        arguments: Vec<Id>,
        state: Option<Id>,
        items: Vec<(Id, Id)>,
    },
}

/// An error's words; the caller knows the file.
pub type Result<T> = std::result::Result<T, String>;

/// Reads a pickle to its STOP: all values, and which of them is the whole.
///
/// # Errors
/// See [`super::Pickle::read`].
pub fn run(bytes: &[u8]) -> Result<(Vec<Value>, Id)> {
    let mut machine = Machine { bytes, at: 0, heap: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(top)) => return Ok((machine.heap, top)),
            Err(e) => return Err(format!("not a pickle that can be read, at byte {at}: {e}")),
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    heap: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// One operation; the result when it was STOP.
    fn step(&mut self) -> Result<Option<Id>> {
        let op = self.take(1)?[0];
        match op {
            0x80 => drop(self.take(1)?),
            b'.' => return Ok(Some(self.pop()?)),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let b = self.take(4)?;
                self.push(Value::Int(i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))));
            }
            b'K' => {
                let v = self.take(1)?[0];
                self.push(Value::Int(i64::from(v)));
            }
            b'M' => {
                let b = self.take(2)?;
                self.push(Value::Int(i64::from(u16::from_le_bytes([b[0], b[1]]))));
            }
            0x8a => {
                let n = usize::from(self.take(1)?[0]);
                let b = self.take(n)?;
                if n > 8 {
                    return Err("a whole number of more than 64 bits".into());
                }
                let mut wide = if b.last().is_some_and(|l| l & 0x80 != 0) { [0xff; 8] } else { [0; 8] };
                wide[..n].copy_from_slice(b);
                self.push(Value::Int(i64::from_le_bytes(wide)));
            }
            b'U' | b'C' => {
                let n = usize::from(self.take(1)?[0]);
                self.push_bytes(n)?;
            }
            b'T' | b'X' | b'B' => {
                let n = self.u32()? as usize;
                self.push_bytes(n)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(format!("{module} {name}")));
            }
            b'q' => {
                let key = u32::from(self.take(1)?[0]);
                self.remember(key)?;
            }
            b'r' => {
                let key = self.u32()?;
                self.remember(key)?;
            }
            b'h' => {
                let key = u32::from(self.take(1)?[0]);
                self.recall(key)?;
            }
            b'j' => {
                let key = self.u32()?;
                self.recall(key)?;
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            0x85..=0x87 => {
                let n = usize::from(op - 0x84);
                let from = self.stack.len().checked_sub(n).ok_or("the stack is too short")?;
                let ids = self.stack.split_off(from);
                self.push(Value::Tuple(ids));
            }
            b't' => {
                let ids = self.pop_mark()?;
                self.push(Value::Tuple(ids));
            }
            b'l' => {
                let ids = self.pop_mark()?;
                self.push(Value::List(ids));
            }
            b'd' => {
                let ids = self.pop_mark()?;
                self.push(Value::Dict(pairs(&ids)?));
            }
            b'a' => {
                let id = self.pop()?;
                self.list()?.push(id);
            }
            b'e' => {
                let ids = self.pop_mark()?;
                self.list()?.extend(ids);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.items()?.push((key, value));
            }
            b'u' => {
                let new = pairs(&self.pop_mark()?)?;
                self.items()?.extend(new);
            }
            b'R' | 0x81 => self.reduce()?,
            b'b' => {
                let new = self.pop()?;
                let object = *self.stack.last().ok_or("the stack is empty")?;
                match &mut self.heap[object] {
                    Value::Object { state, .. } => *state = Some(new),
                    _ => return Err("a state for something that is not an object".into()),
                }
            }
            _ => return Err(format!("operation {op:#04x} is not known here")),
        }
        Ok(None)
    }

    /// A call, recorded and not made.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = &self.heap[arguments] else { return Err("a call without arguments".into()) };
        let arguments = arguments.clone();
        self.push(Value::Object { class, arguments, state: None, items: Vec::new() });
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.bytes.len()).ok_or("it ends too early")?;
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn line(&mut self) -> Result<String> {
        let n = self.bytes[self.at..].iter().position(|&b| b == b'\n').ok_or("it ends too early")?;
        let text = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.at += 1;
        Ok(text)
    }

    fn push(&mut self, value: Value) {
        self.heap.push(value);
        self.stack.push(self.heap.len() - 1);
    }

    fn push_bytes(&mut self, n: usize) -> Result<()> {
        let bytes = self.take(n)?.to_vec();
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        if self.marks.last().is_some_and(|&m| m == self.stack.len()) {
            return Err("a mark where a value should be".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().filter(|&m| m <= self.stack.len()).ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, key: u32) -> Result<()> {
        let id = *self.stack.last().ok_or("the stack is empty")?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let id = *self.memo.get(&key).ok_or_else(|| format!("nothing was remembered as {key}"))?;
        self.stack.push(id);
        Ok(())
    }

    fn list(&mut self) -> Result<&mut Vec<Id>> {
        let id = *self.stack.last().ok_or("the stack is empty")?;
        match &mut self.heap[id] {
            Value::List(ids) => Ok(ids),
            _ => Err("an element for something that is not a list".into()),
        }
    }

    fn items(&mut self) -> Result<&mut Vec<(Id, Id)>> {
        let id = *self.stack.last().ok_or("the stack is empty")?;
        match &mut self.heap[id] {
            Value::Dict(items) | Value::Object { items, .. } => Ok(items),
            _ => Err("an item for something that is not a dictionary".into()),
        }
    }
}

fn pairs(ids: &[Id]) -> Result<Vec<(Id, Id)>> {
    if ids.len() % 2 == 1 {
        return Err("a key without a value".into());
    }
    Ok(ids.chunks_exact(2).map(|p| (p[0], p[1])).collect())
}
