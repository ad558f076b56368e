//! BM25 over the glosses of WordNet, Lucene's weights, f32: `cargo bench -p foils-kernels --bench bm25 [-- JOB…]`.
//!
//! The token ids come from `python3 benches/peers/glosses.py`, which the peers read too.

mod measure;

use foils_kernels::bm25::{Bm25, Idf};
use measure::{measure, wanted};
use std::path::{Path, PathBuf};

fn main() {
    if !["bm25-long", "bm25-short", "bm25-index"].iter().any(|job| wanted(job)) {
        return;
    }
    let Some((tokens, lengths)) = read("documents") else {
        eprintln!("the glosses are not in the cache: run `python3 benches/peers/glosses.py`");
        std::process::exit(2);
    };
    let offsets: Vec<usize> = std::iter::once(0).chain(lengths.iter().scan(0, |at, &n| Some(add(at, n)))).collect();
    let vocabulary = tokens.iter().max().map_or(0, |&t| t as usize + 1);
    let build = || Bm25::<f32>::new(&tokens, &offsets, vocabulary, 1.2, 0.75, Idf::Lucene);
    if wanted("bm25-index") {
        measure("bm25-index", 21, "", build);
    }
    let index = build();
    for (job, name) in [("bm25-long", "long"), ("bm25-short", "short")] {
        if wanted(job) {
            let (tokens, lengths) = read(name).expect("written beside the documents");
            let mut at = 0;
            let queries: Vec<&[u32]> = lengths
                .iter()
                .map(|&n| {
                    let end = add(&mut at, n);
                    &tokens[end - n as usize..end]
                })
                .collect();
            measure(job, 11, "", || index.top_k(&queries, 50, |_, _| false));
        }
    }
}

/// Moves on by `n` and says where that is.
fn add(at: &mut usize, n: u32) -> usize {
    *at += n as usize;
    *at
}

/// The tokens and the lengths of the texts of one kind.
fn read(name: &str) -> Option<(Vec<u32>, Vec<u32>)> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let folder = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?.join("foils-peers/glosses");
    let numbers = |kind: &str| {
        let bytes = std::fs::read(folder.join(format!("{name}.{kind}"))).ok()?;
        Some(bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b)).collect())
    };
    Some((numbers("tokens")?, numbers("lengths")?))
}
