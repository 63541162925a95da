# shellcheck shell=bash
# An external etcd of three: the whole job, late joins, losses, kills, another cluster's leftovers.
begin_site tests/kubernetes/external.yaml

say '### External etcd of three: two balancers, three masters, a worker'
say
on_site up up
say "\`k8sha up\`, masters and worker joining all at once: $(verdict up) in $(wall up) s."
say
say '| step | how many | longest | sum |'
say '|---|---|---|---|'
phases up | tee -a "$work/result"
say
kubectl get nodes -o wide
must 'all nodes are Ready' is "$(kubectl get nodes --no-headers | awk '$2 == "Ready"' | wc -l)" 4
must 'three have the role control-plane' is "$(kubectl get nodes --no-headers -l node-role.kubernetes.io/control-plane | wc -l)" 3
must 'one has the role worker' is "$(kubectl get nodes --no-headers -l node-role.kubernetes.io/worker | wc -l)" 1
pods_talk
on_site again up
must 'a second run finds nothing to do' is "$(verdict again) $(changes again)" 'settled 0'
say "A second run: $(verdict again), $(changes again) changes. Pods on all four nodes talk, by address and by service name."

# Somebody needs more machines when the keys have long run out. Both means of joining go with their
# tokens; Kubernetes removes the uploaded certificates itself.
sed -i 's/^  - { role: worker, .*/  - { role: master,        name: master4, ip: 10.101.1.202, pve: pve2, vmid: 1202 }\
&\
  - { role: worker,        name: worker2, ip: 10.101.1.211, pve: pve2, vmid: 1211 }/' "$profile"
tokens() { kubectl -n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token -o name; }
certificates() { kubectl -n kube-system get secret kubeadm-certs -o jsonpath='{.metadata.uid}'; }
