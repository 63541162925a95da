//! The data that steps need: the cluster, the wanted state of its VMs, and the connections to the
//! hosts and the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;

use crate::clock::Clock;
use crate::cloudinit::{Kept, NodeSecrets, SeedImage, Templates, render};
use crate::cluster::{Cluster, Etcd, HostName, Identity, NewKeys, Node, NodeName, Role};
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::kubeadm::etcd::{self, member::Machine};
use crate::kubeadm::join::JoinCredentials;
use crate::kubeadm::{balance, kubeconfig};
use crate::net::Dialer;
use crate::plan::inventory::OurVm;
use crate::plan::planner::Specs;
use crate::plan::{removal, spec};
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Auth, Client, Fleet};
use crate::settings;
use crate::ssh::{HostKey, Keys, Remote, Target};
use crate::state::State;

/// Where the nodes' SSH servers listen.
pub(crate) const SSH_PORT: u16 = 22;

/// The user's options for this run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path of the admin kubeconfig.
    pub kubeconfig: PathBuf,
    /// Whether that file may contain access to other clusters too, which is kept.
    pub merge: bool,
    /// Whether another cluster's keys in the external etcd may be deleted, and which cluster's.
    pub wipe_etcd: Option<Option<String>>,
    /// How many clones may run at once per (host, storage).
    pub parallel_clones: usize,
}

/// How the hosts and nodes are reached.
pub struct World<'a> {
    /// How to log in to a host.
    pub auth: &'a dyn Fn(&HostName) -> Result<Auth, Failure>,
    /// How connections to addresses on the nodes' network are made.
    pub dialer: Dialer,
    /// The keys offered to the nodes.
    pub keys: Keys,
    /// The password for the nodes' sudo, if it asks for one.
    pub sudo_password: Option<SecretString>,
    /// The clock for waits.
    pub clock: Clock,
}

/// How any node is reached, and the keys offered to it.
struct Login {
    keys: Keys,
    sudo_password: Option<SecretString>,
    dialer: Dialer,
}

/// The file with the documents that a node's machine was created from, by the hashes of its seed.
pub(super) fn made_from(folder: &Path, node: &NodeName, hashes: &str) -> PathBuf {
    folder.join(format!("{node}-{hashes}.yaml"))
}

/// The data that steps need.
pub struct Context {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The wanted state of each node's VM, for the planner: steps contain what they set.
    pub specs: Specs,
    /// Each node's seed.
    pub seeds: BTreeMap<NodeName, SeedImage>,
    /// Each node's documents without secrets, to show to the user.
    pub documents: BTreeMap<NodeName, String>,
    /// The folder with the documents that machines were created from.
    pub made_from: PathBuf,
    /// The files that are updated on each node whenever they change.
    pub kept: BTreeMap<NodeName, Vec<balance::File>>,
    /// The Proxmox VE hosts.
    pub fleet: Fleet,
    /// The nodes, over SSH.
    pub remotes: BTreeMap<NodeName, Remote>,
    /// The join credentials, renewed once for all joins.
    pub credentials: JoinCredentials,
    /// How addresses are reached.
    pub dialer: Dialer,
    /// The clock for waits.
    pub clock: Clock,
    /// The creation id in k8sha's marks.
    pub creation: String,
    /// The keys that the state folder did not have.
    pub new_keys: NewKeys,
    /// The nodes' SSH host keys in the state folder, of rows and of former rows.
    host_keys: BTreeMap<NodeName, HostKey>,
    /// How the nodes are reached, and the keys offered to them.
    login: Login,
    /// The identity of the initialised cluster, from the state folder.
    pub known: Option<Identity>,
    /// Whether the state folder holds the kubeconfig of this cluster.
    pub has_kubeconfig: bool,
    /// The file that holds the identity of the cluster that was initialised.
    pub identity: PathBuf,
    /// The file that records that k8sha has written to the external etcd.
    pub etcd_claim: PathBuf,
    /// The API servers' credentials for an external etcd.
    pub etcd_client: Option<etcd::Client>,
    /// The members of k8sha's etcd.
    pub etcd_machines: Vec<Machine>,
    /// The file that records that k8sha's etcd has been formed.
    pub etcd_formed: PathBuf,
    /// The user's options.
    pub options: Options,
    /// What steps have left undone without failing.
    notes: Mutex<BTreeSet<String>>,
    /// The configurations of VMs that this run has just created.
    made: Mutex<BTreeMap<NodeName, VmConfig>>,
}

impl Context {
    /// Renders every seed and sets up every connection; nothing is sent yet.
    ///
    /// # Errors
    /// A template that does not render, a key that cannot be stored, a host without trust or login.
    pub fn new(
        cluster: Arc<Cluster>,
        state: &State,
        templates: &Templates,
        world: World<'_>,
        options: Options,
    ) -> Result<Self, Failure> {
        let creation = state.creation()?;
        let has_kubeconfig = kubeconfig::tells_of(&cluster, &state.kubeconfig());
        let operator = state.operator_key()?;
        let (mut specs, mut seeds, mut kept, mut remotes) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::<_, Remote>::new());
        let mut documents = BTreeMap::new();
        for node in &cluster.nodes {
            let host_key = state.host_key(&node.name)?;
            let known = HostKey::parse(&host_key.public).map_err(|error| {
                Failure::caused(Exit::Local, "read a host key", error).on(&node.name)
            })?;
            let secrets = NodeSecrets {
                host_key_private: host_key.private,
                host_key_public: host_key.public,
                operator_public: operator.public.clone(),
            };
            let instance = instance_id(&cluster, node, &creation);
            let rendered = render(templates, &cluster, node, &secrets, &instance)
                .map_err(|error| failure("render the seed", &error).on(&node.name))?;
            let seed = rendered.image();
            let seed_file = spec::seed_file(&creation, &node.name, &seed.hashes);
            documents.insert(node.name.clone(), rendered.shown());
            let mac = rendered.mac.clone();
            let files: Vec<balance::File> = rendered.kept.into_iter().map(file).collect();
            let mut wanted = spec::node_spec(&cluster, node, &seed_file, &creation);
            wanted.mac = mac;
            wanted.kept = files.iter().map(|file| (file.path.clone(), file.sha256())).collect();
            specs.insert(node.name.clone(), wanted);
            kept.insert(node.name.clone(), files);
            seeds.insert(node.name.clone(), seed);
            remotes.insert(
                node.name.clone(),
                Remote::new(Target {
                    node: node.name.to_string(),
                    address: SocketAddr::new(IpAddr::V4(node.ip), SSH_PORT),
                    user: cluster.access.user.clone(),
                    host_key: known,
                    keys: world.keys.clone(),
                    sudo_password: world.sudo_password.clone(),
                    dialer: world.dialer.clone(),
                    clock: world.clock,
                }),
            );
        }
        let (etcd_client, etcd_machines) = etcd(&cluster, state, &remotes)?;
        let fleet = fleet(&cluster, &world)?;
        let World { dialer, clock, keys, sudo_password, .. } = world;
        let login = Login { keys, sudo_password, dialer: dialer.clone() };
        Ok(Self {
            cluster,
            specs,
            seeds,
            documents,
            made_from: state.made_from(),
            kept,
            fleet,
            remotes,
            credentials: JoinCredentials::default(),
            dialer,
            clock,
            creation,
            new_keys: state.new_keys(),
            host_keys: host_keys(state)?,
            login,
            known: state.identity()?,
            has_kubeconfig,
            identity: state.identity_file(),
            etcd_claim: state.etcd_claim(),
            etcd_client,
            etcd_machines,
            etcd_formed: state.etcd_formed(),
            options,
            notes: Mutex::default(),
            made: Mutex::default(),
        })
    }

    /// Adds a note to the report about what a step has left undone without failing.
    pub fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(text);
    }

    /// What steps have left undone so far.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Stores the configuration that a VM had when it was created, for the next step that writes
    /// it.
    pub fn keep_made(&self, node: &NodeName, config: VmConfig) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), config);
    }

    /// Returns the configuration of a VM that this run has just created, once. A write with it
    /// makes the host check the digest.
    pub fn take_made(&self, node: &NodeName) -> Option<VmConfig> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(node)
    }

    /// The client of a host.
    ///
    /// # Errors
    /// If the profile has no such host.
    pub fn client(&self, host: &HostName) -> Result<&Client, Failure> {
        self.fleet
            .client(host)
            .map_err(|error| Failure::caused(Exit::Usage, "find the host", error).on(host))
    }

    /// The member of k8sha's etcd on a node.
    pub fn etcd_machine(&self, name: &NodeName) -> Option<&Machine> {
        self.etcd_machines.iter().find(|machine| machine.name == *name)
    }

    /// A node of the table.
    pub fn node(&self, name: &NodeName) -> &Node {
        self.cluster
            .node(name)
            .unwrap_or_else(|| unreachable!("plans name nodes of the table only"))
    }

    /// The SSH connection to a node.
    pub fn remote(&self, name: &NodeName) -> &Remote {
        &self.remotes[name]
    }

    /// The SSH connection to one of k8sha's VMs as it was created, whatever its row says now;
    /// `None` if its address or its host key is unknown.
    pub fn remote_to(&self, name: &NodeName, vm: &OurVm) -> Option<Remote> {
        let row = self.cluster.node(name);
        let made = vm.mark.machine.as_ref();
        let address = made.map(|made| made.address).or(row.map(|row| row.ip))?;
        let user = made.map_or(&self.cluster.access.user, |made| &made.user);
        if row.is_some_and(|row| row.ip == address) && *user == self.cluster.access.user {
            return self.remotes.get(name).cloned();
        }
        self.remote_with(name, address, user)
    }

    /// The SSH connection to a machine that has no row.
    ///
    /// # Errors
    /// If its host key is not in the state folder.
    pub fn remote_at(&self, name: &NodeName, login: &removal::Login) -> Result<Remote, Failure> {
        self.remote_with(name, login.address, &login.user).ok_or_else(|| {
            let said = format!("the state folder has no host key `ssh/host-{name}.pub`");
            Failure::new(Exit::Local, "reach the machine by SSH", said).on(name)
        })
    }

    fn remote_with(&self, name: &NodeName, address: Ipv4Addr, user: &str) -> Option<Remote> {
        Some(Remote::new(Target {
            node: name.to_string(),
            address: SocketAddr::new(IpAddr::V4(address), SSH_PORT),
            user: user.to_owned(),
            host_key: self.host_keys.get(name)?.clone(),
            keys: self.login.keys.clone(),
            sudo_password: self.login.sudo_password.clone(),
            dialer: self.login.dialer.clone(),
            clock: self.clock,
        }))
    }

    /// The SSH connections to the load balancers.
    pub fn balancers(&self) -> Vec<Remote> {
        let balancers = self.cluster.with_role(Role::LoadBalancer);
        balancers.map(|node| self.remote(&node.name).clone()).collect()
    }
}

fn host_keys(state: &State) -> Result<BTreeMap<NodeName, HostKey>, Failure> {
    let parse = |(name, line): (NodeName, String)| {
        let key = HostKey::parse(&line).map_err(|error| {
            let what = format!("read the host key `ssh/host-{name}.pub` of the state folder");
            Failure::caused(Exit::Local, what, error).hint(
                "remove that file: k8sha writes it again from the private key next to it"
                    .to_owned(),
            )
        })?;
        Ok((name, key))
    };
    state.known_host_keys()?.into_iter().map(parse).collect()
}

fn file(kept: Kept) -> balance::File {
    let Kept { path, content, mode } = kept;
    balance::File { path, content, mode }
}

/// cloud-init's instance id: it stays the same for the lifetime of the VM.
pub fn instance_id(cluster: &Cluster, node: &Node, creation: &str) -> String {
    format!("{}-{}-{creation}", cluster.name, node.name)
}

/// The connections to an external etcd: as an API server, and to its machines.
fn etcd(
    cluster: &Cluster,
    state: &State,
    remotes: &BTreeMap<NodeName, Remote>,
) -> Result<(Option<etcd::Client>, Vec<Machine>), Failure> {
    match &cluster.etcd {
        Etcd::Stacked => Ok((None, Vec::new())),
        Etcd::External { ca_file, cert_file, key_file, .. } => {
            let files = [ca_file, cert_file, key_file].map(Clone::clone);
            Ok((Some(etcd::Client::Files(files)), Vec::new()))
        }
        Etcd::Machines { .. } => {
            let keys = state.etcd_keys(cluster)?;
            let machines = cluster.with_role(Role::Etcd).map(|node| Machine {
                remote: remotes[&node.name].clone(),
                name: node.name.clone(),
                ip: node.ip,
                ca: keys.ca.clone(),
                server: keys.members[&node.name].server.clone(),
                peer: keys.members[&node.name].peer.clone(),
            });
            let machines = machines.collect();
            Ok((Some(etcd::Client::Made { ca: keys.ca, pair: keys.client }), machines))
        }
    }
}

fn fleet(cluster: &Cluster, world: &World<'_>) -> Result<Fleet, Failure> {
    let mut clients = Vec::new();
    for (name, host) in &cluster.proxmox.hosts {
        let Some(trust) = &host.trust else {
            return Err(Failure::new(
                Exit::Usage,
                "trust the host's certificate",
                "the profile has neither `fingerprint` nor `ca_file` for it",
            )
            .on(name)
            .hint(format!(
                "read the fingerprint on {name} itself (`pvenode cert info`) or copy its \
                 /etc/pve/pve-root-ca.pem,\nand set it in the profile; k8sha does not trust \
                 unverified certificates. `--simulate` needs neither"
            )));
        };
        let auth = (world.auth)(name)?;
        let client = Client::new(
            name.clone(),
            &host.endpoint,
            &settings::trust(name, trust)?,
            auth,
            world.clock,
        );
        clients.push(client.map_err(|error| {
            let hint = error.hint();
            Failure::caused(Exit::Usage, "set up the client", error).on(name).hint(hint)
        })?);
    }
    Ok(clients.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_is_kept_up_to_date_has_a_program_that_reads_it() {
        for path in crate::cloudinit::KEPT {
            let kept = Kept { path: path.into(), content: String::new(), mode: "0644".into() };
            assert!(file(kept).reader().is_ok(), "{path}");
        }
    }
}
