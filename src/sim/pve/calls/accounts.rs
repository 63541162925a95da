//! `/access`: logins, users and tokens
//! (pve-access-control src/PVE/API2/{AccessControl,User}.pm).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Ask, Call, Permit, Run};
use crate::sim::pve::access::{self, Caller};
use crate::sim::pve::pace;
use crate::sim::pve::schema::{Format, Kind, Param, flag, integer, must, text};
use crate::sim::pve::state::{Token, User};
use crate::sim::pve::wire::Failure;
use crate::sim::store::Store;
use crate::sim::world::World;

const USERID: Param = must("userid", Kind::Text).of(Format::UserId).up_to(64);
const TOKENID: Param = must("tokenid", Kind::Text).of(Format::ConfigId);
const ABOUT_USER: &[Param] = &[
    text("comment").up_to(2048),
    text("email"),
    flag("enable"),
    integer("expire").min(0),
    text("firstname"),
    text("groups").of(Format::List),
    text("keys"),
    text("lastname"),
];
const ABOUT_TOKEN: &[Param] = &[text("comment"), integer("expire").min(0), flag("privsep")];

/// The calls of this part.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/access/ticket",
        params: &[],
        permit: Permit::Anyone,
        run: Run::Read(|_, _| Ok(Value::Null)),
    },
    Call {
        method: "POST",
        path: "/access/ticket",
        params: &[&[
            must("username", Kind::Text),
            must("password", Kind::Text),
            text("realm"),
            flag("new-format"),
            text("otp"),
            text("path"),
            text("privs"),
            text("tfa-challenge"),
        ]],
        permit: Permit::Anyone,
        run: Run::Read(log_in),
    },
    Call {
        method: "GET",
        path: "/access/permissions",
        params: &[&[text("path"), text("userid")]],
        permit: Permit::User,
        run: Run::Read(permissions),
    },
    Call {
        method: "GET",
        path: "/access/users",
        params: &[&[flag("enabled"), flag("full")]],
        permit: Permit::User,
        run: Run::Read(users),
    },
    Call {
        method: "POST",
        path: "/access/users",
        params: &[&[USERID, text("password").up_to(64)], ABOUT_USER],
        permit: Permit::One("/access/groups", &["User.Modify"]),
        run: Run::Write(add_user),
    },
    Call {
        method: "GET",
        path: "/access/users/{userid}",
        params: &[&[USERID]],
        permit: Permit::Check(self_or_admin),
        run: Run::Read(|world, ask| user(world, ask).map(|user| about(ask.text("userid"), user))),
    },
    Call {
        method: "PUT",
        path: "/access/users/{userid}",
        params: &[&[USERID, flag("append")], ABOUT_USER],
        permit: Permit::One("/access/groups", &["User.Modify"]),
        run: Run::Write(change_user),
    },
    Call {
        method: "DELETE",
        path: "/access/users/{userid}",
        params: &[&[USERID]],
        permit: Permit::One("/access/groups", &["User.Modify"]),
        run: Run::Write(delete_user),
    },
    Call {
        method: "GET",
        path: "/access/users/{userid}/token",
        params: &[&[USERID]],
        permit: Permit::Check(self_or_admin),
        run: Run::Read(tokens),
    },
    Call {
        method: "GET",
        path: "/access/users/{userid}/token/{tokenid}",
        params: &[&[USERID, TOKENID]],
        permit: Permit::Check(self_or_admin),
        run: Run::Read(|world, ask| token(user(world, ask)?, ask).map(token_info)),
    },
    Call {
        method: "POST",
        path: "/access/users/{userid}/token/{tokenid}",
        params: &[&[USERID, TOKENID], ABOUT_TOKEN],
        permit: Permit::Check(self_or_admin),
        run: Run::Write(add_token),
    },
    Call {
        method: "PUT",
        path: "/access/users/{userid}/token/{tokenid}",
        params: &[&[USERID, TOKENID], ABOUT_TOKEN],
        permit: Permit::Check(self_or_admin),
        run: Run::Write(change_token),
    },
    Call {
        method: "DELETE",
        path: "/access/users/{userid}/token/{tokenid}",
        params: &[&[USERID, TOKENID]],
        permit: Permit::Check(self_or_admin),
        run: Run::Write(delete_token),
    },
];

/// The areas into which a login's rights are sorted, and the path that stands for each.
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
    // What somebody may do anywhere below an area counts as his there.
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
    Ok(json!({
        "username": user,
        "ticket": access::new_ticket(dc, &user, unix),
        "CSRFPreventionToken": access::new_csrf(dc, &user, unix),
        "cap": BTreeMap::from(rights),
    }))
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

fn self_or_admin(world: &World, ask: &Ask) -> Result<(), Failure> {
    if ask.text("userid") == ask.caller.user {
        return Ok(());
    }
    ask.require(world, "/access/groups", &["User.Modify"])
}

fn about(id: &str, user: &User) -> Value {
    let mut value = json!({"userid": id, "enable": u8::from(user.enable), "expire": user.expire});
    if let Some(comment) = &user.comment {
        value["comment"] = json!(comment);
    }
    value
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
    let seen = ask.dc(world).users.iter().filter(|(id, _)| all || **id == ask.caller.user);
    Ok(seen.map(|(id, user)| about(id, user)).collect())
}

fn set_user(user: &mut User, ask: &Ask) {
    if let Some(comment) = ask.params.text("comment") {
        user.comment = Some(comment.to_owned());
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
    set_user(user_mut(world, ask)?, ask);
    Ok(Value::Null)
}

fn delete_user(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    user(world, ask)?;
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
    let all = user(world, ask)?.tokens.iter().map(|(id, token)| {
        let mut value = token_info(token);
        value["tokenid"] = json!(id);
        value
    });
    Ok(all.collect())
}

fn set_token(token: &mut Token, ask: &Ask) {
    if let Some(comment) = ask.params.text("comment") {
        token.comment = Some(comment.to_owned());
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
    // What was just set is told as text here, unlike everywhere else.
    let mut info = json!({"privsep": if token.privsep { "1" } else { "0" }});
    if let Some(comment) = &token.comment {
        info["comment"] = json!(comment);
    }
    user.tokens.insert(id, token);
    Ok(json!({"full-tokenid": full, "value": secret, "info": info}))
}

fn change_token(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    ask.can_write(world, "user_cfg")?;
    token(user(world, ask)?, ask)?;
    let found = user_mut(world, ask)?.tokens.get_mut(ask.text("tokenid"));
    Ok(found.map_or(Value::Null, |token| {
        set_token(token, ask);
        let mut info = token_info(token);
        // What was just set is told as the text that it came as.
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
