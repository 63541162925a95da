//! `/access`: logins, users and tokens
//! (pve-access-control src/PVE/API2/{AccessControl,User}.pm).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::access::{self, Caller};
use crate::pve::pace;
use crate::pve::state::{Token, User};
use crate::pve::wire::Failure;
use crate::store::Store;
use crate::world::World;

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/access/ticket",
        permit: Permit::Anyone,
        run: Run::Read(|_, _| Ok(Value::Null)),
    },
    Call { method: "POST", path: "/access/ticket", permit: Permit::Anyone, run: Run::Read(log_in) },
    Call {
        method: "GET",
        path: "/access/domains",
        permit: Permit::Anyone,
        run: Run::Read(|_, _| {
            Ok(json!([
                {"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
                {"realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"},
            ]))
        }),
    },
    Call {
        method: "GET",
        path: "/access/permissions",
        permit: Permit::User,
        run: Run::Read(permissions),
    },
    Call { method: "GET", path: "/access/users", permit: Permit::User, run: Run::Read(users) },
    Call {
        method: "POST",
        path: "/access/users",
        permit: Permit::Check(may_add_user),
        run: Run::Write(add_user),
    },
    Call {
        method: "GET",
        path: "/access/users/{userid}",
        permit: Permit::Check(|world, ask| {
            account_of_others(world, ask, &["User.Modify", "Sys.Audit"])
        }),
        run: Run::Read(one_user),
    },
    Call {
        method: "PUT",
        path: "/access/users/{userid}",
        permit: Permit::Check(|world, ask| account_of_others(world, ask, &["User.Modify"])),
        run: Run::Write(change_user),
    },
    Call {
        method: "DELETE",
        path: "/access/users/{userid}",
        permit: Permit::Check(may_add_user),
        run: Run::Write(delete_user),
    },
    Call {
        method: "GET",
        path: "/access/users/{userid}/token",
        permit: Permit::Check(self_or_admin),
        run: Run::Read(tokens),
    },
    Call {
        method: "GET",
        path: "/access/users/{userid}/token/{tokenid}",
        permit: Permit::Check(self_or_admin),
        run: Run::Read(|world, ask| token(user(world, ask)?, ask).map(token_info)),
    },
    Call {
        method: "POST",
        path: "/access/users/{userid}/token/{tokenid}",
        permit: Permit::Check(self_or_admin),
        run: Run::Write(add_token),
    },
    Call {
        method: "PUT",
        path: "/access/users/{userid}/token/{tokenid}",
        permit: Permit::Check(self_or_admin),
        run: Run::Write(change_token),
    },
    Call {
        method: "DELETE",
        path: "/access/users/{userid}/token/{tokenid}",
        permit: Permit::Check(self_or_admin),
        run: Run::Write(delete_token),
    },
];

/// The areas into which a login's privileges are sorted, and the representative path of each.
const AREAS: [(&str, &str, &[&str]); 7] = [
    ("access", "/access", &["User.", "Group.", "Permissions."]),
    ("dc", "/", &["SDN.", "Sys.Audit", "Sys.Modify"]),
    ("mapping", "/mapping", &["Mapping.", "Permissions."]),
    ("nodes", "/nodes", &["Sys.", "Permissions."]),
    ("sdn", "/sdn", &["SDN.", "Permissions."]),
    ("storage", "/storage", &["Datastore.", "Permissions."]),
    ("vms", "/vms", &["VM.", "Permissions."]),
];

fn log_in(world: &World, ask: &Ask) -> Answer {
    let dc = ask.dc(world);
    let user = match ask.params.text("realm") {
        Some(realm) => format!("{}@{realm}", ask.text("username")),
        None => ask.text("username").to_owned(),
    };
    let unix = world.unix();
    if !access::good_password(dc, &user, ask.text("password"), unix) {
        let refused = Failure::Status(401, "authentication failure".to_owned());
        return Err(Failure::Late(pace::REFUSED_LOGIN, Box::new(refused)));
    }
    let caller = Caller { user: user.clone(), token: None };
    // A privilege anywhere below an area counts for the area.
    let mut everywhere = access::permissions(dc, &caller, None);
    everywhere.insert("/mapping".to_owned(), access::privileges(dc, &caller, "/mapping"));
    let rights = AREAS.map(|(area, top, prefixes)| {
        let within = |path: &&String| match top {
            "/" => path.as_str() == "/",
            top => {
                path.strip_prefix(top).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            }
        };
        let has = everywhere.iter().filter(|(path, _)| within(path)).flat_map(|(_, has)| has);
        let of_area = has.filter(|p| prefixes.iter().any(|prefix| p.starts_with(prefix)));
        (area, of_area.map(|privilege| (privilege.clone(), 1)).collect::<BTreeMap<_, _>>())
    });
    let mut login = json!({
        "username": user,
        "ticket": access::new_ticket(dc, &user, unix),
        "CSRFPreventionToken": access::new_csrf(dc, &user, unix),
        "cap": BTreeMap::from(rights),
    });
    // The name is shown only to users who may audit everything.
    if dc.clustered && access::any(dc, &caller, "/", &["Sys.Audit"]) {
        login["clustername"] = json!(dc.name);
    }
    Ok(login)
}

fn permissions(world: &World, ask: &Ask) -> Answer {
    let caller = match ask.params.text("userid") {
        Some(id) if id != ask.caller.full() => {
            ask.require(world, "/access", &["Sys.Audit"])?;
            let (user, token) = match id.split_once('!') {
                Some((user, token)) => (user, Some(token.to_owned())),
                None => (id, None),
            };
            Caller { user: user.to_owned(), token }
        }
        _ => ask.caller.clone(),
    };
    let all = access::permissions(ask.dc(world), &caller, ask.params.text("path"));
    let shown = all.into_iter().map(|(path, privileges)| {
        (path, privileges.into_iter().map(|privilege| (privilege, 1)).collect::<BTreeMap<_, _>>())
    });
    Ok(json!(shown.collect::<BTreeMap<_, _>>()))
}

/// A user for his own account, but not with one of his tokens; or an administrator of the account.
fn self_or_admin(world: &World, ask: &Ask) -> Result<(), Failure> {
    let himself = ask.caller.token.is_none() && ask.text("userid") == ask.caller.user;
    if himself || ask.may(world, "/access/groups", &["User.Modify"]) {
        return Ok(());
    }
    Err(Failure::Forbidden("Permission check failed".to_owned()))
}

/// An administrator of the groups of the account, which must exist to be in any.
fn account_of_others(world: &World, ask: &Ask, privileges: &[&str]) -> Result<(), Failure> {
    if ask.caller.is_root() {
        return Ok(());
    }
    user(world, ask)?;
    if ask.may(world, "/access/groups", privileges) {
        return Ok(());
    }
    Err(Failure::Forbidden("Permission check failed".to_owned()))
}

/// Users who may add to a realm, and to the groups.
fn may_add_user(world: &World, ask: &Ask) -> Result<(), Failure> {
    if ask.caller.is_root() {
        return Ok(());
    }
    let id = ask.text("userid");
    if id.chars().count() < 3 {
        return Err(Failure::Die(format!("user name '{id}' is too short")));
    }
    let realm = id.rsplit_once('@').map_or("", |(_, realm)| realm);
    ask.require(world, &format!("/access/realm/{realm}"), &["Realm.AllocateUser"])?;
    ask.require(world, "/access/groups", &["User.Modify"])
}

/// The fields of a user; a list shows more of them with `full`.
fn about(user: &User) -> Value {
    let mut value = json!({"enable": u8::from(user.enable), "expire": user.expire});
    if let Some(comment) = &user.comment {
        value["comment"] = json!(comment);
        // An empty field is shown if another one follows it in the file.
        value["email"] = json!("");
    }
    for (key, text) in &user.details {
        value[key] = json!(text);
    }
    value
}

/// The tokens of a user; Perl's undefined if there are none.
fn tokens_of(user: &User) -> Option<Vec<Value>> {
    let all = user.tokens.iter().map(|(id, token)| {
        let mut value = token_info(token);
        value["tokenid"] = json!(id);
        value
    });
    (!user.tokens.is_empty()).then(|| all.collect())
}

fn user<'a>(world: &'a World, ask: &Ask) -> Result<&'a User, Failure> {
    let id = ask.text("userid");
    let found = ask.dc(world).users.get(id);
    found.ok_or_else(|| Failure::Die(format!("no such user ('{id}')")))
}

fn user_mut<'a>(world: &'a mut World, ask: &Ask) -> Result<&'a mut User, Failure> {
    let id = ask.text("userid");
    let found = ask.dc_mut(world).users.get_mut(id);
    found.ok_or_else(|| Failure::Die(format!("no such user ('{id}')")))
}

fn users(world: &World, ask: &Ask) -> Answer {
    let all = ask.may(world, "/access/groups", &["User.Modify", "Sys.Audit"]);
    let own = |id: &str| ask.caller.token.is_none() && *id == ask.caller.user;
    let enabled = ask.params.text("enabled").map(|_| ask.params.flag("enabled"));
    let full = ask.params.flag("full");
    let seen = ask.dc(world).users.iter().filter(|(id, user)| {
        (all || own(id)) && enabled.is_none_or(|enabled| user.enable == enabled)
    });
    Ok(seen
        .map(|(id, user)| {
            let mut value = about(user);
            value["userid"] = json!(id);
            if let Some((_, realm @ ("pam" | "pve"))) = id.rsplit_once('@') {
                value["realm-type"] = json!(realm);
            }
            if full {
                value["groups"] = json!("");
                value["tokens"] = json!(tokens_of(user));
            }
            value
        })
        .collect())
}

fn one_user(world: &World, ask: &Ask) -> Answer {
    let user = user(world, ask)?;
    let mut value = about(user);
    let tokens = user.tokens.iter().map(|(id, token)| (id.clone(), token_info(token)));
    let tokens: BTreeMap<_, _> = tokens.collect();
    value["groups"] = json!([]);
    value["tokens"] = if tokens.is_empty() { Value::Null } else { json!(tokens) };
    Ok(value)
}

fn set_user(user: &mut User, ask: &Ask) {
    if let Some(comment) = ask.params.text("comment") {
        user.comment = Some(comment.to_owned()).filter(|comment| !comment.is_empty());
    }
    for key in ["email", "firstname", "lastname", "keys"] {
        match ask.params.text(key) {
            Some("") => drop(user.details.remove(key)),
            Some(text) => drop(user.details.insert(key.to_owned(), text.to_owned())),
            None => {}
        }
    }
    if ask.params.text("enable").is_some() {
        user.enable = ask.params.flag("enable");
    }
    if let Some(expire) = ask.params.number("expire") {
        user.expire = expire;
    }
}

fn add_user(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    let id = ask.text("userid").to_owned();
    if ask.dc(world).users.contains_key(&id) {
        return Err(Failure::Die(format!("create user failed: user '{id}' already exists")));
    }
    let password = ask.params.text("password").map(str::to_owned);
    let mut user = User { enable: true, password, ..User::default() };
    set_user(&mut user, ask);
    ask.dc_mut(world).users.insert(id, user);
    Ok(Value::Null)
}

fn change_user(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    let failed = |failure| match failure {
        Failure::Die(text) => Failure::Die(format!("update user failed: {text}")),
        other => other,
    };
    set_user(user_mut(world, ask).map_err(failed)?, ask);
    Ok(Value::Null)
}

fn delete_user(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    // A missing entry counts as deleted already.
    let id = ask.text("userid");
    let dc = ask.dc_mut(world);
    dc.users.remove(id);
    dc.acl.retain(|grant| grant.who != id && !grant.who.starts_with(&format!("{id}!")));
    Ok(Value::Null)
}

fn token_info(token: &Token) -> Value {
    let mut value = json!({"privsep": u8::from(token.privsep), "expire": token.expire});
    if let Some(comment) = &token.comment {
        value["comment"] = json!(comment);
    }
    value
}

fn token<'a>(user: &'a User, ask: &Ask) -> Result<&'a Token, Failure> {
    let found = user.tokens.get(ask.text("tokenid"));
    found.ok_or_else(|| {
        Failure::Die(format!(
            "no such token '{}' for user '{}'",
            ask.text("tokenid"),
            ask.text("userid")
        ))
    })
}

fn tokens(world: &World, ask: &Ask) -> Answer {
    Ok(tokens_of(user(world, ask)?).unwrap_or_default().into())
}

fn set_token(token: &mut Token, ask: &Ask) {
    if let Some(comment) = ask.params.text("comment") {
        token.comment = Some(comment.to_owned()).filter(|comment| !comment.is_empty());
    }
    if let Some(expire) = ask.params.number("expire") {
        token.expire = expire;
    }
    if ask.params.text("privsep").is_some() {
        token.privsep = ask.params.flag("privsep");
    }
}

fn add_token(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg").map_err(|failure| match failure {
        Failure::Late(seconds, inner) => match *inner {
            Failure::Die(text) => {
                let text = format!("generating token failed: {text}");
                Failure::Late(seconds, Box::new(Failure::Die(text)))
            }
            other => Failure::Late(seconds, Box::new(other)),
        },
        other => other,
    })?;
    let secret = world.pve.new_uuid();
    let id = ask.text("tokenid").to_owned();
    let full = format!("{}!{id}", ask.text("userid"));
    let user = user_mut(world, ask)?;
    if user.tokens.contains_key(&id) {
        return Err(Failure::parameter("tokenid", "Token already exists."));
    }
    let mut token = Token { secret: secret.clone(), privsep: true, expire: 0, comment: None };
    set_token(&mut token, ask);
    // A value that was just set is returned as text here, unlike everywhere else.
    let mut info = json!({"privsep": if token.privsep { "1" } else { "0" }});
    // If it is not given the default is filled in, which is a number.
    if ask.params.text("privsep").is_none() {
        info["privsep"] = json!(1);
    }
    if let Some(expire) = ask.params.text("expire") {
        info["expire"] = json!(expire);
    }
    if let Some(comment) = &token.comment {
        info["comment"] = json!(comment);
    }
    user.tokens.insert(id, token);
    Ok(json!({"full-tokenid": full, "value": secret, "info": info}))
}

fn change_token(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    token(user(world, ask)?, ask)?;
    let secret = ask.params.flag("regenerate").then(|| world.pve.new_uuid());
    let full = format!("{}!{}", ask.text("userid"), ask.text("tokenid"));
    let found = user_mut(world, ask)?.tokens.get_mut(ask.text("tokenid"));
    Ok(found.map_or(Value::Null, |token| {
        set_token(token, ask);
        let mut info = token_info(token);
        if let Some(secret) = secret {
            info["value"] = json!(secret);
            info["full-tokenid"] = json!(full);
            token.secret = secret;
        }
        // A value that was just set is returned as the text in which it was sent.
        for name in ["expire", "privsep"] {
            if let Some(text) = ask.params.text(name) {
                info[name] = json!(text);
            }
        }
        info
    }))
}

fn delete_token(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    token(user(world, ask)?, ask)?;
    let full = format!("{}!{}", ask.text("userid"), ask.text("tokenid"));
    user_mut(world, ask)?.tokens.remove(ask.text("tokenid"));
    ask.dc_mut(world).acl.retain(|grant| grant.who != full);
    Ok(Value::Null)
}
