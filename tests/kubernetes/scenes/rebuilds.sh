# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set the variables; backquotes are Markdown's
# Rebuilds with an external etcd: another cluster's leftovers, killed runs, machines lost while the
# cluster is being created.
begin_site rebuilds

say '### Rebuilt with the same external etcd'
say
must 'k8sha up creates the cluster' on_site up up
must 'all four nodes are Ready' ready 4

# Another cluster's data is in the etcd when the cluster is created again. Without what etcd itself
# drops after 15 s.
registry() { etcdctl get --prefix /registry/ --keys-only | grep '^/registry/' | grep -vc '^/registry/masterleases/'; }
etcdctl put /k8sha/owner '{"cluster":"other","creation":"0"}' >/dev/null
must 'k8sha destroy removes the machines' on_site gone destroy --yes
left=$(registry)
must 'and leaves the data of another cluster' [ "$left" -gt 100 ]
sed -i 's/parallel_joins: all/parallel_joins: 1/' "$profile"
must 'k8sha up refuses that etcd' fails on_site refused up
must 'and names the step' is "$(failures refused)" etcd
must 'and has changed nothing there' is "$(registry)" "$left"
must 'k8sha up --wipe-etcd without its name refuses, too' fails on_site refused up --wipe-etcd
must 'and has changed nothing there' is "$(registry)" "$left"
must 'k8sha up --wipe-etcd=other creates the cluster' on_site serial up --wipe-etcd=other
must 'all four nodes are Ready' ready 4
sed -i 's/parallel_joins: 1/parallel_joins: all/' "$profile"
say
say "Another cluster's $left keys in etcd: refused, nothing changed; deleted with \`--wipe-etcd=other\`."
say
say "From the first master's join to the end of the last one's: $(joins up) all at once, $(joins serial) one by one."

# Killed three times during a rebuild with the same etcd, and run again each time.
authority() { in_machine 1101 sha256sum /etc/kubernetes/pki/ca.crt; }
kill_at in-init '"step":"init","line":"[control-plane-check] Checking kube-apiserver' rebuild --yes
first=$(authority)
kill_at before-joins '"event":"finished","step":"keys"' up
kill_at in-join '"step":"join/master3","line":"[kubelet-start] Starting' up
pinned=$(in_machine 1102 sed -n 's/.*\(sha256:[0-9a-f]*\).*/\1/p' /etc/kubernetes/k8sha/join.yaml)
must 'a run after three killed ones finishes' on_site resumed up
must 'all four nodes are Ready' ready 4
must 'kubeadm init ran once' is "$(in_machine 1101 journalctl -u k8sha-kubeadm-init -o cat | grep -c '^Started')" 1
must 'the cluster still has its first CA' is "$(authority)" "$first"
must 'the join pinned the CA by its key' is "$pinned" "sha256:$(in_machine 1101 sh -c \
  'openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -d" " -f1')"
must 'k8sha up finds nothing to do' on_site resumed-again up
must 'a second run is settled' is "$(verdict resumed-again) $(changes resumed-again)" 'settled 0'
say
say 'k8sha killed during init, before the joins and during a join of a rebuild: each time `k8sha up` resumed, and'
say "finished in $(wall resumed) s. One \`kubeadm init\`, and still the same CA."

# Losses while the cluster is being created.
begin hurt rebuild --yes
reaches hurt '"step":"init","line":"[control-plane-check] Checking kube-apiserver'
cut_power 1101
must 'k8sha rebuild fails without its first master' fails ended
must 'and names the step' is "$(failures hurt)" init
begin hurt-again up
reaches hurt-again '"event":"finished","step":"keys"'
watch_api
balancer=$(holder)
cut_power "$balancer"
reaches hurt-again '"step":"join/master3","line":"[kubelet-start] Starting'
cut_power 1102
must 'k8sha up fails without a master' fails ended
missed=$(outage)
must 'and says which' grep -q 'VM 1102 on pve1 was switched off' "$work/hurt-again.json"
must 'and joined the other master' grep -q '"event":"finished","step":"join/master2"' "$work/hurt-again.events"
must 'k8sha up repairs everything' on_site repaired up
must 'all four nodes are Ready' ready 4
must 'both balancers run' on_site well status
say
say "Lost while the cluster was being created: the first master during its init, then the balancer that held the VIP and"
say "a master during its join (the client missed the API for $missed): the report named each, and \`k8sha up\` repaired"
say "everything in $(wall repaired) s."
