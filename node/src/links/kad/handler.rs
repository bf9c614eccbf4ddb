//! One connection's part of the kad protocol: it accepts streams and opens them when told to, and hands all of them up.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future;
use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol,
};

/// How long the negotiation of one stream may take: nobody waits for its answer any longer.
const NEGOTIATION_MAX: Duration = Duration::from_secs(3);
/// Streams that were opened and not yet handed up: the muxer lets no more of them be.
const EVENTS_MAX: usize = 64;

/// What the behaviour tells a handler.
#[derive(Debug)]
pub(crate) struct OpenStream;

/// What a handler tells the behaviour.
#[derive(Debug)]
pub(crate) enum HandlerEvent {
    /// The peer has opened a stream.
    Inbound(Stream),
    /// A stream that was ordered is open.
    Outbound(Stream),
    /// A stream that was ordered could not be opened.
    OutboundFailed,
}

/// Opens and accepts streams of the kad protocol.
pub(crate) struct Handler {
    protocol: StreamProtocol,
    /// Whether this node answers queries: a client doesn't say that it knows the protocol.
    serves: bool,
    /// Streams that were ordered and have not been asked for yet.
    ordered: usize,
    events: VecDeque<HandlerEvent>,
}

impl Handler {
    pub(crate) fn new(protocol: StreamProtocol, serves: bool) -> Self {
        Self {
            protocol,
            serves,
            ordered: 0,
            events: VecDeque::new(),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenStream;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = Either<ReadyUpgrade<StreamProtocol>, DeniedUpgrade>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let upgrade = if self.serves {
            Either::Left(ReadyUpgrade::new(self.protocol.clone()))
        } else {
            Either::Right(DeniedUpgrade)
        };
        SubstreamProtocol::new(upgrade, ()).with_timeout(NEGOTIATION_MAX)
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if self.ordered > 0 {
            self.ordered -= 1;
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
                .with_timeout(NEGOTIATION_MAX);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // Every event that changes something is followed by a poll of this same connection: no waker is needed.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, OpenStream: OpenStream) {
        self.ordered += 1;
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: future::Either::Left(stream),
                ..
            }) if self.events.len() < EVENTS_MAX => {
                self.events.push_back(HandlerEvent::Inbound(stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => self.events.push_back(HandlerEvent::Outbound(protocol)),
            ConnectionEvent::DialUpgradeError(_) => {
                self.events.push_back(HandlerEvent::OutboundFailed);
            }
            _ => {}
        }
    }
}
