# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set the variables; backquotes are Markdown's
# Sourced by the scenes living-*: a running cluster, ordinary edits of its profile and ordinary losses of its
# machines, and what must not change.

# destroy_vm VMID: acts as a user in Proxmox VE. The machine and its disks are gone when it returns.
destroy_vm() {
  local host
  host=$(host_of "$1")
  power "$host" "$1" stop
  until proxmox "$host" GET "qemu/$1/status/current" | grep -q '"status":"stopped"'; do sleep 0.2; done
  proxmox "$host" DELETE "qemu/$1" >/dev/null
  while proxmox "$host" GET qemu | grep -q "\"vmid\":$1[,}]"; do sleep 0.2; done
}
# Proxmox VE's machines, disks and tasks as text: it changes with any write.
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

# The identity of the cluster: as reported by the API, and as stored on a machine's disk.
cluster_uid() { kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'; }
authority_by_api() {
  kubectl -n kube-public get configmap cluster-info -o jsonpath='{.data.kubeconfig}' \
    | sed -n 's/.*certificate-authority-data: //p' | base64 -d | sha256sum | cut -d' ' -f1
}
authority_on() { in_machine "$1" sha256sum /etc/kubernetes/pki/ca.crt | cut -d' ' -f1; }

# running NODE…: every container of all other nodes, with its id, its start time and its restarts; and
# for each such node the current start of its kubelet and its containerd.
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

# begin_act NODE…: from now on the API is polled, and nothing may change on any other node.
begin_act() {
  touched=("$@")
  running "$@" >"$work/before"
  must 'many containers are running' [ "$(wc -l <"$work/before")" -gt 12 ]
  watch_api
}
# end_act NAME WHAT: checks the claims. The results become a row of the table.
end_act() {
  local missed masters vmid
  missed=$(outage)
  running "${touched[@]}" >"$work/after"
  must 'on all other nodes everything keeps running' is "$(comm -23 <(sort "$work/before") <(sort "$work/after"))" ''
  must 'it is the same cluster' is "$(cluster_uid)" "$uid"
  must 'and has the same CA' is "$(authority_by_api)" "$ca"
  mapfile -t masters < <(sed -n '/role: master/s/.*vmid: \([0-9]*\).*/\1/p' "$profile")
  for vmid in "${masters[@]}"; do
    must "master $vmid has it as well" is "$(authority_on "$vmid")" "$ca"
  done
  must 'all nodes are Ready' ready "$(grep -c 'role: \(master\|worker\)' "$profile")"
  if [ "$stacked" = yes ]; then
    must 'each master is a member of etcd' is "$(members)" "$(grep -c 'role: master' "$profile")"
  fi
  must 'kubeadm init ran once for this cluster' is "$(inits)" "$first_init"
  must 'k8sha up finds nothing to do' on_site "$1-again" up
  must 'a second run is settled' is "$(verdict "$1-again") $(changes "$1-again")" 'settled 0'
  say "| $2 | $missed | $(wall "$1") s |"
}
# The voting members of etcd, as known by that of a master that no act touches.
members() {
  in_machine 1102 etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt \
    --key /etc/kubernetes/pki/etcd/server.key --endpoints https://10.101.1.102:2379 member list --write-out json \
    | jq '[.members[] | select(.isLearner | not)] | length'
}
# The number of `kubeadm init` runs that k8sha has started on this site.
inits() { cat "$work"/*.events | grep -c '"event":"started","step":"init"' || true; }

# refuses NAME WORDS: `up` exits with 1 and prints this, and neither Proxmox VE nor a machine was
# written to.
refuses() {
  local code=0 proxmox_before
  proxmox_before=$(proxmox_state)
  running >"$work/before"
  on_site "$1" up || code=$?
  must 'k8sha up refuses it' is "$code" 1
  must 'and says why' grep -qF -- "$2" "$work/$1.json" "$work/$1.events"
  must 'no step was started' fails grep -q '"event":"started"' "$work/$1.events"
  must 'nothing was changed in Proxmox VE' is "$(proxmox_state)" "$proxmox_before"
  running >"$work/after"
  must 'everything keeps running' is "$(comm -3 "$work/before" "$work/after")" ''
}

# leave: the worker's row is removed. A pod without a controller keeps its machine; a pod that a Deployment
# creates again does not.
leave() {
  local code=0 image=k8sha.test/pods:1
  sed -i '/name: worker1,/d' "$profile"
  kubectl run bare --image="$image" --image-pull-policy=Never --overrides \
    '{"apiVersion":"v1","spec":{"nodeName":"worker1.kloud.lan","terminationGracePeriodSeconds":1}}' \
    --command -- /usr/local/bin/talk >/dev/null
  kubectl wait --for=condition=Ready pod/bare --timeout=60s >/dev/null
  on_site leave-refused up --prune=worker1 || code=$?
  must 'k8sha up stops at a pod without a controller' is "$code" 5
  must 'and quotes kubectl' grep -q 'declare no controller' "$work/leave-refused.json"
  must 'the worker is in service again' is \
    "$(kubectl get node worker1.kloud.lan -o jsonpath='{.spec.unschedulable}{.metadata.annotations.k8sha/removal}')" ''
  kubectl delete pod bare --now >/dev/null
  kubectl apply -f - >/dev/null <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: { name: moves, namespace: default }
spec:
  selector: { matchLabels: { app: moves } }
  template:
    metadata: { labels: { app: moves } }
    spec:
      tolerations: [{ key: node-role.kubernetes.io/control-plane, operator: Exists }]
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              preference: { matchExpressions: [{ key: kubernetes.io/hostname, operator: In, values: [worker1.kloud.lan] }] }
      terminationGracePeriodSeconds: 1
      containers: [{ name: moves, image: "$image", imagePullPolicy: Never, command: [/usr/local/bin/talk] }]
YAML
  kubectl rollout status deployment/moves --timeout=60s >/dev/null
  must 'its pod is on the worker' is \
    "$(kubectl get pods -l app=moves -o jsonpath='{.items[*].spec.nodeName}')" worker1.kloud.lan

  begin_act worker1
  must 'k8sha up drains and removes the worker' on_site leave up --prune=worker1
  end_act leave "the worker's row removed"
  must 'its Node object is gone' fails kubectl get node worker1.kloud.lan
  must 'its VM is gone' fails vm_exists 1111
  kubectl rollout status deployment/moves --timeout=60s >/dev/null
  must 'its pod runs elsewhere' is "$(kubectl get pods -l app=moves -o json \
    | jq '[.items[] | select(.status.phase == "Running" and .spec.nodeName != "worker1.kloud.lan")] | length')" 1
}
# vm_exists VMID: whether a host lists the VM.
vm_exists() {
  local host
  for host in pve1 pve2; do
    if proxmox "$host" GET qemu | grep -q "\"vmid\":$1[,}]"; then return 0; fi
  done
  return 1
}

# living yes|no: all acts. The argument says whether etcd is stacked.
living() {
  stacked=$1
  must 'k8sha up creates the cluster' on_site up up
  must 'all four nodes are Ready' ready 4
  pods_talk
  first_init=$(inits)
  uid=$(cluster_uid)
  ca=$(authority_by_api)
  must 'the CA is the one on the first master' is "$(authority_on 1101)" "$ca"
  for vmid in 1101 1201 1102 1111; do
    must "the Node of $vmid has its own machine's id" \
      grep -qx "$(in_machine "$vmid" cat /etc/machine-id)" <(kubectl get nodes -o json | jq -r '.items[].status.nodeInfo.machineID')
  done
  must 'no two machines have the same id' is \
    "$(kubectl get nodes -o json | jq -r '.items[].status.nodeInfo.machineID' | sort | uniq -d)" ''

  cp "$profile" "$work/as-made.yaml"
  sed -i 's/^  domain: kloud.lan/  domain: other.lan/' "$profile"
  refuses domain 'master1.kloud.lan'
  cp "$work/as-made.yaml" "$profile"
  sed -i 's/role: worker, /role: master, /' "$profile"
  refuses role 'role is worker, should be master'
  say 'A changed `network.domain`, and a worker changed to a master: refused with exit code 1 before the first'
  say 'step; neither Proxmox VE nor a machine was written to.'
  say
  say '| change to the running cluster | the client missed the API for | `k8sha up` took |'
  say '|---|---|---|'

  # Their rows are above those of the running masters.
  cp "$work/all.yaml" "$profile"
  begin_act master4 master5
  must 'k8sha up lets two masters join' on_site more up
  end_act more 'two new masters above the old ones in the table'

  begin_act master1
  destroy_vm 1101
  must 'k8sha up creates the first master again' on_site first up
  end_act first 'the VM of the initialised master destroyed'

  begin_act master2
  destroy_vm 1201
  must 'k8sha up creates another master again' on_site other up
  end_act other "another master's VM destroyed"

  begin_act worker1
  destroy_vm 1111
  must 'k8sha up creates the worker again' on_site worker up
  end_act worker "the worker's VM destroyed"

  # Not a part of CI before it has been played: LEAVE=yes tests/kubernetes/run.sh - living-stacked
  if [ "${LEAVE:-no}" = yes ]; then leave; fi

  say
  say "Each time: the same CA and \`kube-system\`, one \`kubeadm init\` in total; on every untouched node the same"
  say 'containers with the same start times, the same kubelet and containerd; a second run: 0 changes.'
}
