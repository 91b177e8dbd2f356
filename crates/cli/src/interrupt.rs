//! Ctrl-C and the system's request to end, as a flag that work looks at between two steps.
//! The first asks politely and lets work reach a safe place; the second ends the program at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Set when somebody asked to stop.
static STOP: AtomicBool = AtomicBool::new(false);
/// How often somebody asked since the flag was last cleared.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// What is said on the first request.
static ANSWER: OnceLock<&'static str> = OnceLock::new();

/// Begins to listen. `answer` is written when the first request comes; empty for none.
pub fn listen(answer: &'static str) {
    if ANSWER.set(answer).is_err() {
        return;
    }
    let heard = || {
        STOP.store(true, Ordering::SeqCst);
        if ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
            #[expect(
                clippy::exit,
                reason = "the person asked twice; everything on disk is whole at any moment"
            )]
            std::process::exit(130);
        }
        if let Some(answer) = ANSWER.get().filter(|answer| !answer.is_empty()) {
            anstream::eprintln!("\n{answer}");
        }
    };
    // Where signals cannot be had, Ctrl-C ends the program as always, which loses no more than a power cut would.
    let _ = ctrlc::set_handler(heard);
}

/// The flag.
pub fn flag() -> &'static AtomicBool {
    &STOP
}

/// Whether somebody asked to stop.
pub fn asked() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Forgets the request, where it meant only what is now over (an answer in a conversation).
pub fn clear() {
    STOP.store(false, Ordering::SeqCst);
    ASKED.store(0, Ordering::SeqCst);
}
