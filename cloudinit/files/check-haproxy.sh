#!/bin/bash
# Succeeds when HAProxy on this node takes connections. It asks nothing of the API servers: with
# none up yet, the VIP must still be somewhere for `kubeadm init` to find.
#   check-haproxy PORT
exec 3<> "/dev/tcp/127.0.0.1/$1"
