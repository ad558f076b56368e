//! The command's allocator.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// A training step takes and returns hundreds of megabytes in large pieces; the system's allocator gives them back to the system, and every
/// page of them costs again in the next step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: mi_option_t = 15;

/// From here on nothing that is freed goes back to the system. To be called by a command that trains, before it starts threads.
pub fn keep_what_is_freed() {
    // SAFETY: mimalloc reads the option when it frees; no other thread does while there is only this one.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
}
