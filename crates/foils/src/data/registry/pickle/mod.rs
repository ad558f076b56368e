//! The part of Python's pickle format (protocols 0 to 3, as the Planetoid files use it) that numpy arrays, scipy CSR matrices and plain
//! containers need. Nothing is ever called: a pickled call becomes a record of what would be called, and only what is known is read.

mod machine;

use machine::{Id, Result, Value};

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
        let (heap, top) = machine::run(bytes)?;
        Ok(Self { heap, top })
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
        if self.global(*class) != Some("numpy dtype") {
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
