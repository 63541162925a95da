//! The SSH way to one node of the profile, for commands that need nothing else of the cluster.

use std::net::{IpAddr, SocketAddr};

use super::session::Session;
use crate::cluster::{Cluster, Node};
use crate::error::{Exit, Failure};
use crate::run::context::SSH_PORT;
use crate::ssh::{HostKey, Remote, Target};

/// The row of a node, by its name or its fully qualified one.
///
/// # Errors
/// When the profile has none.
pub(super) fn row<'a>(cluster: &'a Cluster, name: &str, doing: &str) -> Result<&'a Node, Failure> {
    let found = cluster.nodes.iter().find(|node| node.name.as_str() == name || node.fqdn == name);
    found.ok_or_else(|| {
        let known: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        let said = format!("the profile has no such node; its nodes are {}", known.join(", "));
        Failure::new(Exit::Usage, format!("{doing} `{name}`"), said)
    })
}

/// The way to a node, which must show the host key that the state folder has of it. Nothing is sent yet.
///
/// # Errors
/// When the state folder has no such key: then there is nothing to know the machine by.
pub(super) fn remote(session: &Session, node: &Node, doing: &str) -> Result<Remote, Failure> {
    let (state, cluster) = (&session.state, &session.cluster);
    // Also learns the private keys as secrets, which are masked from here on.
    let key = state.host_key(&node.name)?;
    if state.new_keys().hosts.contains(&node.name) {
        let said = format!(
            "the state folder `{}` has no host key of `{}`: no machine of this name was made with it, and \
             k8sha connects to no machine that it does not know",
            state.folder().display(),
            node.name
        );
        let flags = session.flags();
        return Err(Failure::new(Exit::NotAsAsked, doing, said).on(&node.name).hint(format!(
            "`k8sha up{flags}` makes the machine; if it runs, name the state folder that it was made with \
             (`--state`)"
        )));
    }
    let host_key = HostKey::parse(&key.public)
        .map_err(|error| Failure::caused(Exit::Local, "read a host key", error).on(&node.name))?;
    let way = session.way()?.clone();
    Ok(Remote::new(Target {
        node: node.name.to_string(),
        address: SocketAddr::new(IpAddr::V4(node.ip), SSH_PORT),
        user: cluster.access.user.clone(),
        host_key,
        keys: way.keys,
        sudo_password: way.sudo_password,
        dialer: way.dialer,
        clock: session.world.clock(),
    }))
}
