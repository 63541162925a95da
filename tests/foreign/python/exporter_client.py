#!/usr/bin/env python3
"""Scrapes `k8sha sim` with prometheus-pve-exporter, the Prometheus exporter for Proxmox VE.

    exporter_client.py ENDPOINTS.json CA.pem

The first file is what `k8sha sim` printed, the second its CA. Each function below is one case; they
build on each other, run in their order, and the first that fails ends the run.
"""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from proxmoxer import ProxmoxAPI
from proxmoxer.tools import Tasks

NODE = "pve1"
RUNS, TEMPLATE = 800, 801

CASES = []


def case(function):
    """Marks a case; its name states the expected behaviour."""
    CASES.append(function)
    return function


class Site:
    """The simulated host, with a running VM and a template, and the exporter beside it."""

    def __init__(self, endpoints, ca, folder):
        host = endpoints["hosts"][NODE]
        self.target = urllib.parse.urlsplit(host["url"]).netloc
        user, rest = host["token"].split("!", 1)
        name, value = rest.split("=", 1)
        login = {"user": user, "token_name": name, "token_value": value}
        modules = {
            "default": {**login, "verify_ssl": ca},
            # With the public CAs, which do not include the simulator's.
            "stranger": {**login, "verify_ssl": True},
            "wrong": {**login, "token_value": "0" * 36, "verify_ssl": ca},
        }
        config = folder / "pve.yml"
        config.write_text(json.dumps(modules))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.exporter = f"http://127.0.0.1:{port}"
        command = [pathlib.Path(sys.executable).with_name("pve_exporter"), "--config.file", config]
        command += ["--web.listen-address", f"127.0.0.1:{port}"]
        self.log = folder / "exporter.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.api = ProxmoxAPI(self.target, verify_ssl=ca, **login)
        self.node = self.api.nodes(NODE)

    def get(self, path, **query):
        address = f"{self.exporter}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.read().decode()

    def wait(self):
        for _ in range(300):
            try:
                return self.get("/")
            except urllib.error.URLError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError("the exporter does not listen")

    def scrape(self, **query):
        """The result of a scrape: the samples by name, each with its labels."""
        samples = {}
        text = self.get("/pve", target=self.target, **query)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        return samples

    def follow(self, upid):
        status = Tasks.blocking_status(self.api, upid, timeout=60, polling_interval=0.1)
        assert status is not None and status["exitstatus"] == "OK", status


def by_id(samples, name):
    return {labels["id"]: value for labels, value in samples[name]}


@case
def the_exporter_starts_and_vms_are_created(site):
    assert "Proxmox VE Exporter" in site.wait()
    options = {
        "memory": 768,
        "cores": 2,
        "tags": "foreign;metrics",
        "scsi0": "local-lvm:4",
        "net0": "virtio,bridge=vmbr0",
    }
    site.follow(site.node.qemu.create(vmid=RUNS, name="measured", onboot=1, **options))
    site.follow(site.node.qemu(RUNS).status.start.post())
    site.follow(site.node.qemu.create(vmid=TEMPLATE, name="template", **options))
    site.follow(site.node.qemu(TEMPLATE).template.post())


@case
def nodes_the_cluster_and_storages_are_up(site):
    # A VM's state is reported once per round of pvestatd, every ten seconds.
    for _ in range(30):
        up = by_id(site.scrape(node=0), "pve_up")
        if up[f"qemu/{RUNS}"] == 1:
            break
        time.sleep(1)
    nodes = {"node/pve1": 1, "node/pve2": 1, "cluster/site": 1}
    vms = {f"qemu/{RUNS}": 1, f"qemu/{TEMPLATE}": 0}
    storages = {name for name in up if name.startswith("storage/")}
    assert {"storage/pve1/local", "storage/pve1/local-lvm", "storage/pve2/local"} <= storages, up
    assert up == {**nodes, **vms, **{name: 1 for name in storages}}, up


@case
def site_information_can_be_read(site):
    samples = site.scrape(node=0)
    ((version, _),) = samples["pve_version_info"]
    assert version["release"].startswith("9.") and version["version"].startswith("9."), version
    assert version["repoid"], version
    nodes = [labels for labels, _ in samples["pve_node_info"]]
    assert [(one["name"], one["nodeid"]) for one in nodes] == [("pve1", "1"), ("pve2", "2")], nodes
    ((cluster, _),) = samples["pve_cluster_info"]
    assert cluster["id"] == "cluster/site", cluster
    assert (cluster["nodes"], cluster["quorate"]) == ("2", "1"), cluster
    guests = {labels["id"]: labels for labels, _ in samples["pve_guest_info"]}
    assert guests[f"qemu/{RUNS}"] == {
        "id": f"qemu/{RUNS}",
        "name": "measured",
        "node": NODE,
        "type": "qemu",
        "template": "0",
        "tags": "foreign;metrics",
    }, guests
    assert guests[f"qemu/{TEMPLATE}"]["template"] == "1", guests
    storages = {labels["id"]: labels for labels, _ in samples["pve_storage_info"]}
    assert storages["storage/pve1/local"]["plugintype"] == "dir", storages
    assert "iso" in storages["storage/pve1/local"]["content"].split(","), storages


@case
def sizes_and_uses_are_figures(site):
    samples = site.scrape(node=0)
    vm, node, storage = f"qemu/{RUNS}", f"node/{NODE}", f"storage/{NODE}/local-lvm"
    assert by_id(samples, "pve_memory_size_bytes")[vm] == 768 << 20
    assert by_id(samples, "pve_disk_size_bytes")[vm] == 4 << 30
    assert by_id(samples, "pve_cpu_usage_limit")[vm] == 2
    assert by_id(samples, "pve_uptime_seconds")[vm] >= 0
    assert 0 < by_id(samples, "pve_memory_usage_bytes")[node] < by_id(samples, "pve_memory_size_bytes")[node]
    assert 0 <= by_id(samples, "pve_cpu_usage_ratio")[node] <= 1
    assert 0 < by_id(samples, "pve_disk_usage_bytes")[storage] < by_id(samples, "pve_disk_size_bytes")[storage]
    assert by_id(samples, "pve_storage_shared")[storage] == 0
    for name in ["network_transmit", "network_receive", "disk_written", "disk_read"]:
        assert by_id(samples, f"pve_{name}_bytes_total")[vm] >= 0, name
    # HA manages nothing, and nothing is locked.
    for name in ["pve_ha_state", "pve_lock_state"]:
        states = [labels["state"] for labels, _ in samples[name] if labels["id"] == vm]
        assert len(states) >= 9, states
        assert all(value == 0 for _, value in samples[name]), samples[name]


@case
def vms_without_a_backup_are_counted(site):
    samples = site.scrape(node=0)
    assert by_id(samples, "pve_not_backed_up_total") == {"cluster/site": 2}
    assert by_id(samples, "pve_not_backed_up_info") == {f"qemu/{RUNS}": 1, f"qemu/{TEMPLATE}": 1}


@case
def a_node_reports_its_vms_options_and_its_subscription(site):
    samples = site.scrape(cluster=0)
    assert "pve_up" not in samples
    ((labels, value),) = samples["pve_onboot_status"]
    assert labels == {"id": f"qemu/{RUNS}", "node": NODE, "type": "qemu"} and value == 1, labels
    states = {labels["status"]: value for labels, value in samples["pve_subscription_status"]}
    assert states["notfound"] == 1 and sum(states.values()) == 1, states
    assert "pve_replication_info" not in samples, samples


@case
def an_unknown_ca_and_a_wrong_token_are_errors(site):
    for module, words in [("stranger", "CERTIFICATE_VERIFY_FAILED"), ("wrong", "401 Unauthorized")]:
        try:
            site.scrape(module=module)
        except urllib.error.HTTPError as error:
            assert error.code == 500, error
        else:
            raise AssertionError(f"the module {module} was answered")
        assert words in site.log.read_text(), site.log.read_text()[-2000:]
    own = list(text_string_to_metric_families(site.get("/metrics")))
    errors = {
        sample.labels["module"]: sample.value
        for family in own
        for sample in family.samples
        if sample.name == "pve_request_errors_total"
    }
    assert errors == {"default": 0, "stranger": 1, "wrong": 1}, errors


@case
def everything_is_removed_and_no_longer_measured(site):
    site.follow(site.node.qemu(RUNS).status.stop.post())
    for vmid in [RUNS, TEMPLATE]:
        site.follow(site.node.qemu(vmid).delete())
    assert not any(name.startswith("qemu/") for name in by_id(site.scrape(node=0), "pve_up"))


def main():
    endpoints = json.loads(pathlib.Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        site = Site(endpoints, sys.argv[2], pathlib.Path(folder))
        try:
            for number, function in enumerate(CASES):
                try:
                    function(site)
                except Exception:
                    print(f"FAILED  {function.__name__}\n{number} passed, 1 failed", flush=True)
                    raise
                print(f"ok  {function.__name__}", flush=True)
        finally:
            site.process.terminate()
            site.process.wait()
    print(f"{len(CASES)} passed, 0 failed")


if __name__ == "__main__":
    main()
