#!/bin/sh
# Writes containerd's configuration in the form that the installed version reads: version 2 for
# containerd 1.x, version 3 for 2.x. Both use systemd's cgroups, as kubelet does.
#   containerd PAUSE_IMAGE
set -eu
pause=$1
config=/etc/containerd/config.toml
version=$(containerd --version | sed -n -E 's/.* v?([0-9]+\.[0-9]+\.[0-9]+).*/\1/p')

mkdir -p "$(dirname "$config")"
case "$version" in
'')
    echo "k8sha containerd: no version in \`$(containerd --version)\`" >&2
    exit 1
    ;;
1.*)
    cat > "$config.new" <<TOML
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
{%- if mirrors.registries %}

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
{%- endif %}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
TOML
    ;;
*)
    cat > "$config.new" <<TOML
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$pause"
{%- if mirrors.registries %}

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'
{%- endif %}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
TOML
    ;;
esac
# The package's own file switches the CRI plugin off, so it never survives.
if ! cmp -s "$config.new" "$config"; then
    mv "$config.new" "$config"
    systemctl restart containerd
else
    rm "$config.new"
fi
