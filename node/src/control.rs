//! The control socket: JSON-RPC over HTTP POST and WebSocket on one Unix socket in the node's directory.
//!
//! jsonrpsee parses, dispatches and frames; this module owns the listener, decides who may do how much at once
//! ([`connection`]), gives every error its `data {kind, hint, retryable}` ([`gate`]) and credits subscriptions
//! ([`subscription`]), because jsonrpsee would buffer without bound on one side and drop on the other.
//!
//! **Invariant:** nothing here waits for a client while it holds anything of the node's: a client that stops reading
//! stops its own connection alone.

mod connection;
mod errors;
mod gate;
mod items;
mod methods;
mod once;
mod socket;
mod subscription;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, Methods, ServerBuilder, ServerConfig, ServerHandle, StopHandle,
    serve_with_graceful_shutdown, stop_channel,
};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use weft_rpc::limits::{ANSWER_BYTES_MAX, BATCH_REQUESTS_MAX, BODY_BYTES_MAX};
use weft_rpc::types::KvWritten;

use crate::{Node, Published, Receipt};
use connection::Connection;
use gate::Gate;
use once::Once;

/// WebSocket connections and running HTTP requests at once; one more is answered "too many requests". A machine's own
/// tools and applications need a few, a testnet's checks a few more.
const CONNECTIONS_MAX: u32 = 128;

/// Open sockets at once, idle ones included; one more is closed unanswered. Twice the former, so that the readable
/// answer comes first.
const SOCKETS_MAX: usize = 256;

/// Subscriptions on one connection; each costs a task and a credit window.
const SUBSCRIPTIONS_MAX: u32 = 64;

/// Messages that wait on one connection to be written; then its subscriptions and calls wait. Credit bounds their bytes.
const WRITE_QUEUE_MAX: u32 = 64;

/// How long clients have, at stop, to take the answers of calls that run.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How long to wait before the next accept after one failed, for example because files ran out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Changes what the process logs; an error says what is wrong with the directives.
pub type SetLogLevel = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What methods need beside the node.
struct Context {
    node: Node,
    set_log_level: Option<SetLogLevel>,
    /// Writes to the store, by their clients' names for them.
    writes: Once<KvWritten>,
    /// Batches of messages, by their clients' names for them.
    publishes: Once<Published>,
}

/// A running control socket.
pub struct Control {
    socket: PathBuf,
    handle: ServerHandle,
    accepting: JoinHandle<()>,
}

/// Why the control socket can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't open the control socket {}: {source}", socket.display())]
pub struct ServeError {
    /// The socket.
    pub socket: PathBuf,
    /// The system's word.
    pub source: io::Error,
}

/// Opens `control.sock` in a directory and serves a node on it. The caller holds the directory's lock, so a socket that
/// is there already is a dead daemon's and is replaced. Without `set_log_level`, `node_setLogLevel` is refused. Must be
/// called within a tokio runtime.
pub fn serve(
    node: Node,
    dir: &Path,
    set_log_level: Option<SetLogLevel>,
) -> Result<Control, ServeError> {
    open(
        dir,
        methods::all(Context {
            node,
            set_log_level,
            // It names at most eight replicas.
            writes: Once::new(|_| 0),
            publishes: Once::new(|published| published.receipts.len() * size_of::<Receipt>()),
        }),
    )
}

/// Opens the socket and starts to accept.
fn open(dir: &Path, methods: Methods) -> Result<Control, ServeError> {
    let socket = dir.join(weft_rpc::SOCKET_NAME);
    let listener = socket::bind(dir).map_err(|source| ServeError {
        socket: socket.clone(),
        source,
    })?;
    let (stop, handle) = stop_channel();
    let accepting = tokio::spawn(accept(listener, methods, stop));
    Ok(Control {
        socket,
        handle,
        accepting,
    })
}

impl Control {
    /// Returns the socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Stops listening, lets running calls end, closes all connections and removes the socket.
    pub async fn stop(self) {
        // An error means that it has stopped already.
        let _ = self.handle.stop();
        if tokio::time::timeout(STOP_GRACE, self.handle.clone().stopped())
            .await
            .is_err()
        {
            tracing::debug!("clients left answers unread; closing anyway");
        }
        self.accepting.abort();
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(socket = %self.socket.display(), %error, "control socket was gone already");
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Accepts connections until told to stop; each is served on a task of its own.
async fn accept(listener: UnixListener, methods: Methods, stop: StopHandle) {
    let config = ServerConfig::builder()
        .max_request_body_size(BODY_BYTES_MAX)
        .max_response_body_size(ANSWER_BYTES_MAX)
        .max_connections(CONNECTIONS_MAX)
        .max_subscriptions_per_connection(SUBSCRIPTIONS_MAX)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH_REQUESTS_MAX))
        .set_message_buffer_capacity(WRITE_QUEUE_MAX)
        .build();
    let builder = ServerBuilder::with_config(config).to_service_builder();
    let sockets = Arc::new(Semaphore::new(SOCKETS_MAX));
    let stopped = stop.clone().shutdown();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "control socket can't accept a connection; close some, or raise the limit on open files");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(permit) = sockets.clone().try_acquire_owned() else {
            tracing::warn!(
                limit = SOCKETS_MAX,
                "control socket has too many connections; one was closed unanswered"
            );
            continue;
        };
        let connection = Arc::new(Connection::default());
        let layer =
            RpcServiceBuilder::new().layer_fn(move |inner| Gate::new(inner, connection.clone()));
        let service = builder
            .clone()
            .set_rpc_middleware(layer)
            .build(methods.clone(), stop.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = serve_with_graceful_shutdown(stream, service, stop.shutdown()).await
            {
                tracing::debug!(%error, "control connection ended");
            }
        });
    }
}
