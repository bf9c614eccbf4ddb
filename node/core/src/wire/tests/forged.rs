//! Signatures: what isn't its author's is refused, and duplicates are known only by what was checked.

use prost::Message as _;

use super::*;
use crate::wire::{encode_broadcast, encode_hello, encode_membership, proto};

const OTHER_TOPIC: TopicId = TopicId::from_bytes([0x78; 32]);

fn decode(frame: &[u8], known: &Arc<Mutex<KnownBodies>>) -> Result<Frame, DecodeError> {
    Decoder::new(sender().peer_id(), known.clone()).decode(frame)
}

/// The frame of a bundle whose signature, or whose body's last byte, is another.
fn forged(flip_signature: bool) -> Vec<u8> {
    let mut frame = bare(&encode_broadcast(TOPIC, &eager(&bundle_with(b"hello"))));
    let body = bundle_with(b"hello").0.body.len();
    let at = match flip_signature {
        // The signature stands before the body's key and its length of one byte.
        true => frame.len() - body - 3,
        false => frame.len() - 1,
    };
    frame[at] ^= 1;
    frame
}

fn bundle_with(message: &'static [u8]) -> TopicBundle {
    bundle_of(&[Bytes::from_static(message).into()])
}

#[test]
fn a_forged_bundle_is_refused_and_does_not_keep_the_true_one_out() {
    let known = Arc::default();
    for flip_signature in [true, false] {
        assert_eq!(
            decode(&forged(flip_signature), &known).unwrap_err(),
            DecodeError::Forged("bundle")
        );
    }
    let frame = bare(&encode_broadcast(TOPIC, &eager(&bundle_with(b"hello"))));
    let first = decode(&frame, &known);
    assert!(
        matches!(
            first,
            Ok(Frame::Broadcast {
                message: Broadcast::Bundle { .. },
                ..
            })
        ),
        "{first:?}"
    );
}

#[test]
fn a_bundle_of_another_topic_is_refused_even_if_it_is_known_there() {
    let known = Arc::default();
    assert!(decode(&bare(&encode_broadcast(TOPIC, &eager(&bundle()))), &known).is_ok());
    let moved = bare(&encode_broadcast(OTHER_TOPIC, &eager(&bundle())));
    assert_eq!(
        decode(&moved, &known).unwrap_err(),
        DecodeError::Forged("bundle")
    );
}

#[test]
fn a_second_copy_is_recognised_on_every_link_and_only_its_header_goes_on() {
    let known = Arc::default();
    let bundle = bundle();
    let frame = bare(&encode_broadcast(TOPIC, &eager(&bundle)));
    assert!(decode(&frame, &known).is_ok());
    match decode(&frame, &known) {
        Ok(Frame::Broadcast {
            message: Broadcast::Duplicate { header, push },
            ..
        }) => {
            assert_eq!(header, weft_overlay::Bundle::header(&bundle));
            assert_eq!(push, Push::Eager);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ones_own_bundle_that_comes_back_is_recognised() {
    let known: Arc<Mutex<KnownBodies>> = Arc::default();
    let bundle = bundle();
    known.lock().unwrap().insert(TOPIC, bundle.0.hash);
    assert!(matches!(
        decode(&bare(&encode_broadcast(TOPIC, &eager(&bundle))), &known),
        Ok(Frame::Broadcast {
            message: Broadcast::Duplicate { .. },
            ..
        })
    ));
}

#[test]
fn what_was_asked_for_comes_whole_though_it_is_known() {
    let known = Arc::default();
    let frame = bare(&encode_broadcast(TOPIC, &pushed(&bundle(), Push::Supplied)));
    for _ in 0..2 {
        assert!(matches!(
            decode(&frame, &known),
            Ok(Frame::Broadcast {
                message: Broadcast::Bundle {
                    push: Push::Supplied,
                    ..
                },
                ..
            })
        ));
    }
}

#[test]
fn another_bundle_for_the_same_place_is_verified_and_goes_on() {
    let known = Arc::default();
    for message in [&b"one"[..], b"two"] {
        let frame = bare(&encode_broadcast(TOPIC, &eager(&bundle_with(message))));
        assert!(matches!(
            decode(&frame, &known),
            Ok(Frame::Broadcast {
                message: Broadcast::Bundle { .. },
                ..
            })
        ));
    }
}

#[test]
fn a_forged_descriptor_is_refused_wherever_it_stands() {
    let mut signed = crate::wire::descriptor::encode(&contact_of(&key(2)));
    let mut signature = signed.signature.to_vec();
    signature[5] ^= 1;
    signed.signature = signature.into();
    let reply = proto::ShuffleReply {
        sample: vec![
            crate::wire::descriptor::encode(&contact_of(&key(3))),
            signed,
        ],
    };
    let frame = proto::Frame {
        kind: Some(proto::frame::Kind::Membership(proto::Membership {
            topic: Bytes::copy_from_slice(TOPIC.as_bytes()),
            message: Some(proto::membership::Message::ShuffleReply(reply)),
        })),
    };
    let known = Arc::default();
    for _ in 0..2 {
        assert_eq!(
            decode(&frame.encode_to_vec(), &known).unwrap_err(),
            DecodeError::Forged("descriptor")
        );
    }
}

#[test]
fn an_author_whose_id_is_no_key_is_a_forger() {
    let mut body = proto::BundleBody::decode(bundle().0.body.clone()).unwrap();
    body.publisher = Bytes::from(vec![0xff; 32]);
    let frame = hostile::bundle_frame(&body.encode_to_vec());
    assert_eq!(
        decoder().decode(&frame).unwrap_err(),
        DecodeError::Forged("bundle")
    );
}

#[test]
fn nobody_introduces_another_peer_as_itself() {
    let other = contact_of(&key(2));
    let frames = [
        encode_hello(Some(&other)),
        encode_membership(
            TOPIC,
            &Membership::Join {
                joiner: other.clone(),
            },
        ),
        encode_membership(
            TOPIC,
            &Membership::Neighbor {
                sender: other.clone(),
                priority: Priority::High,
            },
        ),
        encode_membership(
            TOPIC,
            &Membership::NeighborReply {
                sender: other,
                accepted: true,
            },
        ),
    ];
    for frame in &frames {
        assert_eq!(
            decoder().decode(&bare(frame)).unwrap_err(),
            DecodeError::Malformed("another peer's descriptor for the sender's own")
        );
    }
}
