//! The client: one WebSocket connection over the daemon's Unix socket.
//!
//! Calls have no timeout of their own; who calls knows how long it may take. Subscriptions are credited: the server sends
//! a bounded window ahead of what was read, so a slow reader here never overflows jsonrpsee's buffer (which would end the
//! subscription), and it is the node's history alone that decides what a slow reader still gets.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::JsonRawValue;
use jsonrpsee::core::client::async_client::RpcService;
use jsonrpsee::core::client::{self, ClientT, Subscription, SubscriptionClientT};
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::limits::{ANSWER_BYTES_MAX, BODY_BYTES_MAX, CREDIT_BYTES, CREDIT_ITEMS};
use crate::method::{self, Method};
use crate::payload::Payload;
use crate::start::Start;
use crate::types::{ConfirmParams, Confirmed, CreditParams, Item, Notification, SubscribeParams};
use crate::{Error, SOCKET_NAME};

/// Bytes of path that a Unix socket's address holds, without the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How long the daemon may take to answer the WebSocket handshake before it counts as hung. A busy daemon answers in
/// milliseconds, so this is a guess on the safe side.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// jsonrpsee insists on a timeout; callers set their own, so this one only has to be longer than any of them.
const CALL_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A connection to a daemon. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<WsClient<RpcService>>,
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket, or nobody listens on it.
    #[error("no daemon runs in {}", dir.display())]
    NotRunning {
        /// The daemon's directory.
        dir: PathBuf,
    },
    /// This user may not use the socket.
    #[error("this user may not use the daemon's socket {}", socket.display())]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
    },
    /// Somebody listens, but doesn't answer as a daemon does.
    #[error("what listens on {} doesn't answer as a weft daemon: {reason}", socket.display())]
    Handshake {
        /// The socket.
        socket: PathBuf,
        /// What came instead.
        reason: String,
    },
    /// Anything else that the system refused.
    #[error("can't connect to {}: {source}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon answered with an error.
    #[error(transparent)]
    Rpc(#[from] Error),
    /// The connection ended: the daemon stopped or died. Whether the call took effect is unknown.
    #[error("the daemon has closed the connection")]
    Disconnected,
    /// The request is larger than a daemon takes; nothing was sent.
    #[error("the request has {bytes} bytes of JSON; a daemon takes at most {BODY_BYTES_MAX}")]
    RequestTooLarge {
        /// The bytes of JSON.
        bytes: usize,
    },
    /// The answer isn't what this version expects.
    #[error("the daemon's answer to {method} isn't understood: {reason}")]
    Answer {
        /// The method.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Client {
    /// Connects to the daemon of a directory, however long the directory's path is.
    pub async fn connect(dir: &Path) -> Result<Self, ConnectError> {
        let socket = dir.join(SOCKET_NAME);
        let stream = open_socket(dir, &socket)
            .await
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ConnectError::NotRunning {
                        dir: dir.to_owned(),
                    }
                }
                io::ErrorKind::PermissionDenied => ConnectError::NotAllowed {
                    socket: socket.clone(),
                },
                _ => ConnectError::Io {
                    socket: socket.clone(),
                    source,
                },
            })?;
        let handshake = WsClientBuilder::new()
            .set_rpc_middleware(RpcServiceBuilder::new())
            .max_request_size(BODY_BYTES_MAX)
            .max_response_size(ANSWER_BYTES_MAX)
            // Each notification in the credit window may hold one item; one more is `Ready`.
            .max_buffer_capacity_per_subscription(CREDIT_ITEMS + 1)
            .request_timeout(CALL_TIMEOUT)
            .build_with_stream("ws://weft/", stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(inner)) => Ok(Self {
                inner: Arc::new(inner),
            }),
            Ok(Err(error)) => Err(ConnectError::Handshake {
                socket,
                reason: error.to_string(),
            }),
            Err(_) => Err(ConnectError::Handshake {
                socket,
                reason: format!("no answer within {} s", HANDSHAKE_TIMEOUT.as_secs()),
            }),
        }
    }

    /// Calls a method of the table. Dropping the future forgets the answer; the call may still take effect.
    pub async fn call<M: Method>(&self, params: M::Params) -> Result<M::Answer, CallError> {
        let params = RawParams::of(M::NAME, &params)?;
        self.inner
            .request(M::NAME, params)
            .await
            .map_err(|error| call_error(M::NAME, error))
    }

    /// Calls any method by name, with parameters as they are.
    pub async fn call_raw(&self, method: &str, params: Option<&Value>) -> Result<Value, CallError> {
        let params = params.map_or(Ok(RawParams(None)), |params| RawParams::of(method, params))?;
        self.inner
            .request(method, params)
            .await
            .map_err(|error| call_error(method, error))
    }

    /// Subscribes to a topic; answers once the node is a member and the starting place is fixed.
    pub async fn subscribe(&self, topic: &str, start: &Start) -> Result<TopicStream, CallError> {
        self.subscribe_with(&SubscribeParams {
            topic: topic.to_owned(),
            from: (*start != Start::Latest).then(|| start.to_string()),
            consumer: None,
            reset: false,
        })
        .await
    }

    /// Subscribes as the parameters say, perhaps under a name.
    pub async fn subscribe_with(&self, params: &SubscribeParams) -> Result<TopicStream, CallError> {
        let name = method::TopicSubscribe::NAME;
        let params = RawParams::of(name, params)?;
        let subscription = self
            .inner
            .subscribe(name, params, method::TopicUnsubscribe::NAME)
            .await
            .map_err(|error| call_error(name, error))?;
        Ok(TopicStream {
            client: self.clone(),
            subscription,
            credit_id: None,
            unread: Unread::default(),
        })
    }

    /// Resolves when the connection has ended.
    pub async fn closed(&self) {
        self.inner.on_disconnect().await;
    }
}

/// A subscription's notifications in order: first `Ready`, then `Items`. Dropping it unsubscribes.
#[derive(Debug)]
pub struct TopicStream {
    client: Client,
    subscription: Subscription<Notification>,
    credit_id: Option<u64>,
    unread: Unread,
}

/// What was handed out since the last credit.
#[derive(Debug, Default)]
struct Unread {
    items: usize,
    bytes: usize,
    place: u64,
}

impl TopicStream {
    /// Waits for the next notification, and counts all earlier ones as read. It may be cancelled at any time; nothing
    /// is lost. It ends in an error only: `Disconnected` once the daemon is gone.
    pub async fn next(&mut self) -> Result<Notification, CallError> {
        self.credit().await?;
        let notification = match self.subscription.next().await {
            Some(Ok(notification)) => notification,
            Some(Err(error)) => {
                return Err(CallError::Answer {
                    method: method::TopicSubscribe::NAME.to_owned(),
                    reason: error.to_string(),
                });
            }
            None => return Err(CallError::Disconnected),
        };
        match &notification {
            Notification::Ready(ready) => self.credit_id = Some(ready.credit_id),
            Notification::Items(batch) => {
                self.unread.items += batch.items.len();
                self.unread.bytes += batch.items.iter().map(item_bytes).sum::<usize>();
                self.unread.place = batch.place;
            }
        }
        Ok(notification)
    }

    /// Confirms for the subscription's name what carries a cursor and all before it; resolves once that is on the daemon's disk. Whoever
    /// has the future needs the stream no more. None before the first notification has come.
    pub fn confirm(
        &self,
        cursor: String,
    ) -> Option<impl Future<Output = Result<Confirmed, CallError>> + Send + 'static> {
        let (client, credit_id) = (self.client.clone(), self.credit_id?);
        let params = ConfirmParams { credit_id, cursor };
        Some(async move { client.call::<method::TopicConfirm>(params).await })
    }

    /// Credits once a quarter of the window was read: seldom enough to cost nothing, early enough never to stall.
    async fn credit(&mut self) -> Result<(), CallError> {
        let Some(credit_id) = self.credit_id else {
            return Ok(());
        };
        if self.unread.items < CREDIT_ITEMS / 4 && self.unread.bytes < CREDIT_BYTES / 4 {
            return Ok(());
        }
        let params = CreditParams {
            credit_id,
            up_to: self.unread.place,
        };
        self.client.call::<method::TopicCredit>(params).await?;
        // Only now, so that a cancelled call is made again; crediting twice does no harm.
        self.unread.items = 0;
        self.unread.bytes = 0;
        Ok(())
    }
}

/// About how many payload bytes an item holds.
fn item_bytes(item: &Item) -> usize {
    match item {
        Item::Message(message) => match &message.payload {
            Payload::Text(text) => text.len(),
            Payload::Base64(text) => text.len() / 4 * 3,
        },
        Item::Gap(_) => 0,
    }
}

/// Connects directly where the path fits a socket's address, else through the directory's descriptor.
async fn open_socket(dir: &Path, socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return UnixStream::connect(socket).await;
    }
    let directory = File::open(dir)?;
    UnixStream::connect(format!(
        "/proc/self/fd/{}/{SOCKET_NAME}",
        directory.as_raw_fd()
    ))
    .await
}

/// Parameters that are JSON already.
struct RawParams(Option<Box<JsonRawValue>>);

impl RawParams {
    /// Serialises, and refuses what a daemon wouldn't take anyway: it would answer without naming the request.
    fn of(method: &str, params: &impl Serialize) -> Result<Self, CallError> {
        /// JSON-RPC's own keys around the parameters, generously.
        const ENVELOPE_BYTES: usize = 256;
        let raw = serde_json::value::to_raw_value(params).map_err(|error| CallError::Answer {
            method: method.to_owned(),
            reason: error.to_string(),
        })?;
        let bytes = raw.get().len() + ENVELOPE_BYTES;
        if bytes > BODY_BYTES_MAX as usize {
            return Err(CallError::RequestTooLarge { bytes });
        }
        Ok(Self(Some(raw)))
    }
}

impl ToRpcParams for RawParams {
    fn to_rpc_params(self) -> Result<Option<Box<JsonRawValue>>, serde_json::Error> {
        Ok(self.0)
    }
}

fn call_error(method: &str, error: client::Error) -> CallError {
    match error {
        client::Error::Call(object) => CallError::Rpc(object.into()),
        client::Error::Transport(_)
        | client::Error::RestartNeeded(_)
        | client::Error::ServiceDisconnect => CallError::Disconnected,
        other => CallError::Answer {
            method: method.to_owned(),
            reason: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_without_a_daemon_is_said_to_be_one() {
        let missing = Path::new("/nonexistent/weft");
        assert!(matches!(
            Client::connect(missing).await,
            Err(ConnectError::NotRunning { .. })
        ));
        let long = PathBuf::from(format!("/nonexistent/{}", "long/".repeat(40)));
        assert!(matches!(
            Client::connect(&long).await,
            Err(ConnectError::NotRunning { .. })
        ));
    }

    #[test]
    fn oversize_requests_are_refused_before_they_are_sent() {
        let params = SubscribeParams {
            topic: "x".repeat(BODY_BYTES_MAX as usize),
            from: None,
            consumer: None,
            reset: false,
        };
        assert!(matches!(
            RawParams::of("m", &params),
            Err(CallError::RequestTooLarge { .. })
        ));
    }
}
