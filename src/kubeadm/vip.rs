//! Checks the load balancers: haproxy and keepalived run, and exactly one holds the VIP.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Error;
use super::error::Doing;
use super::unit::journal;
use crate::clock::{Clock, Wait};
use crate::cluster::Cluster;
use crate::report::event;
use crate::ssh::{Command, Remote};

/// The services of a load balancer.
const UNITS: [&str; 2] = ["haproxy", "keepalived"];
/// The pause between two checks.
const LOOK: Duration = Duration::from_secs(1);
/// How long keepalived may take to agree on a holder, and units to start.
const LIMIT: Duration = Duration::from_secs(45);

/// Waits until every load balancer runs both services and exactly one holds the VIP; returns that
/// one.
///
/// # Errors
/// The unit that does not run, with the end of its journal; or the holders of the VIP, if not
/// exactly one.
pub async fn check(balancers: &[Remote], cluster: &Cluster, clock: Clock) -> Result<String, Error> {
    let vip = cluster.api.vip;
    let mut wait = Wait::new(clock, LIMIT, LOOK)
        .telling(|error: &Error| event::progress(format!("waiting for the VIP {vip}: {error}")));
    loop {
        match look(balancers, vip).await {
            Ok(holder) => {
                event::progress(format!("{holder} holds the VIP {vip}"));
                return Ok(holder);
            }
            Err(error) if error.is_lasting() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the VIP is not settled");
                wait.not_yet(error).await.map_err(|expired| expired.seen)?;
            }
        }
    }
}

/// Checks once, and returns the holder of the VIP.
///
/// # Errors
/// As [`check`], without waiting.
pub async fn look(balancers: &[Remote], vip: Ipv4Addr) -> Result<String, Error> {
    let mut holders = Vec::new();
    for balancer in balancers {
        units(balancer).await?;
        if holds(balancer, vip).await? {
            holders.push(balancer.node().to_owned());
        }
    }
    match holders.as_slice() {
        [holder] => Ok(holder.clone()),
        [] => {
            let looked = balancers.iter().map(|remote| remote.node().to_owned()).collect();
            Err(Error::VipNowhere { vip, looked })
        }
        _ => Err(Error::VipTwice { vip, holders }),
    }
}

async fn units(balancer: &Remote) -> Result<(), Error> {
    // Exits with 3 if one does not run; the states are on standard output, one per line.
    let command = Command::new("systemctl").arg("is-active").args(UNITS);
    let output = balancer.run(&command).await.doing("look at the load balancer's units")?;
    let text = output.stdout_text();
    let mut states = text.lines().map(str::trim);
    for unit in UNITS {
        let state = states.next().unwrap_or("unknown");
        if state != "active" {
            return Err(Error::Balancer {
                node: balancer.node().to_owned(),
                unit: unit.to_owned(),
                state: state.to_owned(),
                journal: journal(balancer, unit).await,
            });
        }
    }
    Ok(())
}

async fn holds(balancer: &Remote, vip: Ipv4Addr) -> Result<bool, Error> {
    let command = Command::new("ip").args(["-o", "-4", "addr", "show"]);
    let output = balancer.run_ok(&command).await.doing("look for the VIP")?;
    Ok(addresses(&output.stdout_text()).any(|address| address == vip))
}

/// The addresses in the output of `ip -o -4 addr show`.
fn addresses(text: &str) -> impl Iterator<Item = Ipv4Addr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "inet").skip(1);
        words.next()?.split('/').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixture::k8s1;
    use crate::kubeadm::fake::Host;
    use crate::ssh::fake::Reply;

    const WITH: &str = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n\
        2: eth0    inet 10.101.1.11/24 brd 10.101.1.255 scope global eth0\\       valid_lft forever\n\
        2: eth0    inet 10.101.1.10/32 scope global eth0\\       valid_lft forever\n";
    const WITHOUT: &str = "2: eth0    inet 10.101.1.12/24 brd 10.101.1.255 scope global eth0\\       valid_lft forever\n";

    async fn balancer(haproxy: bool, addresses: &'static str) -> Host {
        Host::start(move |words, _| match words {
            ["systemctl", "is-active", "haproxy", "keepalived"] if haproxy => {
                Some(Reply::out("active\nactive\n"))
            }
            ["systemctl", "is-active", ..] => {
                Some(Reply::Done(3, b"failed\nactive\n".to_vec(), String::new()))
            }
            ["ip", "-o", "-4", "addr", "show"] => Some(Reply::out(addresses)),
            ["journalctl", "-u", "haproxy", ..] => Some(Reply::out("[ALERT] no such backend\n")),
            _ => None,
        })
        .await
    }

    async fn outcome(one: Host, two: Host) -> Result<String, Error> {
        let remotes = [one.remote("lb1"), two.remote("lb2")];
        check(&remotes, &k8s1(), Clock::simulated(1000.0).hurried(1000.0)).await
    }

    #[tokio::test]
    async fn exactly_one_holder_is_right() {
        let holder = outcome(balancer(true, WITH).await, balancer(true, WITHOUT).await).await;
        assert_eq!(holder.unwrap(), "lb1");
        let error = outcome(balancer(true, WITH).await, balancer(true, WITH).await).await;
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "several load balancers hold the VIP 10.101.1.10: lb1 and lb2");
        let error = outcome(balancer(true, WITHOUT).await, balancer(true, WITHOUT).await).await;
        assert!(matches!(error, Err(Error::VipNowhere { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn a_router_id_that_is_in_use_is_told_at_once_with_the_way_out() {
        let refused = "k8sha vrrp-listen: cannot use router id 101 and VIP 10.101.1.10: 10.101.1.77 \
                       advertises VRRP virtual router 101 for 10.101.1.91";
        let host = Host::start(move |words, _| match words {
            ["systemctl", "is-active", ..] => {
                Some(Reply::Done(3, b"active\nfailed\n".to_vec(), String::new()))
            }
            ["journalctl", "-u", "keepalived", ..] => Some(Reply::out(format!("{refused}\n"))),
            _ => None,
        })
        .await;
        // No second check: in real time it would take 45 seconds.
        let (remotes, cluster) = ([host.remote("lb1")], k8s1());
        let looked = check(&remotes, &cluster, Clock::real());
        let error = tokio::time::timeout(Duration::from_secs(20), looked).await.unwrap();
        let error = error.unwrap_err();
        let wanted = format!("`keepalived` on `lb1` is failed; the end of its journal:\n{refused}");
        assert_eq!(error.to_string(), wanted);
        assert!(error.hint().unwrap().contains("`balancer.vrid`"), "{:?}", error.hint());
    }

    #[tokio::test]
    async fn a_dead_haproxy_is_named_with_its_last_words() {
        let error = outcome(balancer(true, WITH).await, balancer(false, WITHOUT).await).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "`haproxy` on `lb2` is failed; the end of its journal:\n[ALERT] no such backend"
        );
    }
}
