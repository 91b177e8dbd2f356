//! Which credentials are used, over files and variables of the tests' own.

use super::*;

const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n    max_concurrent_requests = 5\n    region = nested\n\n\
    [profile other]\nendpoint_url = http://localhost:9\nregion=eu-north-1\n[profile login]\nsso_session = company\n";
const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key = B\n[other]\n\
    AWS_ACCESS_KEY_ID=C\naws_secret_access_key=D=\naws_session_token=E\n";

/// What S3 is opened with, as text.
fn opened(variables: &[(&str, &str)]) -> Result<String, Error> {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), CONFIG).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), CREDENTIALS).unwrap();
    let home = home.path().to_str().unwrap();
    let environment = Environment::of(
        variables.iter().copied().chain([("HOME", home), ("AWS_EC2_METADATA_DISABLED", "true")]),
    );
    let S3 { settings, anonymous, .. } = s3(&Address::parse("s3://b/k").unwrap(), &environment)?;
    let mut lines: Vec<String> =
        settings.iter().map(|(key, value)| format!("{}={value}", key.as_ref())).collect();
    lines.extend(anonymous.then(|| "anonymous".to_owned()));
    Ok(lines.join(" "))
}

#[test]
fn keys_come_from_variables_or_the_profile() {
    let check = |variables: &[(&str, &str)], wanted: &[&str], not: &[&str]| {
        let found = opened(variables).unwrap();
        for part in wanted {
            assert!(found.contains(part), "{part} in {found}");
        }
        for part in not {
            assert!(!found.contains(part), "{part} in {found}");
        }
    };
    check(&[], &["aws_access_key_id=A", "aws_region=eu-west-1"], &["nested", "anonymous", "session"]);
    let other = [("AWS_PROFILE", "other")];
    check(
        &other,
        &["key_id=C", "access_key=D=", "token=E", "aws_endpoint=http://localhost:9", "eu-north-1"],
        &["=A"],
    );
    let keys = [("AWS_ACCESS_KEY_ID", "X"), ("AWS_SECRET_ACCESS_KEY", "Y")];
    check(&keys, &["key_id=X", "access_key=Y", "eu-west-1"], &["=A", "=B"]);
    check(&[keys[0], keys[1], other[0]], &["key_id=C"], &["=X"]);
    check(&[("AWS_SKIP_SIGNATURE", "true")], &["aws_skip_signature=true"], &["=A", "anonymous"]);
    let nothing = [("AWS_CONFIG_FILE", "/nowhere"), ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")];
    check(&nothing, &["aws_skip_signature=true", "anonymous"], &["region"]);
    check(&[("AWS_REGION", "us-west-2")], &["aws_region=us-west-2"], &["eu-west-1"]);
}

#[test]
fn profiles_that_only_the_tools_follow_are_named() {
    let failed = |name: &str| {
        let error = opened(&[("AWS_PROFILE", name)]).unwrap_err();
        (error.to_string(), error.hint().unwrap())
    };
    let (message, hint) = failed("login");
    assert!(message.contains("sso_session") && hint.contains("export-credentials"), "{message} {hint}");
    assert!(failed("nobody").0.contains("\"nobody\""));
}

#[test]
fn google_and_azure_are_told_by_their_variables() {
    let google = Environment::of([("GOOGLE_APPLICATION_CREDENTIALS", "/a.json"), ("HOME", "/nowhere")]);
    let (settings, anonymous) = gcs(&google);
    assert_eq!((settings.len(), anonymous), (1, false));
    let variables = [("AZURE_STORAGE_ACCOUNT_NAME", "a"), ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")];
    let (settings, anonymous) = azure(&Environment::of(variables));
    assert_eq!((settings.len(), anonymous), (2, false));
}
