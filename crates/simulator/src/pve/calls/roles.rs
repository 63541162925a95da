//! `/access/roles` and `/access/acl`: roles and their assignment to paths (pve-access-control
//! src/PVE/API2/{Role,ACL}.pm).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::access::{self, BUILTIN};
use crate::pve::state::Grant;
use crate::pve::wire::Failure;
use crate::store::Store;
use crate::world::World;

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call { method: "GET", path: "/access/roles", permit: Permit::User, run: Run::Read(roles) },
    Call {
        method: "POST",
        path: "/access/roles",
        permit: Permit::One("/access", &["Sys.Modify"]),
        run: Run::Write(add_role),
    },
    Call {
        method: "GET",
        path: "/access/roles/{roleid}",
        permit: Permit::User,
        run: Run::Read(role),
    },
    Call {
        method: "PUT",
        path: "/access/roles/{roleid}",
        permit: Permit::One("/access", &["Sys.Modify"]),
        run: Run::Write(change_role),
    },
    Call {
        method: "DELETE",
        path: "/access/roles/{roleid}",
        permit: Permit::One("/access", &["Sys.Modify"]),
        run: Run::Write(delete_role),
    },
    Call { method: "GET", path: "/access/acl", permit: Permit::User, run: Run::Read(acl) },
    Call {
        method: "PUT",
        path: "/access/acl",
        permit: Permit::Check(may_grant),
        run: Run::Write(change_acl),
    },
];

fn roles(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let own = dc.roles.keys().map(|name| (name.as_str(), 0));
    let all = BUILTIN.iter().map(|(name, _)| (*name, 1)).chain(own);
    Ok(all
        .map(|(name, special)| {
            let privileges: Vec<_> =
                access::role(dc, name).unwrap_or_default().into_iter().collect();
            json!({"roleid": name, "special": special, "privs": privileges.join(",")})
        })
        .collect())
}

fn no_role(name: &str) -> Failure {
    Failure::Die(format!("role '{name}' does not exist"))
}

fn role(world: &World, ask: &Ask) -> Answer {
    let name = ask.text("roleid");
    let privileges = access::role(ask.dc(world), name).ok_or_else(|| no_role(name))?;
    Ok(json!(privileges.into_iter().map(|name| (name, 1)).collect::<BTreeMap<_, _>>()))
}

fn add_role(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    let name = ask.text("roleid").to_owned();
    if name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("PVE")) {
        let text = "cannot use role ID starting with the (case-insensitive) 'PVE' namespace";
        return Err(Failure::parameter("roleid", text));
    }
    if access::role(ask.dc(world), &name).is_some() {
        return Err(Failure::Die(format!("create role failed: role '{name}' already exists")));
    }
    let privileges = ask.params.list("privs").into_iter().collect();
    ask.dc_mut(world).roles.insert(name, privileges);
    Ok(Value::Null)
}

fn own_role(world: &World, ask: &Ask, doing: &str, done: &str) -> Result<(), Failure> {
    ask.can_write(world, "user_cfg")?;
    let name = ask.text("roleid");
    if BUILTIN.iter().any(|(builtin, _)| *builtin == name) {
        return Err(Failure::Die(format!("auto-generated role '{name}' cannot be {done}")));
    }
    let missing = || Failure::Die(format!("{doing} role failed: role '{name}' does not exist"));
    ask.dc(world).roles.get(name).map(|_| ()).ok_or_else(missing)
}

fn change_role(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    own_role(world, ask, "update", "modified")?;
    let (append, new) = (ask.params.flag("append"), ask.params.list("privs"));
    let role = ask.dc_mut(world).roles.entry(ask.text("roleid").to_owned()).or_default();
    if !append {
        role.clear();
    }
    role.extend(new);
    Ok(Value::Null)
}

fn delete_role(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    own_role(world, ask, "delete", "deleted")?;
    let dc = ask.dc_mut(world);
    dc.roles.remove(ask.text("roleid"));
    // The ACL entries that are removed with it are not reported.
    dc.acl.retain(|grant| grant.role != ask.text("roleid"));
    Ok(Value::Null)
}

fn acl(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let all = ask.may(world, "/access", &["Sys.Audit", "Permissions.Modify"]);
    let seen =
        dc.acl.iter().filter(|grant| all || ask.may(world, &grant.path, &["Permissions.Modify"]));
    Ok(seen
        .map(|grant| {
            let kind = if grant.who.contains('!') { "token" } else { "user" };
            json!({"path": grant.path, "ugid": grant.who, "type": kind, "roleid": grant.role,
                   "propagate": u8::from(grant.propagate)})
        })
        .collect())
}

/// Users who may change the permissions of a path, or create the object at it.
fn may_grant(world: &World, ask: &Ask) -> Result<(), Failure> {
    let path = format!("/{}", ask.text("path").trim_matches('/'));
    let below = |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.len() > 1);
    let privileges: &[&str] = match () {
        () if below("/storage") => &["Permissions.Modify", "Datastore.Allocate"],
        () if below("/vms") => &["Permissions.Modify", "VM.Allocate"],
        () if below("/pool") => &["Permissions.Modify", "Pool.Allocate"],
        () => &["Permissions.Modify"],
    };
    ask.require(world, &path, privileges)
}

/// Whether there can be permissions at a path
/// (pve-access-control src/PVE/AccessControl.pm, `check_path`).
fn is_acl_path(path: &str) -> bool {
    let word = |text: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !text.is_empty() && text.chars().all(good)
    };
    let digits = |text: &str, least: usize| {
        text.len() >= least && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
    };
    let parts: Vec<&str> = path.split('/').skip(1).filter(|part| !part.is_empty()).collect();
    match parts[..] {
        [] | ["access" | "mapping" | "nodes" | "pool" | "sdn" | "storage" | "vms"] => true,
        ["access", "groups" | "realm"] => true,
        ["access", "groups" | "realm", name] | ["mapping" | "nodes" | "storage", name] => {
            word(name)
        }
        ["mapping", kind, name] => word(kind) && word(name),
        ["pool", ref names @ ..] => names.len() <= 3 && names.iter().all(|name| word(name)),
        ["sdn", "controllers" | "dns" | "ipams" | "fabrics" | "zones"] => true,
        ["sdn", "controllers" | "dns" | "ipams" | "fabrics", name] => word(name),
        ["sdn", "zones", ref names @ ..] => {
            names.len() <= 2 && names.iter().all(|name| word(name))
                || names.len() == 3 && word(names[0]) && word(names[1]) && digits(names[2], 1)
        }
        ["vms", id] => digits(id, 3),
        _ => false,
    }
}

fn change_acl(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let mut who = ask.params.list("users");
    who.extend(ask.params.list("tokens"));
    let groups = ask.params.list("groups");
    if who.is_empty() && groups.is_empty() {
        let text = "either 'users', 'groups' or 'tokens' is required.";
        let each = ["users", "groups", "tokens"].map(|name| (name.to_owned(), text.to_owned()));
        return Err(Failure::Parameters(each.into()));
    }
    let path = format!("/{}", ask.text("path").trim_matches('/'));
    let delete = ask.params.flag("delete");
    if !delete && !is_acl_path(&path) {
        let text = format!("invalid ACL path '{}'", ask.text("path"));
        return Err(Failure::parameter("path", text));
    }
    ask.can_write(world, "user_cfg")?;
    let propagate = ask.params.text("propagate").is_none_or(|flag| flag == "1");
    let failed = |text: String| Failure::Die(format!("ACL update failed: {text}"));
    for role in ask.params.list("roles") {
        if access::role(ask.dc(world), &role).is_none() {
            return Err(failed(format!("role '{role}' does not exist")));
        }
        if let Some(group) = groups.first() {
            return Err(failed(format!("group '{group}' does not exist")));
        }
        for who in &who {
            let (user, token) = match who.split_once('!') {
                Some((user, token)) => (user, Some(token)),
                None => (who.as_str(), None),
            };
            let Some(account) = ask.dc(world).users.get(user) else {
                return Err(failed(format!("user '{user}' does not exist")));
            };
            if let Some(token) = token.filter(|token| !account.tokens.contains_key(*token)) {
                return Err(failed(format!("no such token '{token}' for user '{user}'")));
            }
            let grant =
                Grant { path: path.clone(), who: who.clone(), role: role.clone(), propagate };
            let dc = ask.dc_mut(world);
            dc.acl.retain(|old| (&old.path, &old.who, &old.role) != (&path, who, &role));
            if !delete {
                dc.acl.push(grant);
            }
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_exist_only_at_fixed_paths() {
        for path in ["/", "/vms/100", "/sdn/zones/localnetwork/vmbr0/5", "/pool/a/b/c", "/access"] {
            assert!(is_acl_path(path), "{path}");
        }
        for path in ["/nosuch/path", "/vms/1", "/vms/100/x", "/pool/a/b/c/d", "/access/users"] {
            assert!(!is_acl_path(path), "{path}");
        }
    }
}
