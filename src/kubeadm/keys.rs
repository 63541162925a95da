//! The bootstrap token and the certificate key: created by k8sha, stored on a master, renewed
//! before they expire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt as _;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::config::{self, Keys};
use super::error::Doing;
use super::{Error, files, kubectl, path};
use crate::cluster::Cluster;
use crate::report::event;
use crate::secrets::register;
use crate::ssh::mask::{is_certificate_key, is_token};
use crate::ssh::{Command, Remote};

/// Less than this counts as expired: a join takes time.
const MARGIN: Duration = Duration::from_secs(10 * 60);

/// How much longer the join credentials are valid. `None` means deleted: Kubernetes deletes what
/// has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// The uploaded certificates, which the certificate key decrypts; two hours at first.
    pub certificates: Option<Duration>,
    /// The bootstrap token; 24 hours at first.
    pub token: Option<Duration>,
}

impl Ages {
    /// Whether the certificates have to be uploaded again.
    pub fn certificates_run_out(&self) -> bool {
        self.certificates.is_none_or(|left| left < MARGIN)
    }

    /// Whether another token is needed.
    pub fn token_runs_out(&self) -> bool {
        self.token.is_none_or(|left| left < MARGIN)
    }
}

/// Creates new keys.
pub fn generate() -> Keys {
    Keys {
        token: new_token(),
        certificate_key: register(hex::encode(rand::rng().random::<[u8; 32]>()).into()),
    }
}

/// A token of kubeadm's form: `[a-z0-9]{6}.[a-z0-9]{16}`.
fn new_token() -> SecretString {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // The thread's generator is cryptographic and seeded by the system.
    let mut rng = rand::rng();
    let mut word = |len: usize| -> String {
        (0..len).map(|_| DIGITS[rng.random_range(0..36)] as char).collect()
    };
    let (id, secret) = (word(6), word(16));
    register(format!("{id}.{secret}").into())
}

/// Finds the keys in a configuration of `kubeadm init`.
pub fn find(config: &str) -> Option<Keys> {
    let value = |key: &str| {
        config.lines().find_map(|line| {
            let line = line.trim_start_matches([' ', '-']);
            let value = line.strip_prefix(key)?.strip_prefix(':')?.trim();
            Some(value.trim_matches(['"', '\'']).to_owned())
        })
    };
    let token = value("token").filter(|token| is_token(token))?;
    let key = value("certificateKey").filter(|key| is_certificate_key(key))?;
    Some(Keys { token: register(token.into()), certificate_key: register(key.into()) })
}

/// The keys stored on a master: those that were renewed through it, or those of its own `kubeadm
/// init`.
///
/// # Errors
/// If the node cannot be queried.
pub async fn stored(via: &Remote) -> Result<Option<Keys>, Error> {
    for path in [path::KEYS, path::INIT] {
        if files::exists(via, path).await? {
            return Ok(find(&files::read(via, path).await?));
        }
    }
    Ok(None)
}

/// How much longer these keys are valid, by the master's clock.
///
/// # Errors
/// If the API does not answer.
pub async fn ages(via: &Remote, keys: &Keys) -> Result<Ages, Error> {
    let tokens = ["-n", "kube-system", "get", "secrets", "--field-selector"];
    let tokens = [&tokens[..], &["type=bootstrap.kubernetes.io/token", "-o", "json"]].concat();
    let certs = ["-n", "kube-system", "get", "secret", "kubeadm-certs", "-o", "json"];
    let (tokens, certs, now) = tokio::try_join!(
        kubectl::json(via, &tokens),
        kubectl::json_if_there(via, &certs),
        clock(via),
    )?;
    let id = keys.token.expose_secret().split('.').next().unwrap_or_default();
    Ok(Ages {
        token: token_left(&tokens, id, now),
        certificates: certs.and_then(|certs| {
            // The upload belongs to a separate token and is deleted with it.
            let owner = certs["metadata"]["ownerReferences"][0]["name"].as_str()?;
            token_left(&tokens, owner.strip_prefix("bootstrap-token-")?, now)
        }),
    })
}

/// The master's clock: expiry depends on the cluster's time, not on this machine's.
async fn clock(via: &Remote) -> Result<OffsetDateTime, Error> {
    let command = Command::new("date").args(["-u", "+%s"]);
    let output = via.run(&command).await.doing("ask for the time")?;
    let ours = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let seconds = output.stdout_text().trim().parse().unwrap_or_else(|_| ours());
    Ok(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or_else(|_| OffsetDateTime::now_utc()))
}

fn token_left(tokens: &Value, id: &str, now: OffsetDateTime) -> Option<Duration> {
    let field = |secret: &Value, key: &str| -> Option<String> {
        let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let secrets = tokens["items"].as_array()?;
    let secret = secrets.iter().find(|secret| field(secret, "token-id").as_deref() == Some(id))?;
    let Some(end) = field(secret, "expiration") else {
        // A token without an end never expires.
        return Some(Duration::MAX);
    };
    let end = OffsetDateTime::parse(end.trim(), &Rfc3339).ok()?;
    Duration::try_from(end - now).ok()
}

/// Renews what is about to expire, with the right command, and returns the keys to continue with.
///
/// `force` renews both whatever their age: a node was refused.
///
/// # Errors
/// If the API does not answer or kubeadm fails.
pub async fn renew(
    via: &Remote,
    cluster: &Cluster,
    keys: Keys,
    force: bool,
) -> Result<(Keys, bool), Error> {
    let ages = ages(via, &keys).await?;
    let certificates = force || ages.certificates_run_out();
    let token = force || ages.token_runs_out();
    // An existing token cannot be created again: a new one replaces it.
    let keys = if token && ages.token.is_some() {
        Keys { token: new_token(), certificate_key: keys.certificate_key }
    } else {
        keys
    };
    if certificates || token {
        let node = cluster.nodes.iter().find(|node| node.name.as_str() == via.node());
        let text = config::init(cluster, node.unwrap_or(cluster.first_master()), &keys)?;
        // Not the file of `kubeadm init`: that one is the record of its run.
        files::write(via, path::KEYS, text.text().expose_secret().as_bytes()).await?;
    }
    if token {
        event::progress("renew the bootstrap token");
        let command = Command::sudo("kubeadm").args(["token", "create", "--config", path::KEYS]);
        via.run_ok(&command).await.doing("renew the bootstrap token")?;
    }
    if certificates {
        event::progress("upload the control plane's certificates again");
        // With --config: without it the files of an external etcd are left out
        // (kubernetes/kubeadm#1886).
        let command = Command::sudo("kubeadm").args([
            "init",
            "phase",
            "upload-certs",
            "--upload-certs",
            "--config",
            path::KEYS,
        ]);
        via.run_ok(&command).await.doing("upload the certificates again")?;
    }
    Ok((keys, certificates || token))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn new_keys_have_kubeadms_forms_and_differ() {
        let (one, two) = (generate(), generate());
        assert!(is_token(one.token.expose_secret()));
        assert!(is_certificate_key(one.certificate_key.expose_secret()));
        assert_ne!(one.token.expose_secret(), two.token.expose_secret());
        assert_ne!(one.certificate_key.expose_secret(), two.certificate_key.expose_secret());
    }

    #[test]
    fn the_keys_are_found_in_either_spelling_of_the_file() {
        let key = "0".repeat(64);
        for text in [
            format!(
                "bootstrapTokens:\n- token: abcdef.0123456789abcdef\n  ttl: 24h0m0s\ncertificateKey: \"{key}\"\n"
            ),
            format!(
                "certificateKey: '{key}'\nbootstrapTokens:\n  - groups:\n    - a\n    token: \"abcdef.0123456789abcdef\"\n"
            ),
        ] {
            let keys = find(&text).unwrap();
            assert_eq!(keys.token.expose_secret(), "abcdef.0123456789abcdef");
            assert_eq!(keys.certificate_key.expose_secret(), key);
        }
        assert!(find("certificateKey: short\n").is_none());
    }

    #[test]
    fn a_tokens_remaining_time_is_read_and_an_expired_one_is_gone() {
        let secret = |id: &str, end: &str| json!({"data": {"token-id": STANDARD.encode(id), "expiration": STANDARD.encode(end)}});
        let list = json!({"items": [
            secret("abcdef", "2026-11-22T12:00:00Z"),
            secret("expire", "2026-11-22T10:59:59Z"),
            {"data": {"token-id": STANDARD.encode("always")}},
        ]});
        let now = OffsetDateTime::parse("2026-11-22T11:00:00Z", &Rfc3339).unwrap();
        assert_eq!(token_left(&list, "abcdef", now), Some(Duration::from_secs(3600)));
        assert_eq!(token_left(&list, "expire", now), None);
        assert_eq!(token_left(&list, "always", now), Some(Duration::MAX));
        assert_eq!(token_left(&list, "unknown", now), None);
    }

    #[test]
    fn ten_minutes_are_too_few() {
        let of = |minutes: u64| Some(Duration::from_secs(minutes * 60));
        let ages = Ages { certificates: of(9), token: of(11) };
        assert!(ages.certificates_run_out() && !ages.token_runs_out());
        assert!(Ages::default().certificates_run_out() && Ages::default().token_runs_out());
    }
}
