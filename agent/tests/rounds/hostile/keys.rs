//! Keys that are not the ones that peers made.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use consilium_privacy::secagg::{
    Kind, Unbelieved,
    message::{PairKey, PairKeys, ToCoordinator, ToSite},
    site::Violation,
};
use consilium_proto::RoundSpec;

use super::{Stage, locked, to_victim};
use crate::interceptor::Lies;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_coordinators_own_in_place_of_a_peers_is_not_believed() {
    let stage = Stage::of_three().await;
    let (signer, victim, peer) = (stage.middle.signer(), stage.ids[0], stage.ids[1]);
    let lies = to_victim(victim, move |ear, message| match message {
        ToSite::PeerKeys(bytes) => {
            let mut keys = PairKeys::from_bytes(&bytes).expect("the true coordinator's");
            let (from, to, key) = (peer.into(), victim.into(), [7; 32]);
            keys.0[0] = PairKey { from, to, key }.signed(&ear.context, &*signer);
            ToSite::PeerKeys(keys.to_bytes())
        }
        message => message,
    });
    let scene = stage.run(lies).await;
    let unbelieved = Unbelieved::Signature(Kind::PairKey);
    scene.assert_stopped(0, unbelieved.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sites_own_key_sent_back_as_a_peers_is_found() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let own = Arc::new(Mutex::new(Vec::new()));
    let kept = own.clone();
    let lies = Lies {
        up: Box::new(move |ear, message| {
            if let (true, ToCoordinator::Keys(bytes)) = (ear.site == victim, &message) {
                *locked(&kept) = PairKeys::from_bytes(bytes).expect("a site's own").0;
            }
            Some(message)
        }),
        ..to_victim(victim, move |_, message| match message {
            ToSite::PeerKeys(bytes) => {
                let mut keys = PairKeys::from_bytes(&bytes).expect("the true coordinator's");
                keys.0[0] = locked(&own)[0].clone();
                ToSite::PeerKeys(keys.to_bytes())
            }
            message => message,
        })
    };
    let scene = stage.run(lies).await;
    let reflected = Violation::Reflected(victim.into());
    scene.assert_stopped(0, reflected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_sites_that_were_shown_another_specification_are_not_believed() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let made = Arc::new(Mutex::new(BTreeMap::new()));
    let known = made.clone();
    let scene = stage
        .run(Lies {
            spec: Box::new(move |site, spec| match site == victim {
                true => RoundSpec {
                    deadline: spec.deadline - 1,
                    ..spec
                },
                false => spec,
            }),
            up: Box::new(move |ear, message| {
                if ear.site == victim {
                    return None;
                }
                if let ToCoordinator::Keys(keys) = &message {
                    let keys = PairKeys::from_bytes(keys).expect("a site's own");
                    // The victim is the first of its peers.
                    locked(&made).insert(ear.site, keys.0[0].clone());
                }
                Some(message)
            }),
            down: Box::new(move |ear, message| {
                let known = locked(&known);
                match ear.site == victim && known.len() == 2 {
                    true => {
                        let keys = known.values().cloned().collect();
                        Some(ToSite::PeerKeys(PairKeys(keys).to_bytes()))
                    }
                    false => message,
                }
            }),
        })
        .await;
    let unbelieved = Unbelieved::Signature(Kind::PairKey);
    scene.assert_stopped(0, unbelieved.into()).await;
}
