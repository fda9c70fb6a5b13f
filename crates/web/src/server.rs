//! Listening: a bounded number of connections, each with bounded headers, bounded time for them, and an end.

use crate::access::Access;
use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use surus_core::code::{self, Code};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

/// Connections at one time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request, and a connection may be idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long a request's head may be, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long what was sent may stay unacknowledged before the connection is given up.
const UNREAD_FOR: Duration = Duration::from_secs(60);
/// How long a request may take in all, its body with it; questions have a shorter limit of their own.
const REQUEST_WITHIN: Duration = Duration::from_secs(150);
/// How long requests that run may go on after the stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Rest after the system refused a connection (no file descriptors), so that the loop does not spin.
const REST: Duration = Duration::from_millis(200);

/// surus does not listen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ListenError {
    /// Everybody on the network could read everything.
    #[error(
        "surus does not listen on {address}: it is not a loopback address, and neither a password nor a token is set"
    )]
    Open { address: SocketAddr },
    /// The system said no.
    #[error("surus does not listen on {address}: {why}")]
    Refused { address: SocketAddr, why: String, taken: bool },
}

impl ListenError {
    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self {
            Self::Open { .. } => code::WEB_OPEN,
            Self::Refused { taken: true, .. } => code::WEB_PORT_TAKEN,
            Self::Refused { .. } => code::WEB_LISTEN,
        }
    }
}

/// Is the address loopback, or something asked of who comes?
///
/// # Errors
/// When neither is so.
pub fn may_listen(address: SocketAddr, access: &Access) -> Result<(), ListenError> {
    if address.ip().is_loopback() || access.asks() { Ok(()) } else { Err(ListenError::Open { address }) }
}

/// Listens on the address; on another than a loopback address only when something is asked of who comes.
///
/// # Errors
/// When it is open to the network without a login, taken, or not an address of this machine.
pub async fn listen(address: SocketAddr, access: &Access) -> Result<TcpListener, ListenError> {
    may_listen(address, access)?;
    TcpListener::bind(address).await.map_err(|error| ListenError::Refused {
        address,
        why: error.to_string(),
        taken: error.kind() == std::io::ErrorKind::AddrInUse,
    })
}

/// Answers until `stop` turns true, then lets requests that run finish for a while.
pub async fn serve(listener: TcpListener, routes: Router, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        // The semaphore is never closed; if it were, nothing more could be accepted.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            // What has ended is taken note of while nobody comes.
            Some(_) = open.join_next(), if !open.is_empty() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (routes, stop) = (routes.clone(), stop.clone());
                open.spawn(async move {
                    let _place = place;
                    answer(stream, peer, routes, stop).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    if timeout(STOP_WITHIN, all).await.is_err() {
        tracing::warn!("requests were broken off by the stop");
    }
}

/// Gives up a request that takes too long, such as one whose body does not come.
pub async fn in_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "The request took too long.\n").into_response(),
    }
}

/// One connection, to its end.
async fn answer(stream: TcpStream, peer: SocketAddr, routes: Router, mut stop: watch::Receiver<bool>) {
    let unread_ms = u32::try_from(UNREAD_FOR.as_millis()).unwrap_or(u32::MAX);
    // Both only make things faster or end earlier: without them it works too.
    let _set = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread_ms);
    let _set = stream.set_nodelay(true);
    let service = tower_service(routes, peer);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        // A client that goes away in the middle is its own business.
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// Returns when the stop comes, or when nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _said = stop.wait_for(|stop| *stop).await;
}

fn tower_service(routes: Router, peer: SocketAddr) -> TowerToHyperService<Router> {
    TowerToHyperService::new(routes.layer(axum::Extension(ConnectInfo(peer))))
}
