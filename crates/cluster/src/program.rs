//! Which build of this program somebody is. Executors filter documents by this program's functions, and another build may
//! filter otherwise; so the parts of a cluster say in each connection to the scheduler, as its user agent, which file they
//! run, and it refuses others.

use ballista_core::extension::EndpointOverrideFn;
use std::sync::Arc;
use tonic::{Request, Status};

/// How refusals begin, by which they are known.
const REFUSAL: &str = "not the same program: ";

/// The name of this build: the version, and the beginning of the digest of the program's file.
pub fn name() -> String {
    let digest =
        corpus::program().map_or_else(|| "unknown".into(), |digest| digest.as_str()[..16].to_owned());
    format!("alti/{}+{digest}", env!("CARGO_PKG_VERSION"))
}

/// Makes a connection say who it is.
pub fn signed() -> EndpointOverrideFn {
    let name = name();
    Arc::new(move |endpoint| Ok(endpoint.user_agent(name.clone())?))
}

/// Lets only the same program pass.
pub fn check(name: &str, request: Request<()>) -> Result<Request<()>, Status> {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or("");
    // What speaks the protocol adds its own name behind.
    if agent.split(' ').next() == Some(name) {
        return Ok(request);
    }
    let other = agent.split(' ').next().filter(|agent| !agent.is_empty()).unwrap_or("something unnamed");
    Err(Status::failed_precondition(format!("{REFUSAL}it is {name}, and this is {other}")))
}

/// What a refusal says, where an error's text holds one.
pub fn refusal(text: &str) -> Option<String> {
    let said = &text[text.find(REFUSAL)? + REFUSAL.len()..];
    let end = said.find(['"', '\'']).unwrap_or(said.len());
    Some(said[..end].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_program_passes() {
        let ask = |agent: Option<&str>| {
            let mut request = Request::new(());
            if let Some(agent) = agent {
                request.metadata_mut().insert("user-agent", agent.parse().unwrap());
            }
            check("alti/1+ab", request).map(|_| ())
        };
        assert!(ask(Some("alti/1+ab tonic/0.14")).is_ok());
        for other in [None, Some("alti/1+abc tonic/0.14"), Some("tonic/0.14"), Some("alti/1+a")] {
            let status = ask(other).unwrap_err();
            let said = refusal(&format!("{status:?}")).unwrap();
            assert!(said.starts_with("it is alti/1+ab, and this is "), "{said}");
        }
        assert_eq!(refusal("out of memory"), None);
        assert!(name().starts_with("alti/") && !name().ends_with("unknown"));
    }
}
