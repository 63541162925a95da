"""`kubeadm join`, phase by phase (cmd/kubeadm/app/cmd/phases/join)."""
import os
import time

import yaml

from . import Failed, minor, read, unpack, write
from .config import load
from .pki import PKI, kubeconfig, pin, unseal
from .plane import (ADMIN, ETC, address, await_node, certificates, etcd_manifest, kubeconfigs, manifests, mark, node_name,
                    say, start_kubelet, wait)
from .preflight import check
from .store import jws
from .wire import Api, Etcd, Refused

SYSTEM = "/api/v1/namespaces/kube-system"
BOOTSTRAP = f"{ETC}/bootstrap-kubelet.conf"
DISCOVERY_PAUSE = 5
TLS_BOOTSTRAP = 300
ETCD_START = 40
IDENTITY = "couldn't validate the identity of the API Server: "
NO_CERTS = ('error downloading certs: error downloading the secret: Secret "kubeadm-certs" was not found in the '
            '"kube-system" Namespace. This Secret might have expired. Please, run `kubeadm init phase upload-certs '
            "--upload-certs` on a control plane to generate a new one")
CONTROL_PLANE = """
This node has joined the cluster and a new control plane instance was created:

* Certificate signing request was sent to apiserver and approval was received.
* The Kubelet was informed of the new secure connection details.
* Control plane label and taint were applied to the new node.
* The Kubernetes control plane instances scaled up.
"""
WORKER = """
This node has joined the cluster:
* Certificate signing request was sent to apiserver and a response was received.
* The Kubelet was informed of the new secure connection details.

Run 'kubectl get nodes' on the control-plane to see this node join the cluster.
"""


def failing(phase, text):
    return Failed(f"error execution phase {phase}: {text}")


def cluster_info(config, ca=None):
    path = "/api/v1/namespaces/kube-public/configmaps/cluster-info?timeout=10s"
    return Api(f"https://{config.join_endpoint}", ca).get(path)["data"]


def discover(config):
    """Finds the cluster's CA by token and pin; retries until the timeout."""
    name, _, secret = config.token.partition(".")
    signature, began, told = f"jws-kubeconfig-{name}", time.monotonic(), False
    while True:
        try:
            data = cluster_info(config)
            if signature in data:
                break
            text = f'could not find a JWS signature in the cluster-info ConfigMap for token ID "{name}"'
        except Failed as error:
            text = str(error)
        left = config.patience - (time.monotonic() - began)
        if left <= 0:
            raise failing("preflight", IDENTITY + text)
        if not told:
            say(f"[discovery] Failed to request cluster-info, will try again: {text}")
        told = True
        time.sleep(min(DISCOVERY_PAUSE, left))
    text = data["kubeconfig"]
    if jws(text, {"token-id": name, "token-secret": secret}) != data[signature]:
        raise failing("preflight", IDENTITY + "failed to verify JWS signature of received cluster info object, can't "
                      "trust this API Server")
    ca = unpack(yaml.safe_load(text)["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    found = pin(ca)
    if not config.unpinned and found not in config.pins:
        raise failing("preflight", IDENTITY + "cluster CA found in cluster-info ConfigMap is invalid: none of the public "
                      f'keys "{found}" are pinned')
    # Again, now with proof that the server has a certificate of that CA.
    try:
        if cluster_info(config, ca)["kubeconfig"] != text:
            raise Failed("the second kubeconfig from cluster-info is another one")
    except Failed as error:
        raise failing("preflight", IDENTITY + str(error)) from None
    return ca


def combined(config, api):
    """The configuration stored in the cluster, with this node's own part."""
    say("[preflight] Reading configuration from the cluster...",
        "[preflight] FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o yaml'")
    try:
        text = api.get(f"{SYSTEM}/configmaps/kubeadm-config")["data"]["ClusterConfiguration"]
    except Failed as error:
        raise failing("preflight", f"unable to fetch the kubeadm-config ConfigMap: failed to get config map: {error}") \
            from None
    shared = load(text, minor())
    for name in ("node", "advertise", "port", "kubelet_args", "control_plane", "warnings"):
        setattr(shared, name, getattr(config, name))
    shared.endpoint = shared.endpoint or config.join_endpoint
    return shared


def download(config, api, key):
    phase = "control-plane-prepare/download-certs"
    try:
        data = api.get(f"{SYSTEM}/secrets/kubeadm-certs")["data"]
    except Refused as error:
        raise failing(phase, NO_CERTS if error.code == 404 else f"error downloading certs: {error}") from None
    say('[download-certs] Downloading the certificates in Secret "kubeadm-certs" in the "kube-system" Namespace',
        f'[download-certs] Saving the certificates to the folder: "{PKI}"')
    files = {name: f"{PKI}/{name}" for name in ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key",
                                                "sa.pub")}
    if config.external:
        files.update({f"external-etcd{end}": config.external[name] for end, name in
                      (("-ca.crt", "caFile"), (".crt", "certFile"), (".key", "keyFile"))})
    else:
        files.update({"etcd-ca.crt": f"{PKI}/etcd/ca.crt", "etcd-ca.key": f"{PKI}/etcd/ca.key"})
    opened = {}
    for name, path in files.items():
        if name not in data:
            raise failing(phase, "error downloading certs: the Secret does not include the required certificate or key - "
                          f"name: {name}, path: {path}")
        try:
            opened[path] = unseal(key, unpack(data[name])).decode()
        except Failed as error:
            raise failing(phase, f"error downloading certs: {error}") from None
    for path, text in opened.items():
        write(path, text, 0o644 if path.endswith(".crt") else 0o600)


def bootstrap(config, shared, ca):
    """Starts the kubelet, which requests its certificate with the token."""
    server = f"https://{config.join_endpoint}"
    write(BOOTSTRAP, kubeconfig(shared.name, server, ca, "tls-bootstrap-token-user", {"token": config.token}))
    if not os.path.exists(f"{PKI}/ca.crt"):
        write(f"{PKI}/ca.crt", ca, 0o644)
    start_kubelet(shared)
    say("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap...")
    until = time.monotonic() + TLS_BOOTSTRAP
    try:
        while not os.path.exists(f"{ETC}/kubelet.conf"):
            if time.monotonic() > until:
                raise failing("kubelet-start", "timed out waiting for the condition")
            time.sleep(0.1)
    finally:
        os.remove(BOOTSTRAP)


def member_list(endpoints, patience=4):
    """A client of a stacked etcd, and its members."""
    pair = (f"{PKI}/etcd/healthcheck-client.crt", f"{PKI}/etcd/healthcheck-client.key")
    etcd = Etcd(endpoints, read(f"{PKI}/etcd/ca.crt"), pair, patience)
    return etcd, etcd.call("/v3/cluster/member/list", {})["members"]


def add_member(shared, api):
    """Adds this node to the stacked etcd, and waits until its member answers."""
    pods = api.get(f"{SYSTEM}/pods?labelSelector=component=etcd")["items"]
    urls = [each["metadata"]["annotations"]["kubeadm.kubernetes.io/etcd.advertise-client-urls"] for each in pods]
    me, mine = node_name(shared), f"https://{address(shared)}:2380"
    if not urls:
        raise Failed("could not find any etcd pods")
    say("[etcd] Announced new etcd member joining to the existing etcd cluster")
    until = time.monotonic() + ETCD_START
    while True:
        try:
            etcd, members = member_list([each for each in urls if each != f"https://{address(shared)}:2379"])
            if not any(mine in each["peerURLs"] for each in members):
                etcd.call("/v3/cluster/member/add", {"peerURLs": [mine]})
            break
        except Failed as error:
            # etcd accepts a member only once the previous one is healthy.
            if time.monotonic() > until:
                raise Failed(f"error creating local etcd static pod manifest file: {error}") from None
            time.sleep(0.5)
    others = [(each.get("name") or "unstarted", each["peerURLs"][0]) for each in members if mine not in each["peerURLs"]]
    say('[etcd] Creating Static Pod manifest for "etcd"')
    etcd_manifest(shared, [*others, (me, mine)])
    say(f"[etcd] Waiting for the new etcd member to join the cluster. This can take up to {ETCD_START}s")
    while True:
        try:
            member_list(["https://127.0.0.1:2379"])[0].range("/registry/health")
            return
        except Failed as error:
            if time.monotonic() > until:
                raise Failed(f"timeout waiting for etcd cluster to be available: {error}") from None
            time.sleep(0.2)


def join(config, given):
    ignored = given.get("--ignore-preflight-errors", "").lower().split(",")
    say("[preflight] Running pre-flight checks")
    check(config, ignored, "join")
    ca = discover(config)
    api = Api(f"https://{config.join_endpoint}", ca, token=config.token, patience=10)
    shared = combined(config, api)
    if not config.control_plane:
        bootstrap(config, shared, ca)
        await_node(Api.of(f"{ETC}/kubelet.conf", patience=10), node_name(shared), TLS_BOOTSTRAP)
        say(WORKER)
        return
    say("[preflight] Running pre-flight checks before initializing the new control plane instance",
        "[preflight] Pulling images required for setting up a Kubernetes cluster")
    download(shared, api, config.key)
    # The second round of checks knows the cluster's etcd, so it runs after the download.
    check(shared, ignored, "second")
    certificates(shared, False)
    say(f'[certs] Valid certificates and keys now exist in "{PKI}"', "[kubeconfig] Generating kubeconfig files")
    kubeconfigs(shared, False)
    manifests(shared)
    say("[check-etcd] Skipping etcd check in external mode" if shared.external
        else "[check-etcd] Checking that the etcd cluster is healthy")
    bootstrap(config, shared, ca)
    admin = Api.of(ADMIN, patience=10)
    if shared.external:
        say("[control-plane-join] Using external etcd - no local stacked instance added")
    else:
        try:
            add_member(shared, admin)
        except Failed as error:
            raise failing("control-plane-join/etcd", error) from None
    wait(shared, shared.timeout)
    await_node(admin, node_name(shared), TLS_BOOTSTRAP)
    mark(admin, node_name(shared))
    say(CONTROL_PLANE)
