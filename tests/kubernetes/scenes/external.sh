# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set the variables; backquotes are Markdown's
# An external etcd of three: the whole job, late joins, losses.
begin_site external

say '### External etcd of three'
say
say 'Two balancers, three masters, a worker. `k8sha up`, with all joins at once:'
say
must 'k8sha up creates the cluster' on_site up up
table up
must 'all four nodes are Ready' ready 4
must 'three have the role control-plane, one has worker' is "$(count_role control-plane) $(count_role worker)" '3 1'
for vmid in 1101 1201 1102; do
  must "only root on master $vmid can read its etcd key" is "600 root root" \
    "$(in_machine "$vmid" stat -c '%a %U %G' /etc/kubernetes/pki/etcd/apiserver-etcd-client.key)"
done
pods_talk
must 'k8sha up finds nothing to do' on_site again up
must 'a second run is settled' is "$(verdict again) $(changes again)" 'settled 0'
say 'Pods on every two nodes reach each other, and a service by its name. A second run: 0 changes.'

# More machines are added long after the token and certificates have expired. Kubernetes removes an
# expired token, and with its token the uploaded certificates.
cp "$work/all.yaml" "$profile"
kubectl -n kube-system delete secrets --field-selector type=bootstrap.kubernetes.io/token
must 'the certificates are gone with their token' \
  kubectl -n kube-system wait --for=delete secret/kubeadm-certs --timeout=120s
must 'k8sha provision adds two machines' on_site more provision
for vmid in 1011 1012; do
  must "balancer $vmid has the new master" \
    in_machine "$vmid" grep -q 'server master4 10.101.1.202:6443' /etc/haproxy/haproxy.cfg
done
# Two joins fail for a reason of their machines.
for vmid in 1202 1211; do
  in_machine "$vmid" systemd-run --quiet --unit=squatter python3 -m http.server 10250
done
must 'k8sha bootstrap fails with two joins' fails on_site late bootstrap
must 'both are reported' is "$(failures late)" 'join/master4 join/worker2'
must 'both have a reason' is "$(jq '[.failures[] | select(.said | contains("Port 10250 is in use"))] | length' "$work/late.json")" 2
renewed() { grep -c 'renew the bootstrap token\|upload the control plane.s certificates again' "$work/$1.events" || true; }
must 'token and certificates were renewed, once for all' is "$(renewed late)" 2
for vmid in 1202 1211; do
  in_machine "$vmid" systemctl stop squatter
done
must 'k8sha bootstrap joins both' on_site later bootstrap
must 'with the token and certificates renewed before' is "$(renewed later)" 0
must 'all six nodes are Ready' ready 6
say
say "A master and a worker joined later, token and certificates expired: renewed once for both, joined in $(wall later) s."

say
say '| lost | the client missed the API for | `k8sha up` repaired it in |'
say '|---|---|---|'
lose_and_repair 'a master' 1201
lose_and_repair 'the first master' 1101
lose_and_repair 'the balancer that held the VIP' "$(holder)"

# Last, because k8sha cannot repair an external etcd.
watch_api
kill_etcd 10.103.1.103
sleep 12
say
say "A member of the external etcd killed: the client missed the API for $(outage)."
