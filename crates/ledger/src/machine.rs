//! The facts of the machine and the program that a manifest keeps, so that a figure can be understood later.
//! Not a benchmark, and nothing that names a person or a host.

use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What a figure depends on besides the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name as it gives it, or its architecture where it gives none.
    pub processor: String,
    /// The processors that this process may use.
    pub cores: usize,
    /// Bytes of memory, 0 where unknown.
    pub memory: u64,
    /// The operating system and its release.
    pub system: String,
}

impl Machine {
    /// This machine; read from `/proc` where there is one, otherwise with less detail.
    pub fn this() -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: processor(&text("/proc/cpuinfo")).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(&text("/proc/meminfo")).unwrap_or(0),
            system: format!("{} {}", std::env::consts::OS, text("/proc/sys/kernel/osrelease").trim())
                .trim_end()
                .to_owned(),
        }
    }
}

/// The most memory that this process held at once, in bytes, as the kernel counts it; `None` where it does not say.
pub fn peak_memory() -> Option<u64> {
    peak(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Bytes of memory that can be taken without anything being written to disk or ended, as the kernel reckons; `None` where it
/// does not say.
pub fn available_memory() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// The commit this program was built from, with `-development` after it where later commits may be in it, or
/// `unknown`.
pub fn commit() -> &'static str {
    env!("ALTIPLANO_COMMIT")
}

/// The compiler that built this program, as `rustc --version` says.
pub fn toolchain() -> &'static str {
    env!("ALTIPLANO_TOOLCHAIN")
}

/// The digest of the running program's own file, which is exact where [`commit`] may not be; `None` where it
/// cannot be read. Computed once.
pub fn program() -> Option<&'static Digest> {
    static PROGRAM: OnceLock<Option<Digest>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            // On Linux this path leads to the program that runs even when its file has been replaced since.
            let running = Path::new("/proc/self/exe");
            let path = if running.exists() { running.to_owned() } else { std::env::current_exe().ok()? };
            Digest::of_file(&path).ok()
        })
        .as_ref()
}

fn processor(cpuinfo: &str) -> Option<String> {
    value(cpuinfo, "model name").map(|name| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn memory(meminfo: &str) -> Option<u64> {
    kibibytes(meminfo, "MemTotal")
}

fn peak(status: &str) -> Option<u64> {
    kibibytes(status, "VmHWM")
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let kibibytes: u64 = value(text, key)?.strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once(':')).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC  9B14\nflags\t\t: fpu vme\n";
        assert_eq!(processor(cpuinfo).as_deref(), Some("AMD EPYC 9B14"));
        assert_eq!(memory("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 * 1024));
        for odd in [
            "",
            "MemTotal: x kB",
            "MemTotal: 12",
            "MemTotal: 99999999999999999999 kB",
            "MemTotal: 18446744073709551615 kB",
        ] {
            assert_eq!(memory(odd), None, "{odd}");
        }
        assert_eq!(processor("processor: 0\n"), None);
        assert_eq!(peak("VmPeak:\t  9 kB\nVmHWM:\t  1204 kB\nVmRSS:\t 7 kB\n"), Some(1204 * 1024));
        assert_eq!(peak("VmRSS:\t 7 kB\n"), None);
    }

    #[test]
    fn this_machine_and_program_are_known() {
        let machine = Machine::this();
        assert!(machine.cores >= 1 && !machine.processor.is_empty() && !machine.system.is_empty());
        assert!(toolchain().starts_with("rustc "), "{}", toolchain());
        assert!(!commit().is_empty());
        assert_eq!(program(), Digest::of_file(&std::env::current_exe().unwrap()).ok().as_ref());
    }
}
