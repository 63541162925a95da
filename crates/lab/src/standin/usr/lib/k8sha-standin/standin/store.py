"""Kubernetes objects in etcd, under the keys that kube-apiserver uses, and the controllers' effects on them."""
import base64
import copy
import hashlib
import hmac
import json
import uuid

from . import Failed, moment, pack, since, unpack
from .wire import Refused

# Resource → folder below /registry, kind, API version, whether it is namespaced.
RESOURCES = {
    "nodes": ("minions", "Node", "v1", False),
    "namespaces": ("namespaces", "Namespace", "v1", False),
    "configmaps": ("configmaps", "ConfigMap", "v1", True),
    "secrets": ("secrets", "Secret", "v1", True),
    "pods": ("pods", "Pod", "v1", True),
    "services": ("services/specs", "Service", "v1", True),
    "leases": ("leases", "Lease", "coordination.k8s.io/v1", True),
    "certificatesigningrequests": ("certificatesigningrequests", "CertificateSigningRequest", "certificates.k8s.io/v1",
                                   False),
}
# After this long without a heartbeat the node controller gives a node up (node-monitor-grace-period).
GRACE = 40


def refused(code, reason, message):
    return Refused(code, {"reason": reason, "message": message})


def merge(value, patch):
    """A JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    value = dict(value) if isinstance(value, dict) else {}
    for key, each in patch.items():
        if each is None:
            value.pop(key, None)
        else:
            value[key] = merge(value.get(key), each)
    return value


def token_of(secret):
    """A bootstrap token's fields as text."""
    return {key: unpack(value).decode() for key, value in (secret.get("data") or {}).items()}


def expired(secret):
    end = token_of(secret).get("expiration") if secret.get("type") == "bootstrap.kubernetes.io/token" else None
    return bool(end) and since(end) >= 0


def jws(text, token):
    """A detached signature as the bootstrap signer creates it (RFC 7515, HS256)."""
    def pad(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    head = pad(json.dumps({"alg": "HS256", "kid": token["token-id"]}, separators=(",", ":")).encode())
    secret = f"{token['token-id']}.{token['token-secret']}".encode()
    return head + ".." + pad(hmac.digest(secret, f"{head}.{pad(text.encode())}".encode(), hashlib.sha256))


class Store:
    """Objects by resource, namespace and name."""

    def __init__(self, etcd):
        self.etcd = etcd

    def key(self, resource, space, name=""):
        folder, _, _, spaced = RESOURCES[resource]
        return f"/registry/{folder}/" + (f"{space}/" if spaced and space else "") + name

    def read(self, pair):
        _, value, revision = pair
        found = json.loads(value)
        found["metadata"]["resourceVersion"] = str(revision)
        return found

    def get(self, resource, space, name):
        found = self.etcd.range(self.key(resource, space, name))
        value = self.shown(resource, [self.read(each) for each in found])
        if not value:
            raise refused(404, "NotFound", f'{resource} "{name}" not found')
        return value[0]

    def list(self, resource, space):
        return self.shown(resource, [self.read(each) for each in self.etcd.range(self.key(resource, space), True)])

    def create(self, resource, space, value):
        name = value.get("metadata", {}).get("name")
        if not name:
            raise refused(422, "Invalid", "name or generateName is required")
        _, kind, version, spaced = RESOURCES[resource]
        value = dict(value, kind=kind, apiVersion=version)
        value["metadata"] = dict(value["metadata"], uid=str(uuid.uuid4()), creationTimestamp=moment())
        if spaced:
            value["metadata"]["namespace"] = space
        key = self.key(resource, space, name)
        for value_there in [self.read(each) for each in self.etcd.range(key)]:
            if not (resource == "secrets" and expired(value_there)):
                raise refused(409, "AlreadyExists", f'{resource} "{name}" already exists')
            self.etcd.delete(key)
        return self.written(key, value, 0) or self.conflict(resource, name)

    def written(self, key, value, revision):
        value = copy.deepcopy(value)
        value["metadata"].pop("resourceVersion", None)
        now = self.etcd.put(key, json.dumps(value), revision)
        if now is None:
            return None
        value["metadata"]["resourceVersion"] = str(now)
        return value

    def conflict(self, resource, name):
        raise refused(409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": the object has been '
                      "modified; please apply your changes to the latest version and try again")

    def change(self, resource, space, name, change):
        """Applies a function to an object, and retries on a conflict with another writer."""
        key = self.key(resource, space, name)
        for _ in range(20):
            found = [self.read(each) for each in self.etcd.range(key)]
            if not found:
                raise refused(404, "NotFound", f'{resource} "{name}" not found')
            value = change(copy.deepcopy(found[0]))
            for fixed in ("name", "namespace", "uid", "creationTimestamp"):
                if fixed in found[0]["metadata"]:
                    value["metadata"][fixed] = found[0]["metadata"][fixed]
            if value == found[0]:
                return value
            done = self.written(key, value, int(found[0]["metadata"]["resourceVersion"]))
            if done:
                return done
        return self.conflict(resource, name)

    def delete(self, resource, space, name):
        self.get(resource, space, name)
        self.etcd.delete(self.key(resource, space, name))

    def shown(self, resource, values):
        """Objects in the state that controllers would have given them."""
        if resource == "secrets":
            return self.living(values)
        if resource == "configmaps":
            return [self.signed(each) if each["metadata"]["name"] == "cluster-info" else each for each in values]
        if resource == "nodes" and values:
            leases = {each["metadata"]["name"]: each for each in self.list("leases", "kube-node-lease")}
            return [watched(each, leases.get(each["metadata"]["name"])) for each in values]
        return values

    def living(self, secrets):
        """Without expired tokens (token cleaner), and without what they owned (garbage collector)."""
        left = []
        for secret in secrets:
            meta = secret["metadata"]
            owners = [each["name"] for each in meta.get("ownerReferences", [])]
            gone = expired(secret) or any(not self.alive(meta["namespace"], each) for each in owners)
            if gone:
                self.etcd.delete(self.key("secrets", meta["namespace"], meta["name"]))
            else:
                left.append(secret)
        return left

    def alive(self, space, name):
        found = [self.read(each) for each in self.etcd.range(self.key("secrets", space, name))]
        return any(not expired(each) for each in found)

    def tokens(self):
        """The valid bootstrap tokens, by id."""
        found = [token_of(each) for each in self.list("secrets", "kube-system")
                 if each.get("type") == "bootstrap.kubernetes.io/token"]
        return {each["token-id"]: each for each in found}

    def signed(self, info):
        data = info["data"]
        for token in self.tokens().values():
            if token.get("usage-bootstrap-signing") == "true":
                data[f"jws-kubeconfig-{token['token-id']}"] = jws(data["kubeconfig"], token)
        return info

    def begin(self):
        """The objects that every API server creates."""
        for space in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.make("namespaces", "", {"metadata": {"name": space}})
        self.make("services", "default", {"metadata": {"name": "kubernetes"}})

    def make(self, resource, space, value):
        try:
            self.create(resource, space, value)
        except Refused as error:
            if error.code != 409:
                raise Failed(str(error)) from None


def watched(node, lease):
    """A node as the node controller shows it: Unknown without heartbeats, tainted while not Ready."""
    status = node.setdefault("status", {})
    beat = (lease or {}).get("spec", {}).get("renewTime") or node["metadata"]["creationTimestamp"]
    for condition in status.get("conditions", []):
        if since(beat) > GRACE:
            condition.update(status="Unknown", reason="NodeStatusUnknown",
                             message="Kubelet stopped posting node status.")
        if condition["type"] == "Ready" and condition["status"] != "True":
            key = "node.kubernetes.io/" + ("not-ready" if condition["status"] == "False" else "unreachable")
            taints = node.setdefault("spec", {}).setdefault("taints", [])
            taints.append({"key": key, "effect": "NoSchedule"})
    return node


def bootstrap_token(token, ttl, description="", groups=None):
    """The Secret of a bootstrap token; without groups it only stores an expiry."""
    name, secret = token.split(".")
    data = {"token-id": name, "token-secret": secret}
    if ttl:
        data["expiration"] = moment(after=ttl)
    if description:
        data["description"] = description
    if groups:
        data.update({"auth-extra-groups": ",".join(groups), "usage-bootstrap-authentication": "true",
                     "usage-bootstrap-signing": "true"})
    return {"metadata": {"name": f"bootstrap-token-{name}"}, "type": "bootstrap.kubernetes.io/token",
            "data": {key: pack(value) for key, value in data.items()}}
