//! `kubeadm init`, phase by phase (cmd/kubeadm/app/cmd/phases/init).

use super::endpoint::through_endpoint;
use super::preflight::{self, Kind};
use super::{Config, Next, Process, control_plane, data, lines, secrets, stored};
use crate::guests::history::What;
use crate::guests::kube::Kube;
use crate::guests::pki::{Authority, Pair};
use crate::guests::{Guests, pace};

/// Runs a phase.
pub fn phase(guests: &mut Guests, key: &str, process: &mut Process) -> Next {
    let config = match (&process.config, process.phase) {
        (Some(config), _) => config.clone(),
        (None, _) => match super::load(guests, key, process) {
            Ok(config) => config,
            Err(text) => return Next::fail("", text),
        },
    };
    process.config = Some(config.clone());
    let node = node_name(guests, key, &config);
    match process.phase {
        0 => begin(guests, key, &config),
        1 => match preflight::run(guests, key, &config, process, Kind::Init) {
            Ok(mut printed) => {
                printed.extend(lines(
                    "[preflight] Pulling images required for setting up a Kubernetes cluster\n\
                     [preflight] This might take a minute or two, depending on the speed of your internet connection\n\
                     [preflight] You can also perform this action beforehand using 'kubeadm config images pull'",
                ));
                Next::Go(printed, pace::PULL)
            }
            Err(end) => end,
        },
        2 => certificates(guests, key, &config, &node),
        3 => kubeconfigs(guests, key, &config, &node),
        4 => {
            control_plane::manifests(guests, key, config.etcd_files.is_none());
            control_plane::kubelet(guests, key);
            let etcd = match config.etcd_files {
                Some(_) => "",
                None => {
                    "[etcd] Creating static Pod manifest for local etcd in \"/etc/kubernetes/manifests\"\n"
                }
            };
            Next::Go(
                lines(&format!(
                    "{etcd}[control-plane] Using manifest folder \"/etc/kubernetes/manifests\"\n\
                 [control-plane] Creating static Pod manifest for \"kube-apiserver\"\n\
                 [control-plane] Creating static Pod manifest for \"kube-controller-manager\"\n\
                 [control-plane] Creating static Pod manifest for \"kube-scheduler\"\n\
                 [kubelet-start] Writing kubelet environment file with flags to file \"/var/lib/kubelet/kubeadm-flags.env\"\n\
                 [kubelet-start] Writing kubelet configuration to file \"/var/lib/kubelet/config.yaml\"\n\
                 [kubelet-start] Starting the kubelet\n\
                 [wait-control-plane] Waiting for the kubelet to boot up the control plane as static Pods from directory \
                 \"/etc/kubernetes/manifests\". This can take up to {}m{}s",
                    config.timeout as u64 / 60,
                    config.timeout as u64 % 60
                )),
                pace::CONTROL_PLANE,
            )
        }
        5 => wait(guests, key, &config, &node),
        6 => upload(guests, key, &config, &node),
        7 => upload_certs(guests, key, &config),
        8 => token(guests, key, &config, &node),
        9 => addons(guests, key, &config),
        _ => Next::End(lines(SUCCESS), 0),
    }
}

/// The name under which the node registers.
pub fn node_name(guests: &Guests, key: &str, config: &Config) -> String {
    config.node.clone().unwrap_or_else(|| {
        guests.all.get(key).map(|guest| guest.disk.hostname.to_lowercase()).unwrap_or_default()
    })
}

fn begin(guests: &mut Guests, key: &str, config: &Config) -> Next {
    guests.note(key, What::Init);
    let installed = guests.all.get(key).and_then(|guest| guest.kube_version("kubeadm"));
    let installed = installed.unwrap_or_default();
    let version = config.version.clone().unwrap_or_else(|| installed.clone());
    let minor =
        |text: &str| text.split('.').nth(1).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    if minor(&version) > minor(&installed) || minor(&version) + 1 < minor(&installed) {
        return Next::fail(
            "",
            format!(
                "this version of kubeadm only supports deploying clusters with the control plane version \
             >= 1.{}.0. Current version: {version}",
                minor(&installed).saturating_sub(1)
            ),
        );
    }
    let own = guests.all.get(key).and_then(|guest| guest.address());
    if let Some(advertise) = config.advertise.filter(|advertise| Some(*advertise) != own)
        && minor(&installed) >= 37
    {
        return Next::fail(
            "preflight",
            format!(
                "[preflight] Some fatal errors occurred:\n\t[ERROR Port-6443]: listen tcp {advertise}:6443: \
             bind: cannot assign requested address"
            ),
        );
    }
    Next::Go(
        lines(&format!(
            "[init] Using Kubernetes version: {version}\n[preflight] Running pre-flight checks"
        )),
        pace::PREFLIGHT,
    )
}

fn certificates(guests: &mut Guests, key: &str, config: &Config, node: &str) -> Next {
    let unix = guests.unix();
    let Some(guest) = guests.all.get(key) else { return Next::End(Vec::new(), 1) };
    let Some(address) = guest.address() else { return Next::End(Vec::new(), 1) };
    let there = |name: &str| guest.exists(&format!("{}/{name}", control_plane::PKI));
    if there("ca.crt") && !there("ca.key") {
        return Next::fail(
            "certs/ca",
            "failure loading key for CA: couldn't load the private key file \
             /etc/kubernetes/pki/ca.key: open /etc/kubernetes/pki/ca.key: no such file or directory",
        );
    }
    let (ca, line) = match authority(guests, key) {
        Some(ca) => (ca, "[certs] Using existing ca certificate authority"),
        None => match Authority::new("kubernetes", unix - 300) {
            Ok(ca) => (ca, "[certs] Generating \"ca\" certificate and key"),
            Err(error) => return Next::fail("certs/ca", error),
        },
    };
    let pin = ca.pin().unwrap_or_default();
    let used = What::Authority { pin };
    if !guests.history().iter().any(|act| act.what == used) {
        guests.note(key, used);
    }
    let (names, addresses) = control_plane::api_names(config, node, address);
    let all: Vec<String> = names.iter().chain(&addresses).cloned().collect();
    if let Err(error) = control_plane::certificates(guests, key, &ca, &all) {
        return Next::fail("certs/apiserver", error);
    }
    if config.etcd_files.is_none() {
        let made = guests
            .stacked_authority(key)
            .and_then(|etcd| guests.stacked_certificates(key, &etcd, node));
        if let Err(error) = made {
            return Next::fail("certs/etcd-ca", error);
        }
    }
    let etcd = match config.etcd_files {
        Some(_) => {
            "[certs] External etcd mode: Skipping etcd/ca certificate authority generation\n\
                    [certs] External etcd mode: Skipping etcd/server certificate generation\n\
                    [certs] External etcd mode: Skipping etcd/peer certificate generation\n\
                    [certs] External etcd mode: Skipping etcd/healthcheck-client certificate generation\n\
                    [certs] External etcd mode: Skipping apiserver-etcd-client certificate generation"
        }
        None => {
            "[certs] Generating \"etcd/ca\" certificate and key\n\
                 [certs] Generating \"etcd/server\" certificate and key\n\
                 [certs] Generating \"etcd/peer\" certificate and key\n\
                 [certs] Generating \"etcd/healthcheck-client\" certificate and key\n\
                 [certs] Generating \"apiserver-etcd-client\" certificate and key"
        }
    };
    Next::Go(
        lines(&format!(
            "[certs] Using certificateDir folder \"/etc/kubernetes/pki\"\n{line}\n\
         [certs] Generating \"apiserver\" certificate and key\n\
         [certs] apiserver serving cert is signed for DNS names [{}] and IPs [{}]\n\
         [certs] Generating \"apiserver-kubelet-client\" certificate and key\n\
         [certs] Generating \"front-proxy-ca\" certificate and key\n\
         [certs] Generating \"front-proxy-client\" certificate and key\n{etcd}\n\
         [certs] Generating \"sa\" key and public key",
            names.join(" "),
            addresses.join(" ")
        )),
        pace::PHASE,
    )
}

/// The cluster CA on a machine.
pub fn authority(guests: &Guests, key: &str) -> Option<Authority> {
    let guest = guests.all.get(key)?;
    let text =
        |name: &str| guest.text(&format!("{}/{name}", control_plane::PKI)).map(str::to_owned);
    let pair = Pair { cert: text("ca.crt")?, key: text("ca.key")? };
    let known = guests.kubes.values().find(|kube| kube.ca.pair == pair).map(|kube| kube.ca.clone());
    let since = guests.unix() - 300;
    Some(known.unwrap_or(Authority { name: "kubernetes".to_owned(), pair, since }))
}

fn kubeconfigs(guests: &mut Guests, key: &str, config: &Config, node: &str) -> Next {
    let Some(ca) = authority(guests, key) else {
        return Next::fail("kubeconfig", "couldn't load CA certificate");
    };
    match control_plane::kubeconfigs(guests, key, &ca, config, node, true) {
        Ok(()) => Next::Go(
            lines(
                "[kubeconfig] Using kubeconfig folder \"/etc/kubernetes\"\n\
             [kubeconfig] Writing \"admin.conf\" kubeconfig file\n\
             [kubeconfig] Writing \"kubelet.conf\" kubeconfig file\n\
             [kubeconfig] Writing \"controller-manager.conf\" kubeconfig file\n\
             [kubeconfig] Writing \"scheduler.conf\" kubeconfig file",
            ),
            pace::PHASE,
        ),
        Err(error) => Next::fail("kubeconfig", error),
    }
}

fn wait(guests: &mut Guests, key: &str, config: &Config, node: &str) -> Next {
    let own = guests.all.get(key).and_then(|guest| guest.address());
    let advertised = config.advertise.is_none() || config.advertise == own;
    if !control_plane::pods_run(guests, key) || !advertised {
        return timed_out(guests, key);
    }
    let Some(ca) = authority(guests, key) else { return timed_out(guests, key) };
    let external = config.etcd_files.is_some();
    let Some(id) = data::beneath(guests, key, config, node) else { return timed_out(guests, key) };
    let now = guests.now;
    let Some(guest) = guests.all.get_mut(key) else { return Next::End(Vec::new(), 1) };
    let installed = guest.kube_version("kubeadm").unwrap_or_default();
    guest.disk.kube = Some(id.clone());
    if let Some(run) = &mut guest.run {
        run.api_at = Some(now);
    }
    if let Some(kube) = guests.kubes.get_mut(&id).filter(|kube| kube.version.is_empty()) {
        kube.version = config.version.clone().unwrap_or(installed);
        kube.ca = ca;
        kube.endpoint = config.endpoint.clone().unwrap_or_default();
    }
    if external {
        for key in [
            "/registry/namespaces/default",
            "/registry/namespaces/kube-system",
            "/registry/services/specs/default/kubernetes",
        ] {
            guests.note_in_etcd(&id, key);
        }
    }
    if guests.api_up(key) {
        Next::Go(
            vec![format!(
                "[apiclient] All control plane components are healthy after {:.6} seconds",
                pace::CONTROL_PLANE - 0.5
            )],
            pace::UPLOAD,
        )
    } else {
        timed_out(guests, key)
    }
}

fn timed_out(guests: &mut Guests, key: &str) -> Next {
    let name = guests.all.get(key).map(|guest| guest.disk.hostname.clone()).unwrap_or_default();
    let mut printed = lines(&format!(
        "\nUnfortunately, an error has occurred:\n\ttimed out waiting for the condition\n\n\
         This error is likely caused by:\n\t- The kubelet is not running\n\
         \t- The kubelet is unhealthy due to a misconfiguration of the node in some way (required cgroups disabled)\n\n\
         If you are on a systemd-powered system, you can try to troubleshoot the error with the following commands:\n\
         \t- 'systemctl status kubelet'\n\t- 'journalctl -xeu kubelet' (on {name})\n"
    ));
    printed.extend(lines(
        "error execution phase wait-control-plane: couldn't initialize a Kubernetes cluster\n\
         To see the stack trace of this error execute with --v=5 or higher",
    ));
    Next::End(printed, 1)
}

fn cluster<'a>(guests: &'a mut Guests, key: &str) -> Option<(String, &'a mut Kube)> {
    let id = guests.all.get(key)?.disk.kube.clone()?;
    let kube = guests.kubes.get_mut(&id)?;
    Some((id, kube))
}

fn upload(guests: &mut Guests, key: &str, config: &Config, node: &str) -> Next {
    let endpoint = config.endpoint.clone().unwrap_or_default();
    let own = guests.api_ca(key).map(str::to_owned);
    if let Err(text) = through_endpoint(
        guests,
        key,
        &endpoint,
        own.as_deref(),
        "/api/v1/namespaces/kube-system/configmaps?timeout=10s",
    ) {
        return Next::fail(
            "upload-config/kubeadm",
            format!(
                "error uploading the kubeadm ClusterConfiguration: unable to create ConfigMap: {text}"
            ),
        );
    }
    let minor = super::minor(guests, key);
    let installed = guests.all.get(key).and_then(|guest| guest.kube_version("kubeadm"));
    let version = config.version.clone().or(installed).unwrap_or_default();
    let Some(ca) = authority(guests, key) else {
        return Next::fail("upload-config/kubeadm", "no CA");
    };
    let Some((id, kube)) = cluster(guests, key) else {
        return Next::fail("upload-config/kubeadm", "the API server is gone");
    };
    kube.configuration = stored::configuration(&config.cluster, minor, &version);
    kube.kubelet = stored::kubelet(&config.kubelet);
    kube.version = version;
    kube.ca = ca;
    kube.endpoint = endpoint;
    guests.register(&id, node, key, true);
    Next::Go(
        lines(
            "[upload-config] Storing the configuration used in ConfigMap \"kubeadm-config\" in the \"kube-system\" Namespace\n\
         [kubelet] Creating a ConfigMap \"kubelet-config\" in namespace kube-system with the configuration for the kubelets in the cluster",
        ),
        pace::UPLOAD,
    )
}

fn upload_certs(guests: &mut Guests, key: &str, config: &Config) -> Next {
    let Some(certificate_key) = config.certificate_key.clone() else {
        return Next::Go(lines("[upload-certs] Skipping phase. Please see --upload-certs"), 0.1);
    };
    if let Err(text) = secrets::upload_certs(guests, key, config, &certificate_key) {
        return Next::fail("upload-certs", text);
    }
    Next::Go(
        lines(&format!(
            "[upload-certs] Storing the certificates in Secret \"kubeadm-certs\" in the \"kube-system\" Namespace\n\
         [upload-certs] Using certificate key:\n{certificate_key}"
        )),
        pace::UPLOAD,
    )
}

fn token(guests: &mut Guests, key: &str, config: &Config, node: &str) -> Next {
    let token = match secrets::create_token(guests, key, config, true) {
        Ok(token) => token,
        Err(text) => return Next::fail("bootstrap-token", text),
    };
    Next::Go(
        lines(&format!(
            "[mark-control-plane] Marking the node {node} as control-plane by adding the labels: \
         [node-role.kubernetes.io/control-plane node.kubernetes.io/exclude-from-external-load-balancers]\n\
         [mark-control-plane] Marking the node {node} as control-plane by adding the taints \
         [node-role.kubernetes.io/control-plane:NoSchedule]\n\
         [bootstrap-token] Using token: {token}\n\
         [bootstrap-token] Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles\n\
         [bootstrap-token] Creating the \"cluster-info\" ConfigMap in the \"kube-public\" namespace\n\
         [kubelet-finalize] Updating \"/etc/kubernetes/kubelet.conf\" to point to a rotatable kubelet client certificate and key"
        )),
        pace::UPLOAD,
    )
}

fn addons(guests: &mut Guests, key: &str, config: &Config) -> Next {
    // The result of an earlier init is kept for skipped phases.
    if let Some((_, kube)) = cluster(guests, key).filter(|_| config.proxy.is_some()) {
        kube.proxy.clone_from(&config.proxy);
    }
    let mut printed = lines("[addons] Applied essential addon: CoreDNS");
    if config.proxy.is_some() {
        printed.push("[addons] Applied essential addon: kube-proxy".to_owned());
    }
    Next::Go(printed, pace::UPLOAD)
}

const SUCCESS: &str = "
Your Kubernetes control-plane has initialized successfully!

To start using your cluster, you need to run the following as a regular user:

  mkdir -p $HOME/.kube
  sudo cp -i /etc/kubernetes/admin.conf $HOME/.kube/config
  sudo chown $(id -u):$(id -g) $HOME/.kube/config

You should now deploy a pod network to the cluster.
Run \"kubectl apply -f [podnetwork].yaml\" with one of the options listed at:
  https://kubernetes.io/docs/concepts/cluster-administration/addons/
";
