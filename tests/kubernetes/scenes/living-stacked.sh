# shellcheck shell=bash
# Edits and losses of a cluster that lives: each master has its own etcd member.
begin_site living-stacked
# shellcheck source-path=SCRIPTDIR/..
. tests/kubernetes/living.sh

say '### A cluster that lives, stacked etcd'
say
living yes
