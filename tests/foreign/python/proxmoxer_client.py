#!/usr/bin/env python3
"""Drives `k8sha sim` with proxmoxer, a Proxmox VE client that knows nothing of k8sha.

    proxmoxer_client.py ENDPOINTS.json

The file is what `k8sha sim` printed. Each function below is one case; they build on each other, run
in their order, and the first that fails ends the run.
"""

import io
import json
import pathlib
import sys
import tempfile
import urllib.parse

import requests
from proxmoxer import AuthenticationError, ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks

NODE = "pve1"
MADE, SYSTEM, LINKED, FULL = 900, 901, 902, 903
IMAGE = "foreign-image.qcow2"
KEYS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+/a1b2c3 one@example\nssh-rsa AAAAB3/+=== two@example\n"

CASES = []


def case(function):
    """Marks a case; its name states the expected behaviour."""
    CASES.append(function)
    return function


class Site:
    """The endpoint of the simulated host."""

    def __init__(self, endpoints, folder):
        host = endpoints["hosts"][NODE]
        url = urllib.parse.urlsplit(host["url"])
        self.url = host["url"]
        self.address = {"host": url.hostname, "port": url.port}
        self.ca = str(folder / "ca.pem")
        pathlib.Path(self.ca).write_text(host["ca"])
        self.user, rest = host["token"].split("!", 1)
        self.token_name, self.token_value = rest.split("=", 1)
        self.root_password = host["root_password"]
        self.api = self.by_token(verify_ssl=self.ca)
        self.node = self.api.nodes(NODE)
        self.node_by_ticket = self.by_password(self.root_password).nodes(NODE)

    def by_token(self, **more):
        given = {"token_name": self.token_name, "token_value": self.token_value, **more}
        return ProxmoxAPI(user=self.user, **self.address, **given)

    def by_password(self, password):
        login = {"user": "root@pam", "password": password, "verify_ssl": self.ca}
        return ProxmoxAPI(**self.address, **login)

    def follow(self, upid, ends="OK"):
        """Waits until a task ends, and checks its result."""
        assert Tasks.decode_upid(upid)["node"] == NODE
        status = Tasks.blocking_status(self.api, upid, timeout=60, polling_interval=0.1)
        assert status is not None, f"{upid} did not end"
        assert ends in status["exitstatus"], status
        return status

    def log(self, upid):
        return Tasks.decode_log(self.node.tasks(upid).log.get(limit=500))

    def volumes(self, content):
        listed = self.node.storage("local").content.get(content=content)
        return {volume["volid"]: volume for volume in listed}


def refused(call, status, text="", field=None):
    """Checks that a call is refused with a status, a text, and for a parameter."""
    try:
        answer = call()
    except ResourceException as error:
        assert error.status_code == status, error
        assert text in str(error), error
        if field is not None:
            assert field in error.errors, error.errors
        return error
    raise AssertionError(f"this was not refused: {answer!r}")


@case
def tls_is_verified(site):
    try:
        # With the public CAs, which do not include the simulator's.
        site.by_token(verify_ssl=True).version.get()
    except requests.exceptions.SSLError:
        return
    raise AssertionError("a certificate of an unknown CA was taken")


@case
def nodes_and_storages_are_listed(site):
    assert site.api.version.get()["release"].startswith("9.")
    nodes = {node["node"]: node for node in site.api.nodes.get()}
    assert set(nodes) == {"pve1", "pve2"}, nodes
    assert all(node["status"] == "online" for node in nodes.values())
    assert site.node.status.get()["memory"]["total"] > 0
    storages = {storage["storage"]: storage for storage in site.node.storage.get()}
    assert "iso" in storages["local"]["content"].split(",")
    assert "images" in storages["local-lvm"]["content"].split(",")
    assert site.node.qemu.get() == []
    assert site.api.cluster.resources.get(type="vm") == []


@case
def a_ticket_logs_in_and_needs_its_csrf_token_to_write(site):
    api = site.by_password(site.root_password)
    ticket, csrf = api.get_tokens()
    assert ticket.startswith("PVE:root@pam:"), ticket[:14]
    assert len(api.nodes.get()) == 2
    api.pools.post(poolid="foreign", comment="made with a ticket")
    assert [pool["poolid"] for pool in api.pools.get()] == ["foreign"]

    def write(headers):
        return requests.post(
            f"{site.url}/api2/json/pools",
            data={"poolid": "forged"},
            cookies={"PVEAuthCookie": ticket},
            headers=headers,
            verify=site.ca,
            timeout=10,
        )

    forged = write({})
    assert forged.status_code == 401, forged.status_code
    assert forged.reason == "Permission denied - invalid csrf token", forged.reason
    assert write({"CSRFPreventionToken": csrf}).status_code == 200
    for pool in ["foreign", "forged"]:
        api.pools.delete(pool)
    assert api.pools.get() == []


@case
def a_wrong_login_is_refused(site):
    try:
        site.by_password("not the password")
    except AuthenticationError as error:
        assert "401" in str(error), error
    else:
        raise AssertionError("a wrong password logged in")
    stranger = site.by_token(token_value="0" * 36, verify_ssl=site.ca)
    refused(stranger.version.get, 401, "Authentication failed!")


@case
def a_vm_with_a_disk_is_created_and_its_task_followed(site):
    assert site.api.cluster.nextid.get() == "100"
    upid = site.node.qemu.create(
        vmid=MADE,
        name="foreign",
        memory=512,
        cores=1,
        ostype="l26",
        agent="enabled=1",
        scsihw="virtio-scsi-single",
        scsi0="local-lvm:4",
        net0="virtio,bridge=vmbr0",
    )
    parts = Tasks.decode_upid(upid)
    assert (parts["type"], parts["id"], parts["user"]) == ("qmcreate", str(MADE), site.user)
    status = site.follow(upid)
    assert status["status"] == "stopped" and status["upid"] == upid
    assert site.log(upid).endswith("TASK OK")
    assert upid in [task["upid"] for task in site.node.tasks.get(vmid=MADE)]
    config = site.node.qemu(MADE).config.get()
    assert config["scsi0"].startswith(f"local-lvm:vm-{MADE}-disk-0"), config
    assert "size=4G" in config["scsi0"], config
    assert config["net0"].startswith("virtio=BC:24:11:"), config
    assert config["boot"] == "order=scsi0;net0", config
    assert [vm["vmid"] for vm in site.node.qemu.get()] == [MADE]
    refused(
        lambda: site.node.qemu.create(vmid=MADE),
        500,
        f"unable to create VM {MADE} - VM {MADE} already exists on node '{NODE}'",
    )


@case
def files_are_uploaded_whole_and_streamed(site):
    # Above 10 MiB proxmoxer streams with requests_toolbelt, another encoder of multipart forms.
    for name, size in [("foreign-small.iso", 70_000), ("foreign-large.iso", 11 << 20)]:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / name
            path.write_bytes(b"\xff--\r\n" * (size // 5))
            with path.open("rb") as file:
                site.follow(site.node.storage("local").upload.post(content="iso", filename=file))
            uploaded = site.volumes("iso")[f"local:iso/{name}"]
            assert uploaded["size"] == path.stat().st_size, uploaded
            assert uploaded["format"] == "iso", uploaded
    mismatch = io.BytesIO(b"not what was promised")
    mismatch.name = "foreign-broken.iso"
    promise = {"checksum-algorithm": "sha256", "checksum": "0" * 64}
    broken = site.node.storage("local").upload.post(content="iso", **promise, filename=mismatch)
    site.follow(broken, ends="checksum mismatch")
    assert "local:iso/foreign-broken.iso" not in site.volumes("iso")
    bad = io.BytesIO(b"text")
    bad.name = "foreign.txt"
    upload = site.node.storage("local").upload
    refused(lambda: upload.post(content="iso", filename=bad), 400, "wrong file extension", "filename")
    # Proxmox VE does not support uploads of snippets.
    bad = io.BytesIO(b"#cloud-config\n")
    bad.name = "foreign.yaml"
    refused(lambda: upload.post(content="snippets", filename=bad), 400, "enumeration", "content")


@case
def an_image_is_downloaded_and_imported(site):
    download = site.node.storage("local")("download-url")
    given = {
        "content": "import",
        "filename": IMAGE,
        "url": "https://images.example/foreign.qcow2",
        "checksum-algorithm": "sha256",
        "checksum": "ab" * 32,
    }
    site.follow(download.post(**given))
    assert f"local:import/{IMAGE}" in site.volumes("import")
    refused(lambda: download.post(**{**given, "filename": "foreign.exe"}), 400, "", "filename")
    upid = site.node.qemu.create(
        vmid=SYSTEM,
        name="foreign-system",
        memory=1024,
        scsihw="virtio-scsi-single",
        scsi0=f"local-lvm:0,import-from=local:import/{IMAGE},discard=on",
        ide2="local-lvm:cloudinit",
        boot="order=scsi0",
        serial0="socket",
        vga="serial0",
        net0="virtio,bridge=vmbr0",
    )
    site.follow(upid)
    config = site.node.qemu(SYSTEM).config.get()
    assert "import-from" not in config["scsi0"] and "size=" in config["scsi0"], config
    assert "media=cdrom" in config["ide2"], config


@case
def a_template_is_cloned_linked_and_full(site):
    template = site.node.qemu(SYSTEM)
    site.follow(template.template.post())
    config = template.config.get()
    assert config["template"] == 1 and f":base-{SYSTEM}-disk-" in config["scsi0"], config
    refused(template.template.post, 500, "you can't convert a template to a template")
    site.follow(template.clone.post(newid=LINKED, name="foreign-linked", description="one\ntwo"))
    site.follow(template.clone.post(newid=FULL, name="foreign-full", full=1, storage="local-lvm"))
    for vmid in [LINKED, FULL]:
        config = site.node.qemu(vmid).config.get()
        assert "template" not in config and f"vm-{vmid}-" in config["scsi0"], config
    assert site.node.qemu(LINKED).config.get()["description"].rstrip("\n") == "one\ntwo"
    refused(
        lambda: template.clone.post(newid=FULL), 500, f"unable to create VM {FULL}: config file already exists"
    )
    refused(lambda: site.node.qemu(FULL).clone.post(newid=SYSTEM), 500, "already exists")


@case
def a_vm_is_configured(site):
    vm = site.node.qemu(LINKED)
    assert vm.config.set(cores=2, memory="2048", tags="foreign;proxmoxer") is None
    upid = vm.config.post(
        net0="virtio,bridge=vmbr0,firewall=0",
        ciuser="ubuntu",
        cipassword="not to be shown",
        ipconfig0="ip=10.101.1.99/24,gw=10.101.1.1",
        nameserver="10.101.1.2",
        searchdomain="kloud.lan",
        # Proxmox requires the keys percent-encoded inside the form, which encodes them once more.
        sshkeys=urllib.parse.quote(KEYS, safe=""),
    )
    assert Tasks.decode_upid(upid)["type"] == "qmconfig"
    site.follow(upid)
    config = vm.config.get()
    assert (config["cores"], int(config["memory"])) == (2, 2048), config
    assert config["tags"] == "foreign;proxmoxer", config
    assert config["ipconfig0"] == "ip=10.101.1.99/24,gw=10.101.1.1", config
    assert config["cipassword"] == "**********", "a password is shown"
    assert urllib.parse.unquote(config["sshkeys"]).strip() == KEYS.strip(), config
    assert "ssh-ed25519" in vm.cloudinit.dump.get(type="user")
    stale = "0" * 40
    refused(lambda: vm.config.set(cores=4, digest=stale), 500, "checksum mismatch (file change by other user?)")
    refused(lambda: vm.config.set(sshkeys=KEYS), 400, "invalid urlencoded string", "sshkeys")
    vm.config.set(delete="nameserver,searchdomain")
    assert "nameserver" not in vm.config.get()


@case
def a_disk_grows_and_never_shrinks(site):
    vm = site.node.qemu(FULL)
    site.follow(vm.resize.set(disk="scsi0", size="32G"))
    assert "size=32G" in vm.config.get()["scsi0"]
    site.follow(vm.resize.set(disk="scsi0", size="+1G"))
    assert "size=33G" in vm.config.get()["scsi0"]
    site.follow(vm.resize.set(disk="scsi0", size="1G"), ends="shrinking disks is not supported")


@case
def a_vm_is_started_stopped_and_queried(site):
    vm = site.node_by_ticket.qemu(MADE)
    refused(vm.agent.ping.post, 500, f"VM {MADE} is not running")
    site.follow(vm.status.start.post())
    current = vm.status.current.get()
    assert current["status"] == "running" and current["pid"] > 0, current
    refused(vm.agent.ping.post, 500, "QEMU guest agent is not running")
    refused(vm.delete, 500, f"VM {MADE} is running - destroy failed")
    again = vm.status.start.post()
    site.follow(again, ends=f"VM {MADE} already running")
    assert "TASK ERROR" in site.log(again)
    site.follow(vm.status.stop.post())
    assert vm.status.current.get()["status"] == "stopped"


@case
def errors_have_proxmoxs_messages(site):
    missing = f"Configuration file 'nodes/{NODE}/qemu-server/999.conf' does not exist"
    refused(site.node.qemu(999).config.get, 500, missing)
    schema = "property is not defined in schema"
    refused(lambda: site.node.qemu.create(vmid=910, colour="blue"), 400, schema, "colour")
    refused(lambda: site.node.qemu.create(vmid=910, memory="much"), 400, "", "memory")
    refused(lambda: site.node.qemu.create(name="nameless"), 400, "not optional", "vmid")
    refused(site.api.nodes("pve9").qemu.get, 500, "hostname lookup 'pve9' failed")
    nowhere = site.node.storage("nowhere")
    refused(nowhere.content.get, 500, "storage 'nowhere' does not exist")
    refused(nowhere.status.get, 400, "No such storage.", "storage")
    refused(site.node.nothing.get, 501, "not implemented")
    gone = "UPID:pve1:00000001:00000001:00000001:qmstart:100:root@pam:"
    refused(site.node.tasks(gone).status.get, 400, "no such task", "upid")


@case
def everything_is_removed(site):
    refused(lambda: site.node.qemu(999).delete(), 500, "does not exist")
    for vmid in [LINKED, FULL, SYSTEM, MADE]:
        vm = site.node.qemu(vmid)
        site.follow(vm.delete(**{"purge": 1, "destroy-unreferenced-disks": 1}))
        refused(vm.config.get, 500, "does not exist")
    assert site.node.storage("local-lvm").content.get() == []
    for content in ["iso", "import"]:
        for volid in site.volumes(content):
            site.follow(site.node_by_ticket.storage("local").content.delete(volid))
        assert site.volumes(content) == {}
    assert site.node.qemu.get() == []


def main():
    endpoints = json.loads(pathlib.Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        site = Site(endpoints, pathlib.Path(folder))
        for number, function in enumerate(CASES):
            try:
                function(site)
            except Exception:
                print(f"FAILED  {function.__name__}\n{number} passed, 1 failed", flush=True)
                raise
            print(f"ok  {function.__name__}", flush=True)
    print(f"{len(CASES)} passed, 0 failed")


if __name__ == "__main__":
    main()
