//! `kubeadm join`, phase by phase (cmd/kubeadm/app/cmd/phases/join).

use super::endpoint::through_endpoint;
use super::init::node_name;
use super::preflight::{self, Kind};
use super::{Config, Next, Process, config, control_plane, lines, member};
use crate::guests::history::What;
use crate::guests::kube::Kube;
use crate::guests::node::Ready;
use crate::guests::{Guests, pace};

/// Seconds between two attempts to get the cluster-info (kubeadm constants.go
/// `DiscoveryRetryInterval`).
const DISCOVERY_PAUSE: f64 = 5.0;

/// Runs a phase.
pub fn phase(guests: &mut Guests, key: &str, process: &mut Process) -> Next {
    let config = match &process.config {
        Some(config) => config.clone(),
        None => match super::load(guests, key, process) {
            Ok(config) => config,
            Err(text) => return Next::fail("", text),
        },
    };
    process.config = Some(config.clone());
    let node = node_name(guests, key, &config);
    match (process.phase, config.control_plane) {
        (0, _) => Next::Go(lines("[preflight] Running pre-flight checks"), pace::PREFLIGHT),
        (1, _) => match preflight::run(guests, key, &config, process, Kind::Join) {
            Ok(printed) => Next::Go(printed, 0.5),
            Err(end) => end,
        },
        (2, _) => discover(guests, key, &config, process),
        (3, true) => download(guests, key, &config, process),
        (4, true) => certificates(guests, key, &config, &node),
        (5, true) => match member::check(guests, key) {
            Ok(()) => kubelet(guests, key, &node, true),
            Err(text) => Next::fail("check-etcd", text),
        },
        (6, true) => member::add(guests, key),
        (7, true) => serve(guests, key, &node),
        (3, false) => kubelet(guests, key, &node, false),
        (4, false) => worker(guests, key, &node),
        _ => Next::End(lines(if config.control_plane { CONTROL_PLANE } else { WORKER }), 0),
    }
}

fn kube<'a>(guests: &'a Guests, key: &str) -> Option<&'a Kube> {
    guests.kubes.get(guests.all.get(key)?.disk.kube.as_ref()?)
}

/// The kubelet starts, unless a Node of its name is in use (phases/join/kubelet.go).
fn kubelet(guests: &mut Guests, key: &str, node: &str, plane: bool) -> Next {
    let known = kube(guests, key).and_then(|kube| Some((kube, kube.nodes.get(node)?)));
    if known.is_some_and(|(kube, known)| guests.ready(kube, known) == Ready::Yes) {
        return Next::fail(
            "kubelet-start",
            format!(
                "a Node with name \"{node}\" and status \"Ready\" already exists in the cluster. You \
                 must delete the existing Node or change the name of this new joining Node"
            ),
        );
    }
    control_plane::kubelet(guests, key);
    if plane {
        control_plane::manifests(guests, key, false);
    }
    Next::Go(lines(KUBELET), pace::TLS_BOOTSTRAP)
}

/// Finds the cluster and verifies it: discovery by token with a pinned CA.
fn discover(guests: &mut Guests, key: &str, config: &Config, process: &mut Process) -> Next {
    let endpoint = config.join_endpoint.clone().unwrap_or_default();
    let path = "/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s";
    let Some((id, secret)) = config.token.as_deref().and_then(|token| token.split_once('.')) else {
        return Next::fail("preflight", "the token is missing");
    };
    let unix = guests.unix();
    let found = through_endpoint(guests, key, &endpoint, None, path);
    let told = found.and_then(|master| {
        let kube = kube(guests, &master).ok_or_else(|| "cluster-info was not found".to_owned())?;
        let Some(token) = kube.token(id, unix) else {
            return Err(format!(
                "could not find a JWS signature in the cluster-info ConfigMap for token ID \"{id}\""
            ));
        };
        if token.secret != secret {
            return Err(
                "failed to verify JWS signature of received cluster info object, can't trust \
                        this API Server"
                    .to_owned(),
            );
        }
        Ok((master, kube.ca.pin().unwrap_or_default()))
    });
    let (master, pin) = match told {
        Ok(told) => told,
        // kubeadm retries until its timeout. The phase repeats itself.
        Err(text) => {
            if f64::from(process.asked) * DISCOVERY_PAUSE < config.discovery_timeout {
                process.asked += 1;
                process.phase -= 1;
                let line =
                    format!("[discovery] Failed to request cluster-info, will try again: {text}");
                let printed = if process.asked == 1 { vec![line] } else { Vec::new() };
                return Next::Go(printed, DISCOVERY_PAUSE);
            }
            return Next::fail(
                "preflight",
                format!("couldn't validate the identity of the API Server: {text}"),
            );
        }
    };
    if !config.unpinned && !config.pins.contains(&pin) {
        return Next::fail(
            "preflight",
            format!(
                "couldn't validate the identity of the API Server: cluster CA found in cluster-info \
             ConfigMap is invalid: none of the public keys \"{pin}\" are pinned"
            ),
        );
    }
    // From here on it uses the CA from the cluster-info.
    let told =
        guests.all.get(&master).and_then(|guest| guests.kubes.get(guest.disk.kube.as_ref()?));
    let ca = told.map(|kube| kube.ca.pair.cert.clone());
    let path = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config?timeout=10s";
    if let Err(text) = through_endpoint(guests, key, &endpoint, ca.as_deref(), path) {
        return Next::fail(
            "preflight",
            format!(
                "unable to fetch the kubeadm-config ConfigMap: failed to get config map: {text}"
            ),
        );
    }
    let cluster = guests.all.get(&master).and_then(|guest| guest.disk.kube.clone());
    if let Some(guest) = guests.all.get_mut(key) {
        guest.disk.kube = cluster;
    }
    let read = "[preflight] Reading configuration from the cluster...\n\
        [preflight] FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o yaml'";
    if !config.control_plane {
        return Next::Go(lines(read), pace::PHASE);
    }
    Next::Go(
        lines(&format!(
            "{read}\n[preflight] Running pre-flight checks before initializing the new control plane instance\n\
         [preflight] Pulling images required for setting up a Kubernetes cluster"
        )),
        pace::PREFLIGHT,
    )
}

/// The configuration stored in the cluster, with this node's own part.
fn combined(guests: &Guests, key: &str, own: &Config) -> Config {
    let stored = kube(guests, key).map(|kube| kube.configuration.clone()).unwrap_or_default();
    let minor = super::minor(guests, key);
    let mut config = config::read(&stored, minor).unwrap_or_default();
    config.node.clone_from(&own.node);
    config.advertise = own.advertise;
    config.endpoint = config.endpoint.or_else(|| own.join_endpoint.clone());
    config.control_plane = true;
    config
}

fn download(guests: &mut Guests, key: &str, config: &Config, process: &Process) -> Next {
    const PHASE: &str = "control-plane-prepare/download-certs";
    let shared = combined(guests, key, config);
    let unix = guests.unix();
    let Some(kube) = kube(guests, key) else { return Next::fail(PHASE, "the API server is gone") };
    let Some(certs) = kube.live_certs(unix) else {
        return Next::fail(
            PHASE,
            "error downloading certs: error downloading the secret: Secret \
            \"kubeadm-certs\" was not found in the \"kube-system\" Namespace. This Secret might have \
            expired. Please, run `kubeadm init phase upload-certs --upload-certs` on a control plane \
            to generate a new one",
        );
    };
    if config.certificate_key.as_ref() != Some(&certs.key) {
        return Next::fail(
            PHASE,
            "error downloading certs: error decoding secret data with provided \
            key: cipher: message authentication failed",
        );
    }
    let etcd = certs.etcd.clone();
    let ca = certs.ca.clone();
    let stacked = kube.etcd.as_ref().map(|etcd| etcd.ca.pair.clone());
    if let Some(files) = &shared.etcd_files {
        let Some(bodies) = etcd else {
            return Next::fail(
                PHASE,
                "error downloading certs: the Secret does not include the \
                required certificate or key - name: external-etcd-ca.crt, path: /etc/kubernetes/pki",
            );
        };
        let Some(guest) = guests.all.get_mut(key) else { return Next::End(Vec::new(), 1) };
        for (path, body) in files.iter().zip(bodies) {
            guest.write(path, body, "0600");
        }
    }
    if let Some(guest) = guests.all.get_mut(key) {
        guest.write("/etc/kubernetes/pki/ca.crt", ca.pair.cert, "0644");
        guest.write("/etc/kubernetes/pki/ca.key", ca.pair.key, "0600");
        if let Some(etcd) = stacked {
            guest.write("/etc/kubernetes/pki/etcd/ca.crt", etcd.cert, "0644");
            guest.write("/etc/kubernetes/pki/etcd/ca.key", etcd.key, "0600");
        }
    }
    // The second round of checks knows the cluster's etcd, so it runs after the download.
    match preflight::run(guests, key, &shared, process, Kind::ControlPlane) {
        Ok(mut printed) => {
            printed.extend(lines(
                "[download-certs] Downloading the certificates in Secret \"kubeadm-certs\" in the \"kube-system\" Namespace\n\
                 [download-certs] Saving the certificates to the folder: \"/etc/kubernetes/pki\""));
            Next::Go(printed, pace::PULL / 2.0)
        }
        Err(end) => end,
    }
}

fn certificates(guests: &mut Guests, key: &str, config: &Config, node: &str) -> Next {
    let shared = combined(guests, key, config);
    let Some(ca) = super::init::authority(guests, key) else {
        return Next::fail("control-plane-prepare/certs", "couldn't load CA certificate");
    };
    if kube(guests, key).is_some_and(|kube| !kube.external) {
        let made = guests
            .stacked_authority(key)
            .and_then(|etcd| guests.stacked_certificates(key, &etcd, node));
        if let Err(error) = made {
            return Next::fail("control-plane-prepare/certs", error);
        }
    }
    let Some(address) = guests.all.get(key).and_then(|guest| guest.address()) else {
        return Next::fail("control-plane-prepare/certs", "no address");
    };
    let (names, addresses) = control_plane::api_names(&shared, node, address);
    let all: Vec<String> = names.iter().chain(&addresses).cloned().collect();
    let made = control_plane::certificates(guests, key, &ca, &all)
        .and_then(|()| control_plane::kubeconfigs(guests, key, &ca, &shared, node, false));
    if let Err(error) = made {
        return Next::fail("control-plane-prepare/certs", error);
    }
    Next::Go(
        lines(&format!(
            "[certs] Using certificateDir folder \"/etc/kubernetes/pki\"\n\
         [certs] Generating \"apiserver\" certificate and key\n\
         [certs] apiserver serving cert is signed for DNS names [{}] and IPs [{}]\n\
         [certs] Generating \"apiserver-kubelet-client\" certificate and key\n\
         [certs] Generating \"front-proxy-client\" certificate and key\n\
         [certs] Valid certificates and keys now exist in \"/etc/kubernetes/pki\"\n\
         [certs] Using the existing \"sa\" key\n\
         [kubeconfig] Generating kubeconfig files\n\
         [kubeconfig] Using kubeconfig folder \"/etc/kubernetes\"\n\
         [kubeconfig] Writing \"admin.conf\" kubeconfig file\n\
         [kubeconfig] Writing \"controller-manager.conf\" kubeconfig file\n\
         [kubeconfig] Writing \"scheduler.conf\" kubeconfig file\n\
         [control-plane] Using manifest folder \"/etc/kubernetes/manifests\"\n\
         [control-plane] Creating static Pod manifest for \"kube-apiserver\"\n\
         [control-plane] Creating static Pod manifest for \"kube-controller-manager\"\n\
         [control-plane] Creating static Pod manifest for \"kube-scheduler\"\n\
         [check-etcd] {}",
            names.join(" "),
            addresses.join(" "),
            if shared.etcd_files.is_some() {
                "Skipping etcd check in external mode"
            } else {
                "Checking that the etcd cluster is healthy"
            }
        )),
        pace::PHASE * 2.0,
    )
}

fn serve(guests: &mut Guests, key: &str, node: &str) -> Next {
    let now = guests.now;
    if !control_plane::pods_run(guests, key) {
        return Next::fail(
            "control-plane-join/update-status",
            "timed out waiting for the condition",
        );
    }
    let id = guests.all.get(key).and_then(|guest| guest.disk.kube.clone()).unwrap_or_default();
    if let Some(run) = guests.all.get_mut(key).and_then(|guest| guest.run.as_mut()) {
        run.api_at = Some(now);
    }
    if let Err(text) = member::promote(guests, key) {
        return Next::fail("control-plane-join/etcd", text);
    }
    if !guests.api_up(key) {
        return Next::fail(
            "control-plane-join/update-status",
            "timed out waiting for the condition",
        );
    }
    guests.register(&id, node, key, true);
    guests.note(key, What::Joined { node: node.to_owned() });
    Next::Go(
        lines(&format!(
            "[mark-control-plane] Marking the node {node} as control-plane by adding the labels: \
         [node-role.kubernetes.io/control-plane node.kubernetes.io/exclude-from-external-load-balancers]\n\
         [mark-control-plane] Marking the node {node} as control-plane by adding the taints \
         [node-role.kubernetes.io/control-plane:NoSchedule]"
        )),
        pace::PHASE,
    )
}

fn worker(guests: &mut Guests, key: &str, node: &str) -> Next {
    let id = guests.all.get(key).and_then(|guest| guest.disk.kube.clone()).unwrap_or_default();
    let Some(ca) = guests.kubes.get(&id).map(|kube| kube.ca.pair.cert.clone()) else {
        return Next::fail("kubelet-start", "timed out waiting for the condition");
    };
    let endpoint = guests.kubes.get(&id).map(|kube| kube.endpoint.clone()).unwrap_or_default();
    let user = format!("system:node:{node}");
    let conf = control_plane::kubeconfig(
        "default-cluster",
        &endpoint,
        &ca,
        &user,
        "client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem",
    );
    if let Some(guest) = guests.all.get_mut(key) {
        guest.write("/etc/kubernetes/pki/ca.crt", ca, "0644");
        guest.write("/etc/kubernetes/kubelet.conf", conf, "0600");
    }
    guests.register(&id, node, key, false);
    guests.note(key, What::Joined { node: node.to_owned() });
    Next::Go(Vec::new(), pace::PHASE)
}

const KUBELET: &str = "[kubelet-start] Writing kubelet configuration to file \"/var/lib/kubelet/config.yaml\"\n\
     [kubelet-start] Writing kubelet environment file with flags to file \"/var/lib/kubelet/kubeadm-flags.env\"\n\
     [kubelet-start] Starting the kubelet\n\
     [kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap...";
const CONTROL_PLANE: &str = "
This node has joined the cluster and a new control plane instance was created:

* Certificate signing request was sent to apiserver and approval was received.
* The Kubelet was informed of the new secure connection details.
* Control plane label and taint were applied to the new node.
* The Kubernetes control plane instances scaled up.
";
const WORKER: &str = "
This node has joined the cluster:
* Certificate signing request was sent to apiserver and a response was received.
* The Kubelet was informed of the new secure connection details.

Run 'kubectl get nodes' on the control-plane to see this node join the cluster.
";
