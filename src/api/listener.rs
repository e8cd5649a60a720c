//! A listening socket that has a bounded number of connections: the others wait in the kernel's
//! backlog.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Bounds the number of connections at once, and the time that each may last.
#[derive(Debug)]
pub struct Bounded<L> {
    listener: L,
    room: Arc<Semaphore>,
    longest: Duration,
}

impl<L> Bounded<L> {
    /// At most `room` connections at once, each of them broken off after `longest`.
    pub fn new(listener: L, room: usize, longest: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(room)), longest }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return std::future::pending().await };
        let (stream, address) = self.listener.accept().await;
        let until = Box::pin(sleep(self.longest));
        (Connection { stream, until, _room: room }, address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// A client's connection, which takes one place until it is closed.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    until: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl<S: Unpin> Connection<S> {
    /// The stream; an error once its time is over.
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        let is_over = self.until.as_mut().poll(cx).is_ready();
        if is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Pin::new(&mut self.stream)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
