//! The server against the client and against raw HTTP, over a real socket. The methods behind it stand in for the
//! node's; everything before them is what the daemon runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::server::{Methods, RpcModule, SubscriptionMessage};
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use weft_rpc::limits::{CREDIT_ITEMS, MESSAGE_BYTES_MAX};
use weft_rpc::method::{self, Method, TOPIC_EVENT};
use weft_rpc::payload::Payload;
use weft_rpc::types::{self, Health, NoParams, Notification, PublishParams, Verdict};
use weft_rpc::{CallError, Client, ConnectError, Error, Kind};

use super::connection::Credit;
use super::{Control, methods, open};

/// Longer than anything here takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Items that the stand-in's topic has: far more than a credit window.
const ITEMS: u64 = 4 * CREDIT_ITEMS as u64;

/// Methods that need no node. `topic_publish` ends once `publishes` has a permit.
fn stand_in(publishes: Arc<Semaphore>) -> Methods {
    let mut module = RpcModule::new(publishes);
    module
        .register_method(method::NodeHealth::NAME, |params, _, _| {
            methods::parse::<method::NodeHealth>(&params).map_err(ErrorObjectOwned::from)?;
            Ok::<_, ErrorObjectOwned>(Health {
                verdict: Verdict::Ok,
                reasons: Vec::new(),
            })
        })
        .unwrap();
    module
        .register_method(method::TopicCredit::NAME, |params, _, extensions| {
            let params =
                methods::parse::<method::TopicCredit>(&params).map_err(ErrorObjectOwned::from)?;
            let credited = methods::connection(extensions).credit(params.credit_id, params.up_to);
            Ok::<_, ErrorObjectOwned>(types::Credited { credited })
        })
        .unwrap();
    module
        .register_async_method(
            method::TopicPublish::NAME,
            |params, publishes, extensions| async move {
                let connection = methods::connection(&extensions);
                let Some(_publishing) = connection.publish() else {
                    return Err(ErrorObjectOwned::from(Error::new(
                        Kind::Busy,
                        "one at a time",
                    )));
                };
                let params = methods::parse::<method::TopicPublish>(&params)
                    .map_err(ErrorObjectOwned::from)?;
                publishes.acquire().await.unwrap().forget();
                assert!(
                    params
                        .messages
                        .iter()
                        .all(|message| message.data_base64.is_some())
                );
                Ok(types::Published {
                    receipts: Vec::new(),
                })
            },
        )
        .unwrap();
    module
        .register_subscription(
            method::TopicSubscribe::NAME,
            TOPIC_EVENT,
            method::TopicUnsubscribe::NAME,
            |_, pending, _, extensions| async move {
                let Ok(sink) = pending.accept().await else {
                    return;
                };
                let mut credit = methods::connection(&extensions).open_credit(0, None);
                let name = sink.method_name().to_owned();
                let id = sink.subscription_id();
                let ready = types::Ready {
                    credit_id: credit.id(),
                    place: 0,
                    neighbours: 0,
                };
                let message =
                    SubscriptionMessage::new(&name, id.clone(), &Notification::Ready(ready))
                        .unwrap();
                if sink.send(message).await.is_err() {
                    return;
                }
                for place in 1..=ITEMS {
                    wait_for_room(&mut credit, place).await;
                    let items = types::Items {
                        items: vec![gap(place)],
                        place,
                        cursor: String::new(),
                    };
                    let message =
                        SubscriptionMessage::new(&name, id.clone(), &Notification::Items(items))
                            .unwrap();
                    if sink.send(message).await.is_err() {
                        return;
                    }
                }
                sink.closed().await;
            },
        )
        .unwrap();
    module.into()
}

async fn wait_for_room(credit: &mut Credit, place: u64) {
    while place > credit.read_up_to() + CREDIT_ITEMS as u64 {
        credit.changed().await;
    }
}

fn gap(place: u64) -> types::Item {
    types::Item::Gap(types::Gap {
        publisher: None,
        epoch: None,
        from: place,
        to: place,
        reason: types::GapReason::SlowReader,
    })
}

fn start(dir: &Path) -> (Control, Arc<Semaphore>) {
    let publishes = Arc::new(Semaphore::new(0));
    (open(dir, stand_in(publishes.clone())).unwrap(), publishes)
}

/// Posts a body as curl would, and returns the answer's status line and body.
async fn post(dir: &Path, body: &str) -> (String, String) {
    let mut stream = UnixStream::connect(dir.join(weft_rpc::SOCKET_NAME))
        .await
        .unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: weft\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // An oversize body may be refused before all of it was sent.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

async fn post_json(dir: &Path, body: &str) -> Value {
    serde_json::from_str(&post(dir, body).await.1).unwrap()
}

#[tokio::test]
async fn http_and_websocket_share_one_socket() {
    let temp = tempfile::tempdir().unwrap();
    let (control, _) = start(temp.path());
    let answer = post_json(
        temp.path(),
        r#"{"jsonrpc":"2.0","id":1,"method":"node_health"}"#,
    )
    .await;
    assert_eq!(answer["result"]["verdict"], "ok");
    let client = Client::connect(temp.path()).await.unwrap();
    let health = client
        .call::<method::NodeHealth>(NoParams {})
        .await
        .unwrap();
    assert_eq!(health.verdict, Verdict::Ok);
    control.stop().await;
}

#[tokio::test]
async fn errors_carry_kind_hint_and_retryable() {
    let temp = tempfile::tempdir().unwrap();
    let (control, _) = start(temp.path());
    let unknown = post_json(
        temp.path(),
        r#"{"jsonrpc":"2.0","id":"a","method":"node_heath"}"#,
    )
    .await;
    assert_eq!(unknown["id"], "a");
    assert_eq!(unknown["error"]["code"], -32601);
    assert_eq!(
        unknown["error"]["data"],
        json!({"kind": "unknown_method", "hint": "did you mean node_health?", "retryable": false})
    );
    let params = post_json(
        temp.path(),
        r#"{"jsonrpc":"2.0","id":1,"method":"node_health","params":{"x":1}}"#,
    )
    .await;
    assert_eq!(params["error"]["code"], -32602);
    assert_eq!(
        params["error"]["data"]["hint"],
        "node_health takes no parameters"
    );
    control.stop().await;
}

#[tokio::test]
async fn malformed_requests_are_answered_and_nothing_else_is_lost() {
    let temp = tempfile::tempdir().unwrap();
    let (control, _) = start(temp.path());
    let client = Client::connect(temp.path()).await.unwrap();
    assert_eq!(post_json(temp.path(), "{").await["error"]["code"], -32700);
    assert_eq!(
        post_json(temp.path(), r#"{"id":1}"#).await["error"]["code"],
        -32600
    );
    let (status, _) = post(temp.path(), &"x".repeat(5 << 20)).await;
    assert!(status.contains("413"), "{status}");
    let batch = post_json(
        temp.path(),
        r#"[{"jsonrpc":"2.0","id":1,"method":"node_health"},{"jsonrpc":"2.0","id":2,"method":"nothing"},3]"#,
    )
    .await;
    assert_eq!(batch[0]["result"]["verdict"], "ok");
    assert_eq!(batch[1]["error"]["data"]["kind"], "unknown_method");
    assert_eq!(batch[2]["error"]["data"]["kind"], "invalid_request");
    let long = format!(
        "[{}]",
        [r#"{"jsonrpc":"2.0","id":1,"method":"node_health"}"#; 51].join(",")
    );
    assert_eq!(post_json(temp.path(), &long).await["error"]["code"], -32010);
    client
        .call::<method::NodeHealth>(NoParams {})
        .await
        .unwrap();
    control.stop().await;
}

#[tokio::test]
async fn subscribing_over_plain_http_points_to_websocket() {
    let temp = tempfile::tempdir().unwrap();
    let (control, _) = start(temp.path());
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"topic_subscribe","params":{"topic":"t"}}"#;
    let answer = post_json(temp.path(), request).await;
    assert_eq!(answer["error"]["code"], -32059);
    assert!(
        answer["error"]["data"]["hint"]
            .as_str()
            .unwrap()
            .contains("WebSocket")
    );
    control.stop().await;
}

#[tokio::test]
async fn a_second_batch_on_one_connection_is_busy() {
    let temp = tempfile::tempdir().unwrap();
    let (control, publishes) = start(temp.path());
    let params = || PublishParams {
        topic: "t".into(),
        messages: Vec::new(),
        request_id: None,
        via: None,
        ack: None,
    };
    let client = Client::connect(temp.path()).await.unwrap();
    let batches = [(), ()].map(|()| Box::pin(client.call::<method::TopicPublish>(params())));
    let first_answer = tokio::time::timeout(DEADLINE, futures::future::select_all(batches)).await;
    // The server may take up either first; that one waits for its permit, the other is refused.
    let (refused, _, under_way) = first_answer.unwrap();
    match refused {
        Err(CallError::Rpc(error)) => {
            assert_eq!(error.kind, Kind::Busy);
            assert!(error.retryable);
        }
        other => panic!("{other:?}"),
    }
    publishes.add_permits(1);
    futures::future::join_all(under_way)
        .await
        .pop()
        .unwrap()
        .unwrap();
    publishes.add_permits(1);
    client.call::<method::TopicPublish>(params()).await.unwrap();
    control.stop().await;
}

#[tokio::test]
async fn a_message_of_a_mebibyte_fits_however_badly_it_escapes() {
    let temp = tempfile::tempdir().unwrap();
    let (control, publishes) = start(temp.path());
    publishes.add_permits(1);
    let client = Client::connect(temp.path()).await.unwrap();
    let messages = vec![Payload::of(&vec![1; MESSAGE_BYTES_MAX]).into()];
    client
        .call::<method::TopicPublish>(PublishParams {
            topic: "t".into(),
            messages,
            request_id: None,
            via: None,
            ack: None,
        })
        .await
        .unwrap();
    control.stop().await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_through_its_window() {
    let temp = tempfile::tempdir().unwrap();
    let (control, _) = start(temp.path());
    let client = Client::connect(temp.path()).await.unwrap();
    let mut stream = client
        .subscribe("t", &weft_rpc::Start::Latest)
        .await
        .unwrap();
    assert!(matches!(
        stream.next().await.unwrap(),
        Notification::Ready(_)
    ));
    // A call's answer comes behind the whole window that was sent meanwhile; so the buffer is as full as it gets.
    for _ in 0..100 {
        client
            .call::<method::NodeHealth>(NoParams {})
            .await
            .unwrap();
    }
    let read = async {
        for place in 1..=ITEMS {
            match stream.next().await.unwrap() {
                Notification::Items(batch) => assert_eq!(batch.place, place),
                Notification::Ready(_) => panic!("ready comes once"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, read).await.unwrap();
    control.stop().await;
    assert!(matches!(stream.next().await, Err(CallError::Disconnected)));
}

#[tokio::test]
async fn a_subscription_can_be_ended_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let (control, _) = start(temp.path());
    let client = Client::connect(temp.path()).await.unwrap();
    let id = client
        .call_raw(method::TopicSubscribe::NAME, Some(&json!({"topic": "t"})))
        .await
        .unwrap();
    let params = json!({"subscription": id});
    let ended = client
        .call_raw(method::TopicUnsubscribe::NAME, Some(&params))
        .await
        .unwrap();
    assert_eq!(ended, json!(true));
    let again = client
        .call_raw(method::TopicUnsubscribe::NAME, Some(&params))
        .await
        .unwrap();
    assert_eq!(again, json!(false));
    control.stop().await;
}

#[tokio::test]
async fn stopping_removes_the_socket_and_ends_connections() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("d".repeat(150));
    std::fs::create_dir(&dir).unwrap();
    let (control, _) = start(&dir);
    let client = Client::connect(&dir).await.unwrap();
    control.stop().await;
    assert!(!dir.join(weft_rpc::SOCKET_NAME).exists());
    tokio::time::timeout(DEADLINE, client.closed())
        .await
        .unwrap();
    assert!(matches!(
        client.call::<method::NodeHealth>(NoParams {}).await,
        Err(CallError::Disconnected)
    ));
    assert!(matches!(
        Client::connect(&dir).await,
        Err(ConnectError::NotRunning { .. })
    ));
}
