//! Searches a file of embeddings that need not fit into memory, and says how much memory that took:
//! `cargo run --release --workspace --example search_file -- 1500000 200` makes 1,500,000 rows of 384 numbers (2.3 GB) in the folder
//! for temporary files and searches them for 1,000 queries with 200 MB for what is made of the documents.

use foils::data::Embeddings;
use foils::data::formats::vectors::MappedEmbeddings;
use foils::own_memory;
use foils::search::{Similarity, top_k_mapped};
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DIM: usize = 384;
const QUERIES: usize = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let (rows, megabytes) = (arguments.next().unwrap_or(Ok(100_000))?, arguments.next().unwrap_or(Ok(50))?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("documents.npy");
    write(&path, rows)?;
    let queries = Embeddings::new(DIM, (0..QUERIES).flat_map(row).collect())?;
    let documents = MappedEmbeddings::open(&path, None)?;
    let own = || own_memory().unwrap_or(0);
    let (before, start, done) = (own(), Instant::now(), AtomicBool::new(false));
    let (found, most) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(own());
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let found = top_k_mapped(&queries, &documents, 10, Similarity::Dot, &[], megabytes << 20);
        done.store(true, Ordering::Relaxed);
        (found, watch.join().unwrap_or(0))
    });
    let found = found?;
    println!(
        "{rows} rows, {} MB of file; allowed {megabytes} MB, own memory grew by at most {} MB; {:.1} s; the best of the first query: {:?}",
        (rows * DIM * 4) >> 20,
        most.saturating_sub(before) >> 20,
        start.elapsed().as_secs_f64(),
        found[0].first(),
    );
    Ok(())
}

/// A row that depends on its number alone.
fn row(i: usize) -> impl Iterator<Item = f32> {
    (0..DIM).map(move |j| {
        let mixed = ((i * DIM + j) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

fn write(path: &std::path::Path, rows: usize) -> std::io::Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {DIM}), }}");
    let header = format!("{header:<117}\n");
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(header.len() as u16).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for i in 0..rows {
        for value in row(i) {
            file.write_all(&value.to_le_bytes())?;
        }
    }
    file.into_inner()?.sync_all()
}
