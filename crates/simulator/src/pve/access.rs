//! Users, tokens, tickets, roles and their privileges (pve-access-control src/PVE/AccessControl.pm).

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};

use super::pace;
use super::state::Datacenter;

/// Every privilege of Proxmox VE 9.2.
pub const PRIVILEGES: [&str; 47] = [
    "Datastore.Allocate",
    "Datastore.AllocateSpace",
    "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "Group.Allocate",
    "Mapping.Audit",
    "Mapping.Modify",
    "Mapping.Use",
    "Permissions.Modify",
    "Pool.Allocate",
    "Pool.Audit",
    "Realm.Allocate",
    "Realm.AllocateUser",
    "SDN.Allocate",
    "SDN.Audit",
    "SDN.Use",
    "Sys.AccessNetwork",
    "Sys.Audit",
    "Sys.Console",
    "Sys.Incoming",
    "Sys.Modify",
    "Sys.PowerMgmt",
    "Sys.Syslog",
    "User.Modify",
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.GuestAgent.Audit",
    "VM.GuestAgent.FileRead",
    "VM.GuestAgent.FileSystemMgmt",
    "VM.GuestAgent.FileWrite",
    "VM.GuestAgent.Unrestricted",
    "VM.Migrate",
    "VM.PowerMgmt",
    "VM.Replicate",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
];

/// The privileges of a built-in role.
#[derive(Clone, Copy, Debug)]
pub enum Builtin {
    /// Everything.
    All,
    /// Everything except these.
    But(&'static [&'static str]),
    /// These.
    Only(&'static [&'static str]),
    /// All with this prefix.
    Of(&'static str),
}

/// The built-in roles.
pub const BUILTIN: [(&str, Builtin); 17] = [
    ("Administrator", Builtin::All),
    ("NoAccess", Builtin::Only(&[])),
    (
        "PVEAdmin",
        Builtin::But(&[
            "Mapping.Modify",
            "Permissions.Modify",
            "Realm.Allocate",
            "Sys.AccessNetwork",
            "Sys.Incoming",
            "Sys.Modify",
            "Sys.PowerMgmt",
        ]),
    ),
    (
        "PVEAuditor",
        Builtin::Only(&[
            "Datastore.Audit",
            "Mapping.Audit",
            "Pool.Audit",
            "SDN.Audit",
            "Sys.Audit",
            "VM.Audit",
            "VM.GuestAgent.Audit",
        ]),
    ),
    ("PVEDatastoreAdmin", Builtin::Of("Datastore.")),
    ("PVEDatastoreUser", Builtin::Only(&["Datastore.AllocateSpace", "Datastore.Audit"])),
    ("PVEMappingAdmin", Builtin::Of("Mapping.")),
    ("PVEMappingUser", Builtin::Only(&["Mapping.Audit", "Mapping.Use"])),
    ("PVEPoolAdmin", Builtin::Of("Pool.")),
    ("PVEPoolUser", Builtin::Only(&["Pool.Audit"])),
    ("PVESDNAdmin", Builtin::Of("SDN.")),
    ("PVESDNUser", Builtin::Only(&["SDN.Audit", "SDN.Use"])),
    ("PVESysAdmin", Builtin::Only(&["Sys.Audit", "Sys.Console", "Sys.Syslog"])),
    ("PVETemplateUser", Builtin::Only(&["VM.Audit", "VM.Clone"])),
    ("PVEUserAdmin", Builtin::Only(&["Group.Allocate", "Realm.AllocateUser", "User.Modify"])),
    ("PVEVMAdmin", Builtin::Of("VM.")),
    (
        "PVEVMUser",
        Builtin::Only(&[
            "VM.Audit",
            "VM.Backup",
            "VM.Config.CDROM",
            "VM.Config.Cloudinit",
            "VM.Console",
            "VM.GuestAgent.Audit",
            "VM.GuestAgent.FileRead",
            "VM.GuestAgent.FileSystemMgmt",
            "VM.GuestAgent.FileWrite",
            "VM.PowerMgmt",
        ]),
    ),
];

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `name@realm`.
    pub user: String,
    /// The token's own name, if it is a token.
    pub token: Option<String>,
}

impl Caller {
    /// The user, with the token after a `!`.
    pub fn full(&self) -> String {
        match &self.token {
            Some(token) => format!("{}!{token}", self.user),
            None => self.user.clone(),
        }
    }

    /// Whether this is the account that may do everything: `root@pam` with a password, not one of its
    /// tokens.
    pub fn is_root(&self) -> bool {
        self.user == "root@pam" && self.token.is_none()
    }
}

/// The privileges of a role, or `None` if there is no such role.
pub fn role(dc: &Datacenter, name: &str) -> Option<BTreeSet<String>> {
    let Some((_, builtin)) = BUILTIN.iter().find(|(builtin, _)| *builtin == name) else {
        return dc.roles.get(name).cloned();
    };
    let has = |privilege: &&&str| match builtin {
        Builtin::All => true,
        Builtin::But(without) => !without.contains(*privilege),
        Builtin::Only(with) => with.contains(*privilege),
        Builtin::Of(start) => privilege.starts_with(start),
    };
    Some(PRIVILEGES.iter().filter(has).map(|privilege| (*privilege).to_owned()).collect())
}

/// The privileges that an account has at a path.
pub fn privileges(dc: &Datacenter, caller: &Caller, path: &str) -> BTreeSet<String> {
    let of_user = if caller.user == "root@pam" {
        PRIVILEGES.iter().map(|p| (*p).to_owned()).collect()
    } else {
        with_pool(dc, &caller.user, path)
    };
    let token = caller.token.as_ref();
    let token = token.and_then(|name| dc.users.get(&caller.user)?.tokens.get(name));
    if token.is_some_and(|token| token.privsep) {
        // Both the user and the token must have the privilege.
        let of_token = with_pool(dc, &caller.full(), path);
        return of_user.intersection(&of_token).cloned().collect();
    }
    of_user
}

/// Whether an account has one of these privileges at a path.
pub fn any(dc: &Datacenter, caller: &Caller, path: &str, wanted: &[&str]) -> bool {
    let has = privileges(dc, caller, path);
    wanted.iter().any(|privilege| has.contains(*privilege))
}

fn with_pool(dc: &Datacenter, who: &str, path: &str) -> BTreeSet<String> {
    let mut has = granted(dc, who, path);
    let pools = dc.pools.iter().filter(|(_, pool)| match path.rsplit_once('/') {
        Some(("/vms", vmid)) => vmid.parse().is_ok_and(|vmid| pool.vms.contains(&vmid)),
        Some(("/storage", storage)) => pool.storages.contains(storage),
        _ => false,
    });
    for (pool, _) in pools {
        has.extend(granted(dc, who, &format!("/pool/{pool}")));
    }
    has
}

/// The privileges granted to exactly this user or token: the deepest path that has any grant wins.
fn granted(dc: &Datacenter, who: &str, path: &str) -> BTreeSet<String> {
    let mut roles: Vec<&str> = Vec::new();
    let mut depths = vec!["/".to_owned()];
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let above = depths.last().map_or("", |last| last.trim_end_matches('/'));
        depths.push(format!("{above}/{part}"));
    }
    for depth in &depths {
        let here: Vec<_> = dc
            .acl
            .iter()
            .filter(|grant| grant.who == who && grant.path == *depth)
            .filter(|grant| grant.propagate || *depth == path)
            .map(|grant| grant.role.as_str())
            .collect();
        if !here.is_empty() {
            roles = here;
        }
    }
    if roles.contains(&"NoAccess") {
        return BTreeSet::new();
    }
    roles.into_iter().filter_map(|name| role(dc, name)).flatten().collect()
}

/// All paths where an account has a privilege, as `GET /access/permissions` lists them.
pub fn permissions(
    dc: &Datacenter,
    caller: &Caller,
    only: Option<&str>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut paths: BTreeSet<String> = match only {
        Some(path) => BTreeSet::from([path.to_owned()]),
        None => {
            let top =
                ["/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"];
            top.map(str::to_owned).into()
        }
    };
    if only.is_none() {
        paths.extend(dc.acl.iter().map(|grant| grant.path.clone()));
        paths.extend(
            dc.pools.values().flat_map(|pool| pool.vms.iter().map(|id| format!("/vms/{id}"))),
        );
    }
    let with = |path: String| {
        let has = privileges(dc, caller, &path);
        (path, has)
    };
    // A requested path is answered whether or not it exists.
    paths.into_iter().map(with).filter(|(_, has)| only.is_some() || !has.is_empty()).collect()
}

/// Authenticates the sender of a request.
///
/// # Errors
/// The reason phrase of the 401.
pub fn identify(
    dc: &Datacenter,
    authorization: Option<&str>,
    cookie: Option<&str>,
    csrf: Option<&str>,
    write: bool,
    unix: i64,
) -> Result<Caller, &'static str> {
    if let Some(token) = authorization.and_then(|value| value.strip_prefix("PVEAPIToken")) {
        let token = token.trim_start_matches(['=', ' ']);
        return by_token(dc, token, unix).ok_or("Authentication failed!");
    }
    let ticket = cookie.and_then(|cookies| {
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == "PVEAuthCookie").map(|(_, value)| value.to_owned())
    });
    let Some(ticket) = ticket else { return Err("No ticket") };
    let ticket = percent_encoding::percent_decode_str(&ticket).decode_utf8_lossy().into_owned();
    let gone = ticket.split(':').nth(1).is_some_and(|user| !dc.users.contains_key(user));
    if gone {
        return Err("Authentication failed!");
    }
    let user = by_ticket(dc, &ticket, unix).ok_or("permission denied - invalid PVE ticket")?;
    if write && !csrf.is_some_and(|csrf| good_csrf(dc, &user, csrf)) {
        return Err("Permission denied - invalid csrf token");
    }
    Ok(Caller { user, token: None })
}

fn by_token(dc: &Datacenter, text: &str, unix: i64) -> Option<Caller> {
    let (id, secret) = text.split_once('=')?;
    let (user, name) = id.split_once('!')?;
    let account = dc.users.get(user).filter(|account| usable(account, unix))?;
    let token = account.tokens.get(name)?;
    let good = token.secret == secret && (token.expire == 0 || token.expire > unix);
    good.then(|| Caller { user: user.to_owned(), token: Some(name.to_owned()) })
}

fn usable(account: &super::state::User, unix: i64) -> bool {
    account.enable && (account.expire == 0 || account.expire > unix)
}

/// The user of a ticket, if it is valid.
pub fn by_ticket(dc: &Datacenter, ticket: &str, unix: i64) -> Option<String> {
    let (plain, _) = ticket.split_once("::")?;
    let mut words = plain.splitn(3, ':');
    let (Some("PVE"), Some(user), Some(time)) = (words.next(), words.next(), words.next()) else {
        return None;
    };
    let made = i64::from_str_radix(time, 16).ok()?;
    let fresh = (0..pace::TICKET_LIFE).contains(&(unix - made));
    let account = dc.users.get(user).filter(|account| usable(account, unix));
    (fresh && account.is_some() && ticket == new_ticket(dc, user, made)).then(|| user.to_owned())
}

/// A ticket for a user, created at a Unix time.
pub fn new_ticket(dc: &Datacenter, user: &str, unix: i64) -> String {
    let plain = format!("PVE:{user}:{unix:08X}");
    let signature = sign(dc, &plain);
    format!("{plain}::{signature}")
}

/// The CSRF prevention token that belongs to a user's tickets.
pub fn new_csrf(dc: &Datacenter, user: &str, unix: i64) -> String {
    format!("{unix:08X}:{}", sign(dc, &format!("csrf:{user}:{unix:08X}")))
}

fn good_csrf(dc: &Datacenter, user: &str, csrf: &str) -> bool {
    let time = csrf.split_once(':').and_then(|(time, _)| i64::from_str_radix(time, 16).ok());
    time.is_some_and(|made| new_csrf(dc, user, made) == csrf)
}

fn sign(dc: &Datacenter, plain: &str) -> String {
    STANDARD_NO_PAD.encode(Sha256::digest(format!("{}:{plain}", dc.ticket_key)))
}

/// Whether a user's password (or old ticket, which renews) is correct.
pub fn good_password(dc: &Datacenter, user: &str, password: &str, unix: i64) -> bool {
    let account = dc.users.get(user).filter(|account| usable(account, unix));
    let right = account.and_then(|account| account.password.as_deref()) == Some(password);
    right || by_ticket(dc, password, unix).as_deref() == Some(user)
}
