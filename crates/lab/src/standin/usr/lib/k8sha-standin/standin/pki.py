"""Certificates, keys and kubeconfig files, with OpenSSL. Keys are EC P-256, where kubeadm's default is RSA."""
import base64
import hashlib
import hmac
import os
import secrets
import subprocess

import yaml

from . import ROOT, Failed, pack, read, run, unpack, write

PKI = "/etc/kubernetes/pki"
CNF = f"{ROOT}/openssl.cnf"


class Making:
    """Pending certificates: parallel OpenSSL processes."""

    def __init__(self):
        self.started = []

    def issue(self, path, kind, subject, ca=None, names=()):
        """Starts creating the pair `path`.crt and `path`.key; returns whether it existed already."""
        if os.path.exists(path + ".crt") and os.path.exists(path + ".key"):
            return True
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        argv = ["openssl", "req", "-x509", "-config", CNF, "-extensions", kind, "-newkey", "ec",
                "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path + ".key", "-out", path + ".crt",
                "-subj", subject, "-days", "3650" if kind == "ca" else "365"]
        if ca:
            argv += ["-CA", ca + ".crt", "-CAkey", ca + ".key"]
        if names:
            argv += ["-addext", "subjectAltName=" + ",".join(("IP:" if numeric(n) else "DNS:") + n for n in names)]
        self.started.append((path, subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)))
        return False

    def wait(self):
        for path, process in self.started:
            said = process.communicate()[1].decode(errors="replace")
            if process.returncode:
                raise Failed(f"cannot make {path}.crt: {said.strip()}")
            os.chmod(path + ".crt", 0o644)
            os.chmod(path + ".key", 0o600)
        self.started = []


def numeric(name):
    return all(part.isdigit() for part in name.split("."))


def service_account():
    if os.path.exists(f"{PKI}/sa.key"):
        return
    key = run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]).decode()
    write(f"{PKI}/sa.key", key)
    write(f"{PKI}/sa.pub", run(["openssl", "pkey", "-pubout"], key).decode())


def pin(pem):
    """`sha256:` and the hash of a certificate's public key (SubjectPublicKeyInfo)."""
    lines = run(["openssl", "x509", "-noout", "-pubkey"], pem).decode().split("\n")
    der = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
    return "sha256:" + hashlib.sha256(der).hexdigest()


def subject(request):
    """The subject of a certificate request: user, groups."""
    line = run(["openssl", "req", "-noout", "-subject", "-nameopt", "sep_multiline,lname,-space_eq"], request).decode()
    pairs = [each.strip().split("=", 1) for each in line.split("\n")[1:] if "=" in each]
    return (dict(pairs).get("commonName", ""), [value for key, value in pairs if key == "organizationName"])


def sign(request, ca):
    """A client's certificate for a request."""
    return run(["openssl", "x509", "-req", "-CA", ca + ".crt", "-CAkey", ca + ".key", "-days", "365", "-extfile", CNF,
                "-extensions", "client", "-set_serial", "0x" + secrets.token_hex(8)], request).decode()


def cipher(way, key, data):
    end, begin = os.pipe()
    os.write(begin, key.encode() + b"\n")
    os.close(begin)
    try:
        return run(["openssl", "enc", way, "-aes-256-ctr", "-pbkdf2", "-iter", "1000", "-pass", f"fd:{end}"], data,
                   pass_fds=[end])
    finally:
        os.close(end)


def check_key(key):
    if len(key or "") != 64 or not all(each in "0123456789abcdefABCDEF" for each in key):
        raise Failed("error decoding certificate key: encoding/hex: invalid byte or odd length")
    return key


def seal(key, data):
    """Encrypts, then authenticates (kubeadm: AES-GCM, which `openssl enc` does not have)."""
    body = cipher("-e", check_key(key), data)
    return hmac.digest(bytes.fromhex(key), body, "sha256") + body


def unseal(key, data):
    if not hmac.compare_digest(hmac.digest(bytes.fromhex(check_key(key)), data[32:], "sha256"), data[:32]):
        raise Failed("error decoding secret data with provided key: cipher: message authentication failed")
    return cipher("-d", key, data[32:])


def kubeconfig(cluster, server, ca, user, credentials):
    """The text of a kubeconfig file; `credentials` are the lines of its user."""
    lines = "".join(f"    {key}: {value}\n" for key, value in credentials.items())
    return (f"apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {pack(ca)}\n    server: {server}\n"
            f"  name: {cluster}\ncontexts:\n- context:\n    cluster: {cluster}\n    user: {user}\n"
            f"  name: {user}@{cluster}\ncurrent-context: {user}@{cluster}\nkind: Config\npreferences: {{}}\n"
            f"users:\n- name: {user}\n  user:\n{lines}")


def read_kubeconfig(path):
    """Server, CA as PEM, certificate and key as PEM or paths, token."""
    try:
        value = yaml.safe_load(read(path))
        cluster, user = value["clusters"][0]["cluster"], value["users"][0]["user"]
        ca = cluster.get("certificate-authority-data")
        ca = unpack(ca).decode() if ca else read(cluster["certificate-authority"])
        pair = (user.get("client-certificate-data"), user.get("client-key-data"))
        pair = "".join(unpack(each).decode() for each in pair if each)
        return cluster["server"], ca, pair or user.get("client-certificate"), user.get("token")
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Failed(f'error loading config file "{path}": {error!r}') from None
