# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set what is used; backquotes are Markdown's
# Sourced by the scenes living-*: a cluster that runs, ordinary edits of its profile and ordinary losses
# of its machines, and what must stay of it.

# destroy_vm VMID: what a person does in Proxmox VE. The machine and its disks are gone when it returns.
destroy_vm() {
  local host
  host=$(host_of "$1")
  power "$host" "$1" stop
  until proxmox "$host" GET "qemu/$1/status/current" | grep -q '"status":"stopped"'; do sleep 0.2; done
  proxmox "$host" DELETE "qemu/$1" >/dev/null
  while proxmox "$host" GET qemu | grep -q "\"vmid\":$1[,}]"; do sleep 0.2; done
}
# What Proxmox VE has of machines, disks and tasks: it is another text after any write.
proxmox_state() {
  local host vmid
  for host in pve1 pve2; do
    proxmox "$host" GET tasks
    proxmox "$host" GET storage/local/content
    proxmox "$host" GET storage/local-lvm/content
    for vmid in $(proxmox "$host" GET qemu | jq '.data[].vmid' | sort -n); do
      proxmox "$host" GET "qemu/$vmid/config"
    done
  done | sha256sum
}
vmid_of() { sed -n "s/.*name: $1, .*vmid: \([0-9]*\) .*/\1/p" "$profile"; }

# Which cluster it is: what the API says of itself, and what a machine of it has on its disk.
cluster_uid() { kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'; }
authority_by_api() {
  kubectl -n kube-public get configmap cluster-info -o jsonpath='{.data.kubeconfig}' \
    | sed -n 's/.*certificate-authority-data: //p' | base64 -d | sha256sum | cut -d' ' -f1
}
authority_on() { in_machine "$1" sha256sum /etc/kubernetes/pki/ca.crt | cut -d' ' -f1; }

# running NODE…: every container of all nodes but these, with its id, its start and how often it has
# been started again; and of each such node the present life of its kubelet and its containerd.
running() {
  local node
  kubectl get pods -A -o json | jq -r '.items[] | select(.spec.nodeName | split(".")[0] | IN($ARGS.positional[]) | not)
    | . as $pod | .status.containerStatuses[]? | select(.state.running)
    | "\($pod.spec.nodeName) \($pod.metadata.namespace)/\($pod.metadata.name)/\(.name) \(.containerID) \(.state.running.startedAt) \(.restartCount)"' \
    --args "$@" | sort
  for node in $(kubectl get nodes -o json | jq -r '.items[].metadata.name | split(".")[0] | select(IN($ARGS.positional[]) | not)' --args "$@"); do
    echo "$node $(in_machine "$(vmid_of "$node")" systemctl show -p InvocationID --value kubelet containerd | xargs)"
  done
}

# begin_act NODE…: from now on the API is asked all the while, and nothing of the nodes but these may
# change.
begin_act() {
  touched=("$@")
  running "$@" >"$work/before"
  must 'there is much to lose' [ "$(wc -l <"$work/before")" -gt 12 ]
  watch_api
}
# end_act NAME WHAT: the claims. What was reached is a row of the table.
end_act() {
  local missed masters vmid
  missed=$(outage)
  running "${touched[@]}" >"$work/after"
  must 'on all other nodes everything runs on as it did' is "$(comm -23 <(sort "$work/before") <(sort "$work/after"))" ''
  must 'it is the same cluster' is "$(cluster_uid)" "$uid"
  must 'and has the same authority' is "$(authority_by_api)" "$ca"
  mapfile -t masters < <(sed -n '/role: master/s/.*vmid: \([0-9]*\).*/\1/p' "$profile")
  for vmid in "${masters[@]}"; do
    must "master $vmid has it as well" is "$(authority_on "$vmid")" "$ca"
  done
  must 'all nodes are Ready' ready "$(grep -c 'role: \(master\|worker\)' "$profile")"
  if [ "$stacked" = yes ]; then
    must 'each master is a member of etcd' is "$(members)" "$(grep -c 'role: master' "$profile")"
  fi
  must 'kubeadm init ran once in the life of this cluster' is "$(inits)" "$first_init"
  must 'k8sha up finds nothing to do' on_site "$1-again" up
  must 'a second run is settled' is "$(verdict "$1-again") $(changes "$1-again")" 'settled 0'
  say "| $2 | $missed | $(wall "$1") s |"
}
# The members of etcd that vote, as the one of a master that no act touches knows them.
members() {
  in_machine 1102 etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt \
    --key /etc/kubernetes/pki/etcd/server.key --endpoints https://10.101.1.102:2379 member list --write-out json \
    | jq '[.members[] | select(.isLearner | not)] | length'
}
# How many runs of `kubeadm init` k8sha has begun on this site.
inits() { cat "$work"/*.events | grep -c '"event":"started","step":"init"' || true; }

# refuses NAME WORDS: `up` ends with 1, says so, and neither Proxmox VE nor a machine was written to.
refuses() {
  local code=0 proxmox_before
  proxmox_before=$(proxmox_state)
  running >"$work/before"
  on_site "$1" up || code=$?
  must 'k8sha up refuses it' is "$code" 1
  must 'and says why' grep -qF -- "$2" "$work/$1.json" "$work/$1.events"
  must 'before the first step' fails grep -q '"event":"started"' "$work/$1.events"
  must 'Proxmox VE was asked to do nothing' is "$(proxmox_state)" "$proxmox_before"
  running >"$work/after"
  must 'everything runs on as it did' is "$(comm -3 "$work/before" "$work/after")" ''
}

# living yes|no: all acts. The answer is whether etcd is stacked.
living() {
  stacked=$1
  must 'k8sha up makes the cluster' on_site up up
  must 'all four nodes are Ready' ready 4
  pods_talk
  first_init=$(inits)
  uid=$(cluster_uid)
  ca=$(authority_by_api)
  must 'the authority is the one on the first master' is "$(authority_on 1101)" "$ca"
  for vmid in 1101 1201 1102 1111; do
    must "the Node of $vmid names its own machine" \
      grep -qx "$(in_machine "$vmid" cat /etc/machine-id)" <(kubectl get nodes -o json | jq -r '.items[].status.nodeInfo.machineID')
  done
  must 'no two machines have one id' is \
    "$(kubectl get nodes -o json | jq -r '.items[].status.nodeInfo.machineID' | sort | uniq -d)" ''

  cp "$profile" "$work/as-made.yaml"
  sed -i 's/^  domain: kloud.lan/  domain: other.lan/' "$profile"
  refuses domain 'master1.kloud.lan'
  cp "$work/as-made.yaml" "$profile"
  sed -i 's/role: worker, /role: master, /' "$profile"
  refuses role 'role is worker, the profile asks for master'
  say 'Another `network.domain`, and a worker whose row says master: refused with exit code 1 before the first'
  say 'step; neither Proxmox VE nor a machine was written to.'
  say
  say '| what was done to the running cluster | the client missed the API for | `k8sha up` took |'
  say '|---|---|---|'

  # Their rows stand above those of the masters that run.
  cp "$work/all.yaml" "$profile"
  begin_act master4 master5
  must 'k8sha up lets two masters join' on_site more up
  end_act more 'two new masters above the old ones in the table'

  begin_act master1
  destroy_vm 1101
  must 'k8sha up makes the first master again' on_site first up
  end_act first 'the VM of the master that was initialised destroyed'

  begin_act master2
  destroy_vm 1201
  must 'k8sha up makes another master again' on_site other up
  end_act other "another master's VM destroyed"

  begin_act worker1
  destroy_vm 1111
  must 'k8sha up makes the worker again' on_site worker up
  end_act worker "the worker's VM destroyed"

  say
  say "Each time: the same authority and \`kube-system\`, one \`kubeadm init\` in all; on every node that was not touched the"
  say 'same containers since the same instant, the same kubelet and containerd; a second run: 0 changes.'
}
