//! The simulated world: its command-line options, how it is started or found, and the addresses of
//! its Proxmox VE hosts, network and machines.

mod args;
pub(super) mod moved;
mod passing;
pub(super) mod provider;
pub(super) mod serve;
mod site;
mod targets;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use k8sha_simulator::{self as simulator, Endpoints, GuestKind, Sim};
use secrecy::SecretString;

pub use self::args::WorldArgs;
use self::passing::Passing;
use self::provider::Wanted;
use self::site::site;
use super::args::Common;
use crate::clock::Clock;
use crate::cluster::{Cluster, Cni, Etcd, HostName, Kernel, Node, ProxyMode, Role, Trust};
use crate::error::{Exit, Failure};
use crate::files::{self, write_private};
use crate::net::Dialer;
use crate::proxmox::Auth;
use crate::proxmox::tls::Fingerprint;
use crate::report::screen;
use crate::secrets;
use crate::state::State;

const DNS_PORT: u16 = 53;
/// How many times faster than life a world with scripted guests is by default.
const USUAL_SPEED: f64 = 20.0;

/// A simulated world.
pub(super) struct Simulated {
    endpoints: Endpoints,
    sim: Option<Sim>,
    folder: Option<PathBuf>,
    speed: f64,
    /// A world without a folder lives for one command.
    passing: Option<Passing>,
}

/// Opens the simulated world that the arguments name, and points the cluster's hosts to it.
pub(super) async fn open(
    common: &Common,
    cluster: &mut Cluster,
) -> Result<Option<Simulated>, Failure> {
    let args = &common.world;
    let world = if let Some(file) = &args.endpoints {
        if args.schema.is_some() {
            let said = "it runs in another process";
            return Err(Failure::new(Exit::Usage, "hold the simulator to a schema", said)
                .hint(format!("give `--schema` to `{} sim`", args.program())));
        }
        let endpoints = read(file)?;
        let speed = endpoints.speed;
        Simulated { endpoints, sim: None, folder: None, speed, passing: None }
    } else if let Some(folder) = &args.simulate {
        simulate(args, folder.clone(), None, cluster).await?
    } else {
        refuse_simulation_flags(args)?;
        return Ok(None);
    };
    if !common.quiet {
        say(&world.announcement());
        if cluster.access.jump.is_some() {
            say("           the jump host is not asked");
        }
    }
    point(cluster, &world.endpoints)?;
    if let Some(facts) = &world.endpoints.machines {
        let notes = adapt(cluster, facts);
        if !common.quiet {
            notes.iter().for_each(|note| say(&format!("           {note}")));
        }
    }
    Ok(Some(world))
}

/// Prints a line for the user; stdout is for data.
fn say(line: &str) {
    screen::say(line);
}

/// Removes from the cluster what system containers do not support; returns what it removed.
fn adapt(cluster: &mut Cluster, facts: &simulator::MachineFacts) -> Vec<String> {
    let mut notes = Vec::new();
    if cluster.nodes.iter().any(|node| node.kernel != Kernel::Stock) {
        notes.push("containers run on this machine's kernel: no other one is installed".to_owned());
    }
    // Kubernetes' own packages come from servers that a lab does not reach.
    let foreign = |node: &Node| node.role != Role::LoadBalancer && !node.preinstalled;
    if cluster.nodes.iter().any(foreign) {
        notes.push("what the nodes of Kubernetes need is in their root file system".to_owned());
    }
    if facts.standin {
        notes.push(
            "kubeadm, kubelet and kubectl there are scripted stand-ins: no Kubernetes runs"
                .to_owned(),
        );
    }
    if cluster.kubernetes.proxy == ProxyMode::Ipvs && !Path::new("/proc/net/ip_vs").exists() {
        notes.push("this machine's kernel has no IPVS loaded: kube-proxy uses iptables".to_owned());
        cluster.kubernetes.proxy = ProxyMode::Iptables;
    }
    for node in &mut cluster.nodes {
        node.kernel = Kernel::Stock;
        node.preinstalled |= node.role != Role::LoadBalancer;
    }
    notes
}

/// Starts a simulated world; kept in a folder if one is named, at ports from `port` on or any.
pub(super) async fn simulate(
    args: &WorldArgs,
    folder: Option<PathBuf>,
    port: Option<u16>,
    cluster: &Cluster,
) -> Result<Simulated, Failure> {
    let doing = "start the simulated world";
    let faults = args.inject.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    let faults = faults.map_err(|error| Failure::new(Exit::Usage, doing, error))?;
    let lost: Vec<String> =
        faults.iter().filter_map(|fault| targets::fault(cluster, fault).err()).collect();
    if !lost.is_empty() {
        return Err(Failure::new(Exit::Usage, doing, lost.join("\n")).hint(
            "a fault without its target never happens: name one that the profile has".to_owned(),
        ));
    }
    let speed = speed(args).map_err(|said| Failure::new(Exit::Usage, doing, said))?;
    let guests = guests(args, cluster);
    let schema = args.schema.clone();
    if let Some(file) = &schema {
        files::check(file, files::Kind::Schema)
            .map_err(|error| Failure::new(Exit::Usage, "read Proxmox's API schema", error))?;
    }
    let options =
        simulator::Options { folder: folder.clone(), speed, faults, port, guests, say, schema };
    let sim = Sim::start(site(cluster, args.topology), options).await.map_err(|error| {
        let hint = match &error {
            simulator::Error::Machines(error) => Some(error.hint.clone()),
            simulator::Error::InUse(_) => Some(format!(
                "a world that `{} sim` serves is reached with `--endpoints FILE`",
                args.program()
            )),
            _ => None,
        };
        let failure = Failure::new(Exit::Local, doing, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let passing = match folder {
        Some(_) => None,
        None => Some(
            Passing::open(&std::env::temp_dir())
                .map_err(|error| Failure::new(Exit::Local, doing, error))?,
        ),
    };
    let endpoints = sim.endpoints();
    Ok(Simulated { endpoints, sim: Some(sim), folder, speed, passing })
}

fn speed(args: &WorldArgs) -> Result<f64, &'static str> {
    match (&args.machines, args.speed) {
        (None, speed) => {
            let speed = speed.unwrap_or(USUAL_SPEED);
            let is_one = speed.is_finite() && speed > 0.0;
            if is_one { Ok(speed) } else { Err("`--speed` must be more than 0") }
        }
        (Some(_), None | Some(1.0)) => Ok(1.0),
        (Some(_), Some(_)) => Err("containers live in real time: `--speed` must be 1"),
    }
}

fn guests(args: &WorldArgs, cluster: &Cluster) -> GuestKind {
    let Some(machines) = &args.machines else { return GuestKind::Scripted };
    GuestKind::Machines(machines.maker(Wanted {
        kubernetes: cluster.kubernetes.version.to_string(),
        cilium_cli: match &cluster.kubernetes.cni {
            Cni::Cilium { cli_version, .. } => Some(cli_version.clone()),
            _ => None,
        },
        routers: routers(cluster),
    }))
}

/// The gateway of every subnet, with its prefix length.
fn routers(cluster: &Cluster) -> Vec<(Ipv4Addr, u8)> {
    let others = cluster.network.others.iter();
    let others = others.map(|other| (other.gateway, other.subnet.prefix_len()));
    let first = (cluster.network.gateway, cluster.network.subnet.prefix_len());
    std::iter::once(first).chain(others).collect()
}

fn refuse_simulation_flags(args: &WorldArgs) -> Result<(), Failure> {
    let real = "this is the real world";
    if !args.inject.is_empty() {
        return Err(Failure::new(Exit::Usage, "inject a fault", real)
            .hint("faults are for `--simulate`".to_owned()));
    }
    if args.schema.is_some() {
        return Err(Failure::new(Exit::Usage, "hold requests against a schema", real)
            .hint("`--schema` is for `--simulate`; a real host knows its own".to_owned()));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Endpoints, Failure> {
    let doing = || format!("read the endpoints in `{}`", file.display());
    let printed = || "the file must hold what `k8sha sim` printed".to_owned();
    let text = files::read_text(file, files::Kind::Endpoints)
        .map_err(|error| Failure::new(Exit::Usage, doing(), error).hint(printed()))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::Usage, doing(), error).hint(printed()))
}

/// Lets the profile's hosts point to the simulated ones. A host that is not simulated keeps its
/// name and is refused; the error names the hosts that are.
fn point(cluster: &mut Cluster, endpoints: &Endpoints) -> Result<(), Failure> {
    let known: Vec<&str> = endpoints.hosts.keys().map(String::as_str).collect();
    for (name, host) in &mut cluster.proxmox.hosts {
        let Some(endpoint) = endpoints.hosts.get(name.as_str()) else {
            let said =
                format!("the simulated site has no host `{name}`: known are {}", known.join(", "));
            return Err(Failure::new(Exit::Usage, "find the Proxmox hosts", said).hint(
                "a world in a folder keeps the site of its first run; take another folder"
                    .to_owned(),
            ));
        };
        host.endpoint = endpoint.url.clone();
        let pin: Fingerprint = endpoint
            .fingerprint
            .parse()
            .map_err(|error| Failure::new(Exit::Usage, "read a fingerprint", error))?;
        host.trust = Some(Trust::Fingerprint(pin.0));
    }
    Ok(())
}

impl Simulated {
    /// What the user must know about this world first.
    fn announcement(&self) -> String {
        let place =
            self.folder.as_ref().map_or(String::new(), |dir| format!(", in {}", dir.display()));
        if self.endpoints.machines.is_some() {
            return format!(
                "SIMULATED: Proxmox VE is simulated; its VMs are system containers on this \
                 machine{place}"
            );
        }
        format!(
            "SIMULATED: Proxmox VE, network and machines are simulated, {}x as fast as life{place}",
            self.speed
        )
    }

    /// The simulator, if it runs in this process.
    pub(super) fn sim(&self) -> Option<&Sim> {
        self.sim.as_ref()
    }

    /// What the simulator of this process has to say at the end: that its world could not be kept, or
    /// that it was sent what Proxmox's schema does not allow.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let Some(sim) = &self.sim else { return Ok(()) };
        if let Some(trouble) = sim.shared().store.failure() {
            return Err(Failure::new(Exit::Local, "keep the simulated world", trouble));
        }
        let violations: Vec<String> = sim.violations().iter().map(ToString::to_string).collect();
        if violations.is_empty() {
            return Ok(());
        }
        let doing = "send only what the schema of Proxmox VE allows";
        Err(Failure::new(Exit::Proxmox, doing, violations.join("\n")))
    }

    /// Whether the simulated world ends with this command.
    pub(super) fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    /// The folder of a simulated operator's own files of a cluster.
    pub(super) fn operator(&self, cluster: &str) -> Option<PathBuf> {
        match (&self.folder, &self.passing) {
            (Some(folder), _) => Some(folder.join("operator").join(cluster)),
            (None, Some(passing)) => Some(passing.path().to_owned()),
            (None, None) => None,
        }
    }

    /// The credentials for a host, if the world provides them.
    pub(super) fn auth(&self, host: &HostName) -> Option<Auth> {
        let endpoint = self.endpoints.hosts.get(host.as_str())?;
        Some(Auth::Token(secrets::register(SecretString::from(endpoint.token.clone()))))
    }

    /// How addresses are reached: through the simulator's proxy.
    pub(super) fn dialer(&self) -> Dialer {
        let endpoints = &self.endpoints;
        let servers: BTreeMap<SocketAddr, SocketAddr> = endpoints
            .name_servers
            .iter()
            .map(|(server, at)| (SocketAddr::new(IpAddr::V4(*server), DNS_PORT), *at))
            .collect();
        Dialer::through(Some(endpoints.proxy), servers)
    }

    /// The pace of waiting.
    pub(super) fn clock(&self) -> Clock {
        Clock::simulated(self.speed).hurried(self.endpoints.haste.unwrap_or(1.0))
    }

    /// Gives the simulated operator the simulated etcd's files.
    pub(super) fn adopt(&self, cluster: &mut Cluster, state: &State) -> Result<(), Failure> {
        let Some(files) = &self.endpoints.etcd else { return Ok(()) };
        let Etcd::External { ca_file, cert_file, key_file, .. } = &mut cluster.etcd else {
            return Ok(());
        };
        let folder = state.folder().to_owned();
        for (place, name, text) in [
            (ca_file, "etcd-ca.crt", &files.ca),
            (cert_file, "apiserver-etcd-client.crt", &files.cert),
            (key_file, "apiserver-etcd-client.key", &files.key),
        ] {
            *place = folder.join(name);
            write_private(place, text.as_bytes()).map_err(|error| {
                Failure::new(Exit::Local, "write the simulated operator's etcd files", error)
            })?;
        }
        Ok(())
    }
}
