//! A TCP proxy that can fall silent: what has come over it stays open, and nothing passes any more.

use std::future::pending;

use configstream_grpc::Address;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Its connections last as long as it does.
pub(crate) struct Proxy {
    pub(crate) address: Address,
    silence: watch::Sender<()>,
}

impl Proxy {
    /// A proxy before `target`, on the current runtime.
    pub(crate) async fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        let (silence, silenced) = watch::channel(());
        tokio::spawn(accept(listener, target.to_owned(), silenced));
        Self { address, silence }
    }

    /// From now on nothing passes over the connections there are, and neither end hears of it.
    pub(crate) fn fall_silent(&self) {
        self.silence.send_replace(());
    }
}

async fn accept(listener: TcpListener, target: String, silenced: watch::Receiver<()>) {
    while let Ok((client, _)) = listener.accept().await {
        // What was said before is not for this connection.
        let mut silenced = silenced.clone();
        silenced.mark_unchanged();
        tokio::spawn(pass(client, target.clone(), silenced));
    }
}

async fn pass(mut client: TcpStream, target: String, mut silenced: watch::Receiver<()>) {
    let Ok(mut agent) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        // First: what comes after the silence has begun does not pass, however late it is noticed here.
        biased;
        Ok(()) = silenced.changed() => pending().await,
        _ = copy_bidirectional(&mut client, &mut agent) => {}
    }
}
