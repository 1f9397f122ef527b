use consilium_proto::signed::Purpose;

use super::*;
use crate::{
    audit_log,
    fixture::{Federation, Hand, signer, site},
    roster,
    store::MemoryStore,
};

struct Place {
    federation: Federation,
    store: Arc<MemoryStore>,
    identity: Arc<Signer>,
    clock: Clock,
}

impl Place {
    async fn new() -> Self {
        let federation = Federation::of_sites(2);
        let store = Arc::new(MemoryStore::new());
        let (root, clock) = (federation.trust_root(), Hand::new().clock());
        roster::import(&*store, &root, &federation.epochs, clock.now())
            .await
            .expect("our own epochs");
        Self {
            federation,
            store,
            identity: Arc::new(signer()),
            clock,
        }
    }

    async fn open(&self) -> Transparency<MemoryStore> {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let root = self.federation.trust_root();
        let members = Arc::new(Members::new(store.clone(), root, clock.clone()));
        Transparency::open(store, members, self.identity.clone(), clock)
            .await
            .expect("sound leaves")
    }

    fn head(&self, member: u16, sequence: u64) -> Signed {
        let head = LedgerHead {
            site: site(member),
            ledger: [member as u8; 32],
            sequence,
            entry_hash: Digest::plain(&sequence.to_be_bytes()),
        };
        head.sign(&self.federation.keys[usize::from(member) - 1])
    }

    async fn actions(&self) -> Vec<String> {
        let log = self.store.log(1, 100).await.expect("memory");
        audit_log::verify(None, log.clone()).expect("our own chain");
        log.into_iter()
            .map(|entry| entry.action)
            .filter(|action| action.starts_with("ledger"))
            .collect()
    }
}

#[tokio::test]
async fn receipts_verify_and_follow_each_other_across_a_restart() {
    let place = Place::new().await;
    let key = place.identity.public_key();
    let mut earlier: Option<Signed> = None;
    for sequence in 1..=9_u64 {
        let log = place.open().await;
        let known = earlier.as_ref().map(|signed| TreeHead::open(signed, &key));
        let known = known.transpose().expect("kept").map_or(0, |head| head.size);
        for member in [1, 2] {
            let sender = place.federation.member(member);
            let head = place.head(member, sequence);
            let receipt = log
                .submit(&sender, head.clone(), known)
                .await
                .expect("it goes on");
            let again = log.submit(&sender, head, known).await.expect("a repeat");
            assert_eq!(receipt, again, "a repeat changes nothing");
            let receipt = Receipt {
                earlier: earlier.clone(),
                ..again
            };
            let verified = receipt.verify(&key).expect("sound");
            assert_eq!(verified.head.sequence, sequence);
            assert_eq!(verified.site_key, sender.identity_key);
        }
        earlier = Some(log.tree_head().await);
    }
    assert_eq!(place.actions().await, vec!["ledger head logged"; 18]);
}

#[tokio::test]
async fn a_fork_is_refused_and_the_audit_log_tells() {
    let place = Place::new().await;
    let (log, sender) = (place.open().await, place.federation.member(1));
    log.submit(&sender, place.head(1, 4), 0)
        .await
        .expect("the first");
    let refused = log.submit(&sender, place.head(1, 2), 0).await;
    let refused = refused.expect_err("an older copy");
    assert!(matches!(refused, HeadError::Refused(Fork::Behind { .. })));
    assert_eq!(
        place.actions().await,
        ["ledger head logged", "ledger head refused"]
    );
    let theirs = log.submit(&sender, place.head(2, 9), 0).await;
    assert!(
        matches!(theirs, Err(HeadError::Head(_))),
        "signed by another"
    );
    let key = &place.federation.keys[0];
    let other_purpose = key.sign(Purpose::Statement, vec![1]);
    let refused = log.submit(&sender, other_purpose, 0).await;
    assert!(matches!(refused, Err(HeadError::Head(_))));
    assert_eq!(place.open().await.tree_head().await, log.tree_head().await);
}

#[tokio::test]
async fn a_question_about_the_future_has_no_answer() {
    let place = Place::new().await;
    let log = place.open().await;
    let refused = log.consistency(0, 1).await.expect_err("not there");
    assert!(matches!(refused, HeadError::NoSuchTree { size: 0 }));
    assert!(log.inclusion(0, 0).await.is_err());
    let sender = place.federation.member(1);
    let known = log.newest(&sender, 70).await.expect("a site");
    assert_eq!(
        (known.head, known.consistency),
        (None, Some(wire::Proof::default()))
    );
}
