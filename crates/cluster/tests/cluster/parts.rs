//! The parts of a cluster as processes of this program, and how tests look at them from outside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cluster::{ExecutorOptions, SchedulerOptions};
use ledger::progress::{Progress, Task, Unit};

/// What comes before the name of a part on the command line: scheduler, executor or driver.
pub const FLAG: &str = "--part";

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Seconds after which an executor that says nothing is lost.
const EXECUTOR_TIMEOUT: Duration = Duration::from_secs(8);

/// Waits until something is so.
pub fn wait(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a part, in the process that was started for it.
pub fn run(part: &str, words: &[String]) -> ExitCode {
    let done = match part {
        "scheduler" => {
            let bind = words[0].clone();
            let options = SchedulerOptions { bind, host: None, executor_timeout: EXECUTOR_TIMEOUT };
            let ready = |address| say(&format!("listening {address}"));
            cluster::scheduler(&options, &Said, ready).map_err(|error| (error.to_string(), error.hint()))
        }
        "executor" => {
            let options = ExecutorOptions {
                scheduler: words[0].clone(),
                bind: "127.0.0.1:0".into(),
                host: None,
                slots: 1,
                work: words.get(1).map(PathBuf::from),
            };
            let ready = |name: &str| say(&format!("ready {name}"));
            cluster::executor(&options, &Said, ready).map_err(|error| (error.to_string(), error.hint()))
        }
        _ => {
            let cluster = super::cluster_at(&words[2]);
            let done = super::curate(Path::new(&words[0]), &words[1], Some(&cluster), None);
            done.map(|_| ()).map_err(|error| (error.to_string(), error.hint()))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, hint)) => {
            say(&format!("error: {error}\nhint: {}", hint.unwrap_or_default()));
            ExitCode::FAILURE
        }
    }
}

/// A line for the test that listens.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Says what a person would see.
struct Said;

impl Progress for Said {
    fn begin(&self, _: &str, _: Option<u64>, _: Unit) -> Box<dyn Task> {
        Box::new(Said)
    }
    fn note(&self, text: &str) {
        say(text);
    }
    fn warn(&self, text: &str) {
        say(text);
    }
}

impl Task for Said {
    fn advance(&self, _: u64) {}
    fn position(&self, _: u64) {}
    fn message(&self, text: &str) {
        say(text);
    }
}

/// A process of this program; it is killed when it is dropped.
pub struct Part {
    child: Child,
    /// Where it writes what it says.
    log: PathBuf,
    /// What it needs, and where results lie.
    folder: tempfile::TempDir,
    pub address: String,
}

impl Part {
    pub fn start(name: &str, words: &[&str]) -> Part {
        Part::start_as(&std::env::current_exe().unwrap(), name, words)
    }

    pub fn start_as(program: &Path, name: &str, words: &[&str]) -> Part {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let out = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(program);
        command.args([FLAG, name]).args(words);
        if name == "executor" {
            command.arg(folder.path().join("results"));
        }
        let child =
            command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Part { child, log, folder, address: String::new() }
    }

    /// A scheduler that listens.
    pub fn scheduler(bind: &str) -> Part {
        let mut part = Part::start("scheduler", &[bind]);
        wait("the scheduler listens", || part.said().contains("listening "));
        part.address = part.said().split_once("listening ").unwrap().1.lines().next().unwrap().to_owned();
        part
    }

    /// Everything it said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// How many portions it said it has done.
    pub fn portions(&self) -> u64 {
        let said = self.said();
        let counts = said.lines().filter_map(|line| line.strip_suffix(" portions done")?.parse().ok());
        counts.last().unwrap_or(0)
    }

    /// Files of results that lie there.
    pub fn results(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(&self.folder.path().join("results"))
    }

    pub fn signal(&self, signal: &str) {
        let told = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(told.unwrap().success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn ends(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "it does not end; it said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("it said:\n{}", self.said());
        }
    }
}

/// A scheduler with executors of one slot each.
pub struct Parts {
    pub scheduler: Part,
    pub executors: Vec<Part>,
}

impl Parts {
    pub fn start(executors: usize) -> Parts {
        let scheduler = Part::scheduler("127.0.0.1:0");
        let start = |_| Part::start("executor", &[&scheduler.address]);
        let executors: Vec<Part> = (0..executors).map(start).collect();
        wait("the executors have come", || scheduler.said().matches(" has come").count() == executors.len());
        Parts { scheduler, executors }
    }
}
