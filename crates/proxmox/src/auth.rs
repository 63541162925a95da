//! Credentials for a host: an API token, or a user with a ticket that must be renewed.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::error::Identity;
use super::params::encode;

use k8sha_base::secrets::register;

/// A ticket is valid for two hours; it is replaced well before.
///
/// Source: pve-access-control src/PVE/AccessControl.pm, `ticket_lifetime`.
const TICKET_AGE: Duration = Duration::from_secs(90 * 60);

/// The login to a host.
#[derive(Clone, Debug)]
pub enum Auth {
    /// A complete API token: `user@realm!name=uuid`.
    Token(SecretString),
    /// A user and password, exchanged for a ticket.
    Ticket {
        /// `user@realm`.
        user: String,
        /// The password.
        password: SecretString,
    },
}

impl Auth {
    /// The account, without the secret.
    ///
    /// # Errors
    /// If a token or user does not have the format of Proxmox VE.
    pub(super) fn identity(&self) -> Result<Identity, String> {
        match self {
            Auth::Token(token) => {
                let id = token.expose_secret().split('=').next().unwrap_or_default();
                let whole = token.expose_secret().len() > id.len() + 1;
                let named = id.split_once('!').is_some_and(|(user, name)| {
                    user.split_once('@')
                        .is_some_and(|(user, realm)| !user.is_empty() && !realm.is_empty())
                        && !name.is_empty()
                });
                // Nothing of a malformed token is shown: the secret may be anywhere in it.
                if !whole || !named {
                    return Err("the token is not of the form `user@realm!name=secret`".to_owned());
                }
                Ok(Identity::Token(id.to_owned()))
            }
            Auth::Ticket { user, .. } if user.contains('@') => Ok(Identity::User(user.clone())),
            Auth::Ticket { user, .. } => {
                Err(format!("the user `{user}` has no realm; write `{user}@pam` or `{user}@pve`"))
            }
        }
    }
}

/// A ticket and the CSRF prevention token that every write must send with it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    ticket: SecretString,
    csrf: SecretString,
    born: Instant,
}

impl Session {
    pub fn new(ticket: SecretString, csrf: SecretString) -> Self {
        let (ticket, csrf) = (register(ticket), register(csrf));
        Self { ticket, csrf, born: Instant::now() }
    }

    /// Whether it may be used without a new login.
    pub fn is_fresh(&self) -> bool {
        self.born.elapsed() < TICKET_AGE
    }

    /// Whether both are from the same login.
    pub fn is_same(&self, other: &Self) -> bool {
        self.born == other.born && self.ticket.expose_secret() == other.ticket.expose_secret()
    }

    /// The `Cookie` header.
    pub fn cookie(&self) -> SecretString {
        format!("PVEAuthCookie={}", encode(self.ticket.expose_secret())).into()
    }

    /// The `CSRFPreventionToken` header.
    pub fn csrf(&self) -> &SecretString {
        &self.csrf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_shows_its_id_and_never_its_secret() {
        let auth = Auth::Token("root@pam!k8sha=s3cret-uuid".into());
        assert_eq!(auth.identity(), Ok(Identity::Token("root@pam!k8sha".into())));
        assert!(!format!("{auth:?}").contains("s3cret"));
        for bad in
            ["s3cret-uuid", "root@pam=s3cret", "root!k8sha=s3cret", "root@pam!k8sha=", "@!=x"]
        {
            let complaint = Auth::Token(bad.into()).identity().unwrap_err();
            assert!(!complaint.contains("s3cret"), "{complaint}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_replaced_before_its_two_hours_are_over() {
        let session = Session::new("t".into(), "c".into());
        tokio::time::advance(Duration::from_secs(89 * 60)).await;
        assert!(session.is_fresh());
        tokio::time::advance(Duration::from_secs(2 * 60)).await;
        assert!(!session.is_fresh());
    }
}
