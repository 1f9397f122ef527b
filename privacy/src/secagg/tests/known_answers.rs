//! Bytes that no version may change. Each was computed by another implementation as well (Python's
//! `hashlib`, `hmac` and `cryptography`); the generator is compared with RustCrypto's AES in counter
//! mode here.

use aes::{
    Aes256,
    cipher::{KeyIvInit, StreamCipher},
};
use ctr::Ctr32BE;

use super::simulator::{Federation, Network, Setting, id};
use crate::secagg::{
    Context,
    context::sha256,
    encoding::{Word, Words},
    generator::{self, CHUNK, Mask, Role, Sign},
    keys::{
        Edge, End, PairSecret, Which, edge_commitment, escrow_context, escrow_key, shares_context,
    },
    message::{Secret, ToCoordinator},
};

fn context() -> Context {
    Context::of(b"a round's specification")
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

#[test]
fn the_context_is_frozen() {
    assert_eq!(hex(context().as_bytes()), CONTEXT);
}

const CONTEXT: &str = "f8cf0049606b2ddff436455d2e82e7ca518cc7605bc964df44c718771fcdaf9e";

fn fixed(seed: u8) -> PairSecret {
    PairSecret::Fixed([seed; 32].into())
}

fn edge(own: (u16, u8), peer: (u16, u8)) -> Edge {
    let end = |(site, seed)| End {
        site: id(site),
        key: fixed(seed).public().expect("a key"),
    };
    let agreed = Edge::agree(&context(), fixed(own.1), end(own), end(peer));
    agreed.unwrap_or_else(|_| panic!("keys of full order"))
}

#[test]
fn both_ends_of_an_edge_agree_on_frozen_keys() {
    let (low, high) = (edge((3, 11), (7, 22)), edge((7, 22), (3, 11)));
    assert_eq!(hex(low.mask.as_slice()), MASK);
    assert_eq!(hex(high.mask.as_slice()), MASK);
    let way = shares_context(&context(), id(3), id(7));
    let sealed = low.outgoing.seal(&way, &[5; 64]);
    assert_eq!(hex(&sealed), SEALED);
    assert_eq!(
        high.incoming
            .open(&way, &sealed)
            .expect("its key")
            .as_slice(),
        [5; 64]
    );
    // The other direction has a key of its own.
    assert!(high.outgoing.open(&way, &sealed).is_err());
    let commitment = edge_commitment(&context(), id(7), id(3), &low.mask);
    assert_eq!(hex(&commitment), EDGE);
}

const MASK: &str = "01ca3b69445b04b773ed1155257a2de2af63cc6caa913c43fa82ce3e2e9ee115";
const SEALED: &str = concat!(
    "c7f1410cb51a5ac313e1e60b942ce62f3f0e4b0d64b819b64a1d542ce5eedb04bf9f244b59110393",
    "e88cd36515fa52f068d4a694c72223efc6f4947404e126b03e4db00636dad259651705db30cbff90",
);
const EDGE: &str = "13686d304cb76bf7f58a3b8c70fa9c8e5116d09a8fd88f3096c277b1a720488e";

#[test]
fn the_two_implementations_of_x25519_agree() {
    let ours = PairSecret::random().expect("randomness");
    let own = End {
        site: id(1),
        key: ours.public().expect("a key"),
    };
    let peer = End {
        site: id(2),
        key: fixed(33).public().expect("a key"),
    };
    let agree = |secret, own, peer| {
        Edge::agree(&context(), secret, own, peer).unwrap_or_else(|_| panic!("full order"))
    };
    let here = agree(ours, own, peer);
    let there = agree(fixed(33), peer, own);
    assert!(here.mask == there.mask);
}

#[test]
fn sites_in_different_contexts_get_masks_that_do_not_cancel() {
    // Whoever is told another model, cohort or parameter has another context.
    let seed = Secret::new([4; 32]);
    let (one, other) = (context(), Context::of(b"another specification"));
    let words = |context: &Context, sign| {
        let mut words = Words::zeros(Word::U32, 64);
        generator::apply(
            &[Mask::new(context, &seed, Role::Pair, sign)],
            0,
            &mut words,
        );
        words
    };
    let mut sum = words(&one, Sign::Plus);
    assert!(sum.add(&words(&one, Sign::Minus).bytes(0..64)));
    assert!(sum == Words::zeros(Word::U32, 64));
    let mut sum = words(&one, Sign::Plus);
    assert!(sum.add(&words(&other, Sign::Minus).bytes(0..64)));
    assert!(sum != Words::zeros(Word::U32, 64));
}

#[test]
fn escrow_and_commitments_are_frozen() {
    let secret = Secret::new([9; 32]);
    let sealed =
        escrow_key(&context(), &secret, id(3)).seal(&escrow_context(&context(), id(3)), &[6; 64]);
    assert_eq!(hex(&sealed), ESCROW);
    let commitments = [Which::SelfMask, Which::Escrow].map(|which| {
        let whole = which.commitment(&context(), id(3), &secret);
        let share = which.share_digest(&context(), id(3), id(7), &secret);
        [hex(&whole), hex(&share)]
    });
    assert_eq!(commitments.concat(), COMMITMENTS);
}

const ESCROW: &str = concat!(
    "18f8ad458b82fa98ec97933add95d2178f03582905609fa3f3e602670ed0cf79fb48e488964bdaf1",
    "3e4c1e7b47d74a3031780e88ae0d21b9c8cfb92856b42b03f9a18240f3999457f6bf9bd77be0de76",
);
const COMMITMENTS: [&str; 4] = [
    "0787401d43b53d5ac6344b6b5f18fd2bd96156c2030def2ab8627e79dc6352fa",
    "de68e5b2630382885293b71712f620ae431b72bcbeb272d3b47d16169fc805be",
    "73d53f59714042f660f4d0dc713c0f2a3b3d9efa9a98e7d91f32e7633aff0656",
    "eb8d0814896c9611b90e81e739aca5a12e9967ec594f4ec4fe4b7f96241a6b08",
];

fn mask(role: Role) -> Mask {
    Mask::new(&context(), &Secret::new([4; 32]), role, Sign::Plus)
}

#[test]
fn the_generators_keys_are_frozen_for_each_role_and_segment() {
    let keys = [
        mask(Role::Pair).key(0),
        mask(Role::Pair).key(1),
        mask(Role::Own).key(0),
    ];
    assert_eq!(
        keys.each_ref().map(|key| hex(key.as_slice())),
        GENERATOR_KEYS
    );
}

const GENERATOR_KEYS: [&str; 3] = [
    "027272bd91f3bf26d2568c4cd0117883d1b0377b522af56222f38f91cc3323ae",
    "016ccbed8053d2395f5cf4c09a53df5863265270f26f4c62a31b9b800cf93cfe",
    "a9c04ecf5aea8982774599b5665455a41141183fe3d5671dcc64437236eecea9",
];

/// AES-256 in counter mode as GCM runs it: its first block of keystream has counter 2.
fn reference(key: &Secret, chunk: u64, bytes: &mut [u8]) {
    let mut block = [0; 16];
    block[4..12].copy_from_slice(&chunk.to_be_bytes());
    block[15] = 2;
    Ctr32BE::<Aes256>::new(key.as_slice().into(), &block.into()).apply_keystream(bytes);
}

#[test]
fn the_generator_is_aes_in_counter_mode_chunk_by_chunk_and_segment_by_segment() {
    for word in [Word::U32, Word::U64] {
        let per_chunk = CHUNK / word.bytes();
        // Two chunks and a part of one from the start; the last chunk of a segment and the first
        // of the next.
        for first_chunk in [0_usize, 4095] {
            let mut words = Words::zeros(word, 2 * per_chunk + 5);
            let length = words.len();
            generator::apply(&[mask(Role::Own)], first_chunk * per_chunk, &mut words);
            let bytes = words.bytes(0..length);
            for (index, part) in bytes.chunks(CHUNK).enumerate() {
                let chunk = (first_chunk + index) as u64;
                let key = mask(Role::Own).key((chunk / 4096) as u32);
                let mut expected = vec![0; part.len()];
                reference(&key, chunk, &mut expected);
                assert!(part == expected, "{word:?}, chunk {chunk}");
            }
        }
    }
}

#[test]
fn a_whole_round_of_five_sites_is_frozen() {
    // One site drops out before its upload, so both kinds of secrets are opened.
    let mut federation = Federation::open_fixed(&Setting::five());
    federation.run(&mut Network::up(|from, message| match message {
        ToCoordinator::Trailer(_) if from == id(4) => None,
        other => Some(other),
    }));
    let mut transcript = Vec::new();
    for (from, message) in &federation.said {
        transcript.extend(sha256(&[&from.0.to_be_bytes(), message.bytes()]));
    }
    for (to, message) in &federation.heard {
        transcript.extend(sha256(&[&to.0.to_be_bytes(), message.bytes()]));
    }
    for upload in federation.uploads.values() {
        transcript.extend(upload.digest());
    }
    let sum = federation.sum();
    assert!(sum == federation.sum_in_the_clear());
    transcript.extend(sum.digest());
    assert_eq!(hex(&sha256(&[&transcript])), TRANSCRIPT);
}

const TRANSCRIPT: &str = "b3162c3c0caccb268f70e13eac17be4223d0ab17ca2f2e260f262950157bdf00";
