"""k8sha's scripted stand-ins for kubeadm, kubectl, kubelet and the API server.

No Kubernetes runs here: no scheduler, no controllers, no pods. What is real: the files and their
modes, certificates by OpenSSL, mutual TLS, bootstrap tokens, encrypted uploads, and etcd as store.
"""
import base64
import datetime
import json
import os
import subprocess
import sys

ROOT = "/usr/lib/k8sha-standin"
NOTICE = "[k8sha] this %s is k8sha's scripted stand-in: no Kubernetes runs here"


class Failed(Exception):
    """An exit with the real program's message."""


def notice(program):
    print(NOTICE % program, file=sys.stderr, flush=True)


def version():
    """The version that the runner recorded, such as `v1.28.4`."""
    with open(f"{ROOT}/version", encoding="utf-8") as file:
        return "v" + file.read().strip().lstrip("v")


def minor(text=None):
    return int((text or version()).split(".")[1])


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise Failed(f"open {path}: no such file or directory") from None
    except PermissionError:
        raise Failed(f"open {path}: permission denied") from None


def write(path, text, mode=0o600):
    """Writes a file with this mode atomically."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, mode)) as file:
        file.write(text)
    os.chmod(path + ".new", mode)
    os.replace(path + ".new", path)


def run(argv, data=None, **more):
    """Runs a program; returns its standard output as bytes."""
    if isinstance(data, str):
        data = data.encode()
    done = subprocess.run(argv, input=data or b"", capture_output=True, check=False, **more)
    if done.returncode:
        raise Failed(f"{argv[0]} {argv[1]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def pack(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def unpack(text):
    return base64.b64decode(text)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def moment(at=None, after=0, micro=False):
    """RFC 3339, as the API writes it."""
    at = (at or now()) + datetime.timedelta(seconds=after)
    return at.strftime("%Y-%m-%dT%H:%M:%S" + (".%f" if micro else "") + "Z")


def since(text):
    """Seconds since a time; negative for a future one."""
    form = "%Y-%m-%dT%H:%M:%S" + (".%f" if "." in text else "") + "%z"
    return (now() - datetime.datetime.strptime(text.replace("Z", "+0000"), form)).total_seconds()


def options(argv, switches):
    """Splits a command line into words and `--options`; those of `switches` take no value."""
    words, found, rest = [], {}, list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            words.append(word)
        elif equals:
            found[name] = value
        elif name in switches:
            found[name] = "true"
        elif rest:
            found[name] = rest.pop(0)
        else:
            raise Failed(f"error: flag needs an argument: {name}")
    return words, found


def dumps(value):
    """JSON as kubectl prints it."""
    return json.dumps(value, indent=4, sort_keys=True)
