//! What an address names: one object, all below a prefix, or those that a glob matches. It is asked of the store; nothing is
//! read.

use store::{Address, Object, Places, Scheme};

use crate::source::{is_glob, matcher};
use crate::{Error, Settings};

/// What was found under an address.
pub(crate) enum Found {
    /// Objects in the order of their names, and whether the user named them himself, rather than a prefix above them.
    Objects { objects: Vec<Object>, named: bool },
    /// Nothing, and why.
    Nothing(&'static str),
}

/// Parses an address and its glob.
///
/// # Errors
/// [`Error::Store`] for what is no address; [`Error::Source`] for a malformed glob, and for one where no list can be had.
pub(crate) fn parse(given: &str) -> Result<Address, Error> {
    let address = Address::parse(given)?;
    if is_glob_of(&address) {
        matcher(&address.key).map_err(|reason| Error::Source { given: address.to_string(), reason })?;
    }
    if address.scheme == Scheme::Web && address.key.contains('*') {
        let reason = "a web server cannot be asked what it has: name files".to_string();
        return Err(Error::Source { given: address.to_string(), reason });
    }
    Ok(address)
}

/// Keys of the web hold neither wildcards nor lists.
fn is_glob_of(address: &Address) -> bool {
    address.scheme != Scheme::Web && is_glob(&address.key)
}

/// Asks the store.
///
/// # Errors
/// [`Error::Store`] where the bucket is not there, refuses, or cannot be reached: a source that is silently empty would make
/// another corpus.
pub(crate) fn find(places: &Places, given: &str, settings: &Settings) -> Result<Found, Error> {
    let address = parse(given)?;
    let place = places.place(&address)?;
    let exactly = || -> Result<Option<Found>, Error> {
        Ok(place.find(&address)?.map(|object| Found::Objects { objects: vec![object], named: true }))
    };
    if address.scheme == Scheme::Web {
        return Ok(exactly()?.unwrap_or(Found::Nothing("does not exist")));
    }
    let (base, pattern) = match is_glob_of(&address) {
        false => (address.key.trim_end_matches('/').to_owned(), None),
        true => {
            let fixed =
                address.key.split('/').take_while(|part| !is_glob(part)).collect::<Vec<_>>().join("/");
            let matches =
                matcher(&address.key).map_err(|reason| Error::Source { given: given.to_owned(), reason })?;
            (fixed, Some(matches))
        }
    };
    let listed = match place.list(&address.with_key(&base)) {
        // Whoever may read an object may not always list what is beside it.
        Err(refused @ store::Error::Refused { .. }) if pattern.is_none() && !address.key.is_empty() => {
            return place.find(&address).ok().flatten().map_or(Err(refused.into()), |object| {
                Ok(Found::Objects { objects: vec![object], named: true })
            });
        }
        listed => listed?,
    };
    let shown = |object: &Object| {
        let relative = object.address().key.strip_prefix(&base).unwrap_or_default();
        settings.include_hidden || !relative.split('/').any(|part| part.starts_with('.'))
    };
    let is_empty = listed.is_empty();
    let objects = listed.into_iter().filter(shown);
    match pattern {
        Some(pattern) => {
            let objects: Vec<Object> =
                objects.filter(|object| pattern.is_match(&object.address().key)).collect();
            Ok(if objects.is_empty() {
                Found::Nothing("matches no object")
            } else {
                Found::Objects { objects, named: true }
            })
        }
        None if is_empty => Ok(exactly()?.unwrap_or(Found::Nothing("does not exist"))),
        None => Ok(Found::Objects { objects: objects.collect(), named: false }),
    }
}
