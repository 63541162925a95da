//! Shares one read of a list among all callers that requested it before it was sent.
//!
//! Parallel steps look at the same lists: the VMs of a host, the contents of a storage. A look
//! before a write must be newer than its request, so no caller gets a list that was requested
//! before the caller's own request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::{Client, Request};
use super::error::Error;

/// How long the first caller waits for others: parallel steps start at the same look at their tasks.
const COMPANY: Duration = Duration::from_millis(40);

/// The lists that are being read, by request.
#[derive(Debug, Default)]
pub(super) struct Lists {
    open: StdMutex<BTreeMap<String, Arc<Mutex<Option<Reading>>>>>,
    /// The last reads, for pollers.
    watched: Mutex<BTreeMap<String, Reading>>,
}

/// The last read of a list.
#[derive(Clone, Debug)]
struct Reading {
    /// When it was sent.
    sent: Instant,
    body: Arc<Vec<u8>>,
}

impl Lists {
    fn of(&self, call: &str) -> Arc<Mutex<Option<Reading>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A list that no caller waits for is not kept: it may have megabytes.
        open.retain(|other, reading| other == call || Arc::strong_count(reading) > 1);
        Arc::clone(open.entry(call.to_owned()).or_default())
    }

    /// Removes a read that no caller waits for any more.
    fn leave(&self, call: &str, reading: Arc<Mutex<Option<Reading>>>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(reading);
        if open.get(call).is_some_and(|reading| Arc::strong_count(reading) == 1) {
            open.remove(call);
        }
    }
}

impl Client {
    /// Reads a list, with retries if that is safe; callers that ask meanwhile get the same answer.
    pub(super) async fn read_list<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, Error> {
        let asked = Instant::now();
        let call = request.target();
        let reading = self.lists().of(&call);
        let body = self.body_since(&request, asked, &reading).await;
        self.lists().leave(&call, reading);
        self.decode(&request, &body?)
    }

    /// Reads a list, unless a poller has read it at most that long ago. Not for a look before a write.
    pub(super) async fn watch_list<T: DeserializeOwned>(
        &self,
        request: Request,
        age: Duration,
    ) -> Result<T, Error> {
        let call = request.target();
        // The holder of the lock sends the request; the others wait for its answer.
        let mut watched = self.lists().watched.lock().await;
        if let Some(last) = watched.get(&call).filter(|last| last.sent.elapsed() < age) {
            return self.decode(&request, &last.body);
        }
        let sent = Instant::now();
        let body = Arc::new(self.read_body(&request).await?);
        let answer = self.decode(&request, &body);
        watched.insert(call, Reading { sent, body });
        answer
    }

    async fn body_since(
        &self,
        request: &Request,
        asked: Instant,
        reading: &Mutex<Option<Reading>>,
    ) -> Result<Arc<Vec<u8>>, Error> {
        // The holder of the lock sends the request; the others wait for its answer.
        let mut last = reading.lock().await;
        if let Some(Reading { sent, body }) = &*last
            && *sent > asked
        {
            return Ok(Arc::clone(body));
        }
        self.pause(COMPANY).await;
        let sent = Instant::now();
        let body = Arc::new(self.read_body(request).await?);
        *last = Some(Reading { sent, body: Arc::clone(&body) });
        Ok(body)
    }
}
