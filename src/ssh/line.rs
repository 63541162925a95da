//! The connection under SSH: its traffic is counted until the login, and it can be cut.
//!
//! The SSH library runs a connection in a separate task, which a peer that floods or stalls could
//! keep running indefinitely. The [`Knife`] ends it at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::limits::{size, ssh};
use crate::net::Connection;

/// Cuts a [`Line`] on request, and at the latest when the knife is dropped.
pub(super) struct Knife {
    cut: CancellationToken,
    left: Arc<AtomicU64>,
    banners: Arc<AtomicUsize>,
}

impl Knife {
    /// Ends the connection; nothing more is read from it.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// The login is over: from here on each command has its own limits.
    pub(super) fn logged_in(&self) {
        self.left.store(u64::MAX, Ordering::Relaxed);
    }

    /// The bytes of the banners that came before the login.
    pub(super) fn banners(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.banners)
    }

    /// What the peer has sent too much of for a login, as text.
    pub(super) fn flood(&self) -> Option<String> {
        if self.banners.load(Ordering::Relaxed) > ssh::BANNER_BYTES {
            return Some(format!("it sends banners of more than {}", size(ssh::BANNER_BYTES)));
        }
        let most = usize::try_from(ssh::LOGIN_BYTES).unwrap_or(usize::MAX);
        let flooded = self.left.load(Ordering::Relaxed) == 0;
        flooded.then(|| format!("it sends more than {} before the login", size(most)))
    }
}

impl Drop for Knife {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

/// A connection that can be cut.
pub(super) struct Line {
    inner: Connection,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The bytes still allowed before the login is over.
    left: Arc<AtomicU64>,
}

impl Line {
    /// The connection, and the handle that cuts it.
    pub(super) fn new(inner: Connection) -> (Self, Knife) {
        let (cut, left) = (CancellationToken::new(), Arc::new(AtomicU64::new(ssh::LOGIN_BYTES)));
        let line =
            Self { inner, cut: Box::pin(cut.clone().cancelled_owned()), left: Arc::clone(&left) };
        (line, Knife { cut, left, banners: Arc::default() })
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut.as_mut().poll(cx).is_ready()
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(if left == u64::MAX { left } else { left.saturating_sub(bytes) })
        });
        match left {
            Ok(left) if left != u64::MAX && left <= bytes => {
                Err(io::Error::other("more than a login takes"))
            }
            _ => Ok(()),
        }
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut")))
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return gone();
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.count(buf.filled().len() - before))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(cx) {
            return gone();
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return gone();
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_waits_for_a_line_hears_that_it_was_cut() {
        let (near, mut far) = duplex(64);
        let (mut line, knife) = Line::new(Box::new(near));
        let waiting = tokio::spawn(async move { line.read_u8().await });
        tokio::task::yield_now().await;
        drop(knife);
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "the peer sees the end");
    }

    #[tokio::test]
    async fn a_login_has_a_limit_of_bytes_and_what_follows_has_none_here() {
        async fn read(logged_in: bool) -> (io::Result<u64>, bool) {
            let (near, mut far) = duplex(1 << 16);
            let (mut line, knife) = Line::new(Box::new(near));
            if logged_in {
                knife.logged_in();
            }
            tokio::spawn(async move {
                let block = [0; 1 << 16];
                for _ in 0..=ssh::LOGIN_BYTES / block.len() as u64 {
                    if far.write_all(&block).await.is_err() {
                        return;
                    }
                }
            });
            let read = tokio::io::copy(&mut line, &mut tokio::io::sink()).await;
            (read, knife.flood().is_some())
        }
        let (read_before, flooded) = read(false).await;
        assert!(read_before.is_err() && flooded);
        let (read_after, flooded) = read(true).await;
        assert!(read_after.unwrap() > ssh::LOGIN_BYTES && !flooded);
    }
}
