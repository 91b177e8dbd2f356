//! `alti serve`: a run's model behind the HTTP server, and what a person needs to know to reach it.

use std::net::TcpListener;
use std::time::UNIX_EPOCH;

use engine::Engine;
use owo_colors::OwoColorize;
use serve::ServeInfo;

use crate::args::Serve;
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;

/// `alti serve`.
pub fn serve(args: &Serve, shown: &Shown) -> Result<(), Error> {
    let found = open::find(&args.run)?;
    // The port first: reading a large model in vain would be a pity.
    let listener = TcpListener::bind(args.listen).map_err(|error| Error::Usage {
        message: format!("could not listen on {}: {error}", args.listen),
        hint: "choose another port, such as --listen 127.0.0.1:0 for any free one".to_owned(),
    })?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let (llama, tokenizer) = open::load(&found, shown)?;
    let engine = Engine::start(llama, tokenizer, open::engine_settings(&found, &args.set)?)?;
    let name = args.name.clone().unwrap_or(found.name);
    let made = std::fs::metadata(found.folder.join("config.json")).and_then(|m| m.modified()).ok();
    let created =
        made.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs());
    let info = ServeInfo { created, api_keys: args.api_keys.clone(), ..ServeInfo::new(name.as_str()) };
    shown.line(&format!("{} on {}", name.bold(), format!("http://{address}").cyan().bold()));
    shown.line(&format!("  chat page  http://{address}/"));
    shown.line(&format!("  OpenAI API http://{address}/v1  (model {name:?})"));
    shown.line("  Ctrl-C stops");
    serve::run(listener, engine, info, serve::interrupted())?;
    Ok(())
}
