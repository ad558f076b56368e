//! Matrix products of f32: `cargo bench -p foils-kernels --bench products [-- JOB…]`. `product-2048` and `product-attention`
//! are timed beside peers; `table` prints GFLOP/s of many shapes beside the gemm crate and as a share of the measured peak.

mod measure;

use foils_kernels::matrix::{Kernel, Matrix, MatrixMut, Precision, STEP, Write};
use foils_kernels::simd::peak_flops;
use measure::{measure, wanted};
use std::time::Instant;

fn main() {
    if wanted("product-2048") {
        let (a, b, mut c) = (numbers(2048 * 2048), numbers(2048 * 2048), vec![0f32; 2048 * 2048]);
        measure("product-2048", 15, "", || {
            let (a, b) = (Matrix::row_major(&a, 2048, 2048), Matrix::row_major(&b, 2048, 2048));
            Kernel::new(Precision::Highest).product_threaded(a, b, MatrixMut::row_major(&mut c, 2048, 2048), Write::set(1.0));
        });
    }
    if wanted("product-attention") {
        let (a, b, mut c) = (numbers(128 * 128), numbers(8192 * 128), vec![0f32; 128 * 8192]);
        measure("product-attention", 101, "", || {
            let (a, b) = (Matrix::row_major(&a, 128, 128), Matrix::row_major(&b, 8192, 128).transposed());
            Kernel::new(Precision::Highest).product_threaded(a, b, MatrixMut::row_major(&mut c, 128, 8192), Write::set(1.0));
        });
    }
    if std::env::args().any(|a| a == "table") {
        table();
    }
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// The least time of each job in seconds. They take turns, since the clock of a processor changes with what runs beside.
fn least<const JOBS: usize>(mut jobs: [&mut dyn FnMut(); JOBS]) -> [f64; JOBS] {
    /// Short jobs are repeated for about so many seconds each turn.
    const TURN: f64 = 1e-3;
    let mut time = |job: usize, times: u32| {
        let start = Instant::now();
        (0..times).for_each(|_| jobs[job]());
        start.elapsed().as_secs_f64() / f64::from(times)
    };
    let times: [u32; JOBS] = std::array::from_fn(|job| {
        time(job, 1);
        (TURN / time(job, 1)).clamp(1.0, 1e5) as u32
    });
    let (begin, mut least) = (Instant::now(), [f64::INFINITY; JOBS]);
    while begin.elapsed().as_secs_f64() < 0.4 {
        for job in 0..JOBS {
            least[job] = least[job].min(time(job, times[job]));
        }
    }
    least
}

/// How the right-hand operand lies.
#[derive(Clone, Copy, Debug)]
enum Lies {
    Rows,
    Columns,
}

fn table() {
    println!("GFLOP/s of one thread (share of the peak, measured in turn with it)");
    println!("{:>20} {:>8} {:>14} {:>14} {:>14}", "m × n × k", "b lies", "packed", "once", "gemm crate");
    let shapes = [
        (64, 8192, 128),
        (128, 8192, 128),
        (128, 256, 128),
        (128, 8192, 384),
        (128, 384, 1024),
        (128, 128, 8192),
        (256, 128, 128),
        (1, 1024, 384),
        (4, 1024, 384),
        (16, 1024, 384),
        (32, 32, 32),
        (8, 8, 8),
        (1024, 384, 384),
        (1024, 64, 27),
        (16384, 32, 288),
        (2048, 2048, 2048),
    ];
    for (m, n, k) in shapes {
        for lies in [Lies::Rows, Lies::Columns] {
            let [peak, times @ ..] = times(m, n, k, lies);
            let cells = times.map(|t| {
                let flops = 2.0 * (m * n * k) as f64 / t;
                let share = if peak.is_finite() { format!(" ({:.0} %)", 100.0 * flops * peak) } else { String::new() };
                format!("{:.1}{share}", flops / 1e9)
            });
            let shape = format!("{m} × {n} × {k}");
            println!("{shape:>20} {:>8} {:>14} {:>14} {:>14}", format!("{lies:?}"), cells[0], cells[1], cells[2]);
        }
    }
}

/// Seconds: of one operation at the peak, and of the product by packed operands, by operands used once, and by the gemm crate.
fn times(m: usize, n: usize, k: usize, lies: Lies) -> [f64; 4] {
    /// As a kernel consumes products: so many columns at a time, into a block that stays in the cache.
    const COLUMNS: usize = 4 * STEP;
    let (a, b) = (numbers(m * k), numbers(k * n));
    let (mut c, mut c_once, mut c_gemm) = (vec![0f32; m * n], vec![0f32; m * n], vec![0f32; m * n]);
    let strides = match lies {
        Lies::Rows => (n, 1),
        Lies::Columns => (1, k),
    };
    let kernel = Kernel::new(Precision::Highest);
    let (left, right) = (Matrix::row_major(&a, m, k), Matrix::new(&b, (k, n), strides));
    let packed = kernel.right(right);
    let mut ours = || {
        let left = if k * n > 1 << 20 { kernel.left_packed(left) } else { kernel.left(left) };
        for first in (0..n).step_by(COLUMNS) {
            let last = (first + COLUMNS).min(n);
            kernel.multiply(&left, packed.columns(first..last), MatrixMut::row_major(&mut c, m, last - first), Write::set(1.0));
        }
    };
    let mut once = || kernel.product(left, right, MatrixMut::row_major(&mut c_once, m, n), Write::set(1.0));
    let mut gemm = || {
        // SAFETY: the slices hold the matrices of these shapes and strides, and c is borrowed mutably.
        unsafe {
            let (c, a, b) = (c_gemm.as_mut_ptr(), a.as_ptr(), b.as_ptr());
            let (r, s) = (strides.0 as isize, strides.1 as isize);
            let serial = gemm::Parallelism::None;
            gemm::gemm(m, n, k, c, 1, n as isize, false, a, 1, k as isize, b, s, r, 0.0, 1.0, false, false, false, serial);
        }
    };
    let mut seconds = f64::INFINITY;
    let mut peak = || seconds = seconds.min(1.0 / peak_flops());
    let [_, ours, once, gemm] = least([&mut peak, &mut ours, &mut once, &mut gemm]);
    [seconds, ours, once, gemm]
}
