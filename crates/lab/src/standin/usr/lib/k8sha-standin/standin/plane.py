"""The files and services that `init` and `join` leave on a machine: certificates, kubeconfig files, manifests, a running kubelet."""
import ipaddress
import os
import shlex
import socket
import ssl
import time

import yaml

from . import ROOT, Failed, minor, pack, read, run, write
from .pki import PKI, Making, kubeconfig, read_kubeconfig, service_account
from .wire import Unreachable, context, request

ETC = "/etc/kubernetes"
ADMIN = f"{ETC}/admin.conf"
FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
KUBELET = "/var/lib/kubelet/config.yaml"


def say(*lines):
    print("\n".join(lines), flush=True)


def node_name(config):
    return config.node or socket.gethostname().lower()


def address(config):
    """The node's own advertised address."""
    if config.advertise:
        return config.advertise
    given = config.kubelet_args.get("node-ip")
    if given:
        return given
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def endpoint(config):
    found = config.endpoint or f"{address(config)}:{config.port}"
    return found if ":" in found else f"{found}:{config.port}"


def sans(config):
    """The names in the API server's certificate: DNS names, then addresses."""
    first = str(ipaddress.ip_network(config.services, strict=False)[1])
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{config.domain}",
             node_name(config), *config.names, endpoint(config).rpartition(":")[0], first, address(config)]
    names = list(dict.fromkeys(map(str, names)))
    digits = [each for each in names if each.replace(".", "").isdigit()]
    return [each for each in names if each not in digits], digits


def certificates(config, first):
    say(f'[certs] Using certificateDir folder "{PKI}"')
    making, stacked = Making(), not config.external
    authorities = {"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca"}
    if stacked:
        authorities["etcd/ca"] = "etcd-ca"
    for name, subject in authorities.items():
        if making.issue(f"{PKI}/{name}", "ca", f"/CN={subject}"):
            say(f"[certs] Using existing {name} certificate authority")
        else:
            say(f'[certs] Generating "{name}" certificate and key')
    making.wait()
    names, digits = sans(config)
    me, own = node_name(config), [node_name(config), "localhost", address(config), "127.0.0.1"]
    pairs = [("apiserver", "server", "/CN=kube-apiserver", "ca", names + digits),
             ("apiserver-kubelet-client", "client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "ca", ()),
             ("front-proxy-client", "client", "/CN=front-proxy-client", "front-proxy-ca", ())]
    if stacked:
        pairs += [("etcd/server", "both", f"/CN={me}", "etcd/ca", own), ("etcd/peer", "both", f"/CN={me}", "etcd/ca", own),
                  ("etcd/healthcheck-client", "client", "/O=system:masters/CN=kube-etcd-healthcheck-client", "etcd/ca", ()),
                  ("apiserver-etcd-client", "client", "/O=system:masters/CN=kube-apiserver-etcd-client", "etcd/ca", ())]
    elif first:
        say("[certs] External etcd mode: Skipping etcd/ca certificate authority generation",
            "[certs] External etcd mode: Skipping apiserver-etcd-client certificate generation")
    for name, kind, subject, ca, more in pairs:
        if making.issue(f"{PKI}/{name}", kind, subject, f"{PKI}/{ca}", more):
            say(f"[certs] Using existing {name} certificate and key on disk")
        else:
            say(f'[certs] Generating "{name}" certificate and key')
        if name == "apiserver":
            say(f"[certs] apiserver serving cert is signed for DNS names [{' '.join(names)}] and IPs [{' '.join(digits)}]")
    making.wait()
    say('[certs] Using the existing "sa" key' if os.path.exists(f"{PKI}/sa.key")
        else '[certs] Generating "sa" key and public key')
    service_account()


def kubeconfigs(config, first):
    split = minor() >= 29
    me = node_name(config)
    users = {"admin": ("kubernetes-admin", "kubeadm:cluster-admins" if split else "system:masters"),
             "controller-manager": ("system:kube-controller-manager", None),
             "scheduler": ("system:kube-scheduler", None)}
    if first:
        users["kubelet"] = (f"system:node:{me}", "system:nodes")
        if split:
            users["super-admin"] = ("kubernetes-super-admin", "system:masters")
    say(f'[kubeconfig] Using kubeconfig folder "{ETC}"')
    making, wanted, ca = Making(), {}, read(f"{PKI}/ca.crt")
    for name, (user, group) in users.items():
        path = f"{ETC}/{name}.conf"
        if os.path.exists(path):
            if read_kubeconfig(path)[1].strip() != ca.strip():
                raise Failed(f'error execution phase kubeconfig/{name}: a kubeconfig file "{path}" exists already but '
                             "has got the wrong CA cert")
            say(f'[kubeconfig] Using existing kubeconfig file: "{path}"')
            continue
        say(f'[kubeconfig] Writing "{name}.conf" kubeconfig file')
        wanted[f"{ETC}/.{name}"] = (path, user)
        making.issue(f"{ETC}/.{name}", "client", (f"/O={group}" if group else "") + f"/CN={user}", f"{PKI}/ca")
    making.wait()
    for pair, (path, user) in wanted.items():
        given = {"client-certificate-data": pack(read(pair + ".crt")), "client-key-data": pack(read(pair + ".key"))}
        write(path, kubeconfig(config.name, f"https://{endpoint(config)}", ca, user, given))
        os.remove(pair + ".crt")
        os.remove(pair + ".key")


def manifest(name, command, annotations=None):
    pod = {"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": name, "namespace": "kube-system", "labels": {"component": name, "tier": "control-plane"},
                        "annotations": dict(annotations or {}, **{"k8sha/stand-in": "true"})},
           "spec": {"hostNetwork": True, "containers": [{"name": name, "image": "k8sha/stand-in", "command": command}]}}
    write(f"{ETC}/manifests/{name}.yaml", yaml.safe_dump(pod, sort_keys=False))


def manifests(config):
    say(f'[control-plane] Using manifest folder "{ETC}/manifests"')
    external = config.external or {}
    etcd = {"etcd-servers": ",".join(external.get("endpoints") or ["https://127.0.0.1:2379"]),
            "etcd-cafile": external.get("caFile") or f"{PKI}/etcd/ca.crt",
            "etcd-certfile": external.get("certFile") or f"{PKI}/apiserver-etcd-client.crt",
            "etcd-keyfile": external.get("keyFile") or f"{PKI}/apiserver-etcd-client.key"}
    api = {"advertise-address": address(config), "secure-port": str(config.port), "client-ca-file": f"{PKI}/ca.crt",
           "tls-cert-file": f"{PKI}/apiserver.crt", "tls-private-key-file": f"{PKI}/apiserver.key",
           "service-cluster-ip-range": config.services, "enable-bootstrap-token-auth": "true", **etcd}
    commands = {"kube-apiserver": [f"{ROOT}/apiserver"] + [f"--{key}={value}" for key, value in api.items()],
                "kube-controller-manager": ["kube-controller-manager"], "kube-scheduler": ["kube-scheduler"]}
    for name, command in commands.items():
        say(f'[control-plane] Creating static Pod manifest for "{name}"')
        manifest(name, command)


def etcd_manifest(config, members):
    """`members`: names with their peer URLs, including this one's."""
    me, own = node_name(config), address(config)
    pair = [f"--{kind}{name}={PKI}/etcd/{file}.{end}" for kind, file in (("", "server"), ("peer-", "peer"))
            for name, end in (("cert-file", "crt"), ("key-file", "key"))]
    manifest("etcd", [
        "/usr/bin/etcd", f"--name={me}", "--data-dir=/var/lib/etcd", "--client-cert-auth=true", *pair,
        "--peer-client-cert-auth=true", f"--trusted-ca-file={PKI}/etcd/ca.crt", f"--peer-trusted-ca-file={PKI}/etcd/ca.crt",
        f"--listen-client-urls=https://127.0.0.1:2379,https://{own}:2379", f"--advertise-client-urls=https://{own}:2379",
        f"--listen-peer-urls=https://{own}:2380", f"--initial-advertise-peer-urls=https://{own}:2380",
        "--listen-metrics-urls=http://127.0.0.1:2381", "--initial-cluster=" + ",".join(f"{n}={u}" for n, u in members),
        "--initial-cluster-state=" + ("new" if len(members) == 1 else "existing")],
        {"kubeadm.kubernetes.io/etcd.advertise-client-urls": f"https://{own}:2379"})


def start_kubelet(config):
    arguments = {"container-runtime-endpoint": "unix:///run/containerd/containerd.sock"}
    if node_name(config) != socket.gethostname():
        arguments["hostname-override"] = node_name(config)
    arguments.update(config.kubelet_args)
    line = " ".join(f"--{key}={shlex.quote(str(value))}" for key, value in arguments.items())
    say(f'[kubelet-start] Writing kubelet environment file with flags to file "{FLAGS}"',
        f'[kubelet-start] Writing kubelet configuration to file "{KUBELET}"', "[kubelet-start] Starting the kubelet")
    write(FLAGS, f'KUBELET_KUBEADM_ARGS="{line}"\n', 0o644)
    document = dict({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                     "cgroupDriver": "systemd", "staticPodPath": f"{ETC}/manifests"}, **config.kubelet)
    write(KUBELET, yaml.safe_dump(document), 0o644)
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "restart", "kubelet"])


def ready(server):
    """An API server's own status, without verifying its certificate."""
    try:
        return request(server, context(read(f"{PKI}/ca.crt")), "GET", "/livez", timeout=3)[1].decode().strip()
    except (Unreachable, OSError, ssl.SSLError, ValueError) as error:
        return str(error)


def wait(config, seconds):
    """Waits for the API server here and through the endpoint that all nodes use."""
    began, seen = time.monotonic(), {}
    servers = [f"https://{address(config)}:{config.port}", f"https://{endpoint(config)}"]
    while time.monotonic() - began < seconds:
        seen = {server: ready(server) for server in servers}
        if set(seen.values()) == {"ok"}:
            say(f"[apiclient] All control plane components are healthy after {time.monotonic() - began:.6f} seconds")
            return
        time.sleep(0.15)
    told = "\n".join(f"\t- {server}/livez: {text}" for server, text in seen.items())
    raise Failed("\nUnfortunately, an error has occurred:\n\ttimed out waiting for the condition\n\n"
                 f"What was seen last:\n{told}\n\nThis error is likely caused by:\n\t- The kubelet is not running\n"
                 "\t- The kubelet is unhealthy due to a misconfiguration of the node in some way (required cgroups "
                 "disabled)\n\nIf you are on a systemd-powered system, you can try to troubleshoot the error with the "
                 "following commands:\n\t- 'systemctl status kubelet'\n\t- 'journalctl -xeu kubelet'\n\n"
                 "error execution phase wait-control-plane: couldn't initialize a Kubernetes cluster")


def await_node(api, name, seconds):
    until = time.monotonic() + seconds
    while api.there(f"/api/v1/nodes/{name}") is None:
        if time.monotonic() > until:
            raise Failed("timed out waiting for the condition")
        time.sleep(0.15)


def mark(api, name):
    role, rest = "node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"
    say(f"[mark-control-plane] Marking the node {name} as control-plane by adding the labels: [{role} {rest}]",
        f"[mark-control-plane] Marking the node {name} as control-plane by adding the taints [{role}:NoSchedule]")
    api.patch(f"/api/v1/nodes/{name}", {
        "metadata": {"labels": {role: "", rest: ""},
                     "annotations": {"kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock"}},
        "spec": {"taints": [{"key": role, "effect": "NoSchedule"}]}})


def config_map(name, data):
    return {"metadata": {"name": name}, "data": data}


