//! Pulling from a server made on the spot: what is asked, what lies in the cache afterwards, and what is said when the
//! network, the hub or the bytes are at fault.

mod endpoint;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hub::{Cache, Destination, Error, Pulled, Repository, Request, Revision};
use ledger::progress::Silent;

use server::{Asked, COMMIT, Reply, Repo, Server};

/// Bytes that no two places share.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

fn repo() -> Repo {
    let file = |name: &str, bytes: Vec<u8>, large| (name.to_owned(), bytes, large);
    Repo {
        name: "owner/model".to_owned(),
        files: vec![
            file(".gitattributes", b"*.safetensors filter=lfs\n".to_vec(), false),
            file("README.md", b"# Model\n".to_vec(), false),
            file("config.json", b"{\"model_type\": \"llama\"}".to_vec(), false),
            file("model-00001-of-00002.safetensors", noise(90_000, 1), true),
            file("model-00002-of-00002.safetensors", noise(50_001, 2), true),
            file("original/consolidated.00.pth", noise(9_000, 3), true),
            file("tokenizer.json", noise(700, 4), false),
        ],
        ..Repo::default()
    }
}

/// The hub and the host of its large files, with what a test lets them answer instead.
struct Hub {
    repo: Arc<Repo>,
    hub: Server,
    store: Server,
    dir: tempfile::TempDir,
}

impl Hub {
    fn new(repo: Repo) -> Self {
        Self::with(repo, |_, _| None, |_, _| None)
    }

    fn with(
        repo: Repo,
        hub: impl Fn(&Repo, &Asked) -> Option<Reply> + Send + Sync + 'static,
        store: impl Fn(&Repo, &Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let plain = Arc::new(repo.clone());
        let of_store = Arc::clone(&plain);
        let store =
            Server::start(move |asked| store(&of_store, asked).unwrap_or_else(|| of_store.store(asked)));
        let repo = Arc::new(Repo { storage: store.address.clone(), ..repo });
        let of_hub = Arc::clone(&repo);
        let hub = Server::start(move |asked| hub(&of_hub, asked).unwrap_or_else(|| of_hub.answer(asked)));
        Self { repo, hub, store, dir: tempfile::tempdir().unwrap() }
    }

    fn request(&self) -> Request {
        Request {
            endpoint: self.hub.address.clone(),
            retry_after: Duration::from_millis(1),
            token: Some("hf_secret".to_owned()),
            ..Request::new("owner/model".parse().unwrap(), Cache::at(self.dir.path()))
        }
    }

    fn pull(&self) -> Result<Pulled, Error> {
        hub::pull(&self.request(), &Silent)
    }

    fn blob(&self, file: &str) -> PathBuf {
        self.dir.path().join("models--owner--model/blobs").join(self.repo.etag(file))
    }

    fn bytes(&self, file: &str) -> &[u8] {
        &self.repo.files.iter().find(|(name, ..)| name == file).unwrap().1
    }

    /// All that was chosen lies in the folder, byte by byte, and nothing half written lies anywhere.
    fn check(&self, folder: &Path) {
        for name in CHOSEN {
            assert!(std::fs::read(folder.join(name)).unwrap() == self.bytes(name), "{name}");
        }
        assert_eq!(incomplete(self.dir.path()), Vec::<PathBuf>::new());
    }
}

const CHOSEN: [&str; 4] =
    ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json"];
const LARGE: &str = "model-00001-of-00002.safetensors";

fn incomplete(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(incomplete(&path));
        } else if path.extension().is_some_and(|extension| extension == "incomplete" || extension == "link") {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_model_lies_in_the_cache_as_other_programs_lay_it() {
    let hub = Hub::new(repo());
    let pulled = hub.pull().unwrap();
    let folder = hub.dir.path().join("models--owner--model/snapshots").join(COMMIT);
    let bytes: u64 = CHOSEN.iter().map(|name| hub.bytes(name).len() as u64).sum();
    assert_eq!((&pulled.folder, pulled.files, pulled.bytes, pulled.fetched), (&folder, 4, bytes, bytes));
    let left: Vec<&str> = pulled.left.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left, [".gitattributes", "README.md", "original/consolidated.00.pth"]);
    hub.check(&folder);
    for name in CHOSEN {
        let link = std::fs::read_link(folder.join(name)).unwrap();
        assert_eq!(link, Path::new("../../blobs").join(hub.repo.etag(name)), "{name}");
    }
    let reference = hub.dir.path().join("models--owner--model/refs/main");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), COMMIT);
    let cached = |name: &str| {
        let repository: Repository = name.parse().unwrap();
        hub::cached(&Cache::at(hub.dir.path()), &repository, &Revision::default())
    };
    assert_eq!((cached("owner/model"), cached("owner/other")), (Some(folder), None));

    // The token goes to the endpoint, and to nobody that it names.
    assert!(hub.hub.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer hf_secret")));
    let abroad = hub.store.asked();
    assert_eq!(abroad.len(), 2);
    assert!(abroad.iter().all(|asked| asked.header("authorization").is_none()), "{abroad:?}");

    // What is there is not fetched again, by whatever revision it is asked for.
    for revision in ["main", COMMIT] {
        let request = Request { revision: revision.parse().unwrap(), ..hub.request() };
        assert_eq!(hub::pull(&request, &Silent).unwrap(), Pulled { fetched: 0, ..pulled.clone() });
    }
    assert!(hub.store.asked().is_empty());
    assert!(hub.hub.asked().iter().all(|asked| asked.path.starts_with("/api/")));
}

#[test]
fn files_are_fetched_several_at_once_and_no_more() {
    for parallel in [1, 2] {
        let slowly = |repo: &Repo, asked: &Asked| {
            Some(Reply { slow: Some(Duration::from_millis(2)), ..repo.store(asked) })
        };
        let hub = Hub::with(repo(), |_, _| None, slowly);
        hub::pull(&Request { parallel, ..hub.request() }, &Silent).unwrap();
        assert_eq!(hub.store.most_at_once(), parallel);
        assert!(hub.hub.most_at_once() <= parallel);
    }
}

#[test]
fn a_connection_that_is_cut_goes_on_where_it_was() {
    let cut = |repo: &Repo, asked: &Asked| Some(Reply { cut: Some(20_000), ..repo.store(asked) });
    let hub = Hub::with(repo(), |_, _| None, cut);
    let pulled = hub.pull().unwrap();
    hub.check(&pulled.folder);
    let mut from: Vec<usize> = hub.store.asked().iter().map(|asked| asked.from().unwrap_or(0)).collect();
    from.sort_unstable();
    // 90,000 and 50,001 bytes, 20,000 at a time: not a byte is sent twice.
    assert_eq!(from, [0, 0, 20_000, 20_000, 40_000, 40_000, 60_000, 80_000]);
    assert_eq!(pulled.fetched, pulled.bytes);
}

#[test]
fn what_a_killed_program_left_is_gone_on_with() {
    let hub = Hub::new(repo());
    let partial = hub.blob(LARGE).with_extension("incomplete");
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    for (left, fetched) in [
        // As far as it came, the whole of it, other bytes, and too many.
        (hub.bytes(LARGE)[..70_000].to_vec(), 20_000),
        (hub.bytes(LARGE).to_vec(), 0),
        (noise(70_000, 9), 110_000),
        (noise(90_000, 9), 90_000),
        (noise(95_000, 9), 90_000),
    ] {
        let others: u64 =
            CHOSEN.iter().filter(|name| **name != LARGE).map(|name| hub.bytes(name).len() as u64).sum();
        drop(std::fs::remove_dir_all(hub.dir.path().join("models--owner--model")));
        std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
        std::fs::write(&partial, &left).unwrap();
        let pulled = hub.pull().unwrap();
        hub.check(&pulled.folder);
        assert_eq!(pulled.fetched - others, fetched, "{} bytes were there", left.len());
    }
}

#[test]
fn a_host_without_ranges_sends_the_whole_again() {
    let calls = AtomicUsize::new(0);
    let deaf = move |repo: &Repo, asked: &Asked| {
        let whole = Asked { headers: Default::default(), ..asked.clone() };
        let first = calls.fetch_add(1, Ordering::SeqCst) < 2;
        Some(Reply { cut: first.then_some(20_000), ..repo.store(&whole) })
    };
    let hub = Hub::with(repo(), |_, _| None, deaf);
    hub.check(&hub.pull().unwrap().folder);
}

#[test]
fn other_bytes_than_the_hub_means_are_thrown_away() {
    let changed = |repo: &Repo, asked: &Asked| {
        let mut reply = repo.store(asked);
        reply.body[1234] ^= 1;
        Some(reply)
    };
    let hub = Hub::with(repo(), |_, _| None, changed);
    let error = hub.pull().unwrap_err();
    assert!(matches!(&error, Error::Checksum { kind: "SHA-256", .. }), "{error}");
    assert!(error.to_string().contains("safetensors") && error.hint().unwrap().contains("thrown away"));
    assert!(!hub.blob(LARGE).exists());
    assert_eq!(incomplete(hub.dir.path()), Vec::<PathBuf>::new());
    assert!(!hub.dir.path().join("models--owner--model/refs/main").exists());

    let small = |repo: &Repo, asked: &Asked| {
        let mut reply = repo.answer(asked);
        if asked.path.ends_with("config.json") {
            reply.body[3] ^= 1;
        }
        Some(reply)
    };
    let error = Hub::with(repo(), small, |_, _| None).pull().unwrap_err();
    assert!(matches!(&error, Error::Checksum { kind: "SHA-1 of git", .. }), "{error}");

    let longer = |repo: &Repo, asked: &Asked| {
        let mut reply = repo.store(asked);
        reply.body.extend([0; 300_000]);
        Some(reply)
    };
    let error = Hub::with(repo(), |_, _| None, longer).pull().unwrap_err();
    assert!(error.to_string().contains("more than the"), "{error}");
}

#[test]
fn a_mirror_that_lists_names_alone_is_asked_for_each_file() {
    let hub = Hub::new(Repo { bare: true, ..repo() });
    let pulled = hub.pull().unwrap();
    hub.check(&pulled.folder);
    let heads = hub.hub.asked().into_iter().filter(|asked| asked.method == "HEAD").count();
    assert_eq!(heads, CHOSEN.len());
    for name in CHOSEN {
        assert!(hub.blob(name).is_file(), "{name}");
    }
}

#[test]
fn a_plain_folder_holds_plain_files() {
    let hub = Hub::new(repo());
    let to = hub.dir.path().join("plain");
    let request = Request {
        to: Destination::Folder(to.clone()),
        include: vec!["original/*".to_owned()],
        ..hub.request()
    };
    let pulled = hub::pull(&request, &Silent).unwrap();
    assert_eq!((&pulled.folder, pulled.files), (&to, 3));
    let shard = to.join("original/consolidated.00.pth");
    assert!(
        std::fs::read(&shard).unwrap() == hub.bytes("original/consolidated.00.pth") && !shard.is_symlink()
    );
    assert_eq!(hub::pull(&request, &Silent).unwrap().fetched, 0);
    // Another file under the name, of the same length, is replaced.
    std::fs::write(&shard, noise(9_000, 77)).unwrap();
    assert_eq!(hub::pull(&request, &Silent).unwrap().fetched, 9_000);
    assert!(std::fs::read(&shard).unwrap() == hub.bytes("original/consolidated.00.pth"));
    assert_eq!(incomplete(&to), Vec::<PathBuf>::new());
    assert!(!hub.dir.path().join("models--owner--model").exists());
}

#[test]
fn refusals_say_what_to_do() {
    let gated = |status| Reply::status(status).header("x-error-code", "GatedRepo");
    let coded = |status, code| Reply::status(status).header("x-error-code", code);
    for (reply, token, part, hint) in [
        (gated(401), None, "only accounts that agreed", "agree to the terms at http"),
        (gated(403), Some("t"), "has not been granted", "ask for access at http"),
        (Reply::status(403), Some("t"), "is gated", "ask for access"),
        (coded(401, "RepoNotFound"), None, "has no model owner/model", "a private model needs a token"),
        (coded(404, "RepoNotFound"), Some("t"), "none that is shown to this token", "may read the model"),
        (Reply::status(404), Some("t"), "has no model", "check the name"),
        (Reply::status(401), Some("t"), "refused the token (status 401)", "make a new token"),
        (coded(404, "RevisionNotFound"), None, "no revision \"main\"", "a branch, a tag"),
        (
            Reply::status(429).header("retry-after", 3600),
            None,
            "asks to wait 3600 seconds",
            "goes on where it was",
        ),
        (Reply::status(429).header("retry-after", 0), None, "too many requests", "with a token"),
        (
            Reply::status(503),
            None,
            "could not fetch the list of files from 127.0.0.1: status 503",
            "--endpoint",
        ),
        (Reply::status(418), None, "answered status 418", "a mirror"),
        (Reply::status(200).body("<html>"), None, "answered what is no list", "a mirror"),
        (Reply::status(302), None, "a redirect to nowhere", "a mirror"),
        (Reply::status(302).header("location", "/round"), None, "more than 8 redirects", "a mirror"),
        (Reply::status(302).header("location", "ftp://x/y"), None, "a redirect to nowhere", "a mirror"),
    ] {
        let always = reply.clone();
        let hub = Hub::with(repo(), move |_, _| Some(always.clone()), |_, _| None);
        let token = token.map(str::to_owned);
        let error = hub::pull(&Request { token, ..hub.request() }, &Silent).unwrap_err();
        let (said, hinted) = (error.to_string(), error.hint().unwrap());
        assert!(said.contains(part), "{reply:?}: {said}");
        assert!(hinted.contains(hint), "{reply:?}: {hinted}");
        assert!(!hub.dir.path().join("models--owner--model/refs").exists());
    }
}

#[test]
fn what_passes_is_waited_for() {
    for status in [429, 500, 503, 408] {
        let calls = AtomicUsize::new(0);
        let at_first = move |_: &Repo, _: &Asked| {
            let reply = Reply::status(status).header("retry-after", 0);
            (calls.fetch_add(1, Ordering::SeqCst) % 4 < 2).then_some(reply)
        };
        let hub = Hub::with(repo(), at_first, |_, _| None);
        hub.check(&hub.pull().unwrap().folder);
    }
    // An address of the other host that is no longer good: a new one is asked for.
    let calls = AtomicUsize::new(0);
    let old =
        move |_: &Repo, _: &Asked| (calls.fetch_add(1, Ordering::SeqCst) < 2).then(|| Reply::status(403));
    let hub = Hub::with(repo(), |_, _| None, old);
    hub.check(&hub.pull().unwrap().folder);
}

#[test]
fn nobody_there_and_addresses_that_are_none() {
    let hub = Hub::new(repo());
    let with = |endpoint: &str, token: Option<&str>| {
        let (endpoint, token) = (endpoint.to_owned(), token.map(str::to_owned));
        let error = hub::pull(&Request { endpoint, token, ..hub.request() }, &Silent).unwrap_err();
        (error.to_string(), error.hint().unwrap())
    };
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (said, hint) = with(&format!("http://127.0.0.1:{port}"), None);
    assert!(said.contains("could not fetch the list of files from 127.0.0.1"), "{said}");
    assert!(hint.contains("check the network") && hint.contains("needs no network"), "{hint}");
    for (endpoint, token, part) in [
        ("huggingface.co", None, "no address of a hub"),
        ("ftp://huggingface.co", None, "no address of a hub"),
        ("", None, "no address of a hub"),
        ("http://mirror.example", Some("t"), "the token in the clear"),
    ] {
        assert!(with(endpoint, token).0.contains(part), "{endpoint}");
    }
}

#[test]
fn token_files_hold_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    for (text, wanted) in [("hf_abc\n", Some("hf_abc")), ("", None), ("two words", None), ("hf_a\r\nx", None)]
    {
        std::fs::write(&path, text).unwrap();
        assert_eq!(hub::token_of(&path).ok().as_deref(), wanted, "{text:?}");
    }
    assert!(hub::token_of(&dir.path().join("absent")).unwrap_err().to_string().contains("absent"));
}
