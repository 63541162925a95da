#!/bin/bash
# Succeeds when HAProxy on this node takes connections, TIMES times, 0.1 s apart. It asks nothing of
# the API servers: with none up yet, the VIP must still be somewhere for `kubeadm init` to find.
#   check-haproxy PORT [TIMES]
for ((look = ${2:-1}; look > 0; look--)); do
    exec 3<> "/dev/tcp/127.0.0.1/$1" || exit 1
    # The kernel takes connections for a HAProxy that hangs; HAProxy itself ends ours at once.
    read -r -t 0.5 -u 3 2> /dev/null
    [ $? -le 128 ] || exit 1
    exec 3>&-
    [ "$look" = 1 ] || sleep 0.1
done
