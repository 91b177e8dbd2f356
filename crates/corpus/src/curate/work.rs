//! The work folder: what the first pass has made, shard by shard, and whether that is still what would be made now. A
//! shard is a stretch of the inputs; of each the layers leave their documents (and the last one the signatures), and an
//! account, which is written last, atomically. Whatever kills the program, what has an account is whole.
//!
//! Each layer has a fingerprint, which the accounts repeat: where a rule has changed, only its layer and those behind it
//! are made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ledger::digest::Digest;
use ledger::{atomic, lock};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::funnel::{FunnelStep, SkippedInput};
use crate::steps::Step;

const LOCK: &str = "lock";

/// Steps whose results are kept.
pub(super) struct Layer {
    /// How its files begin.
    pub name: &'static str,
    /// What is applied, in order.
    pub steps: Vec<Box<dyn Step>>,
    /// What its results depend on, those of the layers before included.
    pub fingerprint: Digest,
}

/// Where the reading of the inputs stands between two shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Inputs that lie wholly before.
    pub input: usize,
    /// Records, and places that are none, of the next input that lie before.
    pub records: u64,
    /// Documents before: the ordinal of the next.
    pub documents: u64,
    /// Whether there is nothing behind.
    pub end: bool,
}

/// What a layer made of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    pub fingerprint: Digest,
    /// Where the shard ends.
    pub position: Position,
    /// Documents and their bytes of text that came out.
    pub documents: u64,
    pub bytes: u64,
    /// Bytes of the files.
    pub files: Vec<u64>,
    pub steps: Vec<FunnelStep>,
    /// What reading left out; the same in every layer.
    pub skipped: Vec<SkippedInput>,
    pub skip_count: u64,
    pub ignored: BTreeMap<String, u64>,
}

/// How work began.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// There was nothing, or nothing of use.
    New,
    /// So many shards are kept, of which so many must be filtered again.
    Continued { shards: usize, again: usize },
    /// What was there is of no use and was removed.
    Anew,
}

impl Begun {
    /// What a person should know.
    pub fn message(&self, folder: &Path) -> Option<String> {
        let folder = folder.display();
        match self {
            Begun::New => None,
            Begun::Continued { shards, again: 0 } => {
                Some(format!("going on in {folder}, where {} are done", parts(*shards)))
            }
            Begun::Continued { shards, again } => Some(format!(
                "going on in {folder}: {} need not be read again, {} to be filtered again",
                parts(*shards),
                if again == shards { "all are".to_string() } else { format!("{again} are") }
            )),
            Begun::Anew => Some(format!(
                "beginning anew in {folder}: the sources, how they are read, or the program changed"
            )),
        }
    }
}

fn parts(count: usize) -> String {
    format!("{count} {}", if count == 1 { "part" } else { "parts" })
}

/// The folder, held by its lock.
pub(super) struct Work {
    folder: PathBuf,
    layers: Vec<Layer>,
    _lock: File,
}

impl Work {
    /// Opens or creates the folder, and removes what is there of other sources.
    pub fn open(folder: &Path, layers: Vec<Layer>) -> Result<(Work, Begun), Error> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let held = lock::hold(&folder.join(LOCK))?;
        let lock = held.ok_or_else(|| Error::Busy { path: folder.to_path_buf() })?;
        atomic::recover(folder)?;
        let work = Work { folder: folder.to_path_buf(), layers, _lock: lock };
        let shards = work.shards()?;
        let was_used = work.folder_has(|name| name.ends_with(".json"))?;
        let begun = if shards > 0 {
            let again = (0..shards).filter(|&shard| work.account(work.last(), shard).is_none()).count();
            Begun::Continued { shards, again }
        } else if was_used {
            Begun::Anew
        } else {
            Begun::New
        };
        if shards == 0 {
            // The accounts first: without them the rest is only left over.
            work.sweep(|name| name.ends_with(".json"))?;
            // Embeddings are of texts, wherever these came from.
            work.sweep(|name| is_ours(name) && !name.ends_with(".vectors"))?;
        }
        work.sweep(|name| name.ends_with(".run"))?;
        Ok((work, begun))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn last(&self) -> usize {
        self.layers.len() - 1
    }

    /// The documents that a layer made of a shard.
    pub fn documents(&self, layer: usize, shard: usize) -> PathBuf {
        self.folder.join(format!("{}-{shard:06}.parquet", self.layers[layer].name))
    }

    /// The documents of a shard as they leave the first pass.
    pub fn filtered(&self, shard: usize) -> PathBuf {
        self.documents(self.last(), shard)
    }

    /// The signatures of a shard.
    pub fn signatures(&self, shard: usize) -> PathBuf {
        self.folder.join(format!("{}-{shard:06}.signatures", self.layers[self.last()].name))
    }

    /// The removed documents of a layer and a shard that may have to be shown.
    pub fn removed(&self, layer: usize, shard: usize) -> PathBuf {
        self.folder.join(format!("{}-{shard:06}.removed", self.layers[layer].name))
    }

    fn account_path(&self, layer: usize, shard: usize) -> PathBuf {
        self.folder.join(format!("{}-{shard:06}.json", self.layers[layer].name))
    }

    fn files(&self, layer: usize, shard: usize) -> Vec<PathBuf> {
        let mut files = vec![self.documents(layer, shard), self.removed(layer, shard)];
        if layer == self.last() {
            files.push(self.signatures(shard));
        }
        files
    }

    /// The account of a shard, if it is of this layer as it is now and its files are there.
    pub fn account(&self, layer: usize, shard: usize) -> Option<Account> {
        let bytes = fs::read(self.account_path(layer, shard)).ok()?;
        let account: Account = serde_json::from_slice(&bytes).ok()?;
        let lengths: Vec<u64> =
            self.files(layer, shard).iter().map_while(|path| Some(fs::metadata(path).ok()?.len())).collect();
        (account.fingerprint == self.layers[layer].fingerprint && account.files == lengths).then_some(account)
    }

    /// Records that a layer's files of a shard are whole, once they are on the disk.
    pub fn record(&self, layer: usize, shard: usize, mut account: Account) -> Result<(), Error> {
        account.files = Vec::new();
        for path in self.files(layer, shard) {
            let synced = File::open(&path).and_then(|file| {
                file.sync_all()?;
                file.metadata()
            });
            account.files.push(synced.map_err(Error::io("sync", &path))?.len());
        }
        let path = self.account_path(layer, shard);
        let json = serde_json::to_vec(&account).map_err(|error| Error::io("write", &path)(error.into()))?;
        Ok(atomic::write(&path, &json)?)
    }

    /// The deepest layer whose results of this shard, and those of the layers before, are of use.
    pub fn deepest(&self, shard: usize) -> Option<usize> {
        (0..self.layers.len()).take_while(|&layer| self.account(layer, shard).is_some()).last()
    }

    /// How many shards, from the first on, need not be read again.
    pub fn shards(&self) -> Result<usize, Error> {
        Ok((0..).take_while(|&shard| self.deepest(shard).is_some()).count())
    }

    /// Where reading goes on.
    pub fn position(&self) -> Result<(usize, Position), Error> {
        let shards = self.shards()?;
        let last = shards.checked_sub(1).and_then(|shard| self.account(self.deepest(shard)?, shard));
        Ok((shards, last.map(|account| account.position).unwrap_or_default()))
    }

    /// Calls `each` with the accounts of all layers, shard by shard.
    pub fn each_account(&self, mut each: impl FnMut(usize, Account)) -> Result<(), Error> {
        for shard in 0..self.shards()? {
            for layer in 0..self.layers.len() {
                let account = self.account(layer, shard).ok_or_else(|| {
                    let path = self.account_path(layer, shard);
                    let reason = "the account, or a file that it names, has gone".to_string();
                    Error::Malformed { path, byte: 0, reason }
                })?;
                each(layer, account);
            }
        }
        Ok(())
    }

    fn folder_has(&self, wanted: impl Fn(&str) -> bool) -> Result<bool, Error> {
        Ok(self.names()?.iter().any(|name| is_ours(name) && wanted(name)))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = || Error::io("list", &self.folder);
        let entries = fs::read_dir(&self.folder).map_err(failed())?;
        entries.map(|entry| Ok(entry.map_err(failed())?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Removes files of ours. Others are not ours to remove.
    fn sweep(&self, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        for name in self.names()?.into_iter().filter(|name| is_ours(name) && wanted(name)) {
            remove(&self.folder.join(name))?;
        }
        Ok(())
    }

    /// Removes everything of ours, and the folder if nothing else is in it.
    pub fn remove(self) -> Result<(), Error> {
        self.sweep(|name| name.ends_with(".json"))?;
        self.sweep(is_ours)?;
        remove(&self.folder.join(LOCK))?;
        match fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                Err(Error::io("remove", &self.folder)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a file of this name is one that curation makes here.
fn is_ours(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let Some((_, number)) = stem.rsplit_once('-') else { return false };
    matches!(extension, "json" | "parquet" | "signatures" | "removed" | "lines" | "run" | "vectors")
        && number.len() >= 6
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
