//! What every benchmark here prints: one line of JSON with the times of a job and the memory that it took beyond its input.

use std::time::Instant;

/// Runs `job` once to warm up and then `repetitions` times; prints `{"job", "ms", "extra_mb", "threads", "note"}`.
pub fn measure<T>(name: &str, repetitions: usize, note: &str, mut job: impl FnMut() -> T) {
    reset_peak();
    let before = status("VmRSS");
    drop(job());
    let extra = status("VmHWM").zip(before).map(|(peak, before)| (peak - before).max(0.0));
    let times: Vec<String> = (0..repetitions)
        .map(|_| {
            let start = Instant::now();
            let result = job();
            let ms = start.elapsed().as_secs_f64() * 1e3;
            drop(result);
            format!("{ms:.3}")
        })
        .collect();
    let extra = extra.map_or("null".into(), |mb| format!("{mb:.1}"));
    let threads = rayon::current_num_threads();
    println!("{{\"job\":\"{name}\",\"ms\":[{}],\"extra_mb\":{extra},\"threads\":{threads},\"note\":\"{note}\"}}", times.join(","));
}

/// Lets the peak of resident memory begin anew (Linux; elsewhere nothing is measured).
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A line of /proc/self/status in MB.
fn status(key: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// The job named on the command line runs, or all when none is named (`cargo bench` adds options, which are passed over).
pub fn wanted(name: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|a| !a.starts_with('-')).peekable();
    names.peek().is_none() || names.any(|n| n == name)
}
