//! What can go wrong between here and an object, with its remedy.

/// An error of this crate; each names the place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is no address.
    #[error("the address {given:?} {reason}")]
    Address {
        /// As it was given, without a query.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This program was built without the feature that speaks to stores.
    #[error("{address} cannot be read: this alti was built without object stores")]
    NotBuilt {
        /// The place.
        address: String,
    },
    /// The bucket or container does not exist.
    #[error("{address}: there is no such {what}")]
    NoPlace {
        /// The place.
        address: String,
        /// `bucket` or `container`.
        what: &'static str,
    },
    /// Nothing lies under the address.
    #[error("{address}: there is no such object")]
    NoObject {
        /// The object.
        address: String,
    },
    /// The store does not let us.
    #[error("{address}: access refused ({reason}){}", if *anonymous { "; no credentials were found, so the request was not signed" } else { "" })]
    Refused {
        /// The place or object.
        address: String,
        /// The store's status and words.
        reason: String,
        /// Whether the request was not signed, since there were no credentials.
        anonymous: bool,
        /// What to set, for this kind of store.
        remedy: &'static str,
    },
    /// The object is kept where it cannot be read at once.
    #[error("{address}: archived ({reason})")]
    Archived {
        /// The object.
        address: String,
        /// The store's status and words.
        reason: String,
    },
    /// Credentials are named that cannot be used.
    #[error("{address}: no usable credentials: {reason}")]
    Credentials {
        /// The place.
        address: String,
        /// What is wrong with them.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The bucket lies in another region.
    #[error("{address}: the bucket is in {}", region.as_deref().map_or_else(|| "another region".to_owned(), |region| format!("the region {region}")))]
    Region {
        /// The place.
        address: String,
        /// Which, where the store says so.
        region: Option<String>,
    },
    /// The store asks to wait, longer than is waited.
    #[error("{address}: the store asks to slow down ({reason}){}", seconds.map_or_else(String::new, |seconds| format!(", for {seconds} s")))]
    Busy {
        /// The place or object.
        address: String,
        /// The store's status and words.
        reason: String,
        /// How long, where it says so.
        seconds: Option<u64>,
    },
    /// Nobody answers, or nobody to the end.
    #[error("{address}: cannot be reached: {reason}")]
    Unreachable {
        /// The place or object.
        address: String,
        /// The last failure.
        reason: String,
    },
    /// The store answers, but sends fewer bytes than it said.
    #[error("{address}: ends early, at byte {at} of {bytes}")]
    EndsEarly {
        /// The object.
        address: String,
        /// Bytes that came.
        at: u64,
        /// Bytes that should.
        bytes: u64,
    },
    /// The object is not the one that was listed.
    #[error("{address}: changed while it was read: {reason}")]
    Changed {
        /// The object.
        address: String,
        /// What differs.
        reason: String,
    },
    /// An answer that is not understood.
    #[error("{address}: unexpected answer: {reason}")]
    Answer {
        /// The place or object.
        address: String,
        /// What was answered.
        reason: String,
    },
}

impl Error {
    /// Whether it is one object's own and will be the same tomorrow, as a broken file's is; everything else may pass, or
    /// concerns the whole place, and what is read on regardless would be a matter of luck.
    pub fn is_of_object(&self) -> bool {
        matches!(self, Error::EndsEarly { .. } | Error::Archived { .. })
    }

    /// The remedy in one line.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Address { .. } => "an address is s3://bucket/key, gs://bucket/key, az://container/key, \
                abfss://container@account.dfs.core.windows.net/key or https://host/file; globs such as s3://bucket/crawl/*.warc.gz \
                work in stores"
                .into(),
            Error::NotBuilt { .. } => "build it with the feature object-store, which is there unless --no-default-features takes it away: cargo build \
                --release --features object-store".into(),
            Error::NoPlace { .. } => {
                "check the name, and for a store that is not the usual one its endpoint (AWS_ENDPOINT_URL, \
                AZURE_STORAGE_ACCOUNT_NAME, STORAGE_EMULATOR_HOST)"
                    .into()
            }
            Error::NoObject { .. } => "check the key; what lies below a prefix is named with a slash at its end".into(),
            Error::Refused { remedy, .. } => (*remedy).into(),
            Error::Archived { .. } => "restore the object first, or leave it out by a glob".into(),
            Error::Credentials { remedy, .. } => remedy.clone(),
            Error::Region { region: Some(region), .. } => format!("set AWS_REGION={region}"),
            Error::Region { region: None, .. } => "set AWS_REGION to the bucket's region".into(),
            Error::Busy { .. } => "run the same command again later; it goes on from here".into(),
            Error::Unreachable { .. } => "check the network, the endpoint and the proxy, and run the same command again; it goes on \
                from here"
                .into(),
            Error::EndsEarly { .. } => "upload the object again".into(),
            Error::Changed { .. } => "run the same command again once the sources are at rest: it reads what is there then".into(),
            Error::Answer { .. } => return None,
        })
    }
}
