//! `alti serve`: a model behind the HTTP server, and what a person needs to know to reach it.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use owo_colors::OwoColorize;
use serve::{Access, AccessLog, ApiKeys, ServeInfo};

use crate::args::{LogFormat, Serve};
use crate::errors::Error;
use crate::progress::Shown;
use crate::{interrupt, open};

/// How often it looks whether somebody asked to stop.
const LOOK: Duration = Duration::from_millis(50);

/// `alti serve`.
pub fn serve(args: &Serve, shown: &Shown) -> Result<(), Error> {
    let found = open::find(&args.run)?;
    let api_keys = keys(&args.api_keys, &args.api_key_files)?;
    let mut recipe = open::recipe(&found, &args.set)?;
    let name = args.name.clone().unwrap_or_else(|| found.name.clone());
    add_adapters(&mut recipe.engine, &args.adapters, &name)?;
    let mut settings = recipe.serve;
    settings.allowed_origins.extend(args.cors_origins.iter().cloned());
    settings.shutdown_grace_seconds = args.shutdown_grace.unwrap_or(settings.shutdown_grace_seconds);
    settings.open_metrics |= args.open_metrics;
    // The port first: reading a large model in vain would be a pity, and whoever asks meanwhile is told to wait.
    let listener = TcpListener::bind(args.listen).map_err(|error| Error::Usage {
        message: format!("could not listen on {}: {error}", args.listen),
        hint: "choose another port, such as --listen 127.0.0.1:0 for any free one".to_owned(),
    })?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let server = serve::Server::start(listener, settings.clone())?;
    let loaded = open::load(&found, recipe.engine.precision, shown)?;
    let engine = open::engine(loaded, recipe.engine, shown)?;
    let adapters: Vec<String> = engine.adapters().into_iter().map(|adapter| adapter.name).collect();
    let made = std::fs::metadata(found.folder.join("config.json")).and_then(|m| m.modified()).ok();
    let created =
        made.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs());
    let info = ServeInfo {
        created,
        api_keys,
        access_log: access_log(args.log_format),
        settings,
        ..ServeInfo::new(name.as_str())
    };
    server.open(engine, info);
    shown.line(&format!("{} on {}", name.bold(), format!("http://{address}").cyan().bold()));
    shown.line(&format!("  chat page  http://{address}/"));
    shown.line(&format!("  OpenAI API http://{address}/v1  (model {name:?})"));
    if !adapters.is_empty() {
        shown.line(&format!("  adapters   {}  (as the model)", adapters.join(", ")));
    }
    shown.line("  Ctrl-C stops");
    interrupt::listen("Finishing the answers that run. Ctrl-C again ends at once.");
    while !interrupt::asked() {
        std::thread::sleep(LOOK);
    }
    server.stop();
    Ok(())
}

/// Adds the adapters of the command line to those of the settings.
fn add_adapters(
    settings: &mut engine::Settings,
    given: &[(String, PathBuf)],
    model: &str,
) -> Result<(), Error> {
    for (name, folder) in given {
        if settings.adapters.insert(name.clone(), folder.clone()).is_some() {
            let message = format!("two adapters are called {name}");
            let hint = "give each another name; the recipe's are in its section [engine.adapters]".to_owned();
            return Err(Error::Usage { message, hint });
        }
    }
    if settings.adapters.contains_key(model) {
        let message = format!("an adapter is called {model}, as the model is");
        let hint = "give the adapter another name, or the model, with --name".to_owned();
        return Err(Error::Usage { message, hint });
    }
    Ok(())
}

/// The keys that were given, and those in the files.
fn keys(given: &[String], files: &[impl AsRef<Path>]) -> Result<ApiKeys, Error> {
    let refuse = |place: String| Error::Usage {
        message: format!("{place} is not a key"),
        hint: "a key is a word of printable ASCII, without spaces".to_owned(),
    };
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let mut keys = Vec::new();
    for (place, key) in given.iter().enumerate() {
        if !is_key(key) {
            return Err(refuse(format!("--api-key number {}", place + 1)));
        }
        keys.push(key.clone());
    }
    for file in files.iter().map(AsRef::as_ref) {
        let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
        let before = keys.len();
        for (line, key) in text.lines().enumerate().map(|(line, key)| (line, key.trim())) {
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if !is_key(key) {
                return Err(refuse(format!("line {} of {}", line + 1, file.display())));
            }
            keys.push(key.to_owned());
        }
        // Without this, a file that was emptied would open the server to everybody.
        if keys.len() == before {
            let message = format!("{} holds no key", file.display());
            let hint = "write one key a line, or leave --api-key-file out to let everybody ask".to_owned();
            return Err(Error::Usage { message, hint });
        }
    }
    Ok(keys.into_iter().collect())
}

fn access_log(format: LogFormat) -> Option<AccessLog> {
    let write: fn(&Access) -> String = match format {
        LogFormat::Text => words,
        LogFormat::Json => |access| serde_json::to_string(access).unwrap_or_default(),
        LogFormat::None => return None,
    };
    Some(AccessLog::new(move |access| {
        let line = write(access) + "\n";
        // One write a line, so that lines of two threads do not mix. Where nobody reads them there is nobody to tell.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }))
}

/// Such as `2026-03-01T12:00:00.250Z 200 POST /v1/completions 0.512s tokens 5+16 first 0.101s 127.0.0.1:5 req_12`.
fn words(access: &Access) -> String {
    let time = UNIX_EPOCH + Duration::try_from_secs_f64(access.time).unwrap_or_default();
    let mut line = format!(
        "{} {} {} {} {:.3}s",
        ledger::clock::rfc3339(time),
        access.status,
        access.method,
        access.path,
        access.seconds
    );
    if let Some(prompt) = access.prompt_tokens {
        line += &format!(" tokens {prompt}+{}", access.completion_tokens.unwrap_or(0));
    }
    if let Some(first) = access.first_token {
        line += &format!(" first {first:.3}s");
    }
    for word in [access.finish, access.error, access.peer.as_deref(), Some(&access.id)].into_iter().flatten()
    {
        line += &format!(" {word}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_options_and_files_and_a_file_without_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.txt");
        let check = |text: &str, wanted: Result<&str, &str>| {
            std::fs::write(&file, text).unwrap();
            match (keys(&["one".to_owned()], &[&file]), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(format!("{found:?}"), wanted),
                (Err(found), Err(wanted)) => assert!(found.to_string().contains(wanted), "{found}"),
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        };
        check("# mine\n\n two \nthree\r\n", Ok("ApiKeys(3)"));
        check("# none\n", Err("holds no key"));
        check("two\nthree four\n", Err("line 2 of"));
        assert!(keys(&[String::new()], &[] as &[&Path]).is_err());
        assert!(keys(&[], &[] as &[&Path]).unwrap().is_empty());
    }

    #[test]
    fn no_two_things_that_are_served_share_a_name() {
        let check = |given: &[&str], wanted: Result<usize, &str>| {
            let mut settings = engine::Settings::default();
            settings.adapters.insert("old".into(), "a".into());
            let given: Vec<_> = given.iter().map(|name| ((*name).to_owned(), "b".into())).collect();
            match (add_adapters(&mut settings, &given, "model"), wanted) {
                (Ok(()), Ok(count)) => assert_eq!(settings.adapters.len(), count),
                (Err(found), Err(wanted)) => assert!(found.to_string().contains(wanted), "{found}"),
                (found, _) => panic!("{given:?}: {found:?}"),
            }
        };
        check(&[], Ok(1));
        check(&["one", "two"], Ok(3));
        check(&["one", "one"], Err("two adapters are called one"));
        check(&["old"], Err("two adapters are called old"));
        check(&["model"], Err("as the model is"));
    }

    #[test]
    fn a_line_of_the_log_says_what_was_asked_and_how_it_went() {
        let mut access = Access {
            time: 1_700_000_000.25,
            id: "req_1".into(),
            peer: Some("127.0.0.1:5".into()),
            method: "POST".into(),
            path: "/v1/completions".into(),
            status: 200,
            bytes: 100,
            seconds: 0.5123,
            stream: true,
            first_token: Some(0.1),
            prompt_tokens: Some(5),
            cached_tokens: Some(2),
            completion_tokens: Some(16),
            finish: Some("length"),
            error: None,
        };
        let line = words(&access);
        let wanted = "200 POST /v1/completions 0.512s tokens 5+16 first 0.100s length 127.0.0.1:5 req_1";
        assert_eq!(line.split_once("Z ").unwrap().1, wanted);
        assert!(line.starts_with("2023-11-14T22:13:20"), "{line}");
        access = Access { prompt_tokens: None, first_token: None, finish: None, peer: None, ..access };
        access.error = Some("invalid_json");
        assert!(words(&access).ends_with("0.512s invalid_json req_1"));
    }
}
