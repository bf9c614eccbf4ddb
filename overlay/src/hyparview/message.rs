//! The messages of HyParView, as its paper names them (§4), with replies where a peer must confirm.

/// How urgently a peer wants to be a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The sender has no neighbour: the receiver must accept, evicting somebody if its view is full.
    High,
    /// The receiver accepts only if it has room.
    Low,
}

/// Why a peer ends a neighbourhood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// Its view was full, or it never held the receiver as a neighbour: it is alive and may be kept in the passive view.
    NotNeighbours,
    /// It leaves the swarm.
    Leaving,
}

/// A message between two members of a swarm's membership.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<C> {
    /// The sender joins the swarm through the receiver, who accepts it with [`Message::NeighborReply`].
    Join {
        /// The joining peer, the sender itself.
        joiner: C,
    },
    /// A peer joined; the message walks on until `hops_left` is zero, and whoever it ends at becomes its neighbour.
    ForwardJoin {
        /// The peer that joined.
        joiner: C,
        /// Hops that are left of the walk (starts at the active random walk length, ARWL).
        hops_left: u8,
    },
    /// The sender asks to be the receiver's neighbour.
    Neighbor {
        /// The sender.
        sender: C,
        /// How urgently.
        priority: Priority,
    },
    /// Answers [`Message::Neighbor`] and [`Message::Join`].
    NeighborReply {
        /// The one who answers.
        sender: C,
        /// Whether sender and receiver are neighbours now.
        accepted: bool,
    },
    /// The sender is no neighbour of the receiver (any more).
    Disconnect {
        /// Why.
        reason: Goodbye,
    },
    /// The origin offers a sample of its views; whoever the walk ends at answers the origin with a sample of its own.
    Shuffle {
        /// Who shuffles.
        origin: C,
        /// Hops that are left of the walk.
        hops_left: u8,
        /// Up to Ka active and, after them, Kp passive peers of the origin.
        sample: Vec<C>,
    },
    /// Answers [`Message::Shuffle`].
    ShuffleReply {
        /// As many passive peers as were offered, at most.
        sample: Vec<C>,
    },
}
