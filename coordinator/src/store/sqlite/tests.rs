use consilium_proto::signed::Purpose;

use super::*;
use crate::{fixture::signer, store::tests::PATIENCE};

async fn opened(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open_with(path, PATIENCE, None).await
}

#[tokio::test]
async fn what_is_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db");
    let store = opened(&path).await.expect("a new database");
    let epoch = signer().sign(Purpose::Roster, vec![1]);
    let change = Change {
        epoch: Some((0, epoch.clone())),
        ..Change::default()
    };
    store.commit(change).await.expect("an epoch");
    store.close().await;
    let store = opened(&path).await.expect("our own database");
    assert_eq!(store.roster(0).await.expect("a store"), [epoch]);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db");
    let store = opened(&path).await.expect("a new database");
    let newer = sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
         execution_time) VALUES (9999, 'from the future', TRUE, x'00', 0)",
    );
    newer.execute(&store.pool).await.expect("a row");
    store.close().await;
    let error = opened(&path).await.expect_err("a newer database");
    assert!(
        matches!(
            error,
            StoreError::Newer {
                migration: 9999,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn a_locked_database_says_who_may_hold_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db");
    let store = opened(&path).await.expect("a new database");
    let other = opened(&path).await.expect("a second connection");
    let held = other
        .pool
        .begin_with("BEGIN EXCLUSIVE")
        .await
        .expect("the lock");
    let error = store
        .commit(Change::default())
        .await
        .expect_err("a locked database");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("another coordinator"), "{error}");
    drop(held);
}

#[tokio::test]
async fn a_full_disk_refuses_the_change_and_keeps_what_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db");
    let store = SqliteStore::open_with(&path, PATIENCE, Some(60))
        .await
        .expect("small");
    let mut written = 0;
    let error = loop {
        let epoch = signer().sign(Purpose::Roster, vec![0; 20_000]);
        let change = Change {
            epoch: Some((written, epoch)),
            ..Change::default()
        };
        match store.commit(change).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "60 pages of 4 KiB cannot hold all this");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(
        store.roster(0).await.expect("a store").len() as u64,
        written
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db");
    std::fs::write(&path, vec![b'x'; 8192]).expect("a file");
    let error = opened(&path).await.expect_err("no database");
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn migrations_can_be_undone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = opened(&folder.path().join("db"))
        .await
        .expect("a new database");
    MIGRATIONS
        .undo(&store.pool, 0)
        .await
        .expect("all migrations have a way back");
    let tables = sqlx::query(
        "SELECT name FROM sqlite_master WHERE type = 'table' \
         AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx_%'",
    );
    assert!(
        tables
            .fetch_all(&store.pool)
            .await
            .expect("a store")
            .is_empty()
    );
    MIGRATIONS.run(&store.pool).await.expect("and forth again");
}
