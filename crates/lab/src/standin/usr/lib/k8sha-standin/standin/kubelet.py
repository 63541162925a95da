"""`kubelet`: runs the static pods that have a stand-in or a real program, and maintains its node in the API."""
import functools
import glob
import hashlib
import http.server
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time

import yaml

from . import Failed, NOTICE, moment, notice, options, pack, read, run, unpack, version, write
from .pki import kubeconfig, read_kubeconfig
from .preflight import MANIFESTS, cgroups, runtime
from .wire import Api, Refused

RUN = "/run/k8sha-standin"
LOGS = "/var/log/pods"
NETWORKS = "/etc/cni/net.d"
LOOK, HEARTBEAT = 0.2, 10
# Programs without a stand-in hold their ports, as kubeadm's checks expect.
HELD = {"kube-controller-manager": 10257, "kube-scheduler": 10259}
CLIENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"


def born(pid):
    """When a process started; `None` if it has exited."""
    try:
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (Failed, ProcessLookupError):
        return None


class Pod:
    """A static pod: a process that outlives the kubelet and is found again by its recorded state."""

    def __init__(self, name):
        self.name, self.note, self.child, self.again = name, f"{RUN}/{name}.json", None, 0.0
        self.known = json.loads(read(self.note)) if os.path.exists(self.note) else {}

    def alive(self):
        if self.child:
            self.child.poll()
        return bool(self.known) and born(self.known["pid"]) == self.known["born"]

    def start(self, command, mark):
        self.again = time.monotonic() + 1
        os.makedirs(LOGS, exist_ok=True)
        with open(f"{LOGS}/{self.name}.log", "ab") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.known = {"pid": self.child.pid, "born": born(self.child.pid), "mark": mark}
        write(self.note, json.dumps(self.known))

    def stop(self):
        until = time.monotonic() + 5
        while self.alive():
            os.kill(self.known["pid"], signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
            time.sleep(0.05)
        self.known = {}
        if os.path.exists(self.note):
            os.remove(self.note)


def stop_pods():
    """Stops every static pod, as `kubeadm reset` does through the runtime."""
    for note in glob.glob(f"{RUN}/*.json"):
        Pod(os.path.basename(note).removesuffix(".json")).stop()


class Pods:
    """The pods in the manifests."""

    def __init__(self):
        self.pods, self.held, self.seen, self.files = {}, {}, {}, {}
        for note in glob.glob(f"{RUN}/*.json"):
            name = os.path.basename(note).removesuffix(".json")
            self.pods[name] = Pod(name)

    def look(self):
        wanted, files = {}, sorted(glob.glob(f"{MANIFESTS}/*.yaml"))
        for path in files:
            try:
                changed = os.stat(path).st_mtime_ns
                if self.files.get(path, [None])[0] != changed:
                    text = read(path)
                    self.files[path] = (changed, yaml.safe_load(text), hashlib.sha256(text.encode()).hexdigest())
                _, pod, mark = self.files[path]
                wanted[pod["metadata"]["name"]] = (pod, mark)
            except (Failed, OSError, yaml.YAMLError, KeyError, TypeError) as error:
                print(f"E {path}: {error!r}", file=sys.stderr, flush=True)
        for name in [each for each in self.pods if each not in wanted]:
            self.pods.pop(name).stop()
        self.hold({HELD[name] for name in wanted if name in HELD})
        self.seen = {name: pod for name, (pod, _) in wanted.items()}
        for name, (pod, mark) in wanted.items():
            if name not in HELD:
                self.keep(name, pod["spec"]["containers"][0]["command"], mark)

    def keep(self, name, command, mark):
        if name not in self.pods:
            self.pods[name] = Pod(name)
        pod = self.pods[name]
        alive = pod.alive()
        if alive and pod.known["mark"] != mark:
            pod.stop()
            alive = False
        # As with containers: without the runtime those that run continue, and none is started.
        if not alive and time.monotonic() > pod.again and not runtime() and cgroups():
            pod.start(command, mark)

    def hold(self, ports):
        for port in [each for each in self.held if each not in ports]:
            self.held.pop(port).close()
        for port in ports - self.held.keys():
            self.held[port] = listening("127.0.0.1", port)

    def running(self, name):
        return name in HELD or (name in self.pods and self.pods[name].alive())


def listening(address, port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen()
    return listener


class Healthz(http.server.BaseHTTPRequestHandler):
    """`/healthz` on the loopback interface."""

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format, *args):  # noqa: A002
        """Does not log requests."""


class Node:
    """This machine in the API."""

    def __init__(self, given, pods):
        self.conf, self.bootstrap, self.pods = given["--kubeconfig"], given["--bootstrap-kubeconfig"], pods
        self.name = given.get("--hostname-override") or socket.gethostname().lower()
        self.address = given.get("--node-ip")
        self.told, self.ready, self.beat, self.known, self.agent = None, None, 0.0, False, False

    def enlist(self):
        """TLS bootstrap: a certificate for the node, by the token of the bootstrap kubeconfig."""
        api = Api.of(self.bootstrap)
        server, ca, _, _ = read_kubeconfig(self.bootstrap)
        key = run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]).decode()
        write(CLIENT + ".key", key)
        request = run(["openssl", "req", "-new", "-key", CLIENT + ".key", "-subj",
                       f"/O=system:nodes/CN=system:node:{self.name}"])
        done = api.ask("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", {
            "metadata": {"name": "csr-" + os.urandom(4).hex()},
            "spec": {"request": pack(request), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                     "usages": ["digital signature", "client auth"]}})
        write(CLIENT, unpack(done["status"]["certificate"]).decode() + key)
        os.remove(CLIENT + ".key")
        pair = {"client-certificate": CLIENT, "client-key": CLIENT}
        write(self.conf, kubeconfig("default-cluster", server, ca, "default-auth", pair))

    def work(self):
        """One iteration; reports each error once."""
        try:
            if not os.path.exists(self.conf):
                if not os.path.exists(self.bootstrap):
                    return
                self.enlist()
            status = self.status()
            ready = (status["conditions"][-1]["message"], sorted(filter(self.pods.running, self.pods.seen)))
            if ready == self.ready and time.monotonic() < self.beat:
                return
            self.post(status, ready != self.ready)
            self.ready, self.told = ready, None
            # A node without a pod network checks more often whether there is one.
            self.beat = time.monotonic() + (HEARTBEAT if network() else 2)
        except Failed as error:
            if str(error) != self.told:
                print(f"E {error}", file=sys.stderr, flush=True)
                self.told = str(error)

    def status(self):
        message = None
        trouble = runtime()
        if trouble:
            message = f"container runtime is down: {trouble}"
        elif not network():
            message = ("container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
                       "message:Network plugin returns error: cni plugin not initialized")
        beat = moment()

        def condition(kind, status, reason, text):
            return {"type": kind, "status": status, "reason": reason, "message": text, "lastHeartbeatTime": beat,
                    "lastTransitionTime": beat}
        quiet = [("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                 ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                 ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available")]
        conditions = [condition(kind, "False", reason, text) for kind, reason, text in quiet]
        conditions.append(condition("Ready", "False" if message else "True",
                                    "KubeletNotReady" if message else "KubeletReady",
                                    message or "kubelet is posting ready status"))
        addresses = [{"type": "InternalIP", "address": self.address}] if self.address else []
        return {"addresses": addresses + [{"type": "Hostname", "address": self.name}], "conditions": conditions,
                "nodeInfo": node_info()}

    def post(self, status, changed):
        api = Api.of(self.conf)
        path = f"/api/v1/nodes/{self.name}"
        try:
            api.patch(path, {"status": status})
        except Refused as error:
            # It registers once: a deleted node is not created again until the kubelet restarts.
            if error.code != 404 or self.known:
                raise
            labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                      "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64"}
            api.ask("POST", "/api/v1/nodes", {"metadata": {
                "name": self.name, "labels": labels, "annotations": {"k8sha/stand-in": NOTICE % "kubelet"}},
                "spec": {}, "status": status})
        self.known = True
        api.put("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", {
            "metadata": {"name": self.name},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": moment(micro=True)}})
        if changed:
            self.mirror(api)
        if not self.agent:
            self.cilium(api)

    def cilium(self, api):
        """Does what Cilium's agent would do on this node, once the stand-in for its tool has installed it."""
        system = "/api/v1/namespaces/kube-system"
        if api.there(f"{system}/configmaps/cilium-config"):
            write(f"{NETWORKS}/05-cilium.conflist", '{"cniVersion": "0.3.1", "name": "cilium", "plugins": []}\n')
            meta = {"name": f"cilium-{self.name}", "labels": {"k8s-app": "cilium"}}
            ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            api.put(f"{system}/pods", {"metadata": meta, "spec": {"nodeName": self.name}, "status": ready})
            self.agent = True

    def mirror(self, api):
        """The pods that the API shows for static ones."""
        path = "/api/v1/namespaces/kube-system/pods"
        for name, pod in self.pods.seen.items():
            runs = self.pods.running(name)
            api.put(path, {
                "metadata": dict(pod["metadata"], name=f"{name}-{self.name}"), "spec": dict(pod["spec"], nodeName=self.name),
                "status": {"phase": "Running" if runs else "Pending",
                           "conditions": [{"type": "Ready", "status": "True" if runs else "False"}]}})


def network():
    """Whether a pod network is configured."""
    return glob.glob(f"{NETWORKS}/*.conf") + glob.glob(f"{NETWORKS}/*.conflist")


@functools.cache
def node_info():
    release = dict(line.split("=", 1) for line in read("/etc/os-release").split("\n") if "=" in line)
    try:
        runtime_version = run(["containerd", "--version"]).decode().split()[2].lstrip("v")
    except (OSError, Failed, IndexError):
        runtime_version = "unknown"
    machine = read("/etc/machine-id").strip() if os.path.exists("/etc/machine-id") else ""
    # As cadvisor determines it: the machine id if the firmware has none.
    firmware = "/sys/class/dmi/id/product_uuid"
    uuid = read(firmware).strip() if os.path.exists(firmware) else machine
    return {"architecture": "amd64", "operatingSystem": "linux", "kernelVersion": platform.release(),
            "osImage": release.get("PRETTY_NAME", "unknown").strip('"'), "machineID": machine, "systemUUID": uuid,
            "bootID": read("/proc/sys/kernel/random/boot_id").strip(),
            "containerRuntimeVersion": f"containerd://{runtime_version}", "kubeletVersion": version(),
            "kubeProxyVersion": version()}


def main(argv):
    if "--version" in argv:
        print(f"Kubernetes {version()}")
        return 0
    notice("kubelet")
    given = options(argv, ())[1]
    path = given.get("--config", "")
    try:
        read(path)
        pods = Pods()
        node = Node(given, pods)
        # Held while it runs: the ports of its API and of its health check.
        sockets = [listening("0.0.0.0", 10250)]
        health = http.server.ThreadingHTTPServer(("127.0.0.1", 10248), Healthz)
    except (Failed, OSError, KeyError) as error:
        print(f'E failed to run Kubelet: failed to load Kubelet config file {path}: {error}', file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=health.serve_forever, daemon=True).start()

    def keep_node():
        while sockets:
            node.work()
            time.sleep(LOOK)
    threading.Thread(target=keep_node, daemon=True).start()
    while True:
        pods.look()
        time.sleep(LOOK)
