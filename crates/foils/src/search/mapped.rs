//! Exact nearest documents among embeddings that stay in their file.

use super::dense::{check_query_widths, sorted_lists};
use super::{Ranking, Similarity};
use crate::data::Embeddings;
use crate::data::formats::vectors::MappedEmbeddings;
use crate::{Error, Result};
use foils_kernels::topk::{self, TopK};

/// [`super::top_k`] over documents in a file that may be larger than memory: the same rankings, to the bit.
///
/// The documents are taken in blocks, as large as `memory_bytes` allows for what is made of them (their 8-bit copies, and for
/// cosines, or numbers that are not f32, a decoded copy), but of at least 256 rows. Beyond `memory_bytes` there are the queries (for
/// cosines twice), an 8-bit copy of them, and for each query its result; and for each thread up to 8k + 512 candidates of 12 bytes for
/// each of 1,020 queries. Pages of the file itself are the system's to give up and count as its cache, not as this process's own memory.
///
/// # Errors
/// Those of [`super::top_k`]; also when the file holds a value that is not finite.
pub fn top_k_mapped(
    queries: &Embeddings,
    documents: &MappedEmbeddings,
    k: usize,
    similarity: Similarity,
    excluded: &[Vec<u32>],
    memory_bytes: usize,
) -> Result<Vec<Ranking>> {
    if k == 0 {
        return Err(Error::invalid("k is 0; at least one document must be asked for"));
    }
    if u32::try_from(documents.rows()).is_err() {
        return Err(Error::invalid(format!("{} documents; at most 2^32 can be searched", documents.rows())));
    }
    if queries.rows() == 0 {
        return Ok(Vec::new());
    }
    let (n, dim) = (documents.rows(), documents.dim());
    check_query_widths(queries, dim)?;
    let excluded = sorted_lists(excluded, queries.rows(), n)?;
    let is_excluded = |query: usize, document: u32| excluded.get(query).is_some_and(|list| list.binary_search(&document).is_ok());
    let cosine = similarity == Similarity::Cosine;
    let unit = if cosine {
        super::check_directions("query", queries)?;
        topk::unit_rows(queries.data(), dim)
    } else {
        Vec::new()
    };
    let mut best = TopK::new(if cosine { &unit } else { queries.data() }, dim, k);
    let copied = cosine || documents.borrow(0..1)?.is_none();
    let each = best.bytes_for_each_document() + if copied { 4 * dim } else { 0 };
    let rows = (memory_bytes / each.max(1)).max(256);
    let mut copy = Vec::new();
    for start in (0..n).step_by(rows) {
        let range = start..(start + rows).min(n);
        let block = if copied { None } else { documents.borrow(range.clone())? };
        let block = match block {
            Some(block) => block,
            None => {
                documents.read(range, &mut copy)?;
                if cosine {
                    if let Some(row) = copy.chunks_exact(dim).position(|row| row.iter().all(|v| *v == 0.0)) {
                        return Err(Error::invalid(format!(
                            "document {} has the zero vector, which has no cosine with anything",
                            start + row
                        )));
                    }
                    topk::make_unit_rows(&mut copy, dim);
                }
                &copy
            }
        };
        best.block(start as u32, block, is_excluded);
    }
    Ok(best.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::formats::vectors;
    use crate::search;

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn a_file_is_searched_as_its_rows_are() {
        let folder = tempfile::tempdir().unwrap();
        let (dim, n) = (20, 1500);
        let documents = Embeddings::new(dim, numbers(n * dim, 3)).unwrap();
        let queries = Embeddings::new(dim, numbers(60 * dim, 4)).unwrap();
        let excluded: Vec<Vec<u32>> = (0..60).map(|q| vec![q * 7, q * 3]).collect();
        for name in ["a.npy", "a.safetensors"] {
            let path = folder.path().join(name);
            vectors::write(&path, &documents).unwrap();
            let mapped = MappedEmbeddings::open(&path, None).unwrap();
            assert_eq!((mapped.rows(), mapped.dim()), (n, dim));
            for similarity in [Similarity::Dot, Similarity::Cosine] {
                let expected = search::top_k(&queries, &documents, 9, similarity, &excluded).unwrap();
                for memory in [0, 40_000, 1 << 30] {
                    assert_eq!(top_k_mapped(&queries, &mapped, 9, similarity, &excluded, memory).unwrap(), expected, "{name} {memory}");
                }
            }
        }
    }

    #[test]
    fn other_numbers_are_decoded_and_wrong_files_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let write = |kind: &str, data: &[u8], rest: &[u8]| {
            let header = format!("{{\"x\":{{\"dtype\":\"{kind}\",\"shape\":[2,2],\"data_offsets\":[0,{}]}}}}", data.len());
            let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data, rest].concat();
            std::fs::write(&path, bytes).unwrap();
        };
        let query = Embeddings::new(2, vec![1.0, 0.0]).unwrap();
        let search = || top_k_mapped(&query, &MappedEmbeddings::open(&path, None)?, 2, Similarity::Dot, &[], 0);
        let half: Vec<u8> = [1.0, 0.5, 2.0, 0.25].iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        write("F16", &half, &[]);
        assert_eq!(search().unwrap(), [[(1, 2.0), (0, 1.0)]]);
        write("F16", &half, &[0]);
        assert!(search().unwrap_err().to_string().contains("damaged or cut off"));
        let nan: Vec<u8> = [1.0, 0.5, f32::NAN, 0.25].iter().flat_map(|v| v.to_le_bytes()).collect();
        write("F32", &nan, &[]);
        assert!(search().unwrap_err().to_string().contains("row 1, column 0"));
        let zipped = MappedEmbeddings::open(folder.path().join("a.npy.gz"), None).unwrap_err().to_string();
        assert!(zipped.contains("unpack it first"), "{zipped}");
    }
}
