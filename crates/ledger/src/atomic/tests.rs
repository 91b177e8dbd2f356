use std::cell::RefCell;
use std::process::{Command, Stdio};

use super::*;

const KILL_AT: &str = "LEDGER_TEST_KILL_AT";
const TARGET: &str = "LEDGER_TEST_TARGET";

const FILE_POINTS: [&str; 3] = ["file: written", "file: synced", "file: renamed"];
const FOLDER_POINTS: [&str; 5] = [
    "folder: written",
    "folder: synced",
    "folder: old moved aside",
    "folder: renamed",
    "folder: name synced",
];

thread_local! {
    static FAIL_AT: RefCell<Option<&'static str>> = const { RefCell::new(None) };
}

pub(super) fn reached(name: &'static str) -> io::Result<()> {
    if std::env::var(KILL_AT).is_ok_and(|at| at == name) {
        std::process::abort();
    }
    match FAIL_AT.with_borrow(|at| *at == Some(name)) {
        true => Err(io::Error::other("injected")),
        false => Ok(()),
    }
}

fn failing_at<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    FAIL_AT.set(Some(name));
    let result = work();
    FAIL_AT.set(None);
    result
}

fn write_folder(target: &Path, files: &[(&str, &str)]) -> Result<(), Error> {
    let folder = AtomicDir::create(target)?;
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder.commit()
}

fn read_folder(target: &Path) -> Option<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(target).ok()? {
        let path = entry.unwrap().path();
        files.push((
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read_to_string(path).unwrap(),
        ));
    }
    files.sort();
    Some(files)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const OLD: &[(&str, &str)] = &[("a", "old"), ("only-old", "")];
const NEW: &[(&str, &str)] = &[("a", "new"), ("only-new", "")];

fn owned(files: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect())
}

/// Not a test of its own: what the killed child does.
#[test]
fn child() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let target = Path::new(&target);
    match target.extension() {
        Some(_) => write(target, b"new").unwrap(),
        None => write_folder(target, NEW).unwrap(),
    }
}

/// Runs [`child`] in a process of its own that aborts at the point.
fn kill_at(point: &str, target: &Path) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "atomic::tests::child"])
        .env(KILL_AT, point)
        .env(TARGET, target)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success(), "{point} was not reached");
}

#[test]
fn a_file_killed_at_any_point_is_old_or_new() {
    for (index, point) in FILE_POINTS.into_iter().enumerate() {
        for old in [None, Some("old")] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("file.txt");
            if let Some(old) = old {
                write(&target, old.as_bytes()).unwrap();
            }
            kill_at(point, &target);
            let expected = if index < 2 { old } else { Some("new") };
            assert_eq!(fs::read_to_string(&target).ok().as_deref(), expected, "{point}");
            recover(folder.path()).unwrap();
            assert_eq!(fs::read_to_string(&target).ok().as_deref(), expected, "{point}");
            assert_eq!(names(folder.path()).len(), usize::from(expected.is_some()), "{point}");
            write(&target, b"third").unwrap();
            assert_eq!(names(folder.path()), ["file.txt"]);
        }
    }
}

#[test]
fn a_folder_killed_at_any_point_is_old_or_new() {
    for (index, point) in FOLDER_POINTS.into_iter().enumerate() {
        for old in [None, Some(OLD)] {
            for recovers_by_writing in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let target = folder.path().join("target");
                if let Some(old) = old {
                    write_folder(&target, old).unwrap();
                }
                kill_at(point, &target);
                if recovers_by_writing {
                    drop(AtomicDir::create(&target).unwrap());
                } else {
                    recover(folder.path()).unwrap();
                }
                let expected = if index < 3 { old.and_then(owned) } else { owned(NEW) };
                assert_eq!(read_folder(&target), expected, "{point}");
                assert_eq!(names(folder.path()).len(), usize::from(expected.is_some()), "{point}");
                write_folder(&target, &[("third", "3")]).unwrap();
                assert_eq!(read_folder(&target), owned(&[("third", "3")]));
                assert_eq!(names(folder.path()), ["target"]);
            }
        }
    }
}

#[test]
fn after_an_error_the_old_is_there_and_nothing_else() {
    for point in &FILE_POINTS[..2] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file.txt");
        write(&target, b"old").unwrap();
        let error = failing_at(point, || write(&target, b"new")).unwrap_err();
        assert!(error.to_string().contains("injected"), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "old", "{point}");
        assert_eq!(names(folder.path()), ["file.txt"], "{point}");
    }
    for point in &FOLDER_POINTS[..3] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        write_folder(&target, OLD).unwrap();
        failing_at(point, || write_folder(&target, NEW)).unwrap_err();
        assert_eq!(read_folder(&target), owned(OLD), "{point}");
        assert_eq!(names(folder.path()), ["target"], "{point}");
    }
}

#[test]
fn what_a_living_writer_holds_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (file, dir) = (folder.path().join("file.txt"), folder.path().join("dir"));
    let mut writing_file = AtomicFile::create(&file).unwrap();
    writing_file.write_all(b"one").unwrap();
    let writing_dir = AtomicDir::create(&dir).unwrap();
    fs::write(writing_dir.path().join("a"), "one").unwrap();
    recover(folder.path()).unwrap();
    assert_eq!(names(folder.path()), [".new.dir.tmp", ".new.file.txt.tmp"]);

    let second = std::thread::scope(|scope| {
        let second_file = scope.spawn(|| AtomicFile::create(&file).map(drop));
        let second_dir = scope.spawn(|| AtomicDir::create(&dir).map(drop));
        [second_file.join().unwrap(), second_dir.join().unwrap()]
    });
    assert!(second.iter().all(|result| matches!(result, Err(Error::Busy { .. }))), "{second:?}");

    writing_file.commit().unwrap();
    writing_dir.commit().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    assert_eq!(read_folder(&dir), owned(&[("a", "one")]));
}

#[test]
fn many_writers_of_one_path_end_with_one_of_them_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("file.txt");
    let text = |writer: usize| format!("{writer}").repeat(1000 + writer);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let target = &target;
            scope.spawn(move || (0..10).for_each(|_| write(target, text(writer).as_bytes()).unwrap()));
        }
    });
    let last = fs::read_to_string(&target).unwrap();
    assert!((0..4).any(|writer| last == text(writer)));
    assert_eq!(names(folder.path()), ["file.txt"]);
}

#[test]
fn folders_above_are_made_and_writers_can_seek() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a/b/file.txt");
    let mut file = AtomicFile::create(&target).unwrap();
    file.write_all(b"xxxx tail").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"head").unwrap();
    assert!(!target.exists());
    file.commit().unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "head tail");
    drop(AtomicFile::create(&target).unwrap());
    assert_eq!(names(target.parent().unwrap()), ["file.txt"]);
}

#[test]
fn a_path_without_a_name_is_refused_and_other_temporary_names_are_left_alone() {
    assert!(write(Path::new("/"), b"").is_err());
    assert!(AtomicDir::create(Path::new("..")).is_err());
    for (name, ours) in [
        (".new.x.tmp", true),
        (".old.x.y.tmp", true),
        (".new..tmp", false),
        (".new.tmp", false),
        ("x.tmp", false),
        (".x.tmp", false),
        (".newx.tmp", false),
    ] {
        assert_eq!(is_temporary(OsStr::new(name)), ours, "{name}");
    }
}
