"""The API server's stand-in: mutual TLS, bootstrap tokens, a few resources, and etcd as its store."""
import http.server
import json
import os
import signal
import ssl
import sys
import threading
import time
import urllib.parse

from . import Failed, minor, moment, notice, options, pack, read, unpack, version
from .pki import sign, subject
from .store import RESOURCES, Store, merge, refused
from .wire import Etcd, Refused

MASTERS = {"system:masters", "kubeadm:cluster-admins"}
# The paths that RBAC, as kubeadm configures it, lets joining nodes read.
BOOTSTRAP = {("configmaps", "kube-system", "kubeadm-config"), ("configmaps", "kube-system", "kubelet-config"),
             ("configmaps", "kube-system", "kube-proxy"), ("secrets", "kube-system", "kubeadm-certs")}
ROLE = "node-role.kubernetes.io/"


class Server(http.server.ThreadingHTTPServer):
    """Serves with the settings in the manifest's arguments."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, given):
        self.given = given
        self.ca = given["--client-ca-file"].removesuffix(".crt")
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(given["--tls-cert-file"], given["--tls-private-key-file"])
        self.tls.load_verify_locations(given["--client-ca-file"])
        self.tls.verify_mode = ssl.CERT_OPTIONAL
        self.store = Store(Etcd(given["--etcd-servers"].split(","), read(given["--etcd-cafile"]),
                                (given["--etcd-certfile"], given["--etcd-keyfile"])))
        self.healthy, self.looking = (0.0, None), threading.Lock()
        super().__init__(("0.0.0.0", int(given["--secure-port"])), Handler)

    def trouble(self):
        """The error of etcd; checked once a second, however many callers there are."""
        with self.looking:
            at, known = self.healthy
            if time.monotonic() - at > 1:
                try:
                    self.store.etcd.range("/registry/health")
                    known = None
                except Failed as error:
                    known = str(error)
                self.healthy = (time.monotonic(), known)
            return known

    def handle_error(self, request, client_address):
        """A dropped connection or an unknown certificate needs no stack trace."""
        print(f"{client_address[0]}: {sys.exc_info()[1]}", file=sys.stderr, flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def setup(self):
        # In the connection's own thread: a client that only connects must not block the others.
        self.request.settimeout(10)
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, format, *args):  # noqa: A002
        """Does not log requests."""

    def answer(self, code, body, kind="application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def who(self):
        """User and groups: by certificate, by bootstrap token, or anonymous."""
        peer = self.request.getpeercert()
        if peer:
            pairs = [pair for part in peer["subject"] for pair in part]
            return dict(pairs)["commonName"], {value for key, value in pairs if key == "organizationName"}
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not bearer:
            return "system:anonymous", {"system:unauthenticated"}
        name, _, secret = bearer.partition(".")
        token = self.server.store.tokens().get(name, {})
        if token.get("token-secret") != secret or token.get("usage-bootstrap-authentication") != "true":
            raise refused(401, "Unauthorized", "Unauthorized")
        return f"system:bootstrap:{name}", {"system:bootstrappers"}

    def serve(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        url = urllib.parse.urlsplit(self.path)
        try:
            if not self.plain(url.path, url.query):
                self.answer(*self.dispatch(url, json.loads(body) if body else None))
        except Refused as error:
            self.answer(error.code, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                     "message": str(error), "reason": error.reason, "code": error.code})
        except Failed as error:
            self.answer(500, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                              "message": str(error), "reason": "InternalError", "code": 500})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815

    def plain(self, path, query):
        """The requests of an anonymous user that are allowed."""
        check = path.strip("/")
        if check in ("readyz", "livez", "healthz"):
            trouble = self.server.trouble()
            if trouble is None:
                self.answer(200, f"[+]ping ok\n[+]etcd ok\n{check} check passed\n" if "verbose" in query else "ok",
                            "text/plain; charset=utf-8")
            else:
                print(f"etcd: {trouble}", file=sys.stderr, flush=True)
                self.answer(500, f"[+]ping ok\n[-]etcd failed: reason withheld\n{check} check failed\n",
                            "text/plain; charset=utf-8")
        elif check == "version":
            self.answer(200, {"major": "1", "minor": str(minor()), "gitVersion": version(), "platform": "linux/amd64",
                              "gitTreeState": "k8sha stand-in"})
        elif check == "api":
            self.answer(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif check == "apis":
            groups = [{"name": name, "versions": [{"groupVersion": f"{name}/v1", "version": "v1"}],
                       "preferredVersion": {"groupVersion": f"{name}/v1", "version": "v1"}}
                      for name in ("coordination.k8s.io", "certificates.k8s.io")]
            self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        elif check == "api/v1" or (check.startswith("apis/") and check.count("/") == 2):
            group = check.split("/", 1)[1]
            listed = [{"name": name, "singularName": kind.lower(), "namespaced": spaced, "kind": kind,
                       "verbs": ["create", "delete", "get", "list", "patch", "update"]}
                      for name, (_, kind, api, spaced) in RESOURCES.items() if api == group]
            self.answer(200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": listed})
        else:
            return False
        return True

    def dispatch(self, url, body):
        parts = url.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        space = ""
        if len(parts) > 2 and parts[0] == "namespaces":
            space, parts = parts[1], parts[2:]
        resource, name = parts[0] if parts else "", parts[1] if len(parts) > 1 else ""
        if resource not in RESOURCES or (parts[2:] and parts[2:] not in (["status"], ["approval"])):
            raise refused(404, "NotFound", "the server could not find the requested resource")
        self.authorize(resource, space, name, body or {})
        store, query = self.server.store, dict(urllib.parse.parse_qsl(url.query))
        match self.command:
            case "GET" if name:
                return 200, store.get(resource, space, name)
            case "GET":
                items = [each for each in store.list(resource, space) if chosen(each, query)]
                return 200, {"kind": RESOURCES[resource][1] + "List", "apiVersion": RESOURCES[resource][2],
                             "metadata": {"resourceVersion": ""}, "items": items}
            case "POST":
                return 201, store.create(resource, space, self.certified(resource, body))
            case "PUT":
                wanted = body["metadata"].get("resourceVersion")

                def replace(there):
                    if wanted and wanted != there["metadata"]["resourceVersion"]:
                        store.conflict(resource, name)
                    return merge(body, {"metadata": {"resourceVersion": there["metadata"]["resourceVersion"]}})
                return 200, store.change(resource, space, name, replace)
            case "PATCH":
                return 200, store.change(resource, space, name, lambda there: merge(there, body))
            case _:
                store.delete(resource, space, name)
                return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def authorize(self, resource, space, name, body):
        user, groups = self.who()
        reads = self.command == "GET"
        own = user.removeprefix("system:node:")
        named = name or body.get("metadata", {}).get("name", "")
        if groups & MASTERS or (reads and (resource, space, name) == ("configmaps", "kube-public", "cluster-info")):
            return
        if "system:bootstrappers" in groups:
            if (reads and ((resource, space, name) in BOOTSTRAP or resource == "nodes")) \
                    or resource == "certificatesigningrequests":
                return
        if "system:nodes" in groups:
            labels = body.get("metadata", {}).get("labels") or {}
            if resource == "nodes" and named == own and any(each.startswith(ROLE) for each in labels):
                raise refused(403, "Forbidden", f'nodes "{own}" is forbidden: is not allowed to modify labels: '
                              + ", ".join(each for each in labels if each.startswith(ROLE)))
            mirror = resource == "pods" and (reads or named.endswith(f"-{own}"))
            if (resource in ("nodes", "leases") and named == own) or mirror or (reads and resource == "configmaps"):
                return
        verb = {"GET": "get" if name else "list", "POST": "create", "PUT": "update"}.get(self.command, self.command.lower())
        group = RESOURCES[resource][2].rpartition("/")[0]
        where = f' in the namespace "{space}"' if space else " at the cluster scope"
        what = f'{resource} "{name}"' if name else resource
        raise refused(403, "Forbidden", f'{what} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API '
                      f'group "{group}"{where}')

    def certified(self, resource, body):
        """Approves and signs a kubelet's first request, as the controller manager does."""
        if resource != "certificatesigningrequests":
            return body
        request = unpack(body["spec"]["request"]).decode()
        user, groups = subject(request)
        if groups != ["system:nodes"] or not user.startswith("system:node:"):
            raise refused(422, "Invalid", f"a kubelet's certificate cannot be for {user} in {groups}")
        approved = {"type": "Approved", "status": "True", "reason": "AutoApproved",
                    "message": "Auto approving kubelet client certificate", "lastUpdateTime": moment()}
        signed = {"certificate": pack(sign(request, self.server.ca)), "conditions": [approved]}
        return dict(body, status=signed)


def chosen(value, query):
    """Field and label selectors; only `=` is supported."""
    for pair in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, wanted = pair.replace("==", "=").partition("=")
        found = value
        for part in path.split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        if found != wanted:
            return False
    labels = value["metadata"].get("labels") or {}
    for pair in filter(None, query.get("labelSelector", "").split(",")):
        key, equals, wanted = pair.replace("==", "=").partition("=")
        if key not in labels or (equals and labels[key] != wanted):
            return False
    return True


def main(argv):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    notice("kube-apiserver")
    try:
        server = Server(options(argv, ())[1])
        server.store.begin()
    except (Failed, OSError, ssl.SSLError) as error:
        print(f"E {error}", file=sys.stderr)
        return 1
    server.serve_forever()
    return 0
