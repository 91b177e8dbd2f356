//! What a refusal means: by its status, the code in its body, and its headers. S3 and Google send XML with a `Code`, Azure
//! the same beside a header.

use crate::patience::Failure;
use crate::{Address, Error, Scheme};

/// An answer that is no success.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Refusal {
    /// The address that was asked, without a query.
    pub url: String,
    pub status: u16,
    pub code: String,
    pub message: String,
    /// Seconds.
    pub retry_after: Option<u64>,
    pub region: Option<String>,
}

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "status {}", self.status)?;
        for text in [&self.code, &self.message].into_iter().filter(|text| !text.is_empty()) {
            write!(formatter, ", {text}")?;
        }
        Ok(())
    }
}

/// The longest message that is repeated.
const MESSAGE_CHARS: usize = 200;

impl Refusal {
    /// Takes code, message and region out of a body.
    pub fn read_body(&mut self, body: &[u8]) {
        let body = String::from_utf8_lossy(body);
        let element = |name: &str| {
            let (_, rest) = body.split_once(&format!("<{name}>"))?;
            let text = rest.split_once(&format!("</{name}>"))?.0.trim();
            Some(text.lines().next().unwrap_or_default().chars().take(MESSAGE_CHARS).collect::<String>())
        };
        if let Some(code) = element("Code").filter(|_| self.code.is_empty()) {
            self.code = code;
        }
        self.message = element("Message").unwrap_or_default();
        self.region = self.region.take().or_else(|| element("Region"));
    }

    /// What it means for a request about an address.
    pub fn failure(self, address: &Address, anonymous: bool) -> Failure {
        let reason = self.to_string();
        let place = || address.with_key("").to_string();
        let shown = address.to_string();
        let bucket = address.host().split('@').next().unwrap_or_default();
        let is_web = address.scheme == Scheme::Web;
        if !is_web && !self.url.contains(bucket) {
            // Whoever was to give us credentials.
            if self.status == 429 || self.status >= 500 {
                return Failure::Passing(format!("credentials: {} of {}", reason, self.url));
            }
            let reason = format!("{} answers {reason}", self.url);
            return Error::Credentials { address: place(), reason, remedy: remedy(address.scheme).into() }
                .into();
        }
        let error = match (self.status, self.code.as_str()) {
            (429 | 503, _)
            | (_, "SlowDown" | "ServerBusy" | "TooManyRequests" | "Throttling" | "RequestLimitExceeded") => {
                return Failure::Busy(reason, self.retry_after);
            }
            (408 | 500.., _) | (_, "RequestTimeout") => return Failure::Passing(reason),
            (404, "NoSuchBucket") => Error::NoPlace { address: place(), what: "bucket" },
            (404, "ContainerNotFound" | "FilesystemNotFound") => {
                Error::NoPlace { address: place(), what: "container" }
            }
            (404 | 410, _) => Error::NoObject { address: shown },
            (_, "InvalidObjectState" | "BlobArchived") => Error::Archived { address: shown, reason },
            (_, "ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId" | "RequestTimeTooSkewed")
            | (401 | 403, _) => {
                Error::Refused { address: shown, reason, anonymous, remedy: remedy(address.scheme) }
            }
            (301 | 307 | 400, _) if self.region.is_some() => {
                Error::Region { address: place(), region: self.region }
            }
            (301 | 307, _) if !is_web => Error::Region { address: place(), region: None },
            (412 | 416, _) => Error::Changed { address: shown, reason },
            _ => Error::Answer { address: shown, reason },
        };
        error.into()
    }
}

/// What gives the right to read.
pub(crate) fn remedy(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::S3 => {
            "name credentials that may list the bucket and get its objects, as for the AWS tools: AWS_PROFILE, or \
            AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN, which expires); for public data \
            AWS_SKIP_SIGNATURE=true"
        }
        Scheme::Gcs => {
            "name credentials that may list the bucket and get its objects: GOOGLE_APPLICATION_CREDENTIALS, or log in with \
            `gcloud auth application-default login`; for public data GOOGLE_SKIP_SIGNATURE=true"
        }
        Scheme::Azure => {
            "name an account and its credentials: AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or \
            AZURE_STORAGE_SAS_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID; for public data \
            AZURE_SKIP_SIGNATURE=true"
        }
        Scheme::Web => {
            "the server wants to know who asks, which is not supported; use an address that is signed, or fetch the file"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(address: &str, status: u16, code: &str, url: &str) -> String {
        let mut refusal = Refusal { url: url.to_owned(), status, ..Refusal::default() };
        refusal.read_body(format!("<Error><Code>{code}</Code><Message>m</Message></Error>").as_bytes());
        format!("{:?}", refusal.failure(&Address::parse(address).unwrap(), false))
    }

    #[test]
    fn statuses_and_codes_have_a_meaning() {
        let s3 = |status, code: &str| failure("s3://bucket/key", status, code, "https://x/bucket/key");
        for (status, code, wanted) in [
            (503, "SlowDown", "Busy"),
            (429, "", "Busy"),
            (400, "RequestTimeout", "Passing"),
            (500, "InternalError", "Passing"),
            (404, "NoSuchBucket", "NoPlace"),
            (404, "NoSuchKey", "NoObject"),
            (403, "AccessDenied", "Refused"),
            (400, "ExpiredToken", "Refused"),
            (403, "InvalidObjectState", "Archived"),
            (301, "PermanentRedirect", "Region"),
            (412, "PreconditionFailed", "Changed"),
            (400, "InvalidArgument", "Answer"),
        ] {
            let found = s3(status, code);
            assert!(found.contains(wanted), "{status} {code}: {found}");
        }
        let found = failure("s3://bucket/key", 404, "", "http://169.254.169.254/latest/api/token");
        assert!(found.contains("Credentials"), "{found}");
        let found = failure("az://box/key", 404, "ContainerNotFound", "https://a.blob.core.windows.net/box");
        assert!(found.contains("container"), "{found}");
    }

    #[test]
    fn a_region_is_named() {
        let mut refusal = Refusal { url: "https://x/bucket".into(), status: 400, ..Refusal::default() };
        refusal
            .read_body(b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>");
        let Failure::Final(error) = refusal.failure(&Address::parse("s3://bucket/a").unwrap(), false) else {
            panic!()
        };
        assert_eq!(error.hint().unwrap(), "set AWS_REGION=eu-west-1");
    }
}
