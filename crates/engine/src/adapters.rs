//! The adapters that requests may name: loaded at the start or while others run, each held by its requests until the last of
//! them is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use model::infer::Adapter;

use crate::Error;

/// Longest name of an adapter, in bytes.
const MAX_NAME: usize = 256;

/// An adapter that an engine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// What requests call it.
    pub name: String,
    /// Where it was read.
    pub folder: PathBuf,
    /// What it takes of the memory.
    pub bytes: usize,
    /// When it was loaded, in seconds since 1970 (UTC).
    pub loaded: u64,
}

/// One that was loaded. Who holds it may use it, whatever has become of its name.
pub(crate) struct Loaded {
    pub(crate) adapter: Adapter,
    /// No other loading has this number, though it be of the same name or the same folder: what was computed with the one says
    /// nothing about the other.
    pub(crate) number: u64,
    /// Its name is gone: no more requests will come.
    unloaded: AtomicBool,
    pub(crate) info: AdapterInfo,
}

impl Loaded {
    pub(crate) fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::SeqCst)
    }
}

/// All of them, by name.
pub(crate) struct Registry {
    read: Box<Read>,
    most: usize,
    names: Mutex<Names>,
    count: AtomicU64,
}

#[derive(Default)]
struct Names {
    loaded: BTreeMap<String, Arc<Loaded>>,
    /// Unloaded ones, which requests may still hold.
    leaving: Vec<Weak<Loaded>>,
}

/// What becomes of a load whose name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is refused.
    Refused,
    /// The adapter of that name gives way.
    Replaced,
}

type Read = dyn Fn(&Path) -> Result<Adapter, Error> + Send + Sync;

impl Registry {
    /// Takes up to `most` adapters, which `read` finds in their folders.
    pub(crate) fn new(
        most: usize,
        read: impl Fn(&Path) -> Result<Adapter, Error> + Send + Sync + 'static,
    ) -> Self {
        Registry { read: Box::new(read), most, names: Mutex::default(), count: AtomicU64::new(0) }
    }

    /// Reads a folder, which takes its time, while others are used. Gives the adapter whose name it took.
    pub(crate) fn load(&self, name: &str, folder: &Path, taken: Taken) -> Result<Option<Arc<Loaded>>, Error> {
        let refused = |reason: &str, hint: &str| Error::Adapter {
            name: name.into(),
            reason: reason.into(),
            hint: Some(hint.into()),
        };
        if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
            return Err(refused("is no name for one", "choose a short name without control characters"));
        }
        // Asked twice: before the work, and again once it is done, for another may have come meanwhile.
        let check = |loaded: &BTreeMap<String, Arc<Loaded>>| {
            let known = loaded.contains_key(name);
            if known && taken == Taken::Refused {
                return Err(refused("is loaded already", "unload it first, or choose another name"));
            }
            if !known && loaded.len() >= self.most {
                let reason = format!("would be one more than the {} that may be loaded", self.most);
                return Err(refused(&reason, "unload another first, or raise `max_adapters`"));
            }
            Ok(())
        };
        check(&self.lock().loaded)?;
        let adapter = (self.read)(folder).map_err(|error| match error {
            Error::Adapter { reason, hint, .. } => Error::Adapter { name: name.into(), reason, hint },
            other => other,
        })?;
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let info = AdapterInfo {
            name: name.into(),
            folder: folder.into(),
            bytes: adapter.bytes(),
            loaded: since.map_or(0, |since| since.as_secs()),
        };
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut names = self.lock();
        check(&names.loaded)?;
        let loaded = Loaded { adapter, number, unloaded: AtomicBool::new(false), info };
        let replaced = names.loaded.insert(name.into(), Arc::new(loaded));
        if let Some(replaced) = &replaced {
            names.leave(replaced);
        }
        Ok(replaced)
    }

    /// Takes the name away. Requests that hold the adapter keep it.
    pub(crate) fn unload(&self, name: &str) -> Result<Arc<Loaded>, Error> {
        let mut names = self.lock();
        let removed = names.loaded.remove(name).ok_or_else(|| names.unknown(name))?;
        names.leave(&removed);
        Ok(removed)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<Loaded>, Error> {
        let names = self.lock();
        names.loaded.get(name).cloned().ok_or_else(|| names.unknown(name))
    }

    pub(crate) fn list(&self) -> Vec<AdapterInfo> {
        self.lock().loaded.values().map(|loaded| loaded.info.clone()).collect()
    }

    /// Bytes of all adapters in memory: also of those that were unloaded and still answer.
    pub(crate) fn bytes(&self) -> usize {
        let names = self.lock();
        let leaving = names.leaving.iter().filter_map(Weak::upgrade).map(|one| one.info.bytes);
        names.loaded.values().map(|one| one.info.bytes).chain(leaving).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        // Nothing that holds it can leave it half changed.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// This one cannot be named any more.
    fn leave(&mut self, gone: &Arc<Loaded>) {
        gone.unloaded.store(true, Ordering::SeqCst);
        self.leaving.retain(|one| one.strong_count() > 0);
        self.leaving.push(Arc::downgrade(gone));
    }

    fn unknown(&self, name: &str) -> Error {
        Error::UnknownAdapter { name: name.into(), known: self.loaded.keys().cloned().collect() }
    }
}
