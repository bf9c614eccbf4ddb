//! What every call passes on its way to a method and back: bounds before, readable errors after.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jsonrpsee::core::JsonRawValue;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, Request, RpcServiceT};
use jsonrpsee::core::server::{BatchResponseBuilder, MethodResponse};
use jsonrpsee::types::{ErrorObjectOwned, Id};
use weft_rpc::limits::ANSWER_BYTES_MAX;
use weft_rpc::method::{self, Method};
use weft_rpc::nearest::nearest;
use weft_rpc::{Error, Kind};

use super::connection::Connection;

/// The layer around jsonrpsee's dispatcher, one a connection.
#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
    connection: Arc<Connection>,
}

impl<S> Gate<S> {
    /// Wraps a connection's dispatcher.
    pub(super) fn new(inner: S, connection: Arc<Connection>) -> Self {
        Self { inner, connection }
    }
}

impl<S> RpcServiceT for Gate<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type BatchResponse = MethodResponse;
    type NotificationResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let Self { inner, connection } = self.clone();
        async move {
            match admit(&request, &connection) {
                Ok(_call) => answer(&inner, &connection, request).await,
                Err(error) => MethodResponse::error(request.id, ErrorObjectOwned::from(error)),
            }
        }
    }

    /// Runs a batch's requests one after another, each through [`Gate::call`].
    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let mut answers = BatchResponseBuilder::new_with_limit(ANSWER_BYTES_MAX as usize);
            let mut notified = false;
            for entry in batch {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => this.call(request).await,
                    Ok(BatchEntry::Notification(_)) => {
                        notified = true;
                        continue;
                    }
                    Err(entry) => {
                        let (error, id) = entry.into_parts();
                        readable(MethodResponse::error(id.clone(), error), id)
                    }
                };
                if let Err(too_large) = answers.append(answer) {
                    return readable(too_large, Id::Null);
                }
            }
            if answers.is_empty() && notified {
                return MethodResponse::notification();
            }
            MethodResponse::from_batch(answers.finish())
        }
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.notification(notification)
    }
}

/// Lets a call through if its method exists and its connection has room.
fn admit(
    request: &Request<'_>,
    connection: &Arc<Connection>,
) -> Result<super::connection::Call, Error> {
    let name = request.method_name();
    if method::find(name).is_none() {
        let hint = nearest(name, method::TABLE.iter().map(|entry| entry.name))
            .map_or("call rpc.discover for the list".to_owned(), |near| {
                format!("did you mean {near}?")
            });
        // An unknown name may be of any length; people need its beginning.
        let name: String = name.chars().take(64).collect();
        return Err(
            Error::new(Kind::UnknownMethod, format!("no method is called {name:?}")).hint(hint),
        );
    }
    connection.enter().ok_or_else(|| {
        Error::new(Kind::Busy, "too many calls run on this connection at once")
            .hint("wait for some answers first")
    })
}

/// Has a call answered, and makes what jsonrpsee says by itself readable.
async fn answer<'a, S>(
    inner: &S,
    connection: &Arc<Connection>,
    mut request: Request<'a>,
) -> MethodResponse
where
    S: RpcServiceT<MethodResponse = MethodResponse>,
{
    let id = request.id.clone();
    let needs_websocket = matches!(
        request.method_name(),
        method::TopicSubscribe::NAME | method::TopicUnsubscribe::NAME
    );
    if request.method_name() == method::TopicUnsubscribe::NAME {
        by_position(&mut request);
    }
    request.extensions_mut().insert(connection.clone());
    let response = inner.call(request).await;
    // jsonrpsee's dispatcher has sent a subscription's answer already, and says "internal error" where a transport has
    // no subscriptions.
    if needs_websocket
        && !response.is_subscription()
        && response.as_error_code() == Some(Kind::Internal.code())
    {
        let error = Error::new(Kind::Refused, "subscriptions don't work over plain HTTP")
            .hint("use a WebSocket on the same socket, or: weft sub TOPIC");
        return MethodResponse::error(id, ErrorObjectOwned::from(error));
    }
    readable(response, id)
}

/// A JSON object whose members are left unread.
type Members = BTreeMap<String, Box<JsonRawValue>>;

/// Turns `{"subscription": ID}` into `[ID]`, the one form that jsonrpsee's own unsubscribe understands.
fn by_position(request: &mut Request<'_>) {
    let position = request
        .params
        .as_ref()
        .and_then(|params| serde_json::from_str::<Members>(params.get()).ok())
        .filter(|members| members.len() == 1)
        .and_then(|members| {
            JsonRawValue::from_string(format!("[{}]", members.get("subscription")?.get())).ok()
        });
    if let Some(position) = position {
        request.params = Some(Cow::Owned(position));
    }
}

/// Gives an error of jsonrpsee's own `data {kind, hint, retryable}`; leaves all other answers as they are.
fn readable(response: MethodResponse, id: Id<'_>) -> MethodResponse {
    if response.is_success() || response.is_subscription() {
        return response;
    }
    let error = serde_json::from_str::<Members>(response.as_json().get())
        .ok()
        .and_then(|members| {
            serde_json::from_str::<ErrorObjectOwned>(members.get("error")?.get()).ok()
        });
    match error {
        // A method's own error comes out as it went in.
        Some(error) => {
            let error = ErrorObjectOwned::from(Error::from(error));
            MethodResponse::error(id, error).with_extensions(response.extensions().clone())
        }
        None => response,
    }
}
