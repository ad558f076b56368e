//! Apache Parquet: columns of texts, lists of texts and numbers.

use super::columns::{Cell, Columns, Layout};
use super::guard::{Bounded, guarded};
use super::reader::{Row, Table};
use super::writer::{Header, Kind, RowWriter, Value};
use crate::files::AtomicFile;
use crate::{Error, Result};
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use ::parquet::arrow::{ArrowWriter, ProjectionMask};
use ::parquet::basic::Compression;
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use arrow_array::builder::{ArrayBuilder, Float32Builder, Int64Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, types};
use arrow_schema::{DataType, Field, Schema};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows decoded at a time: enough to be fast, few enough that long texts fit in memory.
const BATCH: usize = 512;
/// Bytes of text gathered before they are given to the encoder, and of a row group before it is written out.
const GATHER: usize = 8 << 20;
const ROW_GROUP: usize = 64 << 20;
/// A list or text column of one batch is addressed with 32-bit offsets.
const LARGEST_ROW: usize = 1 << 30;

pub(super) struct Parquet {
    path: PathBuf,
    names: Vec<String>,
    reader: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    /// The next row in `batch`.
    next: usize,
    /// Rows given so far.
    row: u64,
}

impl Parquet {
    /// Opens the columns that are needed; the others are not read from disk.
    pub fn open(path: &Path, columns: &Columns) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::file(path, None, "is a folder; a file is needed here"));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        if file.metadata().map_err(Error::io("read", path))?.len() == 0 {
            return Err(Error::file(path, None, "is empty; there are no examples to read"));
        }
        // Without the Arrow schema that some writers store, texts come in one type, not as dictionaries or views.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = decode(path, 0, || ParquetRecordBatchReaderBuilder::try_new_with_options(Bounded(file), options))?;
        let all: Vec<String> = builder.schema().fields().iter().map(|f| f.name().clone()).collect();
        let layout = Layout::resolve(&all, columns).map_err(|m| Error::file(path, None, m))?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), layout.places());
        let reader = decode(path, 0, || builder.with_projection(mask).with_batch_size(BATCH).build())?;
        let names = (0..all.len()).filter(|i| layout.places().any(|p| p == *i)).map(|i| all[i].clone()).collect();
        Ok(Self { path: path.to_owned(), names, reader, batch: None, next: 0, row: 0 })
    }
}

impl Table for Parquet {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let batch = loop {
            match &self.batch {
                Some(batch) if self.next < batch.num_rows() => break batch,
                _ => {}
            }
            let Some(batch) = decode(&self.path, self.row, || self.reader.next().transpose())? else { return Ok(None) };
            self.batch = Some(batch);
            self.next = 0;
        };
        let row = self.row + 1;
        let cells = batch.columns().iter().map(|column| cell(column, self.next)).collect::<Result<_, _>>();
        self.next += 1;
        self.row = row;
        Ok(Some(Row { at: row, cells: cells.map_err(|m| Error::file(&self.path, None, format!("row {row}: {m}")))? }))
    }

    fn columns(&self) -> &[String] {
        &self.names
    }
}

/// Runs a step of the decoder, which answers some damaged files with an error and some with a panic.
fn decode<T, E: std::fmt::Display>(path: &Path, after: u64, step: impl FnOnce() -> Result<T, E>) -> Result<T> {
    let reason = match guarded(step) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    let place = if after == 0 { String::new() } else { format!("after row {after}: ") };
    Err(Error::file(path, None, format!("{place}cannot be read as Parquet, it is damaged, cut off or of another kind: {reason}")))
}

fn cell(array: &ArrayRef, row: usize) -> Result<Cell, String> {
    use types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
    macro_rules! number {
        ($kind:ty) => {
            Cell::Number(array.as_primitive::<$kind>().value(row) as f64)
        };
    }
    if array.is_null(row) {
        return Ok(Cell::Null);
    }
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map(Cell::Text).map_err(|_| "a text is not UTF-8".to_owned());
    let list = |items: ArrayRef| -> Result<Cell, String> {
        let cells = (0..items.len()).map(|i| cell(&items, i)).collect::<Result<Vec<_>, _>>()?;
        Ok(Cell::list(cells.into_iter()))
    };
    Ok(match array.data_type() {
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row).to_owned()),
        DataType::Binary => utf8(array.as_binary::<i32>().value(row))?,
        DataType::LargeBinary => utf8(array.as_binary::<i64>().value(row))?,
        DataType::BinaryView => utf8(array.as_binary_view().value(row))?,
        DataType::List(_) => list(array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row))?,
        DataType::Boolean => Cell::Number(f64::from(u8::from(array.as_boolean().value(row)))),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::Struct(_) => Cell::Other("a structure"),
        DataType::Map(..) => Cell::Other("a map"),
        _ => Cell::Other("of a type that is neither text nor number"),
    })
}

/// A column being gathered.
enum Gathered {
    Text(StringBuilder),
    Texts(ListBuilder<StringBuilder>),
    Label(Int64Builder),
    Labels(ListBuilder<Int64Builder>),
    Score(Float32Builder),
    Scores(ListBuilder<Float32Builder>),
}

impl Gathered {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(StringBuilder::new()),
            Kind::Texts => Self::Texts(ListBuilder::new(StringBuilder::new())),
            Kind::Label => Self::Label(Int64Builder::new()),
            Kind::Labels => Self::Labels(ListBuilder::new(Int64Builder::new())),
            Kind::Score => Self::Score(Float32Builder::new()),
            Kind::Scores | Kind::MaybeScores => Self::Scores(ListBuilder::new(Float32Builder::new())),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(column) => ArrayBuilder::finish(column),
            Self::Texts(column) => ArrayBuilder::finish(column),
            Self::Label(column) => ArrayBuilder::finish(column),
            Self::Labels(column) => ArrayBuilder::finish(column),
            Self::Score(column) => ArrayBuilder::finish(column),
            Self::Scores(column) => ArrayBuilder::finish(column),
        }
    }

    /// Appends a value of the column's kind.
    fn append(&mut self, value: &Value<'_>) -> Result<()> {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => column.append_value(text),
            (Self::Texts(column), Value::Texts(texts)) => column.append_value(texts.iter().map(Some)),
            (Self::Label(column), Value::Label(label)) => column.append_value(i64::from(*label)),
            (Self::Labels(column), Value::Labels(labels)) => column.append_value(labels.iter().map(|&l| Some(i64::from(l)))),
            (Self::Score(column), Value::Score(score)) => column.append_value(*score),
            (Self::Scores(column), Value::Scores(scores)) => {
                column.values().append_slice(scores);
                column.append(!scores.is_empty());
            }
            _ => return Err(Error::invalid("a row of another shape than the file")),
        }
        Ok(())
    }
}

fn field(name: &str, kind: Kind) -> Field {
    let list = |item: DataType| Field::new_list(name, Field::new_list_field(item, true), kind == Kind::MaybeScores);
    match kind {
        Kind::Text => Field::new(name, DataType::Utf8, false),
        Kind::Texts => list(DataType::Utf8),
        Kind::Label => Field::new(name, DataType::Int64, false),
        Kind::Labels => list(DataType::Int64),
        Kind::Score => Field::new(name, DataType::Float32, false),
        Kind::Scores | Kind::MaybeScores => list(DataType::Float32),
    }
}

pub(super) struct ParquetWriter {
    path: PathBuf,
    schema: Arc<Schema>,
    out: ArrowWriter<AtomicFile>,
    gathered: Vec<Gathered>,
    bytes: usize,
    rows: usize,
}

impl ParquetWriter {
    pub fn create(path: &Path, header: &Header) -> Result<Self> {
        let gathered = header.iter().map(|column| Gathered::new(column.1)).collect();
        let schema = Arc::new(Schema::new(header.iter().map(|(name, kind)| field(name, *kind)).collect::<Vec<_>>()));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_max_row_group_bytes(Some(ROW_GROUP)).build();
        let out = ArrowWriter::try_new(AtomicFile::create(path)?, schema.clone(), Some(properties)).map_err(|e| failed(path, e))?;
        Ok(Self { path: path.to_owned(), schema, out, gathered, bytes: 0, rows: 0 })
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = self.gathered.iter_mut().map(Gathered::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| failed(&self.path, e.into()))?;
        self.out.write(&batch).map_err(|e| failed(&self.path, e))?;
        (self.bytes, self.rows) = (0, 0);
        Ok(())
    }
}

impl RowWriter for ParquetWriter {
    fn write(&mut self, row: &[Value<'_>]) -> Result<()> {
        let size = |value: &Value<'_>| match value {
            Value::Text(text) => text.len(),
            Value::Texts(texts) => texts.iter().map(|t| t.len()).sum(),
            _ => 0,
        };
        let size = row.iter().map(size).sum::<usize>();
        if size > LARGEST_ROW {
            return Err(Error::file(&self.path, None, format!("a row of {size} bytes is more than Parquet is written with here (1 GiB)")));
        }
        if self.bytes + size > GATHER {
            self.flush()?;
        }
        self.gathered.iter_mut().zip(row).try_for_each(|(column, value)| column.append(value))?;
        self.bytes += size;
        self.rows += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()?;
        // Also writes the last row group and the footer.
        self.out.into_inner().map_err(|e| failed(&self.path, e))?.commit()
    }
}

fn failed(path: &Path, error: ParquetError) -> Error {
    let words = error.to_string();
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(source) => Error::io("write", path)(*source),
            Err(_) => Error::file(path, None, format!("cannot be written: {words}")),
        },
        _ => Error::file(path, None, format!("cannot be written: {words}")),
    }
}
