//! A server over a model of a few lines that repeats what it is told: for trying clients and the page without weights.
//!
//! `cargo run -p serve --example toy_server -- [PORT] [MILLISECONDS A TOKEN] [API KEY]`

#![allow(clippy::print_stdout)]

use std::time::Duration;

use engine::Settings;
use serve::ServeInfo;

#[path = "../tests/it/toy.rs"]
mod toy;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let port = arguments.get(1).map_or(Ok(8000), |port| port.parse())?;
    let pause = arguments.get(2).map_or(Ok(20), |pause| pause.parse())?;
    let engine = toy::engine(Duration::from_millis(pause), Settings::default());
    let mut info = ServeInfo::new("parrot");
    info.api_keys = arguments.get(3).into_iter().collect();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    println!("http://{}/", listener.local_addr()?);
    serve::run(listener, engine, info, std::future::pending())?;
    Ok(())
}
