//! SSH access to one node of the profile, for commands that need nothing else of the cluster.

use std::net::{IpAddr, SocketAddr};

use super::session::Session;
use crate::cluster::{Cluster, Node};
use crate::error::{Exit, Failure};
use crate::run::context::SSH_PORT;
use crate::ssh::{HostKey, Remote, Target};

/// The row of a node, by its name or its fully qualified one.
///
/// # Errors
/// If the profile has none.
pub(super) fn row<'a>(cluster: &'a Cluster, name: &str, doing: &str) -> Result<&'a Node, Failure> {
    let found = cluster.nodes.iter().find(|node| node.name.as_str() == name || node.fqdn == name);
    found.ok_or_else(|| {
        let known: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        let said = format!("the profile has no such node; its nodes are {}", known.join(", "));
        Failure::new(Exit::Usage, format!("{doing} `{name}`"), said)
    })
}

/// Access to a node, which must present the host key in the state folder. Does not connect yet.
///
/// # Errors
/// If the state folder has no host key of the node: nothing else identifies the machine.
pub(super) fn remote(session: &Session, node: &Node, doing: &str) -> Result<Remote, Failure> {
    let (state, cluster) = (&session.state, &session.cluster);
    // Also registers the private keys as secrets, which are masked from here on.
    let key = state.host_key(&node.name)?;
    if state.new_keys().hosts.contains(&node.name) {
        let said = format!(
            "the state folder `{}` has no host key of `{}`: it created no machine with this name, and k8sha \
             connects only to machines whose host key it knows",
            state.folder().display(),
            node.name
        );
        let flags = session.flags();
        return Err(Failure::new(Exit::NotAsAsked, doing, said).on(&node.name).hint(format!(
            "`k8sha up{flags}` creates the machine; if it already runs, use the state folder that it was created \
             with (`--state`)"
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
