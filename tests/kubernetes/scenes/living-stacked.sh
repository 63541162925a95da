# shellcheck shell=bash
# Edits and losses of a running cluster: each master has its own etcd member.
begin_site living-stacked
# shellcheck source-path=SCRIPTDIR/..
. tests/kubernetes/living.sh

say '### Changes to a running cluster, stacked etcd'
say
living yes
