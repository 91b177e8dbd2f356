//! Commands that are ended before they are done, and must lose nothing by it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{PATIENCE, Place, both};

/// How a command is ended.
pub enum End {
    /// By the system, at once.
    Kill,
    /// By a person's Ctrl-C: it puts on the disk what it has, and says how it goes on.
    Interrupt,
}

/// Starts a command and ends it when `progressed` says that more is on the disk than before.
pub fn end_early(place: &Place, args: &[&str], end: &End, mut progressed: impl FnMut() -> bool) {
    let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while !progressed() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(since.elapsed() < PATIENCE, "nothing is put on the disk");
        std::thread::sleep(Duration::from_millis(1));
    }
    match end {
        End::Interrupt => {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(130), "{}", both(&output));
            assert!(both(&output).contains("goes on from here"), "{}", both(&output));
        }
        End::Kill => {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
