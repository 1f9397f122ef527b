use super::*;
use crate::{
    fixture::{Federation, Hand, NOW, sites},
    store::MemoryStore,
};

fn members(federation: &Federation, store: &Arc<MemoryStore>, hand: &Hand) -> Members<MemoryStore> {
    Members::new(store.clone(), federation.trust_root(), hand.clock())
}

#[tokio::test]
async fn what_another_process_imports_is_seen_at_the_next_look() {
    let mut federation = Federation::of_sites(2);
    let store = Arc::new(MemoryStore::new());
    let members = members(&federation, &store, &Hand::new());
    assert_eq!(members.refresh().await.expect("an empty store"), None);
    let root = federation.trust_root();
    import(&*store, &root, &federation.epochs, NOW)
        .await
        .expect("our own epochs");
    assert_eq!(members.active_sites().len(), 0, "not looked yet");
    members.refresh().await.expect("our own epochs");
    assert_eq!(members.active_sites(), sites([1, 2]).into_iter().collect());
    federation.revoke(1);
    import(&*store, &root, &federation.epochs, NOW)
        .await
        .expect("our own epochs");
    members.refresh().await.expect("our own epochs");
    assert_eq!(members.active_sites(), sites([2]).into_iter().collect());
}

#[tokio::test]
async fn importing_again_changes_nothing_and_another_history_is_refused() {
    let federation = Federation::of_sites(2);
    let store = MemoryStore::new();
    let root = federation.trust_root();
    import(&store, &root, &federation.epochs, NOW)
        .await
        .expect("our own epochs");
    let again = import(&store, &root, &federation.epochs, NOW)
        .await
        .expect("the same epochs");
    assert_eq!(again.epoch(), 2);
    assert_eq!(store.log(1, 100).await.expect("a log").len(), 3);
    let stranger = Federation::of_sites(1);
    let refused = import(&store, &root, &stranger.epochs, NOW)
        .await
        .expect_err("another root");
    assert!(matches!(refused, MembersError::Roster(_)), "{refused}");
    let gap = MemoryStore::new();
    assert!(
        import(&gap, &root, &federation.epochs[1..], NOW)
            .await
            .is_err()
    );
    assert!(import(&gap, &root, &[], NOW).await.is_err());
    assert_eq!(gap.roster_epoch().await.expect("an empty store"), None);
}

#[tokio::test]
async fn membership_ends_with_its_time() {
    let federation = Federation::of_sites(1);
    let store = Arc::new(MemoryStore::new());
    let hand = Hand::new();
    let members = members(&federation, &store, &hand);
    import(&*store, &federation.trust_root(), &federation.epochs, NOW)
        .await
        .expect("epochs");
    members.refresh().await.expect("our own epochs");
    hand.advance(86_400 * 365);
    assert_eq!(members.active_sites().len(), 1);
    hand.advance(1);
    assert_eq!(members.active_sites().len(), 0);
}
