"""kubeadm's preflight checks, with the names and texts of cmd/kubeadm/app/preflight/checks.go."""
import glob
import json
import os
import shutil
import socket

from . import Failed, read
from .wire import context, request

SOCKET = "/run/containerd/containerd.sock"
MANIFESTS = "/etc/kubernetes/manifests"
# The VM's resources, if the runner recorded them: a system container shows the whole host's.
MACHINE = "/etc/k8sha-standin/machine.json"


class Fatal(Failed):
    """Checks that failed; the text is what kubeadm prints."""


def runtime():
    """The error of the container runtime; `None` if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(SOCKET)
    except OSError as error:
        return f'Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix {SOCKET}: ' \
               f'connect: {os.strerror(error.errno or 0).lower()}"'
    if any(line.lstrip().startswith("disabled_plugins") and "cri" in line for line in settings().split("\n")):
        return "Unimplemented desc = unknown service runtime.v1.RuntimeService"
    return None


def settings():
    return "\n".join(read(path) for path in glob.glob("/etc/containerd/**/*.toml", recursive=True))


def cgroups():
    """Whether the runtime uses systemd's cgroups, as kubelet does."""
    return "SystemdCgroup=true" in "".join(settings().split())


def taken(port):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False


def machine(first):
    cpus, memory = len(os.sched_getaffinity(0)), int(read("/proc/meminfo").split()[1]) // 1024
    if os.path.exists(MACHINE):
        given = json.loads(read(MACHINE))
        cpus, memory = given["cpus"], given["memory_mb"]
    if first and cpus < 2:
        yield "NumCPU", f"the number of available CPUs {cpus} is less than the required 2"
    if first and memory < 1700:
        yield "Mem", f"the system RAM ({memory} MB) is less than the minimum 1700 MB"


def node():
    """The checks of every node."""
    trouble = runtime()
    if trouble:
        text = f'level=fatal msg="validate service connection: validate CRI v1 runtime API for endpoint ' \
               f'\\"unix://{SOCKET}\\": rpc error: code = {trouble}"'
        yield "CRI", f"container runtime is not running: output: {text}\n, error: exit status 1"
    if read("/proc/sys/net/ipv4/ip_forward").strip() != "1":
        yield "FileContent--proc-sys-net-ipv4-ip_forward", "/proc/sys/net/ipv4/ip_forward contents are not set to 1"
    if taken(10250):
        yield "Port-10250", "Port 10250 is in use"
    if not shutil.which("kubelet"):
        yield "FileExisting-kubelet", "kubelet not found in system path"


def there(path):
    if os.path.exists(path):
        yield "FileAvailable-" + path.replace("/", "-"), f"{path} already exists"


def control_plane(config, first):
    for pod in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        yield from there(f"{MANIFESTS}/{pod}.yaml")
    for port in (config.port, 10259, 10257):
        if taken(port):
            yield f"Port-{port}", f"Port {port} is in use"
    if config.external:
        yield from external(config.external)
        return
    yield from there(f"{MANIFESTS}/etcd.yaml")
    for port in (2379, 2380):
        if taken(port):
            yield f"Port-{port}", f"Port {port} is in use"
    if first and os.path.isdir("/var/lib/etcd") and os.listdir("/var/lib/etcd"):
        yield "DirAvailable--var-lib-etcd", "/var/lib/etcd is not empty"


def external(etcd):
    files = [etcd.get(key) or "" for key in ("caFile", "certFile", "keyFile")]
    missing = [path for path in files if not os.path.exists(path)]
    for path in missing:
        yield "ExternalEtcdClientCertificates", f"{path} doesn't exist"
    for endpoint in [] if missing else etcd.get("endpoints") or []:
        try:
            code, body = request(endpoint, context(read(files[0]), (files[1], files[2])), "GET", "/version", timeout=5)
            if code != 200 or "etcdserver" not in json.loads(body):
                yield "ExternalEtcdVersion", f'couldn\'t parse external etcd version "": {endpoint} answered {code}'
        except Failed as error:
            yield "ExternalEtcdVersion", f'Get "{endpoint}/version": {error}'
        except (OSError, ValueError) as error:
            yield "ExternalEtcdVersion", f'Get "{endpoint}/version": tls: {error}'


def check(config, ignored, kind):
    """Runs the checks of a `kind`: `init`, `join`, or `second`, those of a further control plane."""
    errors = []
    if kind != "join":
        errors += machine(True)
    if kind != "second":
        errors += node()
    if kind == "join":
        errors += there("/etc/kubernetes/kubelet.conf")
        if not config.control_plane:
            errors += there("/etc/kubernetes/pki/ca.crt")
    else:
        errors += control_plane(config, kind == "init")
    lines = [f"W1122 {text}" for text in config.warnings]
    name = config.node or socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except socket.gaierror:
        lines += [f'\t[WARNING Hostname]: hostname "{name}" could not be reached',
                  f'\t[WARNING Hostname]: hostname "{name}": lookup {name}: no such host']
    fatal = []
    for name, text in errors:
        harmless = "all" in ignored or name.lower() in ignored
        (lines if harmless else fatal).append(f"\t[{'WARNING' if harmless else 'ERROR'} {name}]: {text}")
    if lines:
        print("\n".join(lines), flush=True)
    if fatal:
        raise Fatal("\n".join(["error execution phase preflight: [preflight] Some fatal errors occurred:", *fatal,
                               "[preflight] If you know what you are doing, you can make a check non-fatal with "
                               "`--ignore-preflight-errors=...`"]))
