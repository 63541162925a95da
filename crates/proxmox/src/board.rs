//! Shares one poll of a node's tasks among all callers that wait for a task there.
//!
//! A node is queried less than twice a second, however many of its tasks are waited for: a single task
//! by its own status, several by one list of the node's tasks, which shows the ends of all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Request};
use super::error::Error;
use super::params::Params;
use super::task::{TaskEnd, Upid};
use super::wire::{TaskStatus, TaskSummary};

/// The time between two looks at a node's tasks.
const BETWEEN: Duration = Duration::from_millis(600);
/// More than the tasks that end or run between the oldest awaited task and now.
const LISTED: u32 = 500;

/// The nodes whose tasks are waited for.
#[derive(Debug, Default)]
pub(super) struct Board {
    nodes: StdMutex<BTreeMap<String, Arc<Node>>>,
}

#[derive(Debug, Default)]
struct Node {
    /// The awaited tasks, by id, with their start times in seconds.
    waiting: StdMutex<BTreeMap<String, u64>>,
    last: Mutex<Last>,
}

/// The last look at a node's tasks.
#[derive(Debug, Default)]
struct Last {
    /// When the node was last queried about a task.
    asked: Option<Instant>,
    /// When it was started.
    at: Option<Instant>,
    /// Its result, by task id.
    told: BTreeMap<String, State>,
}

/// The state of a task in a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is running.
    Running,
    /// It has ended, with this exit status.
    Ended(String),
}

/// An awaited task; it is removed from the board when this value is dropped.
pub(super) struct Place {
    node: Arc<Node>,
    upid: Upid,
    /// Looks that were started before this do not count for it.
    since: Instant,
}

impl Board {
    /// Puts a task on the board.
    pub(super) fn wait(&self, upid: &Upid) -> Place {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = Arc::clone(nodes.entry(upid.node.clone()).or_default());
        node.waiting().insert(upid.to_string(), upid.starttime);
        Place { node, upid: upid.clone(), since: Instant::now() }
    }
}

impl Node {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.node.waiting().remove(&self.upid.to_string());
    }
}

impl Client {
    /// The result of the next look at the task's node: one that another waiter has made meanwhile, or
    /// its own.
    pub(super) async fn state(&self, place: &Place) -> Result<State, Error> {
        let node = Arc::clone(&place.node);
        let asked = Instant::now();
        // The holder of the lock waits for the node's next turn; the others wait for its result.
        let mut last = node.last.lock().await;
        let id = place.upid.to_string();
        // An end remains true; that it is running counts only if it was seen since the request.
        if let Some(at) = last.at
            && let Some(state) = last.told.get(&id)
            && at > if *state == State::Running { asked } else { place.since }
        {
            return Ok(state.clone());
        }
        last.at = Some(self.take_turn(&mut last).await);
        last.told.clear();
        let oldest = {
            let waiting = node.waiting();
            waiting.values().min().copied().filter(|_| waiting.len() > 1)
        };
        if let Some(oldest) = oldest {
            match self.tasks_since(&place.upid.node, oldest).await {
                Ok(told) => last.told = told,
                Err(error @ (Error::NoAnswer { .. } | Error::Unreachable { .. })) => {
                    return Err(error);
                }
                // A list that cannot be parsed hides no task: each has its own status.
                Err(_) => {}
            }
            if let Some(state) = last.told.get(&id) {
                return Ok(state.clone());
            }
        }
        let TaskStatus { status, exitstatus } = self.task_status(&place.upid).await?;
        Ok(match status.as_str() {
            "stopped" => State::Ended(exitstatus.unwrap_or_default()),
            _ => State::Running,
        })
    }

    /// Waits until the task's node may be queried about something else, such as its log.
    pub(super) async fn turn(&self, place: &Place) {
        self.take_turn(&mut *place.node.last.lock().await).await;
    }

    async fn take_turn(&self, last: &mut Last) -> Instant {
        if let Some(asked) = last.asked {
            sleep_until(asked + self.clock().scaled(BETWEEN)).await;
        }
        *last.asked.insert(Instant::now())
    }

    /// The tasks of a node that started since then and that the account may see, k8sha's own among
    /// them. Only a success is taken as an end: the list truncates the error text of a failure.
    async fn tasks_since(&self, node: &str, since: u64) -> Result<BTreeMap<String, State>, Error> {
        let query = Params::new().with("source", "all").with("since", since).with("limit", LISTED);
        let request = Request::list(&["nodes", node, "tasks"]).query(query);
        let tasks: Vec<TaskSummary> = self.read_once(request).await?;
        let state = |task: TaskSummary| {
            let state = match task.status.as_deref() {
                _ if task.is_running() => State::Running,
                Some(exit) if TaskEnd::parse(exit).is_some() => State::Ended(exit.to_owned()),
                _ => return None,
            };
            Some((task.upid, state))
        };
        Ok(tasks.into_iter().filter_map(state).collect())
    }
}
