//! The server over real sockets, with a model whose answers are known.

mod adapters;
mod answers;
mod bodies;
mod client;
mod connections;
mod load;
mod openapi;
mod operator;
mod refusals;
mod responses;
#[path = "../../../engine/tests/it/small.rs"]
mod small;
mod tools;
mod toy;
