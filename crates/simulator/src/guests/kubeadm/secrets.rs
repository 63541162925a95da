//! Tokens and the uploaded certificates.

use super::Config;
use crate::guests::kube::{Kube, Token, random_text, uuid};
use crate::guests::{Guests, pace};

/// How long certificates remain that the fault `expired-key` expires at once: until the first read
/// after this time.
const EXPIRED_LIFE: i64 = 1;

fn kube<'a>(guests: &'a mut Guests, key: &str) -> Result<&'a mut Kube, String> {
    let id = guests.all.get(key).and_then(|guest| guest.disk.kube.clone());
    id.and_then(|id| guests.kubes.get_mut(&id))
        .ok_or_else(|| "the API server is not there".to_owned())
}

/// Writes etcd's entry for a Secret.
fn note(guests: &mut Guests, key: &str, secret: &str) {
    let id = guests.all.get(key).and_then(|guest| guest.disk.kube.clone()).unwrap_or_default();
    guests.note_in_etcd(&id, &format!("/registry/secrets/kube-system/{secret}"));
}

/// Uploads the certificates under a key (phases/copycerts `UploadCerts`).
///
/// # Errors
/// kubeadm's words.
pub fn upload_certs(
    guests: &mut Guests,
    key: &str,
    config: &Config,
    certificate_key: &str,
) -> Result<(), String> {
    let digits =
        certificate_key.len() == 64 && certificate_key.chars().all(|c| c.is_ascii_hexdigit());
    if !digits {
        return Err(
            "error decoding certificate key: encoding/hex: invalid byte or odd length".to_owned()
        );
    }
    let mut etcd = None;
    if let Some(files) = &config.etcd_files {
        let Some(guest) = guests.all.get(key) else { return Err(String::new()) };
        let mut bodies = Vec::new();
        for path in files {
            let Some(text) = guest.text(path) else {
                return Err(format!(
                    "error uploading certs: open {path}: no such file or directory"
                ));
            };
            bodies.push(text.to_owned());
        }
        etcd = <[String; 3]>::try_from(bodies).ok();
    }
    let Some(ca) = super::init::authority(guests, key) else {
        return Err(
            "error uploading certs: open /etc/kubernetes/pki/ca.key: no such file or directory"
                .to_owned(),
        );
    };
    let unix = guests.unix();
    let expired = guests.guest_fault_once("expired-key", key);
    let life = if expired { EXPIRED_LIFE } else { pace::CERTS_LIFE };
    let kube = kube(guests, key)?;
    kube.store_certs(certificate_key.to_owned(), ca, etcd, unix, life);
    note(guests, key, "kubeadm-certs");
    Ok(())
}

/// Creates the configuration's token, or a random one. `again`: whether an existing one may be
/// replaced, as `init` does and `token create` does not.
///
/// # Errors
/// kubeadm's words.
pub fn create_token(
    guests: &mut Guests,
    key: &str,
    config: &Config,
    again: bool,
) -> Result<String, String> {
    let token =
        config.token.clone().unwrap_or_else(|| format!("{}.{}", random_text(6), random_text(16)));
    let unix = guests.unix();
    let kube = kube(guests, key)?;
    let Some((id, secret)) = token.split_once('.') else { return Err(String::new()) };
    if kube.tokens.contains_key(id) && !again {
        return Err(format!("a token with id \"{id}\" already exists"));
    }
    let made = Token {
        secret: secret.to_owned(),
        expires: (config.token_life > 0).then(|| unix + config.token_life),
        description: String::new(),
        usable: true,
        uid: uuid(),
    };
    kube.tokens.insert(id.to_owned(), made);
    let secret = format!("bootstrap-token-{id}");
    note(guests, key, &secret);
    Ok(token)
}
