//! Objects that lie elsewhere: in S3 and what speaks its language, in Google Cloud Storage, in Azure, and on web servers.
//! They are listed and read, in a [stream](Stream) with read-ahead or by [ranges](Ranges), with bounded memory and with
//! patience: a request that fails is made again later, from the byte that was reached. Nothing is written, and what is in
//! an object is not known here.
//!
//! - [`is_address`] tells an address from a path.
//! - [`Places`] opens buckets, containers and servers by what the environment and the profiles of the stores' own tools say.
//! - [`Place`] lists objects; an [`Object`] is what it was when it was listed, and reading it fails once it is another.
//! - [`Error::is_of_object`] tells what is wrong with one object for good from what is wrong with the way to all of them.
//!
//! The stores are spoken to by the crate `object_store` (feature `objects`), whose requests go through the same blocking
//! client as those to web servers.

mod address;
#[cfg(feature = "objects")]
mod credentials;
mod environment;
mod error;
mod meaning;
#[cfg(feature = "objects")]
mod objects;
mod patience;
mod place;
mod ranges;
mod stream;
#[cfg(feature = "objects")]
mod transport;
mod web;

pub use address::{Address, Scheme, is_address};
pub use environment::Environment;
pub use error::Error;
pub use patience::Manners;
pub use place::{Listed, Object, Place, Places};
pub use ranges::Ranges;
pub use stream::Stream;
