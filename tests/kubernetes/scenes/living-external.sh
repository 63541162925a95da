# shellcheck shell=bash
# Edits and losses of a cluster that lives: an external etcd of three.
begin_site living-external
# shellcheck source-path=SCRIPTDIR/..
. tests/kubernetes/living.sh

say '### A cluster that lives, external etcd'
say
living no
