# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set the variables; backquotes are Markdown's
# Stacked etcd: each master has a member, so masters join one after the other.
begin_site stacked

say '### Stacked etcd'
say
say 'Two balancers, three masters, a worker:'
say
must 'k8sha up creates the cluster' on_site up up
table up
must 'all four nodes are Ready' ready 4
members() {
  in_machine 1101 etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt \
    --key /etc/kubernetes/pki/etcd/server.key --endpoints https://10.101.1.101:2379 "$@" --write-out json
}
must 'etcd has three voting members' is "$(members member list | jq '[.members[] | select(.isLearner | not)] | length')" 3
must 'no two masters joined at a time' is "$(overlaps up)" 0
must 'k8sha up finds nothing to do' on_site again up
must 'a second run is settled' is "$(verdict again) $(changes again)" 'settled 0'
say "From the first master's join to the end of the last one's: $(joins up). A second run: 0 changes."

say
say '| lost | the client missed the API for | `k8sha up` repaired it in |'
say '|---|---|---|'
lose_and_repair 'a master with its etcd member' 1201
lose_and_repair 'the first master with its etcd member' 1101

kill_at in-join '"step":"join/master2","line":"[etcd]' rebuild --yes
must 'a run after a rebuild that was killed finishes' on_site resumed up
must 'all four nodes are Ready' ready 4
must 'etcd has three voting members' is "$(members member list | jq '[.members[] | select(.isLearner | not)] | length')" 3
say
say "k8sha killed while a rebuild's second master joined etcd: \`k8sha up\` finished in $(wall resumed) s, with three members."
