//! Buckets of S3, of Google Cloud Storage and containers of Azure, by the crate `object_store`: it knows the protocols, the
//! signatures and the ways to credentials. Its own repetition of requests is switched off, since it does not keep to
//! `Retry-After`; ours is in [`patience`](crate::patience).

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use crate::meaning::{Refusal, remedy};
use crate::patience::Failure;
use crate::place::{Facts, Part};
use crate::transport::{Broken, Transport};
use crate::{Address, Environment, Error, Scheme, credentials, web};

/// An open bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Whether requests are not signed because nobody named credentials.
    anonymous: bool,
}

impl Bucket {
    /// By the environment, and the files that it leads to.
    pub fn open(address: &Address, environment: &Environment) -> Result<Bucket, Error> {
        let unusable = |error: object_store::Error| Error::Credentials {
            address: address.root.clone(),
            reason: innermost(&error),
            remedy: remedy(address.scheme).into(),
        };
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let (store, anonymous): (Arc<dyn ObjectStore>, bool) = match address.scheme {
            Scheme::S3 => {
                let credentials::S3 { settings, endpoint, anonymous } =
                    credentials::s3(address, environment)?;
                let here = endpoint.as_deref().is_some_and(is_here);
                let builder = settings
                    .into_iter()
                    .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
                let store = builder
                    .with_bucket_name(address.host())
                    .with_allow_http(true)
                    .with_retry(retry)
                    .with_http_connector(Transport { here })
                    .build();
                (Arc::new(store.map_err(unusable)?), anonymous)
            }
            Scheme::Gcs => {
                let (settings, anonymous) = credentials::gcs(environment);
                let mut builder = GoogleCloudStorageBuilder::new();
                for (key, value) in settings {
                    builder = builder.with_config(key, value);
                }
                let emulator =
                    environment.get("STORAGE_EMULATOR_HOST").map(|host| match host.contains("://") {
                        true => host.to_owned(),
                        false => format!("http://{host}"),
                    });
                if let Some(emulator) = &emulator {
                    builder = builder.with_base_url(emulator).with_skip_signature(true);
                }
                let here = emulator.as_deref().is_some_and(is_here);
                let store = builder
                    .with_bucket_name(address.host())
                    .with_retry(retry)
                    .with_http_connector(Transport { here })
                    .build();
                (Arc::new(store.map_err(unusable)?), anonymous && emulator.is_none())
            }
            Scheme::Azure | Scheme::Web => {
                let (settings, anonymous) = credentials::azure(environment);
                let mut builder = MicrosoftAzureBuilder::new();
                for (key, value) in settings {
                    builder = builder.with_config(key, value);
                }
                builder = match address.host().split_once('@') {
                    // Without a key: it may hold what has a meaning in an address.
                    Some(_) => builder.with_url(address.root.clone()),
                    None => builder.with_container_name(address.host()),
                };
                let endpoint = builder.get_config_value(&object_store::azure::AzureConfigKey::Endpoint);
                let here = environment.says_yes("AZURE_STORAGE_USE_EMULATOR")
                    || endpoint.as_deref().is_some_and(is_here);
                let store = builder
                    .with_allow_http(true)
                    .with_retry(retry)
                    .with_http_connector(Transport { here })
                    .build();
                (Arc::new(store.map_err(unusable)?), anonymous)
            }
        };
        Ok(Bucket { store, anonymous })
    }

    /// Keys and states of all objects below a prefix.
    pub fn list(&self, prefix: &Address) -> Result<Vec<(String, Facts)>, Failure> {
        let runtime = runtime()?;
        let path = (!prefix.key.is_empty()).then(|| path(prefix)).transpose()?;
        let mut found = Vec::new();
        let mut list = self.store.list(path.as_ref());
        while let Some(meta) = runtime.block_on(list.next()) {
            let meta = meta.map_err(|error| self.failure(prefix, &error))?;
            found.push((meta.location.to_string(), facts(&meta)));
        }
        Ok(found)
    }

    /// The state of an object.
    pub fn facts(&self, address: &Address) -> Result<Facts, Failure> {
        let head = runtime()?.block_on(self.store.head(&path(address)?));
        Ok(facts(&head.map_err(|error| self.failure(address, &error))?))
    }

    /// A range of an object.
    pub fn get(&self, address: &Address, range: Range<u64>) -> Result<Part, Failure> {
        let runtime = runtime()?;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let path = path(address)?;
        let got = runtime.block_on(self.store.get_opts(&path, options));
        let got = got.map_err(|error| self.failure(address, &error))?;
        let (facts, begins) = (facts(&got.meta), got.range.start);
        let body = Box::new(Pulled { runtime, stream: got.into_stream(), piece: bytes::Bytes::new() });
        Ok(Part { facts, begins, whole: false, body })
    }

    /// What an error of the library means: what was refused, or broke, is somewhere among its causes.
    fn failure(&self, address: &Address, error: &object_store::Error) -> Failure {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(found) = cause {
            if let Some(refusal) = found.downcast_ref::<Refusal>() {
                return refusal.clone().failure(address, self.anonymous);
            }
            if let Some(Broken { reason, .. }) = found.downcast_ref() {
                return Failure::Passing(reason.clone());
            }
            cause = found.source();
        }
        Error::Answer { address: address.to_string(), reason: innermost(error) }.into()
    }
}

fn is_here(endpoint: &str) -> bool {
    Address::parse(endpoint).is_ok_and(|address| web::is_here(address.host()))
}

fn facts(meta: &ObjectMeta) -> Facts {
    Facts { bytes: meta.size, etag: meta.e_tag.clone(), modified: Some(meta.last_modified.to_rfc3339()) }
}

/// A key as the library wants it: as it is, not encoded once more.
fn path(address: &Address) -> Result<Path, Error> {
    let fault = |error: object_store::path::Error| Error::Address {
        given: address.to_string(),
        reason: format!("has a key that is not supported: {error}"),
    };
    Path::parse(address.key.trim_end_matches('/')).map_err(fault)
}

/// The reason behind the reasons.
fn innermost(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// One thread's, for one request and its body.
fn runtime() -> Result<Runtime, Error> {
    let made = Builder::new_current_thread().enable_time().build();
    made.map_err(|error| Error::Unreachable { address: "this machine".into(), reason: error.to_string() })
}

/// A body, driven by whoever reads it.
struct Pulled {
    runtime: Runtime,
    stream: BoxStream<'static, object_store::Result<bytes::Bytes>>,
    piece: bytes::Bytes,
}

impl Read for Pulled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
                    while let Some(found) = cause {
                        if let Some(Broken { reason, kind }) = found.downcast_ref() {
                            return Err(io::Error::new(*kind, reason.clone()));
                        }
                        cause = found.source();
                    }
                    return Err(io::Error::other(innermost(&error)));
                }
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
