//! The methods: parameters in, the node asked, answers out.

mod dht;
mod kv;
mod topic;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::server::{Extensions, Methods, RpcModule};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use libp2p::Multiaddr;
use weft_identity::PeerId;
use weft_rpc::limits::PEERS_REFUSED_MAX;
use weft_rpc::method::{self, Method};
use weft_rpc::types;
use weft_rpc::{Error, Kind};

use super::connection::Connection;
use super::{Context, errors, subscription};
use crate::{ConsumerName, TopicName};

pub(super) use topic::start;

/// How long others have to take what a node holds that leaves: at 10 MB/s some gigabytes.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// The swarm that holds the whole network together.
const NETWORK_SWARM: &str = "network";

/// Registers every method of the table.
pub(super) fn all(context: Context) -> Methods {
    let mut module = RpcModule::new(context);
    on::<method::NodeStatus, _, _>(&mut module, |call, _| async move { call.status().await });
    on::<method::NodeHealth, _, _>(&mut module, |call, _| async move {
        Ok(call.status().await?.health)
    });
    on::<method::NodeIdentity, _, _>(&mut module, |call, _| async move { Ok(call.identity()) });
    on::<method::NodeShutdown, _, _>(&mut module, |call, _| async move { Ok(call.shutdown()) });
    on::<method::NodeLeave, _, _>(&mut module, |call, params| async move {
        call.leave(params).await
    });
    on::<method::NodeSetLogLevel, _, _>(&mut module, |call, params| async move {
        call.set_log_level(params)
    });
    on::<method::PeerList, _, _>(&mut module, |call, _| async move {
        call.context.node.peers().await.ok_or_else(errors::stopping)
    });
    on::<method::PeerAdd, _, _>(&mut module, |call, params| async move {
        call.peer_add(params).await
    });
    on::<method::PeerRemove, _, _>(&mut module, |call, params| async move {
        call.peer_remove(params).await
    });
    on::<method::PeerPing, _, _>(&mut module, |call, params| async move {
        call.peer_ping(params).await
    });
    on::<method::PeerRefuse, _, _>(&mut module, |call, params| async move {
        call.peer_refuse(&params).await
    });
    on::<method::OverlayViews, _, _>(&mut module, |call, params| async move {
        call.overlay_views(params).await
    });
    on::<method::OverlayTree, _, _>(&mut module, |call, params| async move {
        call.overlay_tree(params).await
    });
    dht::register(&mut module);
    kv::register(&mut module);
    topic::register(&mut module);
    on::<method::Discover, _, _>(&mut module, |_, _| async move { Ok(method::openrpc()) });
    subscription::register(&mut module);
    module.into()
}

/// A call under way: what its method may use.
struct Call {
    context: Arc<Context>,
    connection: Arc<Connection>,
}

/// Registers a method under the name, with the parameters and the answer that the table gives it.
fn on<M, F, A>(module: &mut RpcModule<Context>, method: F)
where
    M: Method,
    F: Fn(Call, M::Params) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<M::Answer, Error>> + Send + 'static,
{
    module
        .register_async_method(M::NAME, move |params, context, extensions| {
            let method = method.clone();
            async move {
                let params = parse::<M>(&params)?;
                let connection = connection(&extensions);
                method(
                    Call {
                        context,
                        connection,
                    },
                    params,
                )
                .await
                .map_err(ErrorObjectOwned::from)
            }
        })
        .expect("names in the table are unique, and each is registered once");
}

/// Finds the connection that the gate has put beside every call.
pub(super) fn connection(extensions: &Extensions) -> Arc<Connection> {
    extensions
        .get::<Arc<Connection>>()
        .cloned()
        .unwrap_or_default()
}

/// Reads a method's parameters: one JSON object, which may be absent where nothing in it is required.
pub(super) fn parse<M: Method>(params: &Params<'_>) -> Result<M::Params, Error> {
    let text = match params.as_str().map(str::trim) {
        None | Some("null" | "[]") => "{}",
        Some(text) => text,
    };
    let invalid = |reason: String| {
        let names: Vec<&str> = method::find(M::NAME)
            .into_iter()
            .flat_map(|entry| entry.params)
            .map(|param| param.name)
            .collect();
        let hint = match names.as_slice() {
            [] => format!("{} takes no parameters", M::NAME),
            names => format!("{} takes an object with: {}", M::NAME, names.join(", ")),
        };
        Error::new(Kind::InvalidParams, reason).hint(hint)
    };
    if !text.starts_with('{') {
        return Err(invalid(
            "parameters are named: a JSON object, not an array".to_owned(),
        ));
    }
    serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        // Lines and columns of a request that a program wrote help nobody.
        invalid(
            reason
                .split(" at line ")
                .next()
                .unwrap_or(&reason)
                .to_owned(),
        )
    })
}

impl Call {
    async fn status(&self) -> Result<types::Status, Error> {
        self.context
            .node
            .status()
            .await
            .ok_or_else(errors::stopping)
    }

    fn identity(&self) -> types::Identity {
        let node = &self.context.node;
        types::Identity {
            peer_id: node.peer_id().to_string(),
            network: node.network().to_owned(),
            addresses: node.addresses().iter().map(Multiaddr::to_string).collect(),
        }
    }

    /// Answers first: whoever asked should hear it before the connection ends.
    fn shutdown(&self) -> types::Stopping {
        tracing::info!("asked to stop over the control socket");
        let node = self.context.node.clone();
        tokio::spawn(async move { node.shutdown().await });
        types::Stopping { stopping: true }
    }

    async fn leave(&self, params: types::LeaveParams) -> Result<types::Left, Error> {
        let records = self.status().await?.store.records;
        if params.drain && !self.context.node.drain(DRAIN_MAX).await {
            return Err(errors::not_drained());
        }
        self.shutdown();
        Ok(types::Left {
            drained: params.drain,
            records,
        })
    }

    fn set_log_level(&self, params: types::LogLevel) -> Result<types::LogLevel, Error> {
        let Some(set) = &self.context.set_log_level else {
            return Err(Error::new(
                Kind::Refused,
                "this node's log belongs to the application that it is part of",
            )
            .hint("change it there"));
        };
        set(&params.level).map_err(|reason| {
            Error::new(
                Kind::InvalidParams,
                format!("{:?} is no log level: {reason}", params.level),
            )
            .hint(
                "error, warn, info, debug, trace, off, or directives such as info,weft_node=debug",
            )
        })?;
        tracing::info!(
            level = params.level,
            "log level changed over the control socket"
        );
        Ok(params)
    }

    async fn peer_add(&self, params: types::PeerAddParams) -> Result<types::PeerAdded, Error> {
        let address = params.address;
        let parsed: Multiaddr = address.parse().map_err(|error| {
            Error::new(Kind::InvalidParams, format!("{address:?} is no multiaddress: {error}"))
                .hint("write it as /ip4/127.0.0.1/tcp/4001, with /p2p/PEER_ID at its end to pin who must answer")
        })?;
        match self.context.node.add_peer(parsed).await {
            Ok(peer) => Ok(types::PeerAdded {
                peer_id: peer.to_string(),
                address,
            }),
            Err(error) => Err(errors::add_peer(error, &address)),
        }
    }

    async fn peer_remove(&self, params: types::PeerParams) -> Result<types::PeerRemoved, Error> {
        let peer = peer_id(&params.peer_id)?;
        let removed = self
            .context
            .node
            .remove_peer(peer)
            .await
            .ok_or_else(errors::stopping)?;
        Ok(types::PeerRemoved {
            peer_id: params.peer_id,
            removed,
        })
    }

    async fn peer_refuse(
        &self,
        params: &types::PeerRefuseParams,
    ) -> Result<types::PeersRefused, Error> {
        if params.peer_ids.len() > PEERS_REFUSED_MAX {
            let reason = format!("a node refuses at most {PEERS_REFUSED_MAX} peers");
            return Err(Error::new(Kind::InvalidParams, reason));
        }
        let peers = params.peer_ids.iter().map(|id| peer_id(id));
        let peers: BTreeSet<PeerId> = peers.collect::<Result<_, _>>()?;
        let refused = peers.len();
        let told = self.context.node.refuse_peers(peers).await;
        told.ok_or_else(errors::stopping)?;
        Ok(types::PeersRefused { refused })
    }

    async fn peer_ping(&self, params: types::PeerParams) -> Result<types::PeerPinged, Error> {
        let peer = peer_id(&params.peer_id)?;
        match self.context.node.ping(peer).await {
            Ok(rtt) => Ok(types::PeerPinged {
                peer_id: params.peer_id,
                rtt_ms: rtt.as_secs_f64() * 1e3,
            }),
            Err(error) => Err(errors::ping(&error, &params.peer_id)),
        }
    }

    async fn overlay_views(
        &self,
        params: types::OverlayViewsParams,
    ) -> Result<types::OverlayView, Error> {
        let swarm = params.topic.unwrap_or_else(|| NETWORK_SWARM.to_owned());
        check_swarm(&swarm)?;
        self.context
            .node
            .overlay_view(&swarm)
            .await
            .ok_or_else(|| errors::no_member(&swarm))
    }

    async fn overlay_tree(
        &self,
        params: types::OverlayTreeParams,
    ) -> Result<types::OverlayTree, Error> {
        check_swarm(&params.topic)?;
        self.context
            .node
            .overlay_tree(&params.topic)
            .await
            .ok_or_else(|| errors::no_member(&params.topic))
    }
}

/// Reads a topic's name.
pub(super) fn topic_name(name: &str) -> Result<TopicName, Error> {
    name.parse()
        .map_err(|error: crate::TopicNameError| errors::bad_topic(&error.to_string()))
}

/// Reads a consumer's name.
pub(super) fn consumer_name(name: &str) -> Result<ConsumerName, Error> {
    name.parse().map_err(|error: crate::ConsumerNameError| {
        Error::new(
            Kind::InvalidParams,
            format!("{name:?} is no consumer's name: {error}"),
        )
    })
}

/// Reads a swarm's name: a topic's, or `network`.
fn check_swarm(name: &str) -> Result<(), Error> {
    if name == NETWORK_SWARM {
        Ok(())
    } else {
        topic_name(name).map(|_| ())
    }
}

fn peer_id(text: &str) -> Result<PeerId, Error> {
    text.parse()
        .map_err(|error: weft_identity::ParsePeerIdError| {
            Error::new(
                Kind::InvalidParams,
                format!("{text:?} is no peer id: {error}"),
            )
            .hint("weft peer ls shows the linked peers' ids")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_and_known() {
        let parse = |text: Option<&'static str>| parse::<method::OverlayViews>(&Params::new(text));
        assert_eq!(parse(None).unwrap().topic, None);
        assert_eq!(parse(Some("null")).unwrap().topic, None);
        assert_eq!(
            parse(Some(r#" {"topic": "a"} "#)).unwrap().topic.as_deref(),
            Some("a")
        );
        let unknown = parse(Some(r#"{"tpic": "a"}"#)).unwrap_err();
        assert_eq!(unknown.kind, Kind::InvalidParams);
        assert!(
            unknown.message.starts_with("unknown field `tpic`"),
            "{unknown}"
        );
        assert_eq!(
            unknown.hint.as_deref(),
            Some("overlay_views takes an object with: topic")
        );
        assert!(parse(Some(r#"["a"]"#)).is_err());
    }

    #[test]
    fn what_is_required_must_be_there() {
        let error = parse::<method::PeerAdd>(&Params::new(None)).unwrap_err();
        assert_eq!(error.message, "missing field `address`");
    }
}
