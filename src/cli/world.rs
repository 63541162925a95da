//! Real or simulated: where the Proxmox hosts, the network and the machines are.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use tempfile::TempDir;

use super::args::{Common, WorldArgs};
use super::site::site;
use crate::cluster::{Cluster, Etcd, HostName, Trust};
use crate::error::{Exit, Failure};
use crate::files::write_private;
use crate::net::Dialer;
use crate::proxmox::Auth;
use crate::proxmox::tls::Fingerprint;
use crate::sim::{self, Endpoints, Sim};
use crate::state::State;
use crate::tempo::Tempo;

const DNS_PORT: u16 = 53;

/// The world that a command acts on.
pub(super) struct World {
    endpoints: Option<Endpoints>,
    sim: Option<Sim>,
    folder: Option<PathBuf>,
    speed: f64,
    /// Removed with the desk: a world without a folder lives for one command.
    passing: Option<TempDir>,
}

/// Opens the world that the arguments name, and lets the cluster's hosts point into it.
pub(super) async fn open(common: &Common, cluster: &mut Cluster) -> Result<World, Failure> {
    let args = &common.world;
    let world = if let Some(file) = &args.endpoints {
        let endpoints = read(file)?;
        let speed = endpoints.speed;
        World { endpoints: Some(endpoints), sim: None, folder: None, speed, passing: None }
    } else if let Some(folder) = &args.simulate {
        simulate(args, folder.clone(), cluster).await?
    } else {
        refuse_simulation_flags(args)?;
        World { endpoints: None, sim: None, folder: None, speed: 1.0, passing: None }
    };
    if world.simulated() && !common.quiet {
        let _ = writeln!(
            std::io::stderr(),
            "SIMULATED: Proxmox VE, network and machines are simulated, {}x as fast as life{}",
            world.speed,
            world.folder.as_ref().map_or(String::new(), |dir| format!(", in {}", dir.display()))
        );
    }
    if let Some(endpoints) = &world.endpoints {
        point(cluster, endpoints)?;
    }
    Ok(world)
}

/// Starts a simulated world; kept in a folder if one is named.
pub(super) async fn simulate(
    args: &WorldArgs,
    folder: Option<PathBuf>,
    cluster: &Cluster,
) -> Result<World, Failure> {
    let doing = "start the simulated world";
    let faults = args.inject.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    let faults = faults.map_err(|error| Failure::new(Exit::Usage, doing, error))?;
    if !(args.speed.is_finite() && args.speed > 0.0) {
        return Err(Failure::new(Exit::Usage, doing, "`--speed` must be more than 0"));
    }
    let options = sim::Options { folder: folder.clone(), speed: args.speed, faults, port: None };
    let sim = Sim::start(site(cluster, args.topology), options)
        .await
        .map_err(|error| Failure::new(Exit::Local, doing, error))?;
    let passing = match folder {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("k8sha-")
                .tempdir()
                .map_err(|error| Failure::new(Exit::Local, doing, error))?,
        ),
    };
    let endpoints = Some(sim.endpoints());
    Ok(World { endpoints, sim: Some(sim), folder, speed: args.speed, passing })
}

fn refuse_simulation_flags(args: &WorldArgs) -> Result<(), Failure> {
    if args.inject.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Usage, "inject a fault", "this is the real world")
        .hint("faults are for `--simulate`".to_owned()))
}

fn read(file: &Path) -> Result<Endpoints, Failure> {
    let doing = || format!("read the endpoints in `{}`", file.display());
    let text =
        fs::read_to_string(file).map_err(|error| Failure::new(Exit::Usage, doing(), error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, doing(), error)
            .hint("the file must hold what `k8sha sim` printed".to_owned())
    })
}

/// Lets the profile's hosts point to the simulated ones. A host that is not simulated keeps its
/// name and gets an endpoint at which nobody is: the error then names what is known.
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

impl World {
    /// Whether all of this is simulated.
    pub(super) fn simulated(&self) -> bool {
        self.endpoints.is_some()
    }

    /// The simulator, if it runs in this process.
    pub(super) fn sim(&self) -> Option<&Sim> {
        self.sim.as_ref()
    }

    /// Whether the simulated world ends with this command.
    pub(super) fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    /// The folder that keeps the simulated world.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Where a simulated operator's own files of a cluster lie.
    pub(super) fn operator(&self, cluster: &str) -> Option<PathBuf> {
        match (&self.folder, &self.passing) {
            (Some(folder), _) => Some(folder.join("operator").join(cluster)),
            (None, Some(passing)) => Some(passing.path().to_owned()),
            (None, None) => None,
        }
    }

    /// How to log in to a host, where the world says so.
    pub(super) fn auth(&self, host: &HostName) -> Option<Auth> {
        let endpoint = self.endpoints.as_ref()?.hosts.get(host.as_str())?;
        Some(Auth::Token(SecretString::from(endpoint.token.clone())))
    }

    /// How addresses are reached.
    pub(super) fn dialer(&self) -> Dialer {
        let Some(endpoints) = &self.endpoints else { return Dialer::direct() };
        let servers: BTreeMap<SocketAddr, SocketAddr> = endpoints
            .name_servers
            .iter()
            .map(|(server, at)| (SocketAddr::new(IpAddr::V4(*server), DNS_PORT), *at))
            .collect();
        Dialer::through(Some(endpoints.proxy), servers)
    }

    /// The pace of waiting.
    pub(super) fn tempo(&self) -> Tempo {
        if self.simulated() { Tempo::simulated(self.speed) } else { Tempo::real() }
    }

    /// Gives the simulated operator the simulated etcd's files.
    pub(super) fn adopt(&self, cluster: &mut Cluster, state: &State) -> Result<(), Failure> {
        let Some(files) = self.endpoints.as_ref().and_then(|endpoints| endpoints.etcd.as_ref())
        else {
            return Ok(());
        };
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
