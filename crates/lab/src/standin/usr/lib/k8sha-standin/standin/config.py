"""kubeadm's configuration file as kubeadm parses it: strictly, by API version.

Sources: kubernetes cmd/kubeadm/app/apis/kubeadm/{v1beta3,v1beta4}/types.go, app/util/config.
"""
import re
import types

import yaml

from . import Failed

OLD = ('your configuration file uses an old API spec: "{0}" (kind: "{1}"). Please use kubeadm v1.36 '
       "instead and run 'kubeadm config migrate --old-config old-config-file --new-config "
       "new-config-file', which will write the new, similar spec using a newer API version.")
UNSAFE = ('discovery.bootstrapToken.caCertHashes: Invalid value: "": using token-based discovery without '
          "caCertHashes can be unsafe. Set unsafeSkipCAVerification as true in your kubeadm config file "
          "or pass --discovery-token-unsafe-skip-ca-verification flag to continue")
REGISTRATION = ("name criSocket taints kubeletExtraArgs ignorePreflightErrors imagePullPolicy", "", "imagePullSerial")
# Kind → path → the fields of both API versions, of v1beta3 only, of v1beta4 only.
FIELDS = {
    "InitConfiguration": {
        "": ("apiVersion kind bootstrapTokens nodeRegistration localAPIEndpoint certificateKey skipPhases patches",
             "", "dryRun timeouts"),
        "nodeRegistration": REGISTRATION,
        "localAPIEndpoint": ("advertiseAddress bindPort", "", ""),
    },
    "JoinConfiguration": {
        "": ("apiVersion kind nodeRegistration caCertPath discovery controlPlane skipPhases patches",
             "", "dryRun timeouts"),
        "nodeRegistration": REGISTRATION,
        "discovery": ("bootstrapToken file tlsBootstrapToken", "timeout", ""),
        "discovery.bootstrapToken": ("token apiServerEndpoint caCertHashes unsafeSkipCAVerification", "", ""),
        "controlPlane": ("localAPIEndpoint certificateKey", "", ""),
    },
    "ClusterConfiguration": {
        "": ("apiVersion kind etcd networking kubernetesVersion controlPlaneEndpoint apiServer controllerManager "
             "scheduler dns certificatesDir imageRepository featureGates clusterName", "",
             "proxy encryptionAlgorithm certificateValidityPeriod caCertificateValidityPeriod"),
        "networking": ("serviceSubnet podSubnet dnsDomain", "", ""),
        "apiServer": ("extraArgs extraVolumes certSANs", "timeoutForControlPlane", "extraEnvs"),
        "etcd.external": ("endpoints caFile certFile keyFile", "", "httpEndpoints"),
    },
}
ARGUMENTS = {
    "ClusterConfiguration": ("apiServer.extraArgs", "controllerManager.extraArgs", "scheduler.extraArgs",
                             "etcd.local.extraArgs"),
    "InitConfiguration": ("nodeRegistration.kubeletExtraArgs",),
    "JoinConfiguration": ("nodeRegistration.kubeletExtraArgs",),
}


def at(value, path):
    """The value at a dotted path; `None` if there is none."""
    for part in filter(None, path.split(".")):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def seconds(text):
    """A Go duration such as `2m0s`."""
    parts = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", text or "0s")
    if not parts:
        raise Failed(f'time: invalid duration "{text}"')
    hours, minutes, rest = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + rest


def accepts(api, kind, minor):
    name = api.removeprefix("kubeadm.k8s.io/")
    if name == api or (name == "v1beta4" and minor >= 31) or (name == "v1beta3" and minor <= 36):
        return
    if re.match(r"v1(alpha|beta[123]$)", name):
        raise Failed(OLD.format(api, kind))
    raise Failed(f'no kind "{kind}" is registered for version "{api}" in scheme')


def strict(value, api, kind):
    """Decoding errors for values in the form of another version, and for unknown fields."""
    four = api.endswith("v1beta4")
    for path in ARGUMENTS.get(kind, ()):
        found = at(value, path)
        if (four and isinstance(found, dict)) or (not four and isinstance(found, list)):
            what, wanted = ("object", "[]v1beta4.Arg") if four else ("array", "map[string]string")
            raise Failed(f"json: cannot unmarshal {what} into Go struct field {kind}.{path} of type {wanted}")
    strange = []
    for path, (both, three, only_four) in FIELDS.get(kind, {}).items():
        known = (both + " " + (only_four if four else three)).split()
        for key in at(value, path) or {}:
            if key not in known:
                strange.append(f'unknown field "{path + "." if path else ""}{key}"')
    if not strange:
        return []
    return [f'error unmarshaling configuration schema.GroupVersionKind{{Group:"kubeadm.k8s.io", Version:'
            f'"{api.rpartition("/")[2]}", Kind:"{kind}"}}: strict decoding error: {", ".join(strange)}']


def token(text):
    if not re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", text):
        raise Failed(r'the bootstrap token is not of the form "\\A([a-z0-9]{6})\\.([a-z0-9]{16})\\z"')
    return text


def load(text, minor):
    """Parses a configuration as the kubeadm of a minor version does."""
    found = types.SimpleNamespace(warnings=[], init={}, cluster={}, join={}, proxy={}, kubelet={}, raw="")
    kinds = {"InitConfiguration": "init", "ClusterConfiguration": "cluster", "JoinConfiguration": "join",
             "KubeProxyConfiguration": "proxy", "KubeletConfiguration": "kubelet"}
    try:
        documents = [(part, yaml.safe_load(part)) for part in re.split(r"(?m)^---\s*$", text)]
    except yaml.YAMLError as error:
        raise Failed(f"error converting YAML to JSON: yaml: {error}") from None
    for part, value in documents:
        if value is None:
            continue
        kind, api = value.get("kind"), value.get("apiVersion")
        if not kind or not api:
            raise Failed("invalid configuration: kind and apiVersion is mandatory information that must be specified")
        if kind not in kinds:
            raise Failed(f'no kind "{kind}" is registered for version "{api}" in scheme')
        accepts(api, kind, minor)
        found.warnings += strict(value, api, kind)
        setattr(found, kinds[kind], value)
        if kind == "ClusterConfiguration":
            found.raw = part.strip() + "\n"
    if not (found.init or found.cluster or found.join):
        raise Failed("no InitConfiguration or ClusterConfiguration kind was found in the YAML file")
    try:
        return settle(found)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Failed(f"error unmarshaling configuration: {error}") from None


def settle(found):
    """Extracts the relevant fields of the documents, with kubeadm's defaults."""
    own, cluster = found.join or found.init, found.cluster
    found.node = (at(own, "nodeRegistration.name") or "").lower()
    arguments = at(own, "nodeRegistration.kubeletExtraArgs") or {}
    if isinstance(arguments, list):
        arguments = {each["name"]: each["value"] for each in arguments}
    found.kubelet_args = arguments
    local = at(own, "controlPlane.localAPIEndpoint") or at(own, "localAPIEndpoint") or {}
    found.advertise, found.port = local.get("advertiseAddress"), int(local.get("bindPort") or 6443)
    found.control_plane = bool(found.init) or isinstance(found.join.get("controlPlane"), dict)
    found.key = at(found.join, "controlPlane.certificateKey") or found.init.get("certificateKey")
    found.endpoint = cluster.get("controlPlaneEndpoint")
    found.version = cluster.get("kubernetesVersion")
    found.name = cluster.get("clusterName") or "kubernetes"
    found.services = at(cluster, "networking.serviceSubnet") or "10.96.0.0/12"
    found.domain = at(cluster, "networking.dnsDomain") or "cluster.local"
    found.names = at(cluster, "apiServer.certSANs") or []
    found.external = at(cluster, "etcd.external")
    found.timeout = seconds(at(own, "timeouts.controlPlaneComponentHealthCheck")
                            or at(cluster, "apiServer.timeoutForControlPlane") or "4m0s")
    found.no_proxy = (at(cluster, "proxy.disabled") is True
                      or "addon/kube-proxy" in (found.init.get("skipPhases") or []))
    first = (found.init.get("bootstrapTokens") or [{}])[0]
    found.token = token(first["token"]) if first.get("token") else None
    found.ttl = seconds(first.get("ttl") or "24h0m0s")
    if found.join:
        given = at(found.join, "discovery.bootstrapToken") or {}
        text = given.get("token") or at(found.join, "discovery.tlsBootstrapToken")
        if not text:
            raise Failed('discovery.bootstrapToken.token: Invalid value: "": the bootstrap token is invalid')
        found.token, found.join_endpoint = token(text), given.get("apiServerEndpoint")
        found.pins, found.unpinned = given.get("caCertHashes") or [], bool(given.get("unsafeSkipCAVerification"))
        if not found.pins and not found.unpinned:
            raise Failed(UNSAFE)
        found.patience = seconds(at(found.join, "timeouts.discovery") or at(found.join, "discovery.timeout") or "5m0s")
    return found
