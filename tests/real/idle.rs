//! A stream that is idle for ten minutes, like a watch of an object without changes.
//!
//! It really takes that long. `.ci/run` runs it beside everything else.

use std::time::Duration;

use k8sha::cluster::Role;

use crate::balancers::{Balancer, PROGRAMS};
use crate::client::Api;
use crate::lab::Lab;
use crate::masters::Masters;
use crate::{needs, profiles, wait};

const SILENCE: Duration = Duration::from_secs(600);
const LIMIT: Duration = Duration::from_secs(30);

#[test]
#[ignore = "takes ten minutes; K8SHA_REAL=1 cargo test --test real -- --ignored idle_for_ten"]
fn a_stream_that_is_idle_for_ten_minutes_survives() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = profiles::cluster("k8s1");
    let api = &cluster.api;
    let masters: Vec<_> = cluster.with_role(Role::Master).map(|master| master.ip).collect();
    let Some(mut lab) = Lab::new() else { return };
    lab.add("masters", &masters);
    lab.add("client", &[cluster.network.gateway]);
    let served = Masters::start(&lab, "masters", api.port, &api.fqdn);
    let node = cluster.with_role(Role::LoadBalancer).next().unwrap();
    let balancer = Balancer::start(&mut lab, &cluster, node);
    let asked = Api::new((node.ip, api.port), &api.fqdn, &served.certificate);
    let waited = lab.on("client", move || {
        let open = || asked.ask().ok();
        wait::until("HAProxy serves", LIMIT, open, || "no answer".to_owned());
        asked.watch(SILENCE)
    });
    let waited = waited.join().unwrap();
    let waited = waited.unwrap_or_else(|error| panic!("{error}\n{}", balancer.haproxy_log()));
    // The master stops sending a moment before this client has received its last data.
    assert!(waited >= SILENCE - Duration::from_secs(1), "only {waited:?} of silence");
    needs::say(&format!("measured: a stream was silent for {waited:.0?} and went on"));
}
