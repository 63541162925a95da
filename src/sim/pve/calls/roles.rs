//! `/access/roles` and `/access/acl`: roles and who has them where
//! (pve-access-control src/PVE/API2/{Role,ACL}.pm).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::sim::pve::access::{self, BUILTIN};
use crate::sim::pve::schema::{Format, Kind, Param, flag, must, text};
use crate::sim::pve::state::Grant;
use crate::sim::pve::wire::Failure;
use crate::sim::store::Store;
use crate::sim::world::World;

const ROLEID: Param = must("roleid", Kind::Text).of(Format::ConfigId);

/// The calls of this part.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/access/roles",
        params: &[],
        permit: Permit::User,
        run: Run::Read(roles),
    },
    Call {
        method: "POST",
        path: "/access/roles",
        params: &[&[ROLEID, text("privs").of(Format::Privileges)]],
        permit: Permit::One("/access", &["Sys.Modify"]),
        run: Run::Write(add_role),
    },
    Call {
        method: "GET",
        path: "/access/roles/{roleid}",
        params: &[&[ROLEID]],
        permit: Permit::User,
        run: Run::Read(role),
    },
    Call {
        method: "PUT",
        path: "/access/roles/{roleid}",
        params: &[&[ROLEID, text("privs").of(Format::Privileges), flag("append")]],
        permit: Permit::One("/access", &["Sys.Modify"]),
        run: Run::Write(change_role),
    },
    Call {
        method: "DELETE",
        path: "/access/roles/{roleid}",
        params: &[&[ROLEID]],
        permit: Permit::One("/access", &["Sys.Modify"]),
        run: Run::Write(delete_role),
    },
    Call {
        method: "GET",
        path: "/access/acl",
        params: &[],
        permit: Permit::User,
        run: Run::Read(acl),
    },
    Call {
        method: "PUT",
        path: "/access/acl",
        params: &[&[
            must("path", Kind::Text),
            must("roles", Kind::Text).of(Format::List),
            text("users").of(Format::List),
            text("tokens").of(Format::List),
            text("groups").of(Format::List),
            flag("propagate"),
            flag("delete"),
        ]],
        permit: Permit::One("{path}", &["Permissions.Modify"]),
        run: Run::Write(change_acl),
    },
];

fn roles(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let own = dc.roles.keys().map(|name| (name.as_str(), 0));
    let all = BUILTIN.iter().map(|name| (*name, 1)).chain(own);
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
    if access::role(ask.dc(world), &name).is_some() {
        return Err(Failure::Die(format!("create role failed: role '{name}' already exists")));
    }
    let privileges = ask.params.list("privs").into_iter().collect();
    ask.dc_mut(world).roles.insert(name, privileges);
    Ok(Value::Null)
}

fn own_role(world: &World, ask: &Ask) -> Result<(), Failure> {
    ask.can_write(world, "user_cfg")?;
    let name = ask.text("roleid");
    if BUILTIN.contains(&name) {
        return Err(Failure::Die(format!("auto-generated role '{name}' cannot be modified")));
    }
    ask.dc(world).roles.get(name).map(|_| ()).ok_or_else(|| no_role(name))
}

fn change_role(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    own_role(world, ask)?;
    let (append, new) = (ask.params.flag("append"), ask.params.list("privs"));
    let role = ask.dc_mut(world).roles.entry(ask.text("roleid").to_owned()).or_default();
    if !append {
        role.clear();
    }
    role.extend(new);
    Ok(Value::Null)
}

fn delete_role(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    own_role(world, ask)?;
    ask.dc_mut(world).roles.remove(ask.text("roleid"));
    Ok(Value::Null)
}

fn acl(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let seen = dc
        .acl
        .iter()
        .filter(|grant| ask.may(world, &grant.path, &["Permissions.Modify", "Sys.Audit"]));
    Ok(seen
        .map(|grant| {
            let kind = if grant.who.contains('!') { "token" } else { "user" };
            json!({"path": grant.path, "ugid": grant.who, "type": kind, "roleid": grant.role,
                   "propagate": u8::from(grant.propagate)})
        })
        .collect())
}

fn change_acl(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    let path = format!("/{}", ask.text("path").trim_matches('/'));
    let propagate = ask.params.text("propagate").is_none_or(|flag| flag == "1");
    let mut who = ask.params.list("users");
    who.extend(ask.params.list("tokens"));
    if who.is_empty() {
        return Err(Failure::parameter(
            "users",
            "either 'users', 'groups' or 'tokens' is required.",
        ));
    }
    for role in ask.params.list("roles") {
        if access::role(ask.dc(world), &role).is_none() {
            return Err(Failure::Die(format!("ACL update failed: role '{role}' does not exist")));
        }
        for who in &who {
            let user = who.split('!').next().unwrap_or_default();
            if !ask.dc(world).users.contains_key(user) {
                return Err(Failure::Die(format!(
                    "ACL update failed: user '{user}' does not exist"
                )));
            }
            let grant =
                Grant { path: path.clone(), who: who.clone(), role: role.clone(), propagate };
            let dc = ask.dc_mut(world);
            dc.acl.retain(|old| (&old.path, &old.who, &old.role) != (&path, who, &role));
            if !ask.params.flag("delete") {
                dc.acl.push(grant);
            }
        }
    }
    Ok(Value::Null)
}
