//! Checks the login user, SSH keys and the jump host.

use std::path::Path;

use super::{Notes, resolved, users};
use crate::cluster::{Access, Jump};
use crate::profile::at::{At, Section};
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, Profile, PublicKey};

const SSH_PORT: u16 = 22;

pub(super) fn settle(raw: &Profile, base: &Path, notes: &mut Notes) -> Option<Access> {
    let section = raw.access.as_ref().map(|section| &section.value);
    let keys = section.and_then(|access| access.authorized_keys.as_deref()).unwrap_or_default();
    distinct(keys, notes);
    let jump = match section.and_then(|access| access.jump.as_ref()) {
        None => None,
        Some(jump) => Some(settle_jump(jump, base, notes)?),
    };
    let user = section.and_then(|access| access.user.as_ref());
    if let Some(user) = user.filter(|user| users::is_taken(&user.value.0)) {
        let text = format!("`{}` is already a user or group of the operating system", user.value.0);
        notes.push(Complaint::error(text).at(user.span.clone(), "").help(
            "cloud-init could not create this user: choose another name, such as `ubuntu` or `ops`",
        ));
    }
    let identity = section.and_then(|access| access.identity.as_ref());
    Some(Access {
        user: user.map_or_else(|| "ubuntu".to_owned(), |user| user.value.0.clone()),
        authorized_keys: keys.iter().map(|key| key.value.0.clone()).collect(),
        agent: section.and_then(|access| access.agent.as_ref()).map(|agent| agent.value),
        identity: identity.map(|path| resolved(base, path)),
        jump,
    })
}

fn distinct(keys: &[At<PublicKey>], notes: &mut Notes) {
    let body = |key: &str| key.split_whitespace().nth(1).map(str::to_owned);
    for (nth, key) in keys.iter().enumerate() {
        let twin = keys[..nth].iter().find(|twin| body(&twin.value.0) == body(&key.value.0));
        if let Some(twin) = twin {
            notes.push(
                Complaint::error("the same public key is listed twice")
                    .at(key.span.clone(), "again here")
                    .at(twin.span.clone(), "first here"),
            );
        }
    }
}

fn settle_jump(section: &Section<raw::Jump>, base: &Path, notes: &mut Notes) -> Option<Jump> {
    let typed = &section.value;
    let host = notes.need(section, "host", &typed.host);
    let user = notes.need(section, "user", &typed.user);
    if let (Some(key), Some(file)) = (&typed.host_key, &typed.known_hosts) {
        notes.push(
            Complaint::error("the jump host's key is given in two places")
                .at(file.span.clone(), "in this file")
                .at(key.span.clone(), "and here")
                .help("keep one of them"),
        );
    }
    Some(Jump {
        host: host?.value.0.clone(),
        port: typed.port.as_ref().map_or(SSH_PORT, |port| port.value.0),
        user: user?.value.0.clone(),
        host_key: typed.host_key.as_ref().map(|key| key.value.0.clone()),
        known_hosts: typed.known_hosts.as_ref().map(|file| resolved(base, file)),
    })
}
