# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016 # run.sh and site.sh set the variables; backquotes are Markdown's
# The whole node table of the profile `k8s1`: it needs 16 GB of memory.
begin_site six-masters

say '### Six masters'
say
say 'The node table of `k8s1` and two workers, external etcd of three:'
say
must 'k8sha up creates the cluster' on_site up up
table up
must 'all eight nodes are Ready' ready 8
must 'six have the role control-plane, two have worker' is "$(count_role control-plane) $(count_role worker)" '6 2'
must 'k8sha up finds nothing to do' on_site again up
must 'a second run is settled' is "$(verdict again) $(changes again)" 'settled 0'

sed -i 's/parallel_joins: all/parallel_joins: 1/' "$profile"
must 'k8sha rebuild creates it again' on_site serial rebuild --yes
must 'all eight nodes are Ready' ready 8
say
say "A second run: 0 changes. From the first join of a master to the end of the last one's: $(joins up) all at once,"
say "$(joins serial) one by one, in a rebuild with the same etcd."
