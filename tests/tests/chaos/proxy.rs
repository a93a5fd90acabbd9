//! A TCP proxy that misbehaves on demand: it stands between the stages and one of their servers.
//!
//! Takes    the address of a server, which may change, and a [`Mode`], which may change at any time. Gives an address of its
//!          own, which stays; and counts of what it did to whom, so that a fault that struck nobody is noticed.
//! Weak at  "refused" is accepted and closed at once: its port must stay its own. HTTP is understood as far as S3 clients
//!          speak it here: bodies with a length, no `Expect`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// New connections are closed at once.
    Refuse,
    /// Connections stay, nothing passes.
    Freeze,
    /// Every piece waits for so long.
    Slow(Duration),
    /// As an S3 server whose disk is full: reads pass, writes are answered with 507.
    Full,
    /// As an S3 server that does not know us any more: all is answered with 403.
    Deny,
}

#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    mode: watch::Sender<Mode>,
    /// A new number ends all connections of the one before.
    generation: watch::Sender<u64>,
    open: AtomicU64,
    /// Connections refused, pieces held up, requests answered in place of the server.
    struck: AtomicU64,
}

/// Counts a connection for as long as it is open.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            mode: watch::Sender::new(Mode::Pass),
            generation: watch::Sender::new(0),
            open: AtomicU64::new(0),
            struck: AtomicU64::new(0),
        });
        tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server has moved.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Ends all connections, and says how many there were.
    pub(crate) fn cut(&self) -> u64 {
        let open = self.open();
        self.shared.generation.send_modify(|generation| *generation += 1);
        open
    }

    pub(crate) fn open(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How often it did other than pass on.
    pub(crate) fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn strike(&self) {
        self.struck.fetch_add(1, Ordering::SeqCst);
    }

    fn target(&self) -> SocketAddr {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let mode = *shared.mode.borrow();
        if mode == Mode::Refuse {
            shared.strike();
            continue;
        }
        shared.open.fetch_add(1, Ordering::SeqCst);
        let (open, mut generation) = (Open(shared.clone()), shared.generation.subscribe());
        let shared = shared.clone();
        tokio::spawn(async move {
            let _open = open;
            let serve = async {
                match mode {
                    Mode::Full | Mode::Deny => answer(client, &shared, mode).await,
                    _ => relay(client, &shared).await,
                }
            };
            tokio::select! {
                // Whatever ends a connection ends it on both sides; that is all a proxy has to say about it.
                _ = serve => {}
                _ = generation.changed() => {}
            }
        });
    }
}

async fn relay(client: TcpStream, shared: &Shared) -> Result<()> {
    let server = TcpStream::connect(shared.target()).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        ended = pump(from_client, to_server, shared) => ended,
        ended = pump(from_server, to_client, shared) => ended,
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) -> Result<()> {
    let mut mode = shared.mode.subscribe();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        let now = *mode.borrow();
        match now {
            Mode::Freeze => {
                shared.strike();
                mode.wait_for(|mode| *mode != Mode::Freeze).await?;
            }
            Mode::Slow(pause) => {
                shared.strike();
                sleep(pause).await;
            }
            _ => {}
        }
        to.write_all(&piece[..read]).await?;
    }
}

const REFUSED: &str =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>CODE</Code><Message>a test says so</Message></Error>";

/// Serves one request in place of an S3 server.
async fn answer(mut client: TcpStream, shared: &Shared, mode: Mode) -> Result<()> {
    let (mut head, mut body) = (Vec::new(), Vec::new());
    let mut piece = vec![0; 64 << 10];
    let end = loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match client.read(&mut piece).await? {
            0 => return Ok(()),
            read => head.extend_from_slice(&piece[..read]),
        }
    };
    body.extend(head.drain(end..));
    let text = String::from_utf8_lossy(&head).into_owned();
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Ok(0), |(_, value)| value.trim().parse())?;
    while body.len() < length {
        match client.read(&mut piece).await? {
            0 => return Ok(()),
            read => body.extend_from_slice(&piece[..read]),
        }
    }
    let reads = text.starts_with("GET ") || text.starts_with("HEAD ");
    if mode == Mode::Full && reads {
        let mut server = TcpStream::connect(shared.target()).await?;
        server.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes()).await?;
        copy(&mut server, &mut client).await?;
        return Ok(());
    }
    shared.strike();
    let (status, code) = match mode {
        Mode::Full => ("507 Insufficient Storage", "XMinioStorageFull"),
        _ => ("403 Forbidden", "InvalidAccessKeyId"),
    };
    let xml = if text.starts_with("HEAD ") { String::new() } else { REFUSED.replace("CODE", code) };
    let length = xml.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{xml}"
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    Ok(())
}
