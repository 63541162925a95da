//! `k8sha dns`: checks every name on every name server.

use std::time::Instant;

use super::args::Common;
use super::session::Session;
use crate::dns;
use crate::error::{Exit, Failure};
use crate::exits::failure;

pub(super) async fn run(common: &Common, started: Instant) -> Result<Exit, Failure> {
    let session = Session::open(common, started, "dns").await?;
    let asked = async {
        dns::check(&session.cluster, &session.world.dialer())
            .await
            .map_err(|error| failure("ask the name servers", &error))
    };
    let report = session.unless_interrupted("dns", asked).await?;
    if common.json {
        super::print_json(&report)?;
    } else {
        super::print(&report.text())?;
    }
    Ok(if report.is_good() { Exit::Ok } else { Exit::Dns })
}
