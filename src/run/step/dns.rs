//! Steps that check DNS, from this machine and from a node.

use crate::cluster::NodeName;
use crate::dns::{self, Report};
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::plan::action;
use crate::report::event;
use crate::run::context::Context;
use crate::ssh::Command;

/// Checks every name server from the operator's machine.
pub(super) async fn operator(context: &Context) -> Result<bool, Failure> {
    let report = dns::check(&context.cluster, &context.dialer)
        .await
        .map_err(|error| failure("query the name servers", &error))?;
    judge(&report, None)
}

/// Checks every name server from a node, and the node's own resolver.
pub(super) async fn node(context: &Context, it: &action::NodeDns) -> Result<bool, Failure> {
    let name = &it.node;
    let node = context.node(name);
    let remote = context.remote(name);
    let run = |words: Vec<String>| {
        let remote = remote.clone();
        async move {
            let mut words = words.into_iter();
            let command = Command::new(words.next().unwrap_or_default()).args(words);
            let output = remote.run(&command).await?;
            Ok::<_, crate::ssh::Error>((output.code, output.stdout_text()))
        }
    };
    let report = dns::node::check(&context.cluster, node, run)
        .await
        .map_err(|error| super::boot::ssh(name, &error))?;
    judge(&report, Some(name))
}

fn judge(report: &Report, from: Option<&NodeName>) -> Result<bool, Failure> {
    for warning in report.warnings() {
        event::progress(format!("warning: {}", warning.text));
    }
    if report.is_good() {
        return Ok(false);
    }
    let said: Vec<&str> = report.errors().map(|finding| finding.text.as_str()).collect();
    let mut failure = Failure::new(Exit::Dns, "continue with these DNS answers", said.join("\n"));
    if let Some(name) = from {
        failure = failure.on(name);
    }
    let records = report.records.text();
    let hint = if records.is_empty() {
        "check that each name server answers (`k8sha dns`)".to_owned()
    } else {
        format!("add or correct these records, then run again:\n{records}")
    };
    Err(failure.hint(hint))
}
