"""HTTPS with client certificates, with errors in Go's wording; and etcd's JSON gateway on top of it."""
import errno
import http.client
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse

from . import Failed, pack, unpack
from .pki import read_kubeconfig


class Unreachable(Failed):
    """There was no answer; `kind` is `refused` or other."""

    def __init__(self, text, kind="other"):
        super().__init__(text)
        self.kind = kind


class Refused(Failed):
    """The API server answered with an error."""

    def __init__(self, code, status):
        super().__init__(status.get("message") or f"the server answered {code}")
        self.code, self.reason = code, status.get("reason") or "Unknown"


def context(ca=None, pair=None):
    """A client's TLS: without a CA nothing is verified. `pair` is PEM text, a path, or two paths."""
    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=ca)
    if ca is None:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if isinstance(pair, tuple):
        made.load_cert_chain(*pair)
    elif pair and pair.startswith("-----"):
        # OpenSSL reads files only: this one is in memory.
        file = os.memfd_create("pair")
        os.write(file, pair.encode())
        made.load_cert_chain(f"/proc/self/fd/{file}")
        os.close(file)
    elif pair:
        made.load_cert_chain(pair)
    return made


def said(error, host, port):
    """Go's error for a failed connection."""
    dial = f"dial tcp {host}:{port}: "
    match error:
        case socket.gaierror():
            return Unreachable(f"dial tcp: lookup {host}: no such host")
        case ssl.SSLCertVerificationError() if "match" in error.verify_message:
            return Unreachable(f"tls: failed to verify certificate: x509: {error.verify_message}")
        case ssl.SSLCertVerificationError() if "expired" in error.verify_message:
            return Unreachable("tls: failed to verify certificate: x509: certificate has expired or is not yet valid")
        case ssl.SSLCertVerificationError():
            return Unreachable("tls: failed to verify certificate: x509: certificate signed by unknown authority")
        case ssl.SSLEOFError() | ConnectionResetError() | http.client.RemoteDisconnected() | BrokenPipeError():
            return Unreachable("EOF")
        case ssl.SSLError():
            return Unreachable("remote error: tls: " + (error.reason or str(error)).lower().replace("_", " "))
        case ConnectionRefusedError():
            return Unreachable(dial + "connect: connection refused", "refused")
        case TimeoutError():
            return Unreachable(dial + "i/o timeout")
        case OSError() if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return Unreachable(dial + "connect: no route to host")
    return Unreachable(f"{dial}{error}")


def request(server, tls, method, path, body=None, headers=None, timeout=10):
    """One request on a new connection: status and bytes."""
    url = urllib.parse.urlsplit(server)
    host, port = url.hostname, url.port or 443
    connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=tls)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise said(error, host, port) from None
    finally:
        connection.close()


class Api:
    """A client of the API server."""

    def __init__(self, server, ca=None, pair=None, token=None, patience=0):
        self.server, self.tls, self.patience = server, context(ca, pair), patience
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    @classmethod
    def of(cls, kubeconfig, patience=0):
        """From a kubeconfig file. `patience` is for how many seconds a lost connection is retried."""
        return cls(*read_kubeconfig(kubeconfig), patience=patience)

    def raw(self, method, path, body=None, kind="application/json"):
        headers = dict(self.headers, **{"Content-Type": kind} if body is not None else {})
        text = None if body is None else json.dumps(body)
        until = time.monotonic() + self.patience
        while True:
            try:
                return request(self.server, self.tls, method, path, text, headers)
            except Unreachable as error:
                if time.monotonic() > until:
                    raise Unreachable(f'{method.title()} "{self.server}{path}": {error}', error.kind) from None
                time.sleep(0.25)

    def ask(self, method, path, body=None, kind="application/json"):
        code, text = self.raw(method, path, body, kind)
        try:
            value = json.loads(text)
        except ValueError:
            raise Refused(code, {"message": text.decode(errors="replace").strip()}) from None
        if code >= 300:
            raise Refused(code, value)
        return value

    def get(self, path):
        return self.ask("GET", path)

    def there(self, path):
        """The same, or `None` if it does not exist."""
        try:
            return self.get(path)
        except Refused as error:
            if error.code == 404:
                return None
            raise

    def patch(self, path, body):
        return self.ask("PATCH", path, body, "application/merge-patch+json")

    def put(self, path, body):
        """Creates an object, or replaces the one with its name."""
        try:
            return self.ask("POST", path, body)
        except Refused as error:
            if error.reason != "AlreadyExists":
                raise
            return self.ask("PUT", f"{path}/{body['metadata']['name']}", body)


class Etcd:
    """etcd over its JSON gateway: it uses any member that answers, starting with the last one that did."""

    def __init__(self, endpoints, ca, pair, timeout=4):
        self.endpoints, self.tls, self.timeout = list(endpoints), context(ca, pair), timeout
        self.mine = threading.local()

    def send(self, connection, path, body):
        try:
            connection.request("POST", path, json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise said(error, connection.host, connection.port) from None

    def once(self, endpoint, path, body):
        kept, self.mine.kept = getattr(self.mine, "kept", None), None
        answer = None
        if kept and kept[0] == endpoint:
            connection = kept[1]
            try:
                answer = self.send(connection, path, body)
            except Unreachable as error:
                # A kept connection may have been closed meanwhile: that is not an error yet.
                if "timeout" in str(error):
                    raise
        if answer is None:
            url = urllib.parse.urlsplit(endpoint)
            connection = http.client.HTTPSConnection(url.hostname, url.port or 2379, timeout=self.timeout,
                                                     context=self.tls)
            answer = self.send(connection, path, body)
        self.mine.kept = (endpoint, connection)
        status, text = answer
        try:
            value = json.loads(text)
        except ValueError:
            value = {"error": text.decode(errors="replace").strip()}
        if status != 200:
            raise Failed(value.get("error") or value.get("message") or f"etcd answered {status}")
        return value

    def call(self, path, body):
        last = Failed("no endpoints")
        for endpoint in list(self.endpoints):
            try:
                value = self.once(endpoint, path, body)
                self.endpoints = [endpoint] + [each for each in self.endpoints if each != endpoint]
                return value
            except Failed as error:
                last = error
        raise last

    def range(self, key, prefix=False):
        """Keys with their values and revisions."""
        body = {"key": pack(key)}
        if prefix:
            body["range_end"] = pack(key[:-1] + chr(ord(key[-1]) + 1))
        found = self.call("/v3/kv/range", body).get("kvs", [])
        return [(unpack(each["key"]).decode(), unpack(each.get("value", "")), int(each["mod_revision"])) for each in found]

    def put(self, key, value, revision):
        """Writes if the key still has this revision (0: does not exist); the new revision or `None`."""
        done = self.call("/v3/kv/txn", {
            "compare": [{"key": pack(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}],
            "success": [{"request_put": {"key": pack(key), "value": pack(value)}}]})
        return int(done["header"]["revision"]) if done.get("succeeded") else None

    def delete(self, key):
        self.call("/v3/kv/deleterange", {"key": pack(key)})
