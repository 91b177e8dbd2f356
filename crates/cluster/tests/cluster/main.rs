//! A scheduler and executors on loopback, as processes of this very program, beside a curation in the process: the folders
//! are compared byte for byte, with executors killed, stopped and refused meanwhile. A program of its own instead of tests
//! of a harness, since it runs itself: `cargo xtask cluster-test`, with a part of a test's name to run only that.

#![expect(clippy::print_stdout, reason = "a program that says how its tests go")]

mod pages;
mod parts;
mod questions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::Cluster;
use corpus::{Elsewhere, Error, Funnel, Options, Settings, Source};
use ledger::progress::Silent;
use ledger::seed::Seed;
use parts::{Part, Parts, wait};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, part, words @ ..] = &words[..]
        && flag == parts::FLAG
    {
        return parts::run(part, words);
    }
    let wanted = words.iter().find(|word| !word.starts_with('-')).map(String::as_str).unwrap_or_default();
    let tests: &[(&str, fn(&Place))] = &[
        ("questions are answered", |_| questions::answered()),
        ("any number of executors gives the same folder", any_number_of_executors),
        ("an executor that is killed loses nothing", killed_executor),
        ("an executor that says nothing more loses nothing", silent_executor),
        ("an executor that is asked to end leaves its work to others", ended_executor),
        ("a driver that is killed goes on", killed_driver),
        ("a scheduler that is started anew is found again", new_scheduler),
        ("other programs are refused", other_programs),
        ("a large document travels", |_| large_document()),
        ("mistakes are told", mistakes),
    ];
    let place = Place::new();
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(wanted)) {
        let since = Instant::now();
        println!("test {name} ...");
        test(&place);
        println!("test {name} ok, {:.1} s", since.elapsed().as_secs_f64());
    }
    ExitCode::SUCCESS
}

/// Inputs, and what a curation in the process makes of them.
struct Place {
    folder: tempfile::TempDir,
    calm: BTreeMap<String, Vec<u8>>,
}

/// More than there are inputs of.
const INPUTS: usize = 24;

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        pages::write(&folder.path().join("in"), INPUTS);
        let funnel = curate(folder.path(), "calm", None, None).unwrap();
        assert!(funnel.train.documents > 50 && funnel.skipped.count > 0, "{funnel:?}");
        let calm = files(&folder.path().join("calm"));
        assert!(calm.keys().any(|name| name.starts_with("removed/")), "{:?}", calm.keys());
        Place { folder, calm }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self, out: &str) {
        let found = files(&self.path(out));
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&self.calm));
        for (name, bytes) in &found {
            assert!(*bytes == self.calm[name], "{name} differs");
        }
    }

    /// Curates on a cluster while something happens to it, and compares what comes out.
    fn curate_while(&self, scheduler: &str, out: &str, happens: impl FnOnce()) {
        let (folder, scheduler) = (self.folder.path().to_owned(), scheduler.to_owned());
        let name = out.to_owned();
        let curation = std::thread::spawn(move || {
            let cluster = cluster_at(&scheduler);
            curate(&folder, &name, Some(&cluster), None).map(|_| ())
        });
        happens();
        curation.join().unwrap().unwrap();
        self.check(out);
    }
}

/// Each input is a portion.
fn cluster_at(scheduler: &str) -> Cluster<'static> {
    Cluster { scheduler: scheduler.into(), portion_bytes: 1, at_once: 6, progress: &Silent }
}

/// Curates the inputs; what a kill leaves stays in `OUT.work`.
fn curate(
    folder: &Path,
    out: &str,
    elsewhere: Option<&dyn Elsewhere>,
    stop: Option<&AtomicBool>,
) -> Result<Funnel, Error> {
    let mut settings = Settings::default();
    settings.gopher_quality.min_words = 20;
    settings.removed.fraction = 0.2;
    let sources = [Source::Path(folder.join("in").to_str().unwrap().into())];
    let work = folder.join(format!("{out}.work"));
    let options = Options {
        work: Some(&work),
        keep_work: true,
        checkpoint_bytes: 100_000,
        stop,
        elsewhere,
        ..Options::default()
    };
    corpus::curate_with(&settings, &sources, &[], &folder.join(out), Seed(3), &Silent, &options)
}

/// What is in a folder, and in those within it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(
                files(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn any_number_of_executors(place: &Place) {
    for executors in [1, 2, 3] {
        let parts = Parts::start(executors);
        let out = format!("of{executors}");
        place.curate_while(&parts.scheduler.address, &out, || {});
        let done: Vec<u64> = parts.executors.iter().map(Part::portions).collect();
        assert_eq!(done.iter().sum::<u64>(), INPUTS as u64, "{done:?}");
        assert!(executors == 1 || done.iter().filter(|done| **done > 0).count() > 1, "{done:?}");
        // What was fetched does not stay.
        wait("results are removed", || parts.executors.iter().all(|part| part.results() == 0));
    }
}

/// Both have work in hand, and the first has done some that may not have been fetched.
fn in_the_middle(parts: &Parts) {
    wait("a portion of each", || parts.executors.iter().all(|part| part.portions() > 0));
}

fn killed_executor(place: &Place) {
    for again in 0..2 {
        let mut parts = Parts::start(2);
        let address = parts.scheduler.address.clone();
        let mut before = 0;
        place.curate_while(&address, &format!("killed{again}"), || {
            in_the_middle(&parts);
            before = parts.executors[0].portions();
            parts.executors[0].kill();
        });
        assert!(before < INPUTS as u64, "it was not in the middle");
        let after = parts.executors[1].portions();
        assert!(before + after >= INPUTS as u64, "{before} and {after}");
        println!("  {before} portions done before the kill, {after} of {INPUTS} by the other executor");
    }
}

fn silent_executor(place: &Place) {
    let parts = Parts::start(2);
    place.curate_while(&parts.scheduler.address, "silent", || {
        in_the_middle(&parts);
        parts.executors[0].signal("STOP");
    });
    parts.executors[0].signal("CONT");
}

fn ended_executor(place: &Place) {
    let mut parts = Parts::start(2);
    let address = parts.scheduler.address.clone();
    place.curate_while(&address, "ended", || {
        in_the_middle(&parts);
        parts.executors[0].signal("TERM");
        assert!(parts.executors[0].ends().success());
    });
    parts.executors[1].signal("INT");
    assert!(parts.executors[1].ends().success());
    parts.scheduler.signal("TERM");
    assert!(parts.scheduler.ends().success());
}

fn killed_driver(place: &Place) {
    let parts = Parts::start(2);
    let folder = place.folder.path().to_str().unwrap();
    let mut kills = 0;
    for _ in 0..20 {
        let mut driver = Part::start("driver", &[folder, "driven", &parts.scheduler.address]);
        let shards = || std::fs::read_dir(place.path("driven.work")).map_or(0, |entries| entries.count());
        let (before, since) = (shards(), Instant::now());
        while shards() < before + 28 && !driver.has_ended() && since.elapsed() < parts::PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        if driver.has_ended() {
            assert!(driver.ends().success());
            break;
        }
        driver.kill();
        kills += 1;
    }
    assert!(kills > 1, "it was killed {kills} times");
    place.check("driven");

    // Somebody asks it to stop, and goes on without a cluster.
    let stop = AtomicBool::new(false);
    let cluster = cluster_at(&parts.scheduler.address);
    let stopped = std::thread::scope(|scope| {
        let curation = scope.spawn(|| curate(place.folder.path(), "asked", Some(&cluster), Some(&stop)));
        wait("some shards", || {
            std::fs::read_dir(place.path("asked.work")).is_ok_and(|entries| entries.count() > 9)
        });
        stop.store(true, Ordering::Relaxed);
        curation.join().unwrap()
    });
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    curate(place.folder.path(), "asked", None, None).unwrap();
    place.check("asked");
}

fn new_scheduler(place: &Place) {
    // At once; and so late that executors have given the old one up.
    for (out, away) in [("renewed", 0), ("renewed-late", 14)] {
        let mut parts = Parts::start(2);
        let address = parts.scheduler.address.clone();
        place.curate_while(&address, out, || {
            in_the_middle(&parts);
            parts.scheduler.kill();
            std::thread::sleep(Duration::from_secs(away));
            parts.scheduler = Part::scheduler(&address);
        });
        let looked = parts.executors.iter().all(|part| part.said().contains("looking for another one"));
        assert_eq!(looked, away > 0);
    }
}

fn other_programs(place: &Place) {
    let parts = Parts::start(1);
    // The same to whoever runs it, and another file.
    let other = place.path("other");
    let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    bytes.push(0);
    std::fs::write(&other, bytes).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&other, mode).unwrap();
    let mut executor = Part::start_as(&other, "executor", &[&parts.scheduler.address]);
    assert!(!executor.ends().success());
    let said = executor.said();
    assert!(said.contains("refuses: it is alti/") && said.contains("same file of the program"), "{said}");
    let folder = place.folder.path().to_str().unwrap();
    let mut driver = Part::start_as(&other, "driver", &[folder, "refused", &parts.scheduler.address]);
    assert!(!driver.ends().success());
    let said = driver.said();
    assert!(said.contains("refuses: it is alti/"), "{said}");
    place.curate_while(&parts.scheduler.address, "same", || {});
}

/// Larger than what the protocol sends in one message unless it is told.
fn large_document() {
    let folder = tempfile::tempdir().unwrap();
    pages::write(&folder.path().join("in"), 3);
    pages::write_large(&folder.path().join("in/large.jsonl"), 18 << 20);
    let parts = Parts::start(1);
    curate(folder.path(), "calm", None, None).unwrap();
    curate(folder.path(), "shared", Some(&cluster_at(&parts.scheduler.address)), None).unwrap();
    assert!(files(&folder.path().join("shared")) == files(&folder.path().join("calm")));
}

fn mistakes(place: &Place) {
    let nobody = cluster_at("127.0.0.1:1");
    match curate(place.folder.path(), "nobody", Some(&nobody), None) {
        Err(error @ Error::Elsewhere { .. }) => {
            let said = error.to_string();
            assert!(said.contains("no scheduler answers at 127.0.0.1:1"), "{said}");
            assert!(error.hint().unwrap().contains("alti curate scheduler"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let mut executor = Part::start("executor", &["north"]);
    assert!(!executor.ends().success());
    assert!(executor.said().contains("\"north\" is no address: it has no port"), "{}", executor.said());

    // A file that is another one by the time that the executor reads it.
    let parts = Parts::start(1);
    let folder = tempfile::tempdir().unwrap();
    pages::write(&folder.path().join("in"), 3);
    let changing = Changing {
        cluster: cluster_at(&parts.scheduler.address),
        file: folder.path().join("in/page-001.warc"),
    };
    match curate(folder.path(), "out", Some(&changing), None) {
        Err(error @ Error::Elsewhere { .. }) => {
            let said = error.to_string();
            assert!(
                said.contains("on executor ") && said.contains("page-001.warc is not the same"),
                "{said}"
            );
            assert!(error.hint().unwrap().contains("same paths"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// Changes a file between the cutting of portions and their being done.
#[derive(Debug)]
struct Changing {
    cluster: Cluster<'static>,
    file: PathBuf,
}

impl Elsewhere for Changing {
    fn portion_bytes(&self) -> u64 {
        self.cluster.portion_bytes()
    }

    fn run(
        &self,
        job: &corpus::Job,
        portions: Vec<corpus::Portion>,
        task: &dyn ledger::progress::Task,
        go_on: &(dyn Fn() -> bool + Sync),
        take: &mut dyn FnMut(usize, datafusion::arrow::array::RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        std::fs::write(&self.file, "WARC/1.0\r\n").unwrap();
        self.cluster.run(job, portions, task, go_on, take)
    }
}
