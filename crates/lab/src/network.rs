//! The lab's network: a namespace with a bridge that connects all machines, and that is their router;
//! name servers and etcd have their addresses there.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::{Error, command, file};
use k8sha_simulator::site::Site;

/// The address of the package proxy, at the router.
const MIRROR_PORT: u16 = 3128;

/// The lab's network.
pub(super) struct Network {
    hub: String,
    router: Ipv4Addr,
    ports: AtomicU32,
    inside: Handle,
    /// Ends the runtime inside when it is dropped.
    _leave: oneshot::Sender<()>,
}

impl Network {
    /// Creates it, with the addresses of the site's existing services.
    pub(super) fn make(id: &str, site: &Site, routers: &[(Ipv4Addr, u8)]) -> Result<Self, Error> {
        let hub = format!("k8sha-{id}");
        let ip = |words: &[&str]| command(&[&["ip", "-n", hub.as_str()], words].concat());
        command(&["ip", "netns", "add", &hub])?;
        ip(&["link", "add", "br0", "type", "bridge", "forward_delay", "0"])?;
        // Without its own address a bridge takes over that of the first interface that joins.
        ip(&["link", "set", "br0", "address", "02:00:00:00:00:01"])?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "set", "br0", "up"])?;
        for (router, prefix) in routers {
            ip(&["addr", "add", &format!("{router}/{prefix}"), "dev", "br0"])?;
        }
        let standing = site.nameservers.iter().chain(site.etcd.iter().map(SocketAddrV4::ip));
        for address in
            standing.filter(|address| routers.iter().all(|(router, _)| router != *address))
        {
            ip(&["addr", "replace", &format!("{address}/32"), "dev", "br0"])?;
        }
        let forward = "/proc/sys/net/ipv4/ip_forward";
        command(&["ip", "netns", "exec", &hub, "sh", "-c", &format!("echo 1 > {forward}")])?;
        let (inside, leave) = inside(&hub)?;
        let router = routers.first().map_or(site.gateway, |(router, _)| *router);
        Ok(Self { hub, router, ports: AtomicU32::new(1), inside, _leave: leave })
    }

    /// The name of the lab's own namespace.
    pub(super) fn hub(&self) -> &str {
        &self.hub
    }

    /// The namespace of a machine.
    pub(super) fn namespace(&self, machine: &str) -> String {
        format!("{}-{machine}", self.hub)
    }

    /// A name for the bridge's next port.
    pub(super) fn next_port(&self) -> String {
        format!("m{}", self.ports.fetch_add(1, Ordering::Relaxed))
    }

    /// The package proxy of the machines.
    pub(super) fn mirror(&self) -> SocketAddr {
        SocketAddr::from((self.router, MIRROR_PORT))
    }

    /// A runtime whose sockets belong to the lab's network.
    pub(super) fn inside(&self) -> &Handle {
        &self.inside
    }
}

/// Starts a runtime on a thread that has moved into the namespace: its own threads start there.
fn inside(hub: &str) -> Result<(Handle, oneshot::Sender<()>), Error> {
    let namespace =
        File::open(Path::new("/run/netns").join(hub)).map_err(file("enter the lab's network"))?;
    let (leave, left) = oneshot::channel::<()>();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
        let made = moved
            .map_err(std::io::Error::from)
            .and_then(|()| Builder::new_multi_thread().worker_threads(2).enable_all().build());
        match made {
            Ok(runtime) => {
                let _ = tell.send(Ok(runtime.handle().clone()));
                let _ = runtime.block_on(left);
                runtime.shutdown_background();
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    });
    let handle = told.recv().map_err(|error| std::io::Error::other(error.to_string()));
    let handle = handle.and_then(|made| made).map_err(file("enter the lab's network"))?;
    Ok((handle, leave))
}

/// The IPv4 addresses in a namespace, per interface.
pub(super) fn addresses(namespace: &str) -> Vec<(String, Ipv4Addr, u8)> {
    // A machine that has just stopped has none.
    let said = command(&["ip", "-n", namespace, "-j", "-4", "addr", "show"]).unwrap_or_default();
    let links: Vec<Value> = serde_json::from_str(&said).unwrap_or_default();
    links.iter().flat_map(of_link).collect()
}

fn of_link(link: &Value) -> Vec<(String, Ipv4Addr, u8)> {
    let name = link["ifname"].as_str().unwrap_or_default().to_owned();
    let infos = link["addr_info"].as_array().cloned().unwrap_or_default();
    infos
        .iter()
        .filter_map(|info| {
            let address = info["local"].as_str()?.parse().ok()?;
            Some((name.clone(), address, u8::try_from(info["prefixlen"].as_u64()?).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_addresses_is_parsed() {
        let link = serde_json::json!({"ifname": "eth0", "addr_info": [
            {"family": "inet", "local": "10.101.1.11", "prefixlen": 24},
            {"family": "inet", "local": "10.101.1.10", "prefixlen": 32}]});
        let want = vec![
            ("eth0".to_owned(), Ipv4Addr::new(10, 101, 1, 11), 24),
            ("eth0".to_owned(), Ipv4Addr::new(10, 101, 1, 10), 32),
        ];
        assert_eq!(of_link(&link), want);
    }
}
