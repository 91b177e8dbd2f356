//! Curation on several machines through Ballista, and SQL over a curated folder through DataFusion. It knows how work
//! travels and who does it; what is done to documents is [`corpus`]'s.
//!
//! - [`Cluster`] has the first pass of a curation done by the executors of a scheduler.
//! - [`scheduler`] and [`executor`] are the two other parts, as processes.
//! - [`sql`] asks questions of curated documents.
//!
//! Without the feature `engine` this crate is empty: DataFusion takes longer to build than all the rest.

#![cfg(feature = "engine")]

mod client;
mod driver;
mod error;
mod executor;
mod node;
mod program;
mod scheduler;
mod sql;
mod travel;

pub use client::Cluster;
pub use error::Error;
pub use executor::{ExecutorOptions, executor};
pub use scheduler::{SchedulerOptions, scheduler};
pub use sql::{Answer, SqlOptions, sql};
