//! The part of Python's pickle format (protocols 0 to 3, as the Planetoid files use it) that numpy arrays, scipy CSR matrices and plain
//! containers need. Nothing is ever called: a pickled call becomes a record of what would be called, and only what is known is read.

use std::collections::HashMap;

/// A value's place in the heap. Pickles share values (a dtype is built once and referred to), so they are held by place.
type Id = usize;

#[derive(Clone, Debug)]
enum Value {
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
type Result<T> = std::result::Result<T, String>;

/// A pickle taken apart.
pub struct Pickle {
    heap: Vec<Value>,
    top: Id,
}

/// A numpy array: its shape and its values in row-major order, as f64 (the Planetoid files hold f4, f8, i4 and i8).
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The lengths of its axes.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Vec<f64>,
}

/// A scipy CSR matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct CsrMatrix {
    /// Rows, columns.
    pub shape: (usize, usize),
    /// Where each row starts in `indices` and `values`; one more than there are rows.
    pub indptr: Vec<usize>,
    /// Columns.
    pub indices: Vec<u32>,
    /// Values.
    pub values: Vec<f32>,
}

impl Pickle {
    /// Reads a pickle to its STOP.
    ///
    /// # Errors
    /// On a pickle that is cut off or has an operation that is not known here; says at which byte.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut machine = Machine { bytes, at: 0, heap: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        loop {
            let at = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(top)) => return Ok(Self { heap: machine.heap, top }),
                Err(e) => return Err(format!("not a pickle that can be read, at byte {at}: {e}")),
            }
        }
    }

    /// The whole as a numpy array.
    ///
    /// # Errors
    /// When it is something else.
    pub fn array(&self) -> Result<Array> {
        self.array_at(self.top)
    }

    /// The whole as a scipy CSR matrix.
    ///
    /// # Errors
    /// When it is something else, or its parts do not fit together.
    pub fn csr(&self) -> Result<CsrMatrix> {
        let Value::Object { class, state: Some(state), .. } = &self.heap[self.top] else { return Err("not a CSR matrix".into()) };
        if !self.global(*class).is_some_and(|g| g.starts_with("scipy.sparse") && g.ends_with(" csr_matrix")) {
            return Err("not a CSR matrix".into());
        }
        let Value::Dict(fields) = &self.heap[*state] else { return Err("a CSR matrix without fields".into()) };
        let field = |name: &str| {
            let found = fields.iter().find(|(k, _)| matches!(&self.heap[*k], Value::Bytes(b) if b == name.as_bytes()));
            found.map(|(_, v)| *v).ok_or_else(|| format!("a CSR matrix without {name}"))
        };
        let shape = self.lengths(field("_shape")?)?;
        let &[rows, columns] = shape.as_slice() else { return Err(format!("a CSR matrix of shape {shape:?}")) };
        let indptr: Vec<usize> = self.array_at(field("indptr")?)?.values.into_iter().map(|v| v as usize).collect();
        let indices: Vec<u32> = self.array_at(field("indices")?)?.values.into_iter().map(|v| v as u32).collect();
        let values: Vec<f32> = self.array_at(field("data")?)?.values.into_iter().map(|v| v as f32).collect();
        let sound = indptr.len() == rows + 1
            && indptr.first() == Some(&0)
            && indptr.is_sorted()
            && indptr.last() == Some(&indices.len())
            && indices.len() == values.len()
            && indices.iter().all(|&c| (c as usize) < columns);
        if !sound {
            return Err(format!("a CSR matrix of shape {shape:?} whose parts do not fit together"));
        }
        Ok(CsrMatrix { shape: (rows, columns), indptr, indices, values })
    }

    /// The whole as a dictionary from numbers to lists of numbers (a graph's adjacency lists), in its order.
    ///
    /// # Errors
    /// When it is something else.
    pub fn adjacency(&self) -> Result<Vec<(i64, Vec<i64>)>> {
        let items = match &self.heap[self.top] {
            Value::Dict(items) => items,
            Value::Object { class, items, .. } if self.global(*class) == Some("collections defaultdict") => items,
            _ => return Err("not a dictionary".into()),
        };
        let int = |id: &Id| match self.heap[*id] {
            Value::Int(v) => Ok(v),
            _ => Err("a node that is not a whole number".to_owned()),
        };
        let list = |id: &Id| match &self.heap[*id] {
            Value::List(ids) | Value::Tuple(ids) => ids.iter().map(int).collect::<Result<Vec<_>>>(),
            _ => Err("neighbours that are not a list".to_owned()),
        };
        items.iter().map(|(k, v)| Ok((int(k)?, list(v)?))).collect()
    }

    fn global(&self, id: Id) -> Option<&str> {
        if let Value::Global(name) = &self.heap[id] { Some(name) } else { None }
    }

    fn lengths(&self, id: Id) -> Result<Vec<usize>> {
        let Value::Tuple(ids) = &self.heap[id] else { return Err("a shape that is not a tuple".into()) };
        ids.iter()
            .map(|i| match self.heap[*i] {
                Value::Int(v) => usize::try_from(v).map_err(|_| format!("a length of {v}")),
                _ => Err("a length that is not a whole number".into()),
            })
            .collect()
    }

    fn array_at(&self, id: Id) -> Result<Array> {
        // numpy pickles an array as _reconstruct(...) with the state (version, shape, dtype, is_fortran, bytes).
        let Value::Object { class, state: Some(state), .. } = &self.heap[id] else { return Err("not a numpy array".into()) };
        if !self.global(*class).is_some_and(|g| g.starts_with("numpy") && g.ends_with(" _reconstruct")) {
            return Err("not a numpy array".into());
        }
        let Value::Tuple(state) = &self.heap[*state] else { return Err("a numpy array without a state".into()) };
        let &[_, shape, dtype, fortran, data] = state.as_slice() else { return Err("a numpy array of an unknown version".into()) };
        let shape = self.lengths(shape)?;
        if matches!(self.heap[fortran], Value::Bool(true)) && shape.len() > 1 {
            return Err("a numpy array in column-major order, which is not known here".into());
        }
        let Value::Bytes(data) = &self.heap[data] else { return Err("a numpy array without bytes".into()) };
        let kind = self.dtype(dtype)?;
        let width = match kind.as_str() {
            "f4" | "i4" => 4,
            "f8" | "i8" => 8,
            _ => return Err(format!("a numpy array of {kind}, which is not known here")),
        };
        if shape.iter().try_fold(width, |n: usize, &l| n.checked_mul(l)) != Some(data.len()) {
            return Err(format!("a numpy array of {kind} {shape:?} with {} bytes", data.len()));
        }
        let read = |b: &[u8]| match (kind.as_str(), b) {
            ("f4", &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            ("i4", &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])),
            ("f8", &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
            (_, &[a, b, c, d, e, f, g, h]) => i64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64,
            _ => unreachable!("chunks are as wide as the kind"),
        };
        Ok(Array { shape, values: data.chunks_exact(width).map(read).collect() })
    }

    /// `f8`, `i4`, …; little-endian only.
    fn dtype(&self, id: Id) -> Result<String> {
        let Value::Object { class, arguments, state, .. } = &self.heap[id] else { return Err("a numpy array without a dtype".into()) };
        if !self.global(*class).is_some_and(|g| g == "numpy dtype") {
            return Err("a numpy array without a dtype".into());
        }
        if let Some(Value::Tuple(state)) = state.map(|s| &self.heap[s])
            && let Some(Value::Bytes(order)) = state.get(1).map(|o| &self.heap[*o])
            && order == b">"
        {
            return Err("a big-endian numpy array, which is not known here".into());
        }
        match arguments.first().map(|a| &self.heap[*a]) {
            Some(Value::Bytes(kind)) => Ok(String::from_utf8_lossy(kind).into_owned()),
            _ => Err("a dtype without a name".into()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Written by Python: pickle.dumps(numpy.array([[1, 2], [3, 4]], "i4"), 2), with `_reconstruct` under its numpy 1 name.
    const ARRAY: &[u8] = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x04U\x02i4K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00tb.";
    const GRAPH: &[u8] =
        b"\x80\x02ccollections\ndefaultdict\nq\x01c__builtin__\nlist\nq\x02\x85Rq\x03(K\x00]q\x04M\x74\x02aK\x01]q\x05(K\x9eM\x67\x0beu.";

    #[test]
    fn arrays_and_graphs() {
        let array = Pickle::read(ARRAY).unwrap().array().unwrap();
        assert_eq!(array, Array { shape: vec![2, 2], values: vec![1., 2., 3., 4.] });
        let graph = Pickle::read(GRAPH).unwrap();
        assert_eq!(graph.adjacency().unwrap(), [(0, vec![628]), (1, vec![158, 2919])]);
        assert_eq!(graph.array().unwrap_err(), "not a numpy array");
        assert_eq!(graph.csr().unwrap_err(), "not a CSR matrix");
        assert_eq!(Pickle::read(ARRAY).unwrap().adjacency().unwrap_err(), "not a dictionary");
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let swap = |from: &[u8], to: &[u8]| {
            let at = ARRAY.windows(from.len()).position(|w| w == from).unwrap();
            [&ARRAY[..at], to, &ARRAY[at + from.len()..]].concat()
        };
        let error = |bytes: &[u8]| Pickle::read(bytes).unwrap().array().unwrap_err();
        assert!(error(&swap(b"i4", b"c8")).contains("of c8"));
        assert!(error(&swap(b"U\x01<", b"U\x01>")).contains("big-endian"));
        assert!(error(&swap(b"\x89", b"\x88")).contains("column-major"));
        assert!(error(&swap(b"K\x01K\x02K\x02", b"K\x01K\x02K\x03")).contains("with 16 bytes"));
    }

    proptest! {
        #[test]
        fn damage_is_an_error_never_a_panic(at in 0..ARRAY.len(), with in any::<u8>(), cut in 0..ARRAY.len()) {
            for base in [ARRAY, GRAPH] {
                let mut bytes = base.to_vec();
                let at = at % bytes.len();
                bytes[at] = with;
                if let Ok(pickle) = Pickle::read(&bytes) {
                    let _ = (pickle.array(), pickle.csr(), pickle.adjacency());
                }
                let cut = cut % base.len();
                prop_assert!(Pickle::read(&base[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_an_error_or_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(pickle) = Pickle::read(&bytes) {
                let _ = (pickle.array(), pickle.csr(), pickle.adjacency());
            }
        }
    }
}
