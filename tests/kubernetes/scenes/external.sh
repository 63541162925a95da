# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set what is used; backquotes are Markdown's
# An external etcd of three: the whole job, late joins, losses, killed runs, leftovers of another
# cluster.
begin_site external

say '### External etcd of three'
say
say 'Two balancers, three masters, a worker. `k8sha up`, all of them joining at once:'
say
must 'k8sha up makes the cluster' on_site up up
table up
must 'all four nodes are Ready' ready 4
must 'three have the role control-plane, one has worker' is "$(count_role control-plane) $(count_role worker)" '3 1'
pods_talk
must 'k8sha up finds nothing to do' on_site again up
must 'a second run is settled' is "$(verdict again) $(changes again)" 'settled 0'
say 'Pods on every two nodes reach each other, and a service by its name. A second run: 0 changes.'

# More machines are wanted when the means of joining have long expired. Kubernetes removes an expired
# token, and with its token the uploaded certificates.
cp "$work/all.yaml" "$profile"
kubectl -n kube-system delete secrets --field-selector type=bootstrap.kubernetes.io/token
must 'the certificates are gone with their token' \
  kubectl -n kube-system wait --for=delete secret/kubeadm-certs --timeout=120s
must 'k8sha provision adds two machines' on_site more provision
# Two joins fail for a reason of their machines.
for vmid in 1202 1211; do
  in_machine "$vmid" systemd-run --quiet --unit=squatter python3 -m http.server 10250
done
must 'k8sha bootstrap fails with two joins' fails on_site late bootstrap
must 'both are told' is "$(failures late)" 'join/master4 join/worker2'
must 'both say why' is "$(jq '[.failures[] | select(.said | contains("Port 10250 is in use"))] | length' "$work/late.json")" 2
renewed() { grep -c 'renew the bootstrap token\|upload the control plane.s certificates anew' "$work/$1.events" || true; }
must 'token and certificates were renewed, once for all' is "$(renewed late)" 2
for vmid in 1202 1211; do
  in_machine "$vmid" systemctl stop squatter
done
must 'k8sha bootstrap joins both' on_site later bootstrap
must 'with the means that were renewed before' is "$(renewed later)" 0
must 'all six nodes are Ready' ready 6
say
say "A master and a worker joined later, token and certificates expired: renewed once for both, joined in $(wall later) s."

say
say '| lost | the client missed the API for | `k8sha up` repaired it in |'
say '|---|---|---|'
lose_and_mend 'a master' 1201
lose_and_mend 'the first master' 1101
lose_and_mend 'the balancer that held the VIP' "$(holder)"

# Somebody else's data lies in the etcd when the cluster is made again.
registry() { etcdctl get --prefix /registry/ --keys-only --write-out=json | jq '.kvs | length'; }
etcdctl put /k8sha/owner '{"cluster":"other","creation":"0"}' >/dev/null
must 'k8sha destroy removes the machines' on_site gone destroy --yes
left=$(registry)
must 'and leaves the data of another cluster' [ "$left" -gt 100 ]
sed -e '/# later$/d' -e 's/parallel_joins: all/parallel_joins: 1/' "$work/all.yaml" >"$profile"
must 'k8sha up refuses that etcd' fails on_site refused up
must 'and names the step' is "$(failures refused)" etcd
must 'and has written nothing there' is "$(registry)" "$left"
must 'k8sha up --wipe-etcd makes the cluster' on_site serial up --wipe-etcd
must 'all four nodes are Ready' ready 4
cp "$profile" "$work/one-by-one.yaml"
sed '/# later$/d' "$work/all.yaml" >"$profile"
say
say "Another cluster's $left keys in etcd: refused, nothing touched; wiped with \`--wipe-etcd\`."
say
say "From the first master's join to the end of the last one's: $(joins up) all at once, $(joins serial) one by one."

# Killed three times on the way through a rebuild over the same etcd, and run again each time.
authority() { in_machine 1101 sha256sum /etc/kubernetes/pki/ca.crt; }
kill_at in-init '"step":"init","line":"[control-plane-check] Checking kube-apiserver' rebuild --yes
first=$(authority)
kill_at before-joins '"event":"finished","step":"keys"' up
kill_at in-join '"step":"join/master3","line":"[kubelet-start] Starting' up
pinned=$(in_machine 1102 sed -n 's/.*\(sha256:[0-9a-f]*\).*/\1/p' /etc/kubernetes/k8sha/join.yaml)
must 'a run after three killed ones finishes' on_site resumed up
must 'all four nodes are Ready' ready 4
must 'kubeadm init ran once' is "$(in_machine 1101 journalctl -u k8sha-kubeadm-init -o cat | grep -c '^Started')" 1
must 'the cluster has the authority that it had at first' is "$(authority)" "$first"
must 'the join knew the authority by its key' is "$pinned" "sha256:$(in_machine 1101 sh -c \
  'openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -d" " -f1')"
must 'k8sha up finds nothing to do' on_site resumed-again up
must 'a second run is settled' is "$(verdict resumed-again) $(changes resumed-again)" 'settled 0'
say
say 'k8sha killed during init, before the joins and during a join of a rebuild: each time `k8sha up` went on, and'
say "finished in $(wall resumed) s. One \`kubeadm init\`, the authority is still the same."

# What is lost while the cluster is being made.
begin hurt rebuild --yes
reaches hurt '"step":"init","line":"[control-plane-check] Checking kube-apiserver'
cut_power 1101
must 'k8sha rebuild fails without its first master' fails ended
must 'and says where' is "$(failures hurt)" init
begin hurt-again up
reaches hurt-again '"event":"finished","step":"keys"'
watch_api
balancer=$(holder)
cut_power "$balancer"
reaches hurt-again '"step":"join/master3","line":"[kubelet-start] Starting'
cut_power 1102
must 'k8sha up fails without a master' fails ended
missed=$(outage)
must 'and says which, and joined the others' is "$(failures hurt-again)" join/master3
must 'k8sha up mends it all' on_site mended up
must 'all four nodes are Ready' ready 4
must 'both balancers run' on_site well status
say
say "Lost while the cluster was made: the first master during its init, then the balancer that held the VIP and"
say "a master during its join (the client missed the API for $missed): the report named each, and \`k8sha up\` made up"
say "for it in $(wall mended) s."

# Last, since the etcd is not ours to repair.
watch_api
kill_etcd 10.103.1.103
sleep 12
say
say "A member of the external etcd killed: the client missed the API for $(outage)."
