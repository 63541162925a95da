//! `k8sha plan`: what `up` would do.

use std::time::Instant;

use super::args::Common;
use super::checks::place_for_kubeconfig;
use super::refusal::refused;
use super::session::Session;
use crate::error::{Exit, Failure};
use crate::plan::planner::{self, Part};
use crate::plan::removal;
use crate::run::look::Scope;

pub(super) async fn run(
    common: &Common,
    started: Instant,
    exit_code: bool,
) -> Result<Exit, Failure> {
    let session = Session::open(common, started, "plan").await?;
    let context = session.context(session.options())?;
    let inventory = session.look("plan", &context, &Scope::showing(Part::all())).await?;
    let mut plan = planner::plan(&context.cluster, &context.specs, &inventory, &Part::all())
        .map_err(|refusal| refused(&refusal))?;
    let leaving = removal::all(&context.cluster, &inventory);
    plan.notices.extend(leaving.iter().map(|one| {
        format!(
            "the profile has no row for {0}: `up` removes it after you have typed its name, or with \
             `--prune={0}`",
            one.node
        )
    }));
    place_for_kubeconfig(&context)?;
    session.world.verdict()?;
    if common.json {
        super::print_json(&plan)?;
    } else {
        super::print(&plan.to_string())?;
    }
    // Drift that no step fixes still leaves something to do for the user.
    let as_asked = plan.is_settled() && plan.differences.is_empty() && plan.unwell.is_empty();
    Ok(if exit_code && !as_asked { Exit::SomethingToDo } else { Exit::Ok })
}
