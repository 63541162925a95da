"""`kubectl`: the commands that k8sha and its users send, as a client of any API server."""
import json
import os
import sys
import urllib.parse

import yaml

from . import Failed, dumps, options, read, since, version
from .pki import read_kubeconfig
from .wire import Api, Refused, Unreachable

KINDS = {"node": "nodes", "no": "nodes", "secret": "secrets", "configmap": "configmaps", "cm": "configmaps", "pod": "pods",
         "po": "pods", "namespace": "namespaces", "ns": "namespaces", "service": "services", "svc": "services",
         "lease": "leases", "csr": "certificatesigningrequests",
         "certificatesigningrequest": "certificatesigningrequests"}
GROUPS = {"leases": "/apis/coordination.k8s.io/v1", "certificatesigningrequests": "/apis/certificates.k8s.io/v1"}
GLOBAL = {"nodes", "namespaces", "certificatesigningrequests"}
SWITCHES = {"-A", "--all-namespaces", "--client", "--overwrite", "--ignore-not-found", "--wait"}
ROLE = "node-role.kubernetes.io/"


def resource(word):
    found = KINDS.get(word.lower(), word.lower())
    if found not in KINDS.values():
        raise Failed(f'error: the server doesn\'t have a resource type "{word}"')
    return found


def path(what, given, name=""):
    spaced = what not in GLOBAL and not ({"-A", "--all-namespaces"} & given.keys() and not name)
    space = given.get("-n", given.get("--namespace", "default"))
    middle = f"/namespaces/{space}" if spaced else ""
    return GROUPS.get(what, "/api/v1") + f"{middle}/{what}" + (f"/{name}" if name else "")


def age(text):
    seconds = int(since(text))
    for limit, unit, size in ((120, "s", 1), (10800, "m", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def table(rows):
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def node_row(node, wide):
    meta, status = node["metadata"], node["status"]
    ready = next((each for each in status["conditions"] if each["type"] == "Ready"), {})
    roles = sorted(label.removeprefix(ROLE) for label in meta.get("labels", {}) if label.startswith(ROLE))
    info = status["nodeInfo"]
    row = [meta["name"], "Ready" if ready.get("status") == "True" else "NotReady", ",".join(roles) or "<none>",
           age(meta["creationTimestamp"]), info["kubeletVersion"]]
    if wide:
        address = next((each["address"] for each in status["addresses"] if each["type"] == "InternalIP"), "<none>")
        row += [address, "<none>", info["osImage"], info["kernelVersion"], info["containerRuntimeVersion"]]
    return row


def show(what, value, form, single):
    items = [value] if single else value["items"]
    if form == "json":
        print(dumps(value if single else {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""},
                                          "items": items}))
    elif form == "yaml":
        print(yaml.safe_dump(value), end="")
    elif form == "name":
        print("\n".join(f"{what.removesuffix('s')}/{each['metadata']['name']}" for each in items))
    elif not items:
        print("No resources found", file=sys.stderr)
    elif what == "nodes":
        head = ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
        if form == "wide":
            head += ["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"]
        table([head] + [node_row(each, form == "wide") for each in items])
    else:
        table([["NAME", "AGE"]] + [[each["metadata"]["name"], age(each["metadata"]["creationTimestamp"])] for each in items])


def get(api, words, given):
    if words[0] in ("daemonsets", "daemonset", "ds"):
        # Nothing here runs pods, so there are none; a request checks the API server, as with a real
        # one.
        api.get("/version")
        print(dumps({"apiVersion": "v1", "items": [], "kind": "List", "metadata": {"resourceVersion": ""}}))
        return
    what = resource(words[0])
    name = words[1] if len(words) > 1 else ""
    if "/" in words[0]:
        what, name = words[0].split("/", 1)
        what = resource(what)
    query = {"fieldSelector": given.get("--field-selector"), "labelSelector": given.get("-l", given.get("--selector"))}
    query = urllib.parse.urlencode({key: value for key, value in query.items() if value})
    value = api.get(path(what, given, name) + (f"?{query}" if query else ""))
    show(what, value, given.get("-o", given.get("--output")), bool(name))


def label(api, words, given):
    what, name, *pairs = words
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals and not key.endswith("-"):
            raise Failed(f"error: unknown label spec: {pair}")
        changes[key if equals else key[:-1]] = value if equals else None
    where = path(resource(what), given, name)
    before = api.get(where)["metadata"].get("labels", {})
    for key, value in changes.items():
        if value is not None and before.get(key, value) != value and "--overwrite" not in given:
            raise Failed(f"error: '{key}' already has a value ({before[key]}), and --overwrite is false")
    after = api.patch(where, {"metadata": {"labels": changes}})["metadata"].get("labels", {})
    print(f"{resource(what).removesuffix('s')}/{name} {'not labeled' if after == before else 'labeled'}")


def apply(api, given):
    file = given.get("-f", given.get("--filename"))
    for value in yaml.safe_load_all(sys.stdin.read() if file == "-" else read(file)):
        if value:
            what = resource(value["kind"])
            space = value["metadata"].get("namespace") or given.get("-n", "default")
            api.put(path(what, {"-n": space}), value)
            print(f"{what.removesuffix('s')}/{value['metadata']['name']} configured")


def work(words, given):
    if words[:1] == ["version"] and "--client" in given:
        print(f"Client Version: {version()}\nk8sha stand-in: no Kubernetes runs here")
        return
    api = Api.of(given.get("--kubeconfig") or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config"))
    match words:
        case ["version"]:
            print(f"Client Version: {version()}\nServer Version: {api.get('/version')['gitVersion']}\n"
                  "k8sha stand-in: no Kubernetes runs here")
        case ["get"] if "--raw" in given:
            code, text = api.raw("GET", given["--raw"])
            if code >= 300:
                try:
                    raise Refused(code, json.loads(text))
                except ValueError:
                    raise Failed(text.decode().strip()) from None
            sys.stdout.write(text.decode())
        case ["get", _, *_]:
            get(api, words[1:], given)
        case ["label", _, _, *_]:
            label(api, words[1:], given)
        case ["delete", what, name]:
            api.ask("DELETE", path(resource(what), given, name))
            print(f'{resource(what).removesuffix("s")} "{name}" deleted')
        case ["apply"]:
            apply(api, given)
        case ["cluster-info"]:
            print(f"Kubernetes control plane is running at {api.server}")
        case _:
            raise Failed(f'error: unknown command "{" ".join(words)}" for "kubectl"')


def main(argv):
    given = {}
    try:
        words, given = options(argv, SWITCHES)
        work(words, given)
        return 0
    except Refused as error:
        if error.code == 401:
            text = "error: You must be logged in to the server (Unauthorized)"
        else:
            text = f"Error from server ({error.reason}): {error}"
    except Unreachable as error:
        words = str(error)
        text = "Unable to connect to the server: " + words.partition('": ')[2]
        if error.kind == "refused":
            where = urllib.parse.urlsplit(server(given)).netloc
            text = f"The connection to the server {where} was refused - did you specify the right host or port?"
    except Failed as error:
        text = str(error) if str(error).startswith("error") else f"error: {error}"
    except BrokenPipeError:
        return 1
    print(text, file=sys.stderr)
    return 1


def server(given):
    return read_kubeconfig(given.get("--kubeconfig") or os.environ.get("KUBECONFIG")
                           or os.path.expanduser("~/.kube/config"))[0]
