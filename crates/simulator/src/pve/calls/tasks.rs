//! Tasks: lists, status, log, stop (pve-manager PVE/API2/Tasks.pm).

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::{Answer, Ask, Call, Permit, Run};
use crate::pve::gzip;
use crate::pve::state::Datacenter;
use crate::pve::task::Task;
use crate::pve::wire::{Body, Failure, File};
use crate::pve::work;
use crate::store::Store;
use crate::world::World;

/// A longer log, in bytes, is compressed when it is sent as a file.
const COMPRESSED_FROM: usize = 1024;

/// The calls of this module.
pub const CALLS: &[Call] = &[
    Call {
        method: "GET",
        path: "/cluster/tasks",
        permit: Permit::User,
        run: Run::Read(|world, ask| {
            let tasks = ask.dc(world).tasks.iter().rev();
            let seen = tasks.filter(|task| may_see(world, ask, task, &task.host));
            Ok(seen.map(cluster_item).take(500).collect())
        }),
    },
    Call { method: "GET", path: "/nodes/{node}/tasks", permit: Permit::User, run: Run::List(list) },
    Call {
        method: "GET",
        path: "/nodes/{node}/tasks/{upid}",
        permit: Permit::User,
        run: Run::Read(|_, _| Ok(json!([{"name": "status"}, {"name": "log"}]))),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/tasks/{upid}/status",
        permit: Permit::User,
        run: Run::Read(|world, ask| {
            let task = find_seen(world, ask)?.ok_or_else(no_such)?;
            Ok(ask.dc(world).tasks[task].status())
        }),
    },
    Call {
        method: "GET",
        path: "/nodes/{node}/tasks/{upid}/log",
        permit: Permit::User,
        run: Run::List(log),
    },
    Call {
        method: "DELETE",
        path: "/nodes/{node}/tasks/{upid}",
        permit: Permit::User,
        run: Run::Write(stop),
    },
];

fn no_such() -> Failure {
    Failure::parameter("upid", "no such task")
}

/// A task of the node by its UPID.
fn find(world: &World, ask: &Ask) -> Result<Option<usize>, Failure> {
    let upid = ask.text("upid");
    if upid.split(':').count() != 9 || !upid.starts_with("UPID:") {
        return Err(Failure::parameter("upid", "unable to parse worker upid"));
    }
    let dc: &Datacenter = ask.dc(world);
    Ok(dc.tasks.iter().position(|task| task.upid == upid && task.host == ask.node))
}

/// The same for a user who wants to read it.
fn find_seen(world: &World, ask: &Ask) -> Result<Option<usize>, Failure> {
    let found = find(world, ask)?;
    if let Some(task) = found.map(|index| &ask.dc(world).tasks[index])
        && !may_see(world, ask, task, &ask.node)
    {
        ask.require(world, &format!("/nodes/{}", ask.node), &["Sys.Audit"])?;
    }
    Ok(found)
}

fn is_own(ask: &Ask, task: &Task) -> bool {
    // A token sees the tasks that it started; a user also sees those of his tokens.
    task.user == ask.caller.user && (ask.caller.token.is_none() || task.token == ask.caller.token)
}

fn may_see(world: &World, ask: &Ask, task: &Task, host: &str) -> bool {
    is_own(ask, task) || ask.may(world, &format!("/nodes/{host}"), &["Sys.Audit"])
}

fn cluster_item(task: &Task) -> Value {
    let mut value = task.listed();
    if let Some(object) = value.as_object_mut() {
        object.remove("pstart");
        if task.result.is_some() {
            object.remove("pid");
            object.insert("saved".to_owned(), json!("1"));
        }
    }
    value
}

/// A task as in the file of running tasks: there the token is a part of the user.
fn active_item(task: &Task) -> Value {
    let mut value = task.listed();
    if let Some(object) = value.as_object_mut() {
        object.remove("tokenid");
        object.insert("user".to_owned(), json!(task.caller().full()));
        object.insert("saved".to_owned(), json!("0"));
        object.insert("status".to_owned(), json!("RUNNING"));
    }
    value
}

/// The kind of a task's result.
fn status_of(task: &Task) -> String {
    let kind = match task.result.as_deref() {
        None => "unknown",
        Some("OK") => "ok",
        Some(text) if text.starts_with("WARNINGS:") => "warning",
        Some(_) => "error",
    };
    kind.to_owned()
}

fn list(world: &World, ask: &Ask) -> Result<Body, Failure> {
    let params = &ask.params;
    let source = params.text("source").unwrap_or("archive");
    let vmid = params.text("vmid");
    let statuses: Vec<_> =
        params.list("statusfilter").iter().map(|text| text.to_lowercase()).collect();
    let wanted = |task: &&Task| {
        task.host == ask.node
            && may_see(world, ask, task, &ask.node)
            && vmid.is_none_or(|vmid| task.id == vmid)
            && params.text("typefilter").is_none_or(|kind| task.kind == kind)
            && (statuses.is_empty() || statuses.contains(&status_of(task)))
            && params.text("userfilter").is_none_or(|user| task.user.contains(user))
            && params.number("since").is_none_or(|since| task.started >= since)
            && params.number("until").is_none_or(|until| task.started <= until)
            && match source {
                "archive" => task.result.is_some(),
                "active" => task.result.is_none(),
                _ => true,
            }
            && !(params.flag("errors") && task.result.as_deref().is_none_or(|text| text == "OK"))
    };
    let seen: Vec<_> = ask.dc(world).tasks.iter().rev().filter(wanted).collect();
    let start = params.number("start").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let limit = params.number("limit").and_then(|n| usize::try_from(n).ok()).unwrap_or(50);
    let item = |task: &Task| {
        if task.result.is_none() { active_item(task) } else { task.listed() }
    };
    // Perl omits false values.
    let total = Some(seen.len()).filter(|total| *total > 0);
    let data = seen.into_iter().skip(start).take(limit).map(item).collect();
    Ok(Body { data, total, file: None })
}

fn log(world: &World, ask: &Ask) -> Result<Body, Failure> {
    let Some(index) = find_seen(world, ask)? else {
        return Ok(one_line("unable to open file - No such file or directory"));
    };
    let lines = &ask.dc(world).tasks[index].log;
    let number = |name: &str| ask.params.number(name).and_then(|n| usize::try_from(n).ok());
    let limit = match number("limit") {
        None => 50,
        Some(0) => usize::MAX,
        Some(limit) => limit,
    };
    if ask.params.flag("download") {
        if ["start", "limit"].iter().any(|name| ask.params.text(name).is_some()) {
            let text = "'download' cannot be used together with 'start' or 'limit' parameters";
            return Err(Failure::die(text));
        }
        return Ok(Body { file: Some(log_file(&ask.dc(world).tasks[index])), ..one_line("") });
    }
    if lines.is_empty() {
        return Ok(one_line("no content"));
    }
    let shown = (1..).zip(lines).skip(number("start").unwrap_or(0)).take(limit);
    let data = shown.map(|(n, line): (usize, _)| json!({"n": n, "t": line})).collect();
    Ok(Body { data, total: Some(lines.len()), file: None })
}

/// The whole log as a file, compressed if it is long.
fn log_file(task: &Task) -> File {
    let text: String = task.log.iter().map(|line| format!("{line}\n")).collect();
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let started =
        OffsetDateTime::from_unix_timestamp(task.started).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let started = started.format(format).unwrap_or_default();
    let name = format!("task-{}-{}-{started}.log", task.host, task.kind);
    let gzip = text.len() > COMPRESSED_FROM;
    let bytes = if gzip { gzip::packed(&task.upid, text.as_bytes()) } else { text.into_bytes() };
    File { name, bytes, gzip }
}

fn one_line(text: &str) -> Body {
    Body { data: json!([{"n": 1, "t": text}]), total: Some(1), file: None }
}

fn stop(world: &mut World, _: &Store, ask: &Ask) -> Answer {
    let index = find(world, ask)?;
    if let Some(index) = index {
        if !is_own(ask, &ask.dc(world).tasks[index]) {
            ask.require(world, &format!("/nodes/{}", ask.node), &["Sys.Modify"])?;
        }
        let now = world.now;
        work::interrupt(world, ask.dc, index, now);
    }
    Ok(Value::Null)
}
