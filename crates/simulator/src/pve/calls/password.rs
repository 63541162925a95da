//! Changing a password (pve-access-control src/PVE/API2/AccessControl.pm, `change_password`).

use serde_json::Value;

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::access;
use crate::pve::wire::Failure;
use crate::store::Store;
use crate::world::World;

/// The calls of this module.
pub const CALLS: &[Call] = &[Call {
    method: "PUT",
    path: "/access/password",
    permit: Permit::Check(may_change),
    run: Run::Write(change),
}];

/// A user for his own account, or for an account that he administers.
fn may_change(world: &World, ask: &Ask) -> Result<(), Failure> {
    if ask.caller.token.is_some() {
        let text = "Permission check failed (URI '/access/password' not available with API token, \
                    need proper ticket.\n)";
        return Err(Failure::Forbidden(text.to_owned()));
    }
    if ask.text("userid") == ask.caller.user {
        return Ok(());
    }
    ask.require(world, "/access/groups", &["User.Modify"])
}

fn change(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let id = ask.text("userid");
    if !ask.caller.is_root() && ask.params.text("confirmation-password").is_none() {
        let text = "password is required to modify user";
        return Err(Failure::parameter("confirmation-password", text));
    }
    let confirmed = ask.text("confirmation-password");
    let sure = access::good_password(ask.dc(world), &ask.caller.user, confirmed, world.unix());
    if !sure && !ask.caller.is_root() {
        return Err(Failure::Status(401, "authentication failure".to_owned()));
    }
    ask.can_write(world, "user_cfg")?;
    let user = ask.dc_mut(world).users.get_mut(id);
    let user = user.ok_or_else(|| Failure::Die(format!("no such user ('{id}')")))?;
    user.password = Some(ask.text("password").to_owned());
    Ok(Value::Null)
}
