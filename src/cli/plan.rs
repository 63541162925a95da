//! `k8sha plan`: what `up` would do.

use std::time::Instant;

use super::args::Common;
use super::desk::Desk;
use super::job::refused;
use crate::error::{Exit, Failure};
use crate::plan::planner::{self, Part};
use crate::run::look;

pub(super) async fn run(common: &Common, started: Instant) -> Result<Exit, Failure> {
    let desk = Desk::lay(common, started, "plan").await?;
    let context = desk.context(desk.options())?;
    let inventory = look::take(&context, &Part::all()).await?;
    let plan = planner::plan(&context.cluster, &context.specs, &inventory, &Part::all())
        .map_err(|conflicts| refused(&conflicts))?;
    desk.world.verdict()?;
    if common.json {
        super::print_json(&plan)?;
    } else {
        super::print(&plan.to_string())?;
    }
    Ok(Exit::Ok)
}
