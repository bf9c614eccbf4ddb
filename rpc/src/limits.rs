//! Bounds that server and client must agree on, each with its reason.

/// Bytes of one request's body, HTTP or WebSocket. A message of 1 MiB in base64 is 1.4 MiB; the rest is room for batches.
pub const BODY_BYTES_MAX: u32 = 4 << 20;

/// Requests in one JSON-RPC batch: a batch runs one after another and holds its connection meanwhile.
pub const BATCH_REQUESTS_MAX: u32 = 50;

/// Bytes of one message, before JSON.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Bytes of a value in the replicated store, before JSON.
pub const KV_VALUE_BYTES_MAX: usize = 64 << 10;

/// Peers that a node refuses: as many as a testnet has nodes, twice; each costs every new connection a comparison or ten.
pub const PEERS_REFUSED_MAX: usize = 1_024;

/// Messages in one `topic_publish`: their receipts (250 bytes each and the topic's name) fit a body as well.
pub const PUBLISH_MESSAGES_MAX: usize = 4_096;

/// Bytes of one answer or notification that a client takes: JSON writes a byte such as 0x01 as six, and a notification
/// holds one message of any size or several small ones.
pub const ANSWER_BYTES_MAX: u32 = 16 << 20;

/// Items that a server sends ahead of a subscription's credit. A client's buffer must hold as many notifications, since
/// each may carry one item.
pub const CREDIT_ITEMS: usize = 4_096;

/// Payload bytes that a server sends ahead of a subscription's credit; a single larger item is sent alone.
pub const CREDIT_BYTES: usize = 1 << 20;

/// Items in one notification: large enough that JSON-RPC's overhead vanishes, small enough that a client starts early.
pub const NOTIFICATION_ITEMS_MAX: usize = 1_024;

/// Payload bytes in one notification, unless one message is larger.
pub const NOTIFICATION_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(NOTIFICATION_ITEMS_MAX * 2 <= CREDIT_ITEMS);
const _: () = assert!(NOTIFICATION_BYTES_MAX * 2 <= CREDIT_BYTES);
const _: () = assert!(MESSAGE_BYTES_MAX * 6 < ANSWER_BYTES_MAX as usize);
