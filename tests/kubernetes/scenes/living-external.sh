# shellcheck shell=bash
# Edits and losses of a running cluster: an external etcd of three.
begin_site living-external
# shellcheck source-path=SCRIPTDIR/..
. tests/kubernetes/living.sh

say '### Changes to a running cluster, external etcd'
say
living no
