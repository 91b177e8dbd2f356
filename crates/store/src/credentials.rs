//! Credentials where the stores' own tools find them: variables first, then the files of their profiles, then a role of this
//! machine; where there is none of these, requests are not signed, as public data wants it.
//!
//! For S3: `AWS_ACCESS_KEY_ID` and its kin, `AWS_PROFILE` in `~/.aws/credentials` and `~/.aws/config` (keys, region and
//! endpoint; not single sign-on, roles to assume or programs), web identities, containers, instances. For Google: what
//! `GOOGLE_APPLICATION_CREDENTIALS` or gcloud's log-in names. For Azure: `AZURE_…`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;

use crate::{Address, Environment, Error};

/// Where each of the three clouds answers its own machines.
const METADATA: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
const METADATA_WAIT: Duration = Duration::from_secs(1);

/// What an S3 client is built with.
#[derive(Debug)]
pub(crate) struct S3 {
    pub settings: Vec<(AmazonS3ConfigKey, String)>,
    pub endpoint: Option<String>,
    pub anonymous: bool,
}

fn settings<K: std::str::FromStr>(environment: &Environment, prefix: &str) -> Vec<(K, String)> {
    let known = |(name, value): (&str, &str)| {
        Some((name.to_ascii_lowercase().parse().ok()?, value.to_owned()))
            .filter(|(_, value)| !value.is_empty())
    };
    environment.with_prefix(prefix).filter_map(known).collect()
}

fn has<K: PartialEq>(settings: &[(K, String)], keys: &[K]) -> bool {
    settings.iter().any(|(key, _)| keys.contains(key))
}

/// Whether this machine is one of a cloud, which may have a role there.
fn is_in_cloud() -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(METADATA), METADATA_WAIT).is_ok()
}

pub(crate) fn s3(address: &Address, environment: &Environment) -> Result<S3, Error> {
    use AmazonS3ConfigKey::{
        AccessKeyId, ContainerCredentialsFullUri, ContainerCredentialsRelativeUri, Endpoint, Region,
        S3Endpoint, SecretAccessKey, SkipSignature, Token, WebIdentityTokenFile,
    };
    let mut settings: Vec<(AmazonS3ConfigKey, String)> = settings(environment, "AWS_");
    let named = environment.get("AWS_PROFILE").or_else(|| environment.get("AWS_DEFAULT_PROFILE"));
    let profile = Profile::read(environment, named.unwrap_or("default"))
        .map_err(|(reason, remedy)| Error::Credentials { address: address.root.clone(), reason, remedy })?;
    let is_skipped = environment.says_yes("AWS_SKIP_SIGNATURE");
    // A profile that is named goes before keys, as with the tools; one that is not, behind.
    let by_variables = has(&settings, &[AccessKeyId, SecretAccessKey]);
    if !is_skipped && (named.is_some() || !by_variables) {
        match (&profile, named) {
            (None, Some(name)) => {
                return Err(Error::Credentials {
                    address: address.root.clone(),
                    reason: format!(
                        "the profile {name:?} is neither in ~/.aws/credentials nor in ~/.aws/config"
                    ),
                    remedy: "check AWS_PROFILE, or make it with: aws configure --profile NAME".into(),
                });
            }
            (Some(profile), _)
                if profile.has("aws_access_key_id") || profile.has("aws_secret_access_key") =>
            {
                settings.retain(|(key, _)| ![AccessKeyId, SecretAccessKey, Token].contains(key));
                for (name, key) in [
                    ("aws_access_key_id", AccessKeyId),
                    ("aws_secret_access_key", SecretAccessKey),
                    ("aws_session_token", Token),
                ] {
                    settings.extend(profile.get(name).map(|value| (key, value.to_owned())));
                }
            }
            (Some(profile), _) => {
                let unsupported =
                    ["sso_session", "sso_start_url", "role_arn", "credential_process", "login_session"];
                if let Some(what) = unsupported.into_iter().find(|name| profile.has(name)) {
                    return Err(Error::Credentials {
                        address: address.root.clone(),
                        reason: format!("the profile {:?} says {what}, which only the AWS tools follow", profile.name),
                        remedy: "let them, and hand on what they get: eval \"$(aws configure export-credentials --format env)\""
                            .into(),
                    });
                }
            }
            (None, None) => {}
        }
    }
    if let Some(profile) = &profile {
        for (name, key, others) in [
            ("region", Region, &[Region, AmazonS3ConfigKey::DefaultRegion][..]),
            ("endpoint_url", Endpoint, &[Endpoint]),
        ] {
            if let Some(value) = profile.get(name).filter(|_| !has(&settings, others)) {
                settings.push((key, value.to_owned()));
            }
        }
    }
    // `object_store` knows the bare name as well.
    let value = |wanted: AmazonS3ConfigKey| {
        settings.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone())
    };
    let endpoint = value(S3Endpoint).or_else(|| value(Endpoint));
    let ways = [
        AccessKeyId,
        SecretAccessKey,
        WebIdentityTokenFile,
        ContainerCredentialsFullUri,
        ContainerCredentialsRelativeUri,
    ];
    let mut anonymous = false;
    if !is_skipped && !has(&settings, &ways) {
        anonymous = environment.says_yes("AWS_EC2_METADATA_DISABLED") || !is_in_cloud();
        if anonymous {
            settings.push((SkipSignature, "true".into()));
        }
    }
    Ok(S3 { settings, endpoint, anonymous })
}

pub(crate) fn gcs(environment: &Environment) -> (Vec<(GoogleConfigKey, String)>, bool) {
    use GoogleConfigKey::{ApplicationCredentials, ServiceAccount, ServiceAccountKey, SkipSignature};
    let mut settings: Vec<(GoogleConfigKey, String)> = settings(environment, "GOOGLE_");
    if let Some(path) = environment.get("SERVICE_ACCOUNT").filter(|_| !has(&settings, &[ServiceAccount])) {
        settings.push((ServiceAccount, path.to_owned()));
    }
    let login = gcloud_login(environment);
    let ways = [ApplicationCredentials, ServiceAccount, ServiceAccountKey, SkipSignature];
    let anonymous = !has(&settings, &ways)
        && !login.is_some_and(|path| path.exists())
        && environment.get("STORAGE_EMULATOR_HOST").is_none()
        && !is_in_cloud();
    if anonymous {
        settings.push((SkipSignature, "true".into()));
    }
    (settings, anonymous)
}

fn gcloud_login(environment: &Environment) -> Option<PathBuf> {
    let folder = match environment.get("APPDATA") {
        Some(folder) if cfg!(windows) => PathBuf::from(folder),
        _ => environment.home()?.join(".config"),
    };
    Some(folder.join("gcloud/application_default_credentials.json"))
}

pub(crate) fn azure(environment: &Environment) -> (Vec<(AzureConfigKey, String)>, bool) {
    use AzureConfigKey::{
        AccessKey, ClientId, MsiEndpoint, SasKey, SkipSignature, Token, UseAzureCli, UseEmulator,
    };
    let mut settings: Vec<(AzureConfigKey, String)> = settings(environment, "AZURE_");
    if let Some(endpoint) = environment.get("IDENTITY_ENDPOINT").filter(|_| !has(&settings, &[MsiEndpoint])) {
        settings.push((MsiEndpoint, endpoint.to_owned()));
    }
    let ways = [AccessKey, ClientId, MsiEndpoint, SasKey, SkipSignature, Token, UseAzureCli, UseEmulator];
    let anonymous = !has(&settings, &ways) && !is_in_cloud();
    if anonymous {
        settings.push((SkipSignature, "true".into()));
    }
    (settings, anonymous)
}

/// A section of the two files of the AWS tools; that of the credentials goes first.
struct Profile {
    name: String,
    values: BTreeMap<String, String>,
}

impl Profile {
    /// None where neither file has it. An error is a reason and a remedy.
    fn read(environment: &Environment, name: &str) -> Result<Option<Profile>, (String, String)> {
        let file = |variable: &str, usual: &str| {
            environment
                .get(variable)
                .map(PathBuf::from)
                .or_else(|| Some(environment.home()?.join(".aws").join(usual)))
        };
        let heading = if name == "default" { name.to_owned() } else { format!("profile {name}") };
        let files = [
            (file("AWS_CONFIG_FILE", "config"), heading.as_str()),
            (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), name),
        ];
        let (mut values, mut found) = (BTreeMap::new(), false);
        for (path, heading) in files {
            let Some(path) = path else { continue };
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(&path, &error)),
            };
            if let Some(section) = section(&text, heading) {
                found = true;
                values.extend(section);
            }
        }
        Ok(found.then(|| Profile { name: name.to_owned(), values }))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> (String, String) {
    (format!("{} cannot be read: {error}", path.display()), "check the file, or name another one".into())
}

/// The keys of a section, which are lower case; indented lines belong to a nested value and are passed over.
fn section(text: &str, wanted: &str) -> Option<BTreeMap<String, String>> {
    let mut values: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
            continue;
        }
        if let Some(heading) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = heading.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', "") == wanted;
            if inside {
                values.get_or_insert_default();
            }
        } else if let (true, Some((key, value)), Some(values)) = (inside, bare.split_once('='), &mut values) {
            values.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests;
