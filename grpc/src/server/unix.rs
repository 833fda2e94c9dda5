//! A Unix socket whose peer may read without anybody here being woken.
//!
//! tokio asks the system to tell of room to write into as well as of what there is to read, from the beginning. Over TCP it
//! is told of room when a write has found none. Over a Unix socket Linux tells of it whenever the peer has read: nearly each
//! write was followed by a wake-up with nothing to do. Here, room is asked for once a write has found none, and until all
//! is written.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use nix::sys::uio::writev;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::coop;

/// A connected Unix socket, to be [served](crate::ServerHandle::serve_connection): the [`UnixStream`] that it is made of, but
/// that no thread is woken when its peer has read.
///
/// While a write waits for room it holds a second file descriptor.
#[derive(Debug)]
pub struct UnixTransport {
    /// The ends of pipes are what tokio asks the system about in one direction only; nothing else of it is about pipes.
    socket: pipe::Receiver,
    /// The same, asked about in both directions: from a write that found no room until all is written.
    waiting: Option<UnixStream>,
}

impl UnixTransport {
    /// # Errors
    /// What the system says, when it cannot tell of the socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        let socket = OwnedFd::from(socket.into_std()?);
        Ok(Self {
            socket: pipe::Receiver::from_owned_fd_unchecked(socket)?,
            waiting: None,
        })
    }

    /// Writes what there is room for now; none when that is to be waited for.
    fn poll_now(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&pipe::Receiver) -> nix::Result<usize>,
    ) -> Poll<io::Result<Option<usize>>> {
        if self.waiting.is_some() {
            return Poll::Ready(Ok(None));
        }
        // A task whose peer always makes room ends its turn, too.
        let turn = ready!(coop::poll_proceed(cx));
        match write(&self.socket) {
            Ok(written) => {
                turn.made_progress();
                Poll::Ready(Ok(Some(written)))
            }
            Err(nix::Error::EAGAIN) => {
                let same = net::UnixStream::from(self.socket.as_fd().try_clone_to_owned()?);
                self.waiting = Some(UnixStream::from_std(same)?);
                Poll::Ready(Ok(None))
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncRead for UnixTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for UnixTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = |socket: &pipe::Receiver| send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
        if let Some(written) = ready!(self.poll_now(cx, now))? {
            return Poll::Ready(Ok(written));
        }
        Pin::new(self.waiting.as_mut().expect("a write waits")).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(written) = ready!(self.poll_now(cx, |socket| writev(socket, pieces)))? {
            return Poll::Ready(Ok(written));
        }
        Pin::new(self.waiting.as_mut().expect("a write waits")).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        shutdown(self.socket.as_raw_fd(), Shutdown::Write)?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::future::poll_fn;
    use std::io::Read;

    use nix::sys::stat::fstat;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Ours, and its peer, which waits for what it reads.
    fn pair() -> (UnixTransport, net::UnixStream) {
        let (near, far) = net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let near = UnixStream::from_std(near).unwrap();
        (UnixTransport::new(near).unwrap(), far)
    }

    /// What the system was asked to tell of the socket, by whichever descriptor: proc_pid_fdinfo(5). By its inode, since the
    /// number of a closed descriptor is the next one's, in another test.
    fn watched_for(transport: &UnixTransport) -> u32 {
        let inode = format!("ino:{:x}", fstat(&transport.socket).unwrap().st_ino);
        let about = |number: String| fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
        let events = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| about(entry.ok()?.file_name().into_string().ok()?).ok())
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|line| {
                let words: Vec<_> = line.strip_prefix("tfd:")?.split_whitespace().collect();
                let events = u32::from_str_radix(words[2], 16).unwrap();
                words.contains(&&*inode).then_some(events)
            });
        events.fold(0, |all, one| all | one) & (EPOLLIN | EPOLLOUT)
    }

    /// Writes until there is no room: how much.
    async fn fill(near: &mut UnixTransport) -> usize {
        let mut written = 0;
        poll_fn(|cx| {
            while let Poll::Ready(more) = Pin::new(&mut *near).poll_write(cx, &[7; 4096]) {
                written += more.unwrap();
            }
            if near.waiting.is_some() {
                return Poll::Ready(());
            }
            // The turn is over, the next begins.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        written
    }

    #[tokio::test]
    async fn room_is_asked_for_from_a_write_that_finds_none_until_all_is_written() {
        let (mut near, mut far) = pair();
        near.write_all(b"read, and nobody is woken").await.unwrap();
        assert_eq!(watched_for(&near), EPOLLIN);

        let written = 25 + fill(&mut near).await;
        assert_eq!(watched_for(&near), EPOLLIN | EPOLLOUT);
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            far.read_to_end(&mut read).unwrap();
            read
        });
        near.write_all(b"the rest").await.unwrap();
        near.flush().await.unwrap();
        assert!(near.waiting.is_none());
        assert_eq!(watched_for(&near), EPOLLIN);
        near.shutdown().await.unwrap();
        let read = reader.join().unwrap();
        assert_eq!(read.len(), written + 8);
        assert!(read.starts_with(b"read, and") && read.ends_with(b"\x07the rest"));
    }

    #[tokio::test]
    async fn several_pieces_are_one_write_with_room_and_without() {
        let (mut near, mut far) = pair();
        let pieces = [IoSlice::new(b"one "), IoSlice::new(b"two")];
        assert_eq!(near.write_vectored(&pieces).await.unwrap(), 7);
        let filled = fill(&mut near).await;
        let read = std::thread::spawn(move || {
            let mut read = vec![0; 7 + filled + 7];
            far.read_exact(&mut read).unwrap();
            read
        });
        assert_eq!(near.write_vectored(&pieces).await.unwrap(), 7);
        let read = read.join().unwrap();
        assert!(read.starts_with(b"one two") && read.ends_with(b"one two"));
    }

    #[tokio::test]
    async fn a_task_whose_peer_always_makes_room_ends_its_turn() {
        let (mut near, mut far) = pair();
        let mut writes = 0;
        poll_fn(|cx| {
            while Pin::new(&mut near).poll_write(cx, b"x").is_ready() {
                far.read_exact(&mut [0]).unwrap();
                writes += 1;
                assert!(writes < 10_000, "its turn has no end");
            }
            Poll::Ready(())
        })
        .await;
        assert!(writes > 0 && near.waiting.is_none());
    }

    #[tokio::test]
    async fn a_peer_that_has_gone_is_the_end_and_an_error() {
        let (mut near, far) = pair();
        drop(far);
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
        let error = near.write(b"lost").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    /// epoll_ctl(2).
    const EPOLLIN: u32 = 1;
    const EPOLLOUT: u32 = 4;
}
