//! The built-in Proxmox VE simulator, at the level of the wire protocol.
//!
//! [`Sim::start`] creates a world from a [`Site`], or loads the one in a folder, and serves it on
//! loopback ports: each host's API over HTTPS, a proxy to the guests, name servers. The simulator does
//! not know the client; it only knows what Proxmox VE accepts.

mod blob;
pub mod clock;
pub mod faults;
pub mod guests;
pub mod inspect;
pub mod machines;
pub mod pve;
pub mod site;
pub mod store;
pub mod world;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::runtime::RuntimeFlavor;
use tokio::task::JoinSet;

use self::clock::Clock;
use self::faults::{Fault, FaultKind, Faults};
use self::guests::Guests;
use self::machines::{MachineError, Maker};
use self::pve::apidoc::Schema;
use self::pve::requests::{Request, RequestLog};
use self::pve::server::{self, Server};
use self::pve::{OPERATOR, Pve, TOKEN};
use self::site::Site;
use self::store::{Claim, Store, Unclaimed};
use self::world::{Shared, SimTime, World};

/// How often a world with real machines advances by itself.
const LOOK: Duration = Duration::from_millis(100);

/// The settings of a simulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the world; `None`: the world ends with the simulator.
    pub folder: Option<PathBuf>,
    /// Simulated seconds per real second.
    pub speed: f64,
    /// The faults to inject; those of an earlier start are discarded.
    pub faults: Vec<Fault>,
    /// The port of the first host in name order; each further host gets the next port. `None`: free
    /// ports.
    pub port: Option<u16>,
    /// The kind of guest that a VM boots.
    pub guests: GuestKind,
    /// Called with a message when something takes a while.
    pub say: fn(&str),
    /// A file with Proxmox's own API schema: requests that violate it are refused and counted.
    pub schema: Option<PathBuf>,
}

/// The kind of guest that a VM boots.
#[derive(Clone, Debug, Default)]
pub enum GuestKind {
    /// A state machine that answers the commands it knows.
    #[default]
    Scripted,
    /// A machine supplied by the simulator's caller.
    Machines(Arc<dyn Maker>),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            folder: None,
            speed: 1.0,
            faults: Vec::new(),
            port: None,
            guests: GuestKind::default(),
            say: |_| (),
            schema: None,
        }
    }
}

/// Why a simulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("cannot use the simulated world in `{folder}`: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// The system's error.
        source: io::Error,
    },
    /// Another process serves the folder's world.
    #[error("{0}")]
    InUse(String),
    /// The folder holds the world of another site.
    #[error(
        "the simulated world in `{folder}` has other hosts: {known}; use another folder, or delete \
         this one"
    )]
    OtherSite {
        /// The folder.
        folder: String,
        /// Its hosts.
        known: String,
    },
    /// A certificate could not be created.
    #[error("cannot create the simulated hosts' certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The folder holds a world with the other kind of guests.
    #[error(
        "the simulated world in `{folder}` has {known} guests; use another folder, or delete this one"
    )]
    OtherGuests {
        /// The folder.
        folder: String,
        /// Their kind.
        known: &'static str,
    },
    /// The caller's machines cannot be created.
    #[error(transparent)]
    Machines(#[from] MachineError),
    /// The schema cannot be used.
    #[error("cannot use the schema of Proxmox VE in `{file}`: {source}")]
    Schema {
        /// The file.
        file: String,
        /// The error of the system or the parser.
        source: io::Error,
    },
    /// The network outside Proxmox could not be created.
    #[error("cannot create the simulated network: {0}")]
    Guests(io::Error),
    /// A port could not be served.
    #[error("cannot serve the simulated host `{host}`: {source}")]
    Serve {
        /// The host.
        host: String,
        /// The system's error.
        source: io::Error,
    },
}

/// How clients reach the simulated site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The Proxmox VE hosts, by node name.
    pub hosts: BTreeMap<String, HostEndpoint>,
    /// Simulated seconds per real second.
    pub speed: f64,
    /// An HTTP CONNECT proxy to the guests.
    pub proxy: SocketAddr,
    /// The loopback address of each name server of the site.
    pub name_servers: BTreeMap<Ipv4Addr, SocketAddr>,
    /// The client files for the site's etcd, if it has one.
    pub etcd: Option<EtcdPems>,
    /// Facts about the machines, if they are not scripted.
    #[serde(default, rename = "containers")]
    pub machines: Option<MachineFacts>,
    /// The divisor of a client's time limits for connections, answers and commands: for peers that are
    /// slow on purpose. The simulator never sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub haste: Option<f64>,
}

/// Facts about machines that are not scripted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// The network namespace of the site's router, from which every machine is reached; the name of a
    /// machine's namespace appends its VMID and its datacenter's name: `k8sha-0a1b2c3d-1101-site`.
    pub network: String,
    /// Whether kubeadm, kubelet and kubectl on them are scripted stand-ins.
    pub standin: bool,
}

/// How a Proxmox VE host is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostEndpoint {
    /// Such as `https://127.0.0.1:40001`.
    pub url: String,
    /// SHA-256 of its certificate: upper-case hex with colons.
    pub fingerprint: String,
    /// An API token with all privileges: `USER@REALM!NAME=SECRET`.
    pub token: String,
    /// The password of `root@pam`.
    pub root_password: String,
    /// The CA's certificate, in PEM.
    pub ca: String,
}

/// The files of an etcd client, in PEM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EtcdPems {
    /// The CA's certificate.
    pub ca: String,
    /// The client's certificate.
    pub cert: String,
    /// The client's private key.
    pub key: String,
}

/// A running simulator.
pub struct Sim {
    shared: Shared,
    log: Arc<RequestLog>,
    endpoints: Endpoints,
    servers: JoinSet<()>,
    /// Prevents another process from serving the world; released after the last state is saved.
    _claim: Claim,
}

impl Sim {
    /// Starts a simulator: loads the folder's world if there is one, else creates one from the site.
    ///
    /// # Errors
    /// If the folder, the certificates or the ports cannot be used, or if the folder's world is of
    /// another site or in use.
    pub async fn start(site: Site, options: Options) -> Result<Sim, Error> {
        let shown = options.folder.as_ref().map(|folder| folder.display().to_string());
        let shown = shown.unwrap_or_default();
        let schema = options.schema.as_ref().map(|file| {
            let unusable = |source| Error::Schema { file: file.display().to_string(), source };
            Schema::read(file).map(Arc::new).map_err(unusable)
        });
        let schema = schema.transpose()?;
        let failed = |source| Error::Folder { folder: shown.clone(), source };
        let store = Store::open(options.folder.clone()).map_err(failed)?;
        let claim = store.claim().map_err(|unclaimed| match unclaimed {
            Unclaimed::InUse(text) => Error::InUse(text),
            Unclaimed::Io(source) => failed(source),
        })?;
        let mut world = match store.load().map_err(failed)? {
            Some(world) if world.machines == matches!(options.guests, GuestKind::Scripted) => {
                let known = if world.machines { "real" } else { "scripted" };
                return Err(Error::OtherGuests { folder: shown, known });
            }
            Some(mut world) if world.site.has_hosts_of(&site) => {
                // Hosts and etcd are kept; names and addresses are taken from the given site.
                let Site { topology, cluster, hosts, etcd, .. } = world.site;
                world.site = Site { topology, cluster, hosts, etcd, ..site };
                world.guests.survey(&world.site);
                world
            }
            Some(world) => {
                let hosts: Vec<String> =
                    world.site.hosts.into_iter().map(|host| host.name).collect();
                return Err(Error::OtherSite { folder: shown, known: hosts.join(", ") });
            }
            None => new_world(site)?,
        };
        let log = RequestLog::open(options.folder.as_deref()).map_err(failed)?;
        let faults = options
            .faults
            .iter()
            .map(|fault| (fault.kind.name().to_owned(), fault.target.clone()))
            .collect();
        world.guests.set_faults(faults);
        let machines = match &options.guests {
            GuestKind::Scripted => None,
            GuestKind::Machines(maker) => {
                maker.check(&options.faults)?;
                let folder = options.folder.as_ref().map(|folder| folder.join("lab"));
                let (site, guests, say) = (&world.site, &world.guests, options.say);
                let make = || maker.make(site, folder.as_deref(), guests, say);
                Some(tokio::task::block_in_place(make)?)
            }
        };
        if let Some(machines) = &machines {
            world.machines = true;
            world.guests.inhabit(machines.clone());
            let now = world.now;
            pve::work::after_outage(&mut world, now, &store);
        }
        world.faults = Faults::new(options.faults);
        world.pve.hold(&world.faults.targets(FaultKind::VmLocked));
        store.save(&world);
        let clock = Clock::new(world.now, options.speed);
        let hosts: Vec<_> = world
            .pve
            .datacenters
            .iter()
            .flat_map(|dc| dc.hosts.iter().map(move |(name, host)| (dc, name, host)))
            .map(|(dc, name, host)| {
                let secret = dc.users.get(OPERATOR).and_then(|user| user.tokens.get(TOKEN));
                let secret = secret.map(|token| token.secret.as_str()).unwrap_or_default();
                let root = dc.users.get("root@pam").and_then(|root| root.password.clone());
                let endpoint = HostEndpoint {
                    url: String::new(),
                    fingerprint: host.pair.fingerprint.clone(),
                    token: format!("{OPERATOR}!{TOKEN}={secret}"),
                    root_password: root.unwrap_or_default(),
                    ca: dc.ca.cert.clone(),
                };
                (name.clone(), host.pair.clone(), endpoint)
            })
            .collect();
        let shared = Shared::new(world, clock, store);
        let log = Arc::new(log);
        let mut servers = JoinSet::new();
        let mut reached = BTreeMap::new();
        for (place, (host, pair, mut endpoint)) in (0u16..).zip(hosts) {
            let failed = |source| Error::Serve { host: host.clone(), source };
            let port = options.port.map_or(0, |port| port.saturating_add(place));
            let tls = server::tls(&pair).map_err(failed)?;
            let (listener, address) = server::bind(port).await.map_err(failed)?;
            endpoint.url = format!("https://{address}");
            let (name, shared, log) = (host.clone(), shared.clone(), log.clone());
            let server = Arc::new(Server { host: name, shared, log, schema: schema.clone() });
            servers.spawn(server::serve(server, listener, tls));
            reached.insert(host, endpoint);
        }
        if machines.is_some() {
            // Real machines do not wait until a client looks: an order to one takes effect in time.
            let world = shared.clone();
            servers.spawn(async move {
                let mut ticks = tokio::time::interval(LOOK);
                loop {
                    ticks.tick().await;
                    world.pass();
                }
            });
        }
        let beyond = match &machines {
            None => guests::serve(shared.clone()).await.map_err(Error::Guests)?,
            Some(machines) => {
                let guests = shared.look(|world| world.guests.clone());
                machines.serve(&guests).await.map_err(Error::Guests)?
            }
        };
        let etcd =
            beyond.etcd.map(|files| EtcdPems { ca: files.ca, cert: files.cert, key: files.key });
        let endpoints = Endpoints {
            hosts: reached,
            speed: options.speed,
            proxy: beyond.proxy,
            name_servers: beyond.name_servers,
            etcd,
            machines: machines.map(|made| made.facts()),
            haste: None,
        };
        Ok(Sim { shared, log, endpoints, servers, _claim: claim })
    }

    /// How clients reach it.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints.clone()
    }

    /// The requests that reached the Proxmox VE hosts since the start.
    pub fn requests(&self) -> Vec<Request> {
        self.log.all()
    }

    /// The requests since the start that violate Proxmox's own schema.
    pub fn violations(&self) -> Vec<Request> {
        self.log.all().into_iter().filter(|request| request.violation.is_some()).collect()
    }

    /// SHA-256, in hex, over everything visible to users: VMs, volumes, pools, rights, the keys in the
    /// site's etcd. It excludes the history of tasks, the clock and counters.
    pub fn digest(&self) -> String {
        self.shared.look(inspect::digest)
    }

    /// Access to its world.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Stops it: closes the ports and saves the world.
    pub async fn stop(mut self) {
        self.servers.shutdown().await;
    }
}

fn new_world(site: Site) -> Result<World, Error> {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let seed: [u8; 16] = rand::random();
    let seed: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let pve = Pve::new(&site, epoch, &seed)?;
    let guests = Guests::new(&site, epoch).map_err(Error::Guests)?;
    let (now, faults) = (SimTime::default(), Faults::default());
    Ok(World { site, epoch, now, kept: now, pve, guests, faults, machines: false })
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Saves changes in the world since a client last saw it.
        self.shared.act(|_, _| ());
        // Real machines end with it; this waits for their keepers.
        let vacate = || self.shared.act(|world, _| world.guests.vacate());
        // `block_in_place` panics on a single-threaded runtime.
        let flavor = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
        match flavor {
            Ok(RuntimeFlavor::CurrentThread) | Err(_) => vacate(),
            Ok(_) => tokio::task::block_in_place(vacate),
        }
    }
}

#[cfg(test)]
mod tests;
