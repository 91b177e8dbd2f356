//! Buckets, containers and servers, and what lies in them.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use ureq::Agent;

#[cfg(feature = "objects")]
use crate::objects::Bucket;
use crate::patience::Failure;
use crate::{Address, Environment, Error, Manners, Ranges, Scheme, Stream, web};

/// Places by their addresses, each opened once.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    environment: Environment,
    manners: Manners,
    open: Mutex<HashMap<String, Place>>,
}

impl Default for Places {
    /// By the environment of this process.
    fn default() -> Self {
        Places::new(Environment::of_process(), Manners::default())
    }
}

impl Places {
    /// By an environment.
    pub fn new(environment: Environment, manners: Manners) -> Places {
        Places(Arc::new(Inner { environment, manners, open: Mutex::default() }))
    }

    /// The place of an address. Nothing is asked yet, but for whether this machine has a role in a cloud where no
    /// credentials are named.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::Credentials`] where some are named that are incomplete.
    pub fn place(&self, address: &Address) -> Result<Place, Error> {
        let Inner { environment, manners, open } = &*self.0;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = open.get(&address.root) {
            return Ok(place.clone());
        }
        let way = match address.scheme {
            Scheme::Web => Way::Web(web::agent(true, None, web::is_here(address.host()))),
            #[cfg(feature = "objects")]
            _ => Way::Bucket(Bucket::open(address, environment)?),
            #[cfg(not(feature = "objects"))]
            _ => {
                let _ = environment;
                return Err(Error::NotBuilt { address: address.to_string() });
            }
        };
        let place = Place(Arc::new(Opened { way, manners: *manners }));
        open.insert(address.root.clone(), place.clone());
        Ok(place)
    }

    /// An object that was listed before, perhaps elsewhere.
    ///
    /// # Errors
    /// As [`place`](Places::place), and [`Error::Address`].
    pub fn object(&self, listed: &Listed) -> Result<Object, Error> {
        let mut address = Address::parse(&listed.address)?;
        address.query = listed.query.clone();
        let facts =
            Facts { bytes: listed.bytes, etag: listed.etag.clone(), modified: listed.modified.clone() };
        Ok(Object { place: self.place(&address)?, address, facts })
    }
}

/// An object's address and state, to be sent elsewhere.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    query: String,
    bytes: u64,
    etag: Option<String>,
    modified: Option<String>,
}

impl fmt::Debug for Listed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} bytes, {:?}, {:?})", self.address, self.bytes, self.etag, self.modified)
    }
}

/// A bucket, a container or a web server.
#[derive(Clone, Debug)]
pub struct Place(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    way: Way,
    manners: Manners,
}

#[derive(Debug)]
enum Way {
    Web(Agent),
    #[cfg(feature = "objects")]
    Bucket(Bucket),
}

/// What tells an object from a later one of its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub bytes: u64,
    pub etag: Option<String>,
    pub modified: Option<String>,
}

/// An answer: the object's state, where the body begins in it, whether it goes to the end whatever was asked for, and the
/// body.
pub(crate) struct Part {
    pub facts: Facts,
    pub begins: u64,
    pub whole: bool,
    pub body: Box<dyn Read + Send>,
}

impl Place {
    /// All objects below a prefix that ends where a name ends, in the order of their keys; none where there are none.
    ///
    /// # Errors
    /// Of the place: it is not there, refuses, or cannot be reached; [`Error::Address`] for a web server, which has no list.
    pub fn list(&self, prefix: &Address) -> Result<Vec<Object>, Error> {
        match &self.0.way {
            Way::Web(_) => Err(Error::Address {
                given: prefix.to_string(),
                reason: "is a web server's, which cannot be listed: name files".into(),
            }),
            #[cfg(feature = "objects")]
            Way::Bucket(bucket) => {
                let found = self.0.manners.patiently(prefix, 0, |_| bucket.list(prefix))?;
                let object = |(key, facts): (String, Facts)| Object {
                    place: self.clone(),
                    address: prefix.with_key(&key),
                    facts,
                };
                let mut objects: Vec<Object> = found.into_iter().map(object).collect();
                objects.sort_by(|a, b| a.address.key.cmp(&b.address.key));
                Ok(objects)
            }
        }
    }

    /// The object of exactly this address; none where there is none.
    ///
    /// # Errors
    /// As [`list`](Place::list).
    pub fn find(&self, address: &Address) -> Result<Option<Object>, Error> {
        let found = self.0.manners.patiently(address, 0, |_| match &self.0.way {
            Way::Web(agent) => web::facts(agent, address),
            #[cfg(feature = "objects")]
            Way::Bucket(bucket) => bucket.facts(address),
        });
        match found {
            Ok(facts) => Ok(Some(Object { place: self.clone(), address: address.clone(), facts })),
            Err(Error::NoObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An object as it was when it was listed.
#[derive(Clone, Debug)]
pub struct Object {
    place: Place,
    address: Address,
    facts: Facts,
}

impl Object {
    /// Where it lies, without what is secret about it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.facts.bytes
    }

    /// What the store calls this state of it, such as a digest.
    pub fn etag(&self) -> Option<&str> {
        self.facts.etag.as_deref()
    }

    /// When it was written, in the store's words.
    pub fn modified(&self) -> Option<&str> {
        self.facts.modified.as_deref()
    }

    /// For [`Places::object`], on another machine.
    pub fn listed(&self) -> Listed {
        let Facts { bytes, etag, modified } = self.facts.clone();
        Listed { address: self.address.to_string(), query: self.address.query.clone(), bytes, etag, modified }
    }

    /// All of it, in a stream.
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone())
    }

    /// Any part of it.
    pub fn ranges(&self) -> Ranges {
        Ranges::new(self.clone())
    }

    pub(crate) fn manners(&self) -> &Manners {
        &self.place.0.manners
    }

    /// One request for a range that is not empty. The body may be more than was asked for, and is of the state that was
    /// listed.
    pub(crate) fn get(&self, range: Range<u64>) -> Result<Part, Failure> {
        let part = match &self.place.0.way {
            Way::Web(agent) => web::get(agent, &self.address, range),
            #[cfg(feature = "objects")]
            Way::Bucket(bucket) => bucket.get(&self.address, range),
        };
        let part = part.map_err(|failure| match failure {
            Failure::Final(Error::NoObject { address }) => {
                Error::Changed { address, reason: "it is no longer there".into() }.into()
            }
            other => other,
        })?;
        match difference(&self.facts, &part.facts) {
            Some(reason) => Err(Error::Changed { address: self.address.to_string(), reason }.into()),
            None => Ok(part),
        }
    }
}

/// What differs between two states. Lists of Azure have no quotation marks around tags, and caches on the way weaken them.
fn difference(was: &Facts, is: &Facts) -> Option<String> {
    let bare = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').to_owned();
    if was.bytes != is.bytes {
        return Some(format!("it had {} bytes, and has {}", was.bytes, is.bytes));
    }
    match (&was.etag, &is.etag) {
        (Some(was), Some(is)) if bare(was) == bare(is) => None,
        (Some(was), Some(is)) => Some(format!("its etag was {was}, and is {is}")),
        _ => match (&was.modified, &is.modified) {
            (Some(was), Some(is)) if was != is => Some(format!("it was written {was}, and again {is}")),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_differ_by_length_then_tag_then_time() {
        let facts = |bytes, etag: &str, modified: &str| Facts {
            bytes,
            etag: (!etag.is_empty()).then(|| etag.to_owned()),
            modified: (!modified.is_empty()).then(|| modified.to_owned()),
        };
        let check = |was, is, wanted: Option<&str>| {
            let found = difference(&was, &is);
            assert_eq!(found.is_some(), wanted.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(wanted.unwrap_or_default()));
        };
        check(facts(1, "\"a\"", "x"), facts(1, "a", "y"), None);
        check(facts(1, "\"a\"", ""), facts(1, "W/\"a\"", ""), None);
        check(facts(1, "a", ""), facts(2, "a", ""), Some("bytes"));
        check(facts(1, "a", "x"), facts(1, "b", "x"), Some("etag"));
        check(facts(1, "", "x"), facts(1, "", "y"), Some("written"));
        check(facts(1, "", ""), facts(1, "b", "y"), None);
    }
}
