//! Parts of an object in any order, as Parquet is read: columns that lie side by side, each forward. The last parts that
//! were fetched are held, so that small reads one behind another are one request.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::stream::Rest;
use crate::{Error, Object};

/// Bytes that a request fetches at least, and the parts that are held: 48 MiB, but for reads that are larger.
const PART_BYTES: u64 = 4 << 20;
const PARTS: usize = 12;

/// Reads anywhere in an object.
pub struct Ranges {
    object: Object,
    /// Where each begins, and what it holds; the last one used comes last.
    parts: Mutex<VecDeque<(u64, Vec<u8>)>>,
}

impl Ranges {
    pub(crate) fn new(object: Object) -> Ranges {
        Ranges { object, parts: Mutex::default() }
    }

    /// The object's length.
    pub fn bytes(&self) -> u64 {
        self.object.bytes()
    }

    /// The bytes from `at` on, at most `length`, fewer at the object's end.
    ///
    /// # Errors
    /// Whatever keeps the object from being read.
    pub fn read(&self, at: u64, length: usize) -> Result<Vec<u8>, Error> {
        let end = self.bytes().min(at.saturating_add(length as u64));
        if at >= end {
            return Ok(Vec::new());
        }
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |(begin, part): &(u64, Vec<u8>)| *begin <= at && end <= begin + part.len() as u64;
        let part = match parts.iter().position(holds).and_then(|index| parts.remove(index)) {
            Some(part) => part,
            None => {
                if parts.len() == PARTS {
                    parts.pop_front();
                }
                (at, self.fetch(at, end.max(self.bytes().min(at + PART_BYTES)))?)
            }
        };
        let begin = (at - part.0) as usize;
        let bytes = part.1[begin..begin + (end - at) as usize].to_vec();
        parts.push_back(part);
        Ok(bytes)
    }

    fn fetch(&self, begin: u64, end: u64) -> Result<Vec<u8>, Error> {
        let object = &self.object;
        let mut part = Vec::with_capacity((end - begin) as usize);
        object.manners().patiently(object.address(), object.bytes(), |moved| {
            let mut rest = Rest::of(object, begin + part.len() as u64, end)?;
            while begin + (part.len() as u64) < end {
                let missing = (end - begin) as usize - part.len();
                let Some(piece) = rest.next(missing)? else { break };
                part.extend_from_slice(&piece);
                *moved = true;
            }
            Ok(())
        })?;
        Ok(part)
    }
}
