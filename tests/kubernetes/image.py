#!/usr/bin/env python3
"""image.py OUT TAG ROOT [ENTRYPOINT…]: writes an image archive that `ctr images import` takes, of
one layer: the folder ROOT. The same input makes the same bytes."""

import hashlib
import io
import json
import os
import sys
import tarfile


def entry(name, size=0, mode=0o644, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = size, mode, kind
    return info  # its time is 1970 and its owner root


def pack(root, to):
    with tarfile.open(to, "w", format=tarfile.GNU_FORMAT) as layer:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                inside = os.path.relpath(path, root)
                if os.path.islink(path):
                    info = entry(inside, mode=0o777, kind=tarfile.SYMTYPE)
                    info.linkname = os.readlink(path)
                    layer.addfile(info)
                elif os.path.isdir(path):
                    layer.addfile(entry(inside, mode=0o755, kind=tarfile.DIRTYPE))
                else:
                    mode = 0o755 if os.access(path, os.X_OK) else 0o644
                    with open(path, "rb") as file:
                        layer.addfile(entry(inside, os.path.getsize(path), mode), file)


def main():
    out, tag, root, *entrypoint = sys.argv[1:]
    packed = out + ".layer"
    pack(root, packed)
    with open(packed, "rb") as layer:
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Env": ["PATH=" + path], "Entrypoint": entrypoint, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as archive:
        for inside, content in [("manifest.json", manifest), (name, config)]:
            archive.addfile(entry(inside, len(content)), io.BytesIO(content))
        with open(packed, "rb") as layer:
            archive.addfile(entry("layer.tar", os.path.getsize(packed)), layer)
    os.remove(packed)


main()
