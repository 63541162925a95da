"""`kubeadm`: the commands, `init` among them (cmd/kubeadm/app/cmd)."""
import os
import secrets
import shutil
import string
import sys

import yaml

from . import Failed, minor, notice, options, pack, read, run, version
from .config import load
from .join import join, member_list
from .kubelet import stop_pods
from .pki import PKI, check_key, kubeconfig, seal
from .plane import (ADMIN, ETC, await_node, certificates, config_map, endpoint, etcd_manifest, kubeconfigs, address,
                    manifests, mark, node_name, say, start_kubelet, wait)
from .preflight import check
from .store import bootstrap_token
from .wire import Api, Refused

SYSTEM = "/api/v1/namespaces/kube-system"
GROUP = "system:bootstrappers:kubeadm:default-node-token"
CERTS_LIFE = 2 * 3600
SUCCESS = """
Your Kubernetes control-plane has initialized successfully!

To start using your cluster, you need to run the following as a regular user:

  mkdir -p $HOME/.kube
  sudo cp -i /etc/kubernetes/admin.conf $HOME/.kube/config
  sudo chown $(id -u):$(id -g) $HOME/.kube/config

You should now deploy a pod network to the cluster.
Run "kubectl apply -f [podnetwork].yaml" with one of the options listed at:
  https://kubernetes.io/docs/concepts/cluster-administration/addons/
"""
CONFS = ("admin", "super-admin", "kubelet", "bootstrap-kubelet", "controller-manager", "scheduler")
SWITCHES = {"--upload-certs", "-f", "--force"}
FLAGS = SWITCHES | {"--config", "--ignore-preflight-errors", "--cri-socket", "--certificate-key", "-o", "--output", "--v"}


def word(length):
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def phase(name, work, *args):
    """Runs a phase; reports its failure as kubeadm does."""
    try:
        return work(*args)
    except Failed as error:
        text = str(error)
        raise Failed(text if "error execution phase" in text else f"error execution phase {name}: {text}") from None


def supported(config):
    wanted = config.version or version()
    if not minor() - 1 <= minor(wanted) <= minor():
        raise Failed("this version of kubeadm only supports deploying clusters with the control plane version >= "
                     f"1.{minor() - 1}.0. Current version: {wanted}")
    return wanted


def init(config, given):
    say(f"[init] Using Kubernetes version: {supported(config)}", "[preflight] Running pre-flight checks")
    check(config, given.get("--ignore-preflight-errors", "").lower().split(","), "init")
    if "--upload-certs" in given and config.key:
        check_key(config.key)
    phase("certs", certificates, config, True)
    phase("kubeconfig", kubeconfigs, config, True)
    if not config.external:
        say(f'[etcd] Creating static Pod manifest for local etcd in "{ETC}/manifests"')
        etcd_manifest(config, [(node_name(config), f"https://{address(config)}:2380")])
    manifests(config)
    phase("kubelet-start", start_kubelet, config)
    say("[wait-control-plane] Waiting for the kubelet to boot up the control plane as static Pods from directory "
        f'"{ETC}/manifests". This can take up to {int(config.timeout // 60)}m{int(config.timeout % 60)}s')
    wait(config, config.timeout)
    api = Api.of(ADMIN, patience=10)
    phase("upload-config/kubeadm", upload_config, api, config)
    if "--upload-certs" in given:
        upload_certs(api, config, config.key or secrets.token_hex(32))
    else:
        say("[upload-certs] Skipping phase. Please see --upload-certs")
    phase("mark-control-plane", await_node, api, node_name(config), config.timeout)
    phase("mark-control-plane", mark, api, node_name(config))
    phase("bootstrap-token", tokens, api, config)
    say("[addons] Applied essential addon: CoreDNS")
    if not config.no_proxy:
        api.put(f"{SYSTEM}/configmaps", config_map("kube-proxy", {"config.conf": yaml.safe_dump(
            dict({"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}, **config.proxy))}))
        say("[addons] Applied essential addon: kube-proxy")
    say("[k8sha] stand-in: CoreDNS and kube-proxy were not applied, nothing here runs pods", SUCCESS)


def upload_config(api, config):
    say('[upload-config] Storing the configuration used in ConfigMap "kubeadm-config" in the "kube-system" Namespace',
        '[kubelet] Creating a ConfigMap "kubelet-config" in namespace kube-system with the configuration for the kubelets '
        "in the cluster")
    text = config.raw or yaml.safe_dump({"apiVersion": "kubeadm.k8s.io/v1beta3", "kind": "ClusterConfiguration",
                                         "clusterName": config.name})
    api.put(f"{SYSTEM}/configmaps", config_map("kubeadm-config", {"ClusterConfiguration": text}))
    api.put(f"{SYSTEM}/configmaps", config_map("kubelet-config", {"kubelet": yaml.safe_dump(config.kubelet)}))


def upload_certs(api, config, key):
    """Uploads the files for further control planes, under a key, for two hours (phases/copycerts)."""
    check_key(key)
    files = {name: f"{PKI}/{name}" for name in ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key",
                                                "sa.pub")}
    if config.external:
        files.update({f"external-etcd{end}": config.external[name] for end, name in
                      (("-ca.crt", "caFile"), (".crt", "certFile"), (".key", "keyFile"))})
    elif os.path.exists(f"{PKI}/etcd/ca.key"):
        files.update({"etcd-ca.crt": f"{PKI}/etcd/ca.crt", "etcd-ca.key": f"{PKI}/etcd/ca.key"})
    try:
        data = {name: pack(seal(key, read(path))) for name, path in files.items()}
    except Failed as error:
        raise Failed(f"error execution phase upload-certs: error uploading certs: {error}") from None
    say('[upload-certs] Storing the certificates in Secret "kubeadm-certs" in the "kube-system" Namespace')
    owner = bootstrap_token(f"{word(6)}.{word(16)}", CERTS_LIFE, "Proxy for managing TTL for the kubeadm-certs secret")
    there = api.ask("POST", f"{SYSTEM}/secrets", owner)
    meta = {"name": "kubeadm-certs", "ownerReferences": [{
        "apiVersion": "v1", "kind": "Secret", "name": there["metadata"]["name"], "uid": there["metadata"]["uid"],
        "controller": True, "blockOwnerDeletion": True}]}
    api.put(f"{SYSTEM}/secrets", {"metadata": meta, "type": "Opaque", "data": data})
    say("[upload-certs] Using certificate key:", key)


def tokens(api, config):
    token = config.token or f"{word(6)}.{word(16)}"
    say(f"[bootstrap-token] Using token: {token}",
        "[bootstrap-token] Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles")
    api.put(f"{SYSTEM}/secrets", bootstrap_token(token, config.ttl, groups=[GROUP]))
    say('[bootstrap-token] Creating the "cluster-info" ConfigMap in the "kube-public" namespace')
    bare = kubeconfig("X", f"https://{endpoint(config)}", read(f"{PKI}/ca.crt"), "X", {})
    value = dict(yaml.safe_load(bare), users=None, contexts=None, **{"current-context": ""})
    value["clusters"][0]["name"] = ""
    api.put("/api/v1/namespaces/kube-public/configmaps", config_map("cluster-info", {"kubeconfig": yaml.safe_dump(value)}))


def create_token(api, config):
    token = config.token or f"{word(6)}.{word(16)}"
    try:
        api.ask("POST", f"{SYSTEM}/secrets", bootstrap_token(token, config.ttl, groups=[GROUP]))
    except Refused as error:
        if error.reason == "AlreadyExists":
            raise Failed(f'a token with id "{token.partition(".")[0]}" already exists') from None
        raise
    say(token)


def reset():
    """Undoes what `init` or `join` left; the node object and an external etcd are kept."""
    say("[preflight] Running pre-flight checks")
    if os.path.exists(f"{ETC}/manifests/etcd.yaml"):
        leave()
        say("[reset] Deleting contents of the etcd data directory: /var/lib/etcd")
    else:
        say("[reset] No etcd config found. Assuming external etcd",
            "[reset] Please, manually reset etcd to prevent further issues")
    say("[reset] Stopping the kubelet service")
    run(["systemctl", "stop", "kubelet"])
    stop_pods()
    folders = [f"{ETC}/manifests", "/var/lib/kubelet", f"{ETC}/pki"]
    say('[reset] Unmounting mounted directories in "/var/lib/kubelet"',
        f"[reset] Deleting contents of directories: [{' '.join(folders)}]")
    for folder in folders + ["/var/lib/etcd"]:
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            path = f"{folder}/{name}"
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
    say(f"[reset] Deleting files: [{' '.join(f'{ETC}/{name}.conf' for name in CONFS)}]")
    for path in (f"{ETC}/{name}.conf" for name in CONFS):
        if os.path.exists(path):
            os.remove(path)
    say("\nThe reset process does not clean CNI configuration. To do so, you must remove /etc/cni/net.d")


def leave():
    """Removes this node's member from a stacked etcd; a cluster that does not answer is left alone."""
    try:
        with_pod = yaml.safe_load(read(f"{ETC}/manifests/etcd.yaml"))["spec"]["containers"][0]["command"]
        name = next(each.partition("=")[2] for each in with_pod if each.startswith("--name="))
        etcd, members = member_list(["https://127.0.0.1:2379"])
        mine = [each["ID"] for each in members if each.get("name") == name]
        if len(members) > 1 and mine:
            etcd.call("/v3/cluster/member/remove", {"ID": mine[0]})
    except (Failed, StopIteration, OSError) as error:
        say(f"[reset] Failed to remove etcd member: {error}, please manually remove this etcd member using etcdctl")


def short_command(words, given):
    """Commands that only read, or change one object in the API."""
    config = load(read(given["--config"]), minor()) if "--config" in given else None
    match words:
        case ["config", "validate"]:
            if config.warnings:
                raise Failed("\n".join(config.warnings))
            say("ok")
        case ["config", "images", "list" | "pull"]:
            names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
            say(*(f"registry.k8s.io/{name}:{version()}" for name in names), "registry.k8s.io/pause:3.9")
        case ["certs", "certificate-key"]:
            say(secrets.token_hex(32))
        case ["init", "phase", "upload-certs"] if "--upload-certs" in given:
            config = config or load("apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\n", minor())
            key = given.get("--certificate-key") or config.key or secrets.token_hex(32)
            phase("upload-certs", upload_certs, Api.of(ADMIN), config, key)
        case ["init", "phase", "upload-certs"]:
            say("[upload-certs] Skipping phase. Please see --upload-certs")
        case ["token", "create", *rest]:
            config = config or load("apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\n", minor())
            config.token = rest[0] if rest else config.token
            create_token(Api.of(ADMIN), config)
        case ["token", "list"]:
            found = Api.of(ADMIN).get(f"{SYSTEM}/secrets?fieldSelector=type=bootstrap.kubernetes.io/token")["items"]
            say(*(each["metadata"]["name"].removeprefix("bootstrap-token-") for each in found))
        case ["token", "delete", name]:
            name = name.partition(".")[0]
            Api.of(ADMIN).ask("DELETE", f"{SYSTEM}/secrets/bootstrap-token-{name}")
            say(f'bootstrap token "{name}" deleted')
        case _:
            raise Failed(f'unknown command "{" ".join(words)}" for "kubeadm"')


def main(argv):
    try:
        words, given = options(argv, SWITCHES)
        if words[:1] == ["version"]:
            short = given.get("-o", given.get("--output")) == "short"
            say(version() if short else f'kubeadm version: &version.Info{{GitVersion:"{version()}"}} (k8sha stand-in)')
            return 0
        notice("kubeadm")
        for strange in given.keys() - FLAGS:
            raise Failed(f"unknown flag: {strange}")
        if os.geteuid() != 0 and words[:2] != ["config", "validate"]:
            raise Failed("[ERROR IsPrivilegedUser]: user is not running as root")
        os.umask(0o022)
        if words in (["init"], ["join"]):
            path = given.get("--config", "")
            try:
                text = read(path)
            except Failed as error:
                raise Failed(f'unable to read config from "{path}": {error}') from None
            config = load(text, minor())
            (init if words == ["init"] else join)(config, given)
        elif words == ["reset"]:
            if not {"-f", "--force"} & given.keys():
                raise Failed("error execution phase preflight: won't proceed; the user didn't answer (Y|y) in order to continue")
            reset()
        else:
            short_command(words, given)
        return 0
    except Failed as error:
        print(str(error), "To see the stack trace of this error execute with --v=5 or higher", sep="\n", file=sys.stderr)
        return 1
