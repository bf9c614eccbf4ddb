//! What the methods `kv_*` take and answer.
//!
//! How many replicas a record has and how many must answer can be said in each call: `n`, `r` or `w` as numbers, or `level`
//! as `one`, `quorum` or `all` of `n`; absent, `n` is 3 and the level `quorum`. `strict` refuses the help of peers that only
//! stand in for replicas. `timeout_ms` is how long the node tries; absent, 10 seconds.
//!
//! Calls that write take a `request_id`, 1 to 64 bytes of the client's choice: a call that repeats one is answered as the
//! first was, and writes nothing more.

use serde::{Deserialize, Serialize};

use crate::payload::Payload;

/// How many of the replicas must have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvLevel {
    /// One.
    One,
    /// More than half.
    Quorum,
    /// All.
    All,
}

/// A value's bytes as JSON: `{"value": "text"}` or `{"value_base64": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvData {
    /// UTF-8 text.
    #[serde(rename = "value")]
    Text(String),
    /// Any bytes, in base64 (RFC 4648 §4).
    #[serde(rename = "value_base64")]
    Base64(String),
}

impl From<Payload> for KvData {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Base64(text) => Self::Base64(text),
        }
    }
}

impl From<KvData> for Payload {
    fn from(data: KvData) -> Self {
        match data {
            KvData::Text(text) => Self::Text(text),
            KvData::Base64(text) => Self::Base64(text),
        }
    }
}

/// What `kv_get` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvGetParams {
    /// The key.
    pub key: String,
    /// How many replicas there are to be, 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// How many must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<u8>,
    /// The same in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<KvLevel>,
    /// Whether only replicas count.
    #[serde(default)]
    pub strict: bool,
    /// How long to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What `kv_put` takes: a key, and one of `value` and `value_base64`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvPutParams {
    /// The key: 1 to 512 bytes without control characters. `@PEER/path` is that peer's own.
    pub key: String,
    /// The value as text, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in base64 (RFC 4648 §4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// How long the value lasts; absent, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The context that a read returned: the values that it returned are replaced. Absent, the node reads first and
    /// replaces what it finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether to replace nothing: the value stands beside what is there.
    #[serde(default)]
    pub blind: bool,
    /// On this node's own key: whether to write only where there is no value.
    #[serde(default)]
    pub if_absent: bool,
    /// How many replicas there are to be, 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// How many must have it on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<u8>,
    /// The same in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<KvLevel>,
    /// Whether only replicas count.
    #[serde(default)]
    pub strict: bool,
    /// How long to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The client's number for this write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What `kv_delete` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvDeleteParams {
    /// The key.
    pub key: String,
    /// The context that a read returned: the values that it returned go. Absent, the node reads first, and what it finds
    /// goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// How many replicas there are to be, 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// How many must have it on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<u8>,
    /// The same in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<KvLevel>,
    /// Whether only replicas count.
    #[serde(default)]
    pub strict: bool,
    /// How long to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The client's number for this write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What `kv_cas` takes: one of this node's own keys, and one of `value` and `value_base64`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvCasParams {
    /// The key, `@PEER/path` with this node's peer id.
    pub key: String,
    /// The version that must be there, or `absent`.
    pub expect: String,
    /// The value as text, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in base64 (RFC 4648 §4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// How long the value lasts; absent, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How many replicas there are to be, 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// How many must have it on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<u8>,
    /// The same in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<KvLevel>,
    /// Whether only replicas count.
    #[serde(default)]
    pub strict: bool,
    /// How long to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The client's number for this write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What `kv_list` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvListParams {
    /// What the keys begin with; it contains a whole `{tag}`.
    pub prefix: String,
    /// Go on after this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many replicas there are to be, 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// How many must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<u8>,
    /// The same in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<KvLevel>,
    /// Whether only replicas count.
    #[serde(default)]
    pub strict: bool,
    /// How long to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What `kv_locate` and `kv_repair` take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvKeyParams {
    /// The key.
    pub key: String,
    /// How many replicas there are to be, 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// How long to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A peer that answered a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvReplica {
    /// Its peer id.
    pub peer_id: String,
    /// Whether it has the record on disk; of a read, whether it has any.
    pub durable: bool,
    /// The replica that it stands in for; null for a replica.
    pub hint_for: Option<String>,
}

/// What `kv_put`, `kv_delete` and `kv_cas` answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvWritten {
    /// The key.
    pub key: String,
    /// Where the key stands: 64 hexadecimal digits.
    pub point: String,
    /// Who wrote: this node.
    pub writer: String,
    /// Which of the writer's writes it is, `EPOCH.COUNTER`.
    pub version: String,
    /// When, by this node's clock.
    pub written_at: String,
    /// How many replicas had to have it on disk.
    pub need: usize,
    /// How many do.
    pub got: usize,
    /// Whether that counts peers that stand in for replicas.
    pub sloppy: bool,
    /// Who has it on disk.
    pub replicas: Vec<KvReplica>,
}

/// What `kv_get` answers; a key without a value is the error `not_found`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvGot {
    /// The key.
    pub key: String,
    /// How many replicas had to answer.
    pub need: usize,
    /// How many did.
    pub got: usize,
    /// Whether that counts peers that stand in for replicas.
    pub sloppy: bool,
    /// Who answered.
    pub replicas: Vec<KvReplica>,
    /// The value; several where writers knew nothing of each other, the one written last first.
    pub values: Vec<KvValue>,
    /// What a write must cite to replace them all; opaque, and of this key only.
    pub context: String,
}

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvValue {
    /// The value.
    #[serde(flatten)]
    pub data: KvData,
    /// Who wrote it.
    pub writer: String,
    /// Which of the writer's writes it is, `EPOCH.COUNTER`.
    pub version: String,
    /// When, by the writer's clock.
    pub written_at: String,
    /// When it stops being valid, by the writer's clock; null for never.
    pub expires_at: Option<String>,
}

/// What `kv_list` answers: one page of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvKeys {
    /// What they begin with.
    pub prefix: String,
    /// Keys with a value, in order.
    pub keys: Vec<String>,
    /// Go on after this key; null at the end.
    pub after: Option<String>,
    /// How many replicas had to answer.
    pub need: usize,
    /// How many did.
    pub got: usize,
}

/// What `kv_locate` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvLocated {
    /// The key.
    pub key: String,
    /// What places it: its tag, or the whole key.
    pub placement: String,
    /// Where that stands: 64 hexadecimal digits.
    pub point: String,
    /// The slot in which Redis Cluster would put it.
    pub slot: u16,
    /// The replicas and who else answered, the closest first.
    pub replicas: Vec<KvHolder>,
}

/// A peer near a key, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvHolder {
    /// Its peer id.
    pub peer_id: String,
    /// Whether it holds all that it should.
    pub settled: bool,
    /// Whether it is there, in the sight of those that answered.
    pub alive: bool,
    /// What it holds of the key; null if it didn't answer.
    pub versions: Option<Vec<KvVersion>>,
}

/// A record as a replica holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvVersion {
    /// Who wrote it.
    pub writer: String,
    /// Which of the writer's writes it is, `EPOCH.COUNTER`.
    pub version: String,
    /// When, by the writer's clock.
    pub written_at: String,
    /// When it stops being valid; null for never.
    pub expires_at: Option<String>,
    /// The length of the value; null where it says that the key was deleted.
    pub value_bytes: Option<u32>,
}

/// What `kv_repair` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvRepaired {
    /// The key.
    pub key: String,
    /// How many replicas had to answer.
    pub need: usize,
    /// How many did.
    pub got: usize,
    /// How many records the key has.
    pub records: usize,
    /// How many replicas lacked some, and have them now.
    pub repaired: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_absent() {
        let put = KvPutParams {
            key: "k".to_owned(),
            value: Some("v".to_owned()),
            ..KvPutParams::default()
        };
        let json = serde_json::to_value(&put).unwrap();
        let wanted = serde_json::json!({
            "key": "k", "value": "v", "blind": false, "if_absent": false, "strict": false
        });
        assert_eq!(json, wanted);
        let read: KvPutParams = serde_json::from_str(r#"{"key": "k", "value": "v"}"#).unwrap();
        assert_eq!(read, put);
    }

    #[test]
    fn a_value_stands_beside_what_is_said_of_it() {
        let value = KvValue {
            data: Payload::of(b"blue").into(),
            writer: "P".to_owned(),
            version: "1.2".to_owned(),
            written_at: "T".to_owned(),
            expires_at: None,
        };
        let json = serde_json::to_value(&value).unwrap();
        assert_eq!(
            (&json["value"], &json["expires_at"]),
            (&"blue".into(), &serde_json::Value::Null)
        );
        assert_eq!(serde_json::from_value::<KvValue>(json).unwrap(), value);
        let bytes = KvData::from(Payload::of(&[0xff]));
        assert_eq!(
            serde_json::to_value(&bytes).unwrap(),
            serde_json::json!({"value_base64": "/w=="})
        );
        assert_eq!(Payload::from(bytes), Payload::of(&[0xff]));
    }
}
