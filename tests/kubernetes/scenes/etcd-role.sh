# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set the variables; backquotes are Markdown's
# Rows of role etcd: machines, certificates and cluster are k8sha's own.
begin_site etcd-role

say '### etcd as a role'
say
say 'Two balancers, three etcd machines in their own network, three masters:'
say
must 'k8sha up creates the cluster' on_site up up
table up
must 'all three nodes are Ready' ready 3
must "only the operator can read etcd's keys" is "$(find "$work/state/etcd" -type f -printf '%m\n' | sort -u)" 600
# A line from the middle of the CA's key is on no machine's disk.
secret=$(sed -n '/PRIVATE KEY/{n;p;q}' "$work/state/etcd/ca.pem")
must 'there is such a line' [ ${#secret} -gt 40 ]
must "the CA's key has not left the operator's machine" fails grep -rqsF -- "$secret" "/var/tmp/k8sha-lab-${lab#k8sha-}/machines"
must 'k8sha up finds nothing to do' on_site again up
must 'a second run is settled' is "$(verdict again) $(changes again)" 'settled 0'
say "The CA's key has not left the operator's folder. A second run: 0 changes."

say
say '| lost | the client missed the API for | `k8sha up` repaired it in |'
say '|---|---|---|'
lose_and_repair 'an etcd machine' 3201

# One is lost when masters start to join. kubeadm queries every member before it lets one join; if it
# has done so already, the joins succeed and the machine is reported at the end.
begin hurt rebuild --yes
reaches hurt '"event":"finished","step":"keys"'
cut_power 3102
must 'k8sha rebuild fails without an etcd machine' fails ended
must 'and says which' grep -q 'VM 3102\|10\.103\.1\.102' <<<"$(jq -c .failures "$work/hurt.json")"
must 'k8sha up repairs it' on_site repaired up
must 'all three nodes are Ready' ready 3
must 'k8sha status reports a match with the profile' on_site well status
say
say "An etcd machine lost when masters started to join: the report named it, \`k8sha up\` repaired it in $(wall repaired) s."
