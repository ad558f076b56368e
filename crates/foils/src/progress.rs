//! Progress for people: a bar on standard error, only on a terminal and only for what takes over two seconds.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const QUIET_FOR: Duration = Duration::from_secs(2);

/// A bar that stays hidden for its first two seconds, and for good when standard error is not a terminal.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: AtomicBool,
}

impl Progress {
    /// A bar over `total` steps (0: unknown, a spinner), with what is being done.
    pub fn new(total: u64, doing: impl Into<String>) -> Self {
        let bar = if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) };
        bar.set_draw_target(ProgressDrawTarget::hidden());
        let template =
            if total == 0 { "{spinner} {msg} {human_pos} {elapsed}" } else { "{msg} {wide_bar} {human_pos}/{human_len} {elapsed}<{eta}" };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is constant"));
        bar.set_message(doing.into());
        Self { bar, started: Instant::now(), shown: AtomicBool::new(false) }
    }

    /// `n` more steps are done. May be called from any thread.
    pub fn inc(&self, n: u64) {
        if !self.shown.load(Ordering::Relaxed) && self.started.elapsed() > QUIET_FOR && !self.shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(n);
    }

    /// Changes the text in front of the bar.
    pub fn say(&self, doing: impl Into<String>) {
        self.bar.set_message(doing.into());
    }

    /// Prints a line above the bar (or plainly, when no bar is drawn).
    pub fn println(&self, line: impl AsRef<str>) {
        if self.bar.is_hidden() { eprintln!("{}", line.as_ref()) } else { self.bar.println(line) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
