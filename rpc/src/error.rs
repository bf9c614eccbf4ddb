//! Errors of the control socket: Weft's codes beside JSON-RPC's own, there and back.
//!
//! Each error object has `data {kind, hint, retryable}` and, where it helps a program, further keys (`index`, …).

use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error as codes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:expr, $name:literal, $retryable:literal;)*) => {
        /// What went wrong, one variant a code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
            /// A code that this version doesn't know.
            Other(i32),
        }

        impl Kind {
            /// Every kind with a name of its own.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the JSON-RPC code.
            pub fn code(self) -> i32 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// Returns the kind of a JSON-RPC code.
            pub fn of_code(code: i32) -> Self {
                $(if code == $code { return Self::$variant; })*
                Self::Other(code)
            }

            /// Returns the name that stands in `data.kind`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(_) => "other",
                }
            }

            /// Says whether the same call may succeed later, unless an error says otherwise.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Self::$variant => $retryable,)*
                    Self::Other(_) => false,
                }
            }
        }
    };
}

kinds! {
    /// The caller may not do this.
    Unauthorized = -32050, "unauthorized", false;
    /// The daemon does too much at once for this caller, or is stopping.
    Busy = -32051, "busy", true;
    /// It took too long; it may still happen.
    Timeout = -32052, "timeout", true;
    /// What was asked for isn't there.
    NotFound = -32053, "not_found", false;
    /// Fewer replicas than needed answered; it may be written.
    QuorumNotMet = -32054, "quorum_not_met", true;
    /// It is there already, or in another version.
    Conflict = -32055, "conflict", false;
    /// Larger than a bound.
    TooLarge = -32056, "too_large", false;
    /// The disk refused.
    Disk = -32057, "disk", true;
    /// A signature doesn't hold.
    BadSignature = -32058, "bad_signature", false;
    /// A rule of this node or network forbids it.
    Refused = -32059, "refused", false;
    /// The request isn't JSON.
    ParseError = codes::PARSE_ERROR_CODE, "parse_error", false;
    /// The request is JSON, but no JSON-RPC 2.0 call.
    InvalidRequest = codes::INVALID_REQUEST_CODE, "invalid_request", false;
    /// No method has that name.
    UnknownMethod = codes::METHOD_NOT_FOUND_CODE, "unknown_method", false;
    /// The method doesn't take these parameters.
    InvalidParams = codes::INVALID_PARAMS_CODE, "invalid_params", false;
    /// The daemon has a defect.
    Internal = codes::INTERNAL_ERROR_CODE, "internal", false;
    /// The connection has too many subscriptions.
    TooManySubscriptions = codes::TOO_MANY_SUBSCRIPTIONS_CODE, "too_many_subscriptions", true;
    /// The request's body is too large.
    OversizedRequest = codes::OVERSIZED_REQUEST_CODE, "oversized_request", false;
    /// The answer would be too large.
    OversizedAnswer = codes::OVERSIZED_RESPONSE_CODE, "oversized_answer", false;
    /// The batch holds too many requests.
    BatchTooLong = codes::TOO_BIG_BATCH_REQUEST_CODE, "batch_too_long", false;
    /// The batch's answers together would be too large.
    BatchAnswerTooLarge = codes::TOO_BIG_BATCH_RESPONSE_CODE, "batch_answer_too_large", false;
}

/// An error as a method answers it: what happened and why, what to do next, and whether to try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What went wrong, for programs.
    pub kind: Kind,
    /// What happened and why, for people.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Further keys of `data`.
    pub details: Map<String, Value>,
}

/// The member `data` of an error object.
#[derive(Serialize, Deserialize)]
struct Data {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    retryable: bool,
    #[serde(flatten)]
    details: Map<String, Value>,
}

impl Error {
    /// Makes an error without a hint, as retryable as its kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            retryable: kind.is_retryable(),
            details: Map::new(),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a key to `data`.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Says of one of JSON-RPC's own errors, which come as a code and two words, what it means here and what to do.
    fn of_protocol(kind: Kind, message: &str, data: Option<&str>) -> Self {
        let because = data
            .map(|data| format!(": {}", data.trim_matches('"')))
            .unwrap_or_default();
        let (message, hint) = match kind {
            Kind::ParseError => (
                "the request is no JSON".to_owned(),
                "send one JSON object, or an array of up to 50",
            ),
            Kind::InvalidRequest => (
                "the request is no JSON-RPC 2.0 call".to_owned(),
                r#"send {"jsonrpc":"2.0","id":1,"method":"…","params":{…}}"#,
            ),
            Kind::UnknownMethod => (
                "no method has this name".to_owned(),
                "call rpc.discover for the list",
            ),
            Kind::InvalidParams => (
                format!("the parameters don't fit the method{because}"),
                "call rpc.discover for their names",
            ),
            Kind::OversizedRequest => (
                "the request is larger than 4 MiB".to_owned(),
                "split it into several",
            ),
            Kind::BatchTooLong => (
                "the batch has more than 50 requests".to_owned(),
                "split it into several",
            ),
            Kind::OversizedAnswer | Kind::BatchAnswerTooLarge => (
                "the answer is larger than the daemon may send".to_owned(),
                "ask for less at once",
            ),
            Kind::TooManySubscriptions => (
                format!("too many subscriptions on this connection{because}"),
                "unsubscribe, or open another",
            ),
            Kind::Internal => (
                "the daemon failed to carry out the call".to_owned(),
                "look at the daemon's log; this is a defect worth reporting",
            ),
            _ => (format!("{message}{because}"), "look at the daemon's log"),
        };
        Self::new(kind, message).hint(hint)
    }
}

impl From<Error> for ErrorObjectOwned {
    fn from(error: Error) -> Self {
        let data = Data {
            kind: error.kind.name().to_owned(),
            hint: error.hint,
            retryable: error.retryable,
            details: error.details,
        };
        Self::owned(error.kind.code(), error.message, Some(data))
    }
}

impl From<ErrorObjectOwned> for Error {
    fn from(object: ErrorObjectOwned) -> Self {
        let kind = Kind::of_code(object.code());
        let raw = object.data().map(serde_json::value::RawValue::get);
        match raw.map(serde_json::from_str::<Data>) {
            Some(Ok(data)) if !data.kind.is_empty() => Self {
                kind,
                message: object.message().to_owned(),
                hint: data.hint,
                retryable: data.retryable,
                details: data.details,
            },
            _ => Self::of_protocol(kind, object.message(), raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_code_and_name() {
        for (i, a) in Kind::ALL.iter().enumerate() {
            assert_eq!(Kind::of_code(a.code()), *a);
            for b in &Kind::ALL[i + 1..] {
                assert_ne!(a.code(), b.code());
                assert_ne!(a.name(), b.name());
            }
        }
        assert_eq!(Kind::of_code(-1), Kind::Other(-1));
    }

    #[test]
    fn errors_go_there_and_back() {
        for kind in Kind::ALL {
            let error = Error::new(*kind, "what happened")
                .hint("what to do")
                .detail("index", 3);
            let object = ErrorObjectOwned::from(error.clone());
            let json = serde_json::to_string(&object).unwrap();
            let back: ErrorObjectOwned = serde_json::from_str(&json).unwrap();
            assert_eq!(Error::from(back), error);
        }
    }

    #[test]
    fn data_has_kind_hint_and_retryable() {
        let object = ErrorObjectOwned::from(Error::new(Kind::Busy, "busy"));
        let data: Value = serde_json::from_str(object.data().unwrap().get()).unwrap();
        assert_eq!(
            data,
            serde_json::json!({"kind": "busy", "hint": null, "retryable": true})
        );
    }

    #[test]
    fn the_protocols_own_errors_become_readable() {
        let object = ErrorObjectOwned::owned(-32601, "Method not found", None::<()>);
        let error = Error::from(object);
        assert_eq!(error.kind, Kind::UnknownMethod);
        assert!(error.hint.unwrap().contains("rpc.discover"));

        let object =
            ErrorObjectOwned::owned(-32602, "Invalid params", Some("missing field `topic`"));
        assert_eq!(
            Error::from(object).message,
            "the parameters don't fit the method: missing field `topic`"
        );
    }
}
