//! The server over real sockets, with a model whose answers are known.

mod adapters;
mod answers;
mod client;
mod connections;
mod load;
mod openapi;
mod operator;
mod refusals;
mod responses;
mod tools;
mod toy;
