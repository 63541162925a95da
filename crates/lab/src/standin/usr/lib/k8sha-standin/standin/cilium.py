"""`cilium`, the command-line tool: it installs a ConfigMap, and the kubelets then act as if Cilium ran."""
import os
import sys
import time

from . import ROOT, Failed, options, read
from .config import seconds
from .plane import config_map, say
from .wire import Api, Refused

SYSTEM = "/api/v1/namespaces/kube-system"
CONFIG = "cilium-config"


def status(api, patience):
    until = time.monotonic() + patience
    if api.there(f"{SYSTEM}/configmaps/{CONFIG}") is None:
        raise Failed("Error: Unable to determine status:  no cilium-config found")
    while True:
        pods = api.get(f"{SYSTEM}/pods?labelSelector=k8s-app=cilium")["items"]
        count, wanted = len(pods), len(api.get("/api/v1/nodes")["items"])
        if count >= wanted:
            return say("    Cilium:             OK", f"DaemonSet              cilium                   Desired: {wanted}, "
                       f"Ready: {count}/{wanted}, Available: {count}/{wanted}")
        if time.monotonic() > until:
            raise Failed("Error: Unable to determine status:  timeout while waiting for status to become successful: "
                         "context deadline exceeded")
        time.sleep(0.5)


def main(argv):
    try:
        words, given = options(argv, {"--wait", "--client"})
        if words == ["version"]:
            # The runner records the version in the profile.
            known = f"{ROOT}/cilium-cli"
            say(f"cilium-cli: v{read(known).strip().lstrip('v') if os.path.exists(known) else 'unknown'} stand-in of k8sha")
            return 0
        print("[k8sha] this cilium is k8sha's scripted stand-in: no pod network runs here", file=sys.stderr)
        api = Api.of(given.get("--kubeconfig") or os.path.expanduser("~/.kube/config"))
        if words == ["install"]:
            wanted = given.get("--version", "unknown").lstrip("v")
            api.ask("POST", f"{SYSTEM}/configmaps", config_map(CONFIG, {"version": wanted, "set": given.get("--set", "")}))
            say(f"Using Cilium version {wanted}")
        elif words == ["status"]:
            status(api, seconds(given.get("--wait-duration", "5m")) if "--wait" in given else 0)
        else:
            raise Failed(f'Error: unknown command "{" ".join(words)}" for "cilium"')
        return 0
    except Refused as error:
        taken = error.reason == "AlreadyExists"
        text = "cannot re-use a name that is still in use" if taken else str(error)
        print(f"Error: Unable to install Cilium: {text}" if taken else f"Error: {text}", file=sys.stderr)
    except Failed as error:
        print(error, file=sys.stderr)
    return 1
