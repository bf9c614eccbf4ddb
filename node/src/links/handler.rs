//! One connection's part of the link protocol: it opens one stream when told to, accepts one, and hands both up.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
};

/// What the behaviour tells a handler.
#[derive(Debug)]
pub(super) struct OpenStream;

/// What a handler tells the behaviour.
#[derive(Debug)]
pub(super) enum HandlerEvent {
    /// The peer has opened its stream.
    Inbound(Stream),
    /// This side's stream is open.
    Outbound(Stream),
    /// This side's stream could not be opened.
    OutboundFailed(String),
}

/// Opens and accepts the two streams of a link.
pub(super) struct Handler {
    protocol: StreamProtocol,
    /// How long the negotiation of one stream may take: as long as the whole link may take to come up.
    timeout: Duration,
    /// Whether the stream that was ordered has not been asked for yet.
    ordered: bool,
    /// Whether the one stream that a peer may open has come.
    accepted: bool,
    /// At most three: one of each kind.
    events: VecDeque<HandlerEvent>,
}

impl Handler {
    pub(super) fn new(protocol: StreamProtocol, timeout: Duration) -> Self {
        Self {
            protocol,
            timeout,
            ordered: false,
            accepted: false,
            events: VecDeque::new(),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenStream;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
            .with_timeout(self.timeout)
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if std::mem::take(&mut self.ordered) {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
                .with_timeout(self.timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // Every event that changes something is followed by a poll of this same connection: no waker is needed.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, OpenStream: OpenStream) {
        self.ordered = true;
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                if std::mem::replace(&mut self.accepted, true) {
                    tracing::debug!("a peer opened a second link stream; it is reset");
                    return;
                }
                self.events.push_back(HandlerEvent::Inbound(protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => self.events.push_back(HandlerEvent::Outbound(protocol)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let reason = match error {
                    StreamUpgradeError::Timeout => "the peer did not answer in time".to_owned(),
                    StreamUpgradeError::NegotiationFailed => {
                        "the peer does not speak this network's link protocol".to_owned()
                    }
                    StreamUpgradeError::Io(error) => error.to_string(),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.events.push_back(HandlerEvent::OutboundFailed(reason));
            }
            _ => {}
        }
    }
}
