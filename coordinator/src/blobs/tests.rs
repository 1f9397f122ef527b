use std::sync::Mutex;

use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, memory::InMemory,
};

use super::*;
use crate::fixture::{round_id, site, study_id};

pub(crate) fn in_memory() -> Blobs {
    Blobs::new(Arc::new(InMemory::new()), key(1))
}

fn key(byte: u8) -> Arc<SealingKey> {
    Arc::new(SealingKey::from_bytes([byte; 32]))
}

fn name() -> BlobName {
    BlobName::version(study_id(7), 3)
}

#[tokio::test]
async fn chunks_read_back_and_are_counted_up_to_the_first_gap() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path(), key(1)).expect("a folder");
    assert_eq!(blobs.count(&name()).await.expect("nothing there"), 0);
    for index in [0, 1, 2, 4, 11] {
        blobs
            .write(&name(), index, &[index as u8; 100])
            .await
            .expect("space");
    }
    assert_eq!(blobs.count(&name()).await.expect("a folder"), 3);
    assert_eq!(*blobs.read(&name(), 2).await.expect("written"), [2; 100]);
    let missing = blobs.read(&name(), 3).await.expect_err("never written");
    assert!(
        matches!(missing, BlobError::Missing { index: 3, .. }),
        "{missing}"
    );
    blobs.delete(&name()).await.expect("a folder");
    blobs
        .delete(&name())
        .await
        .expect("deleting again changes nothing");
    assert_eq!(blobs.count(&name()).await.expect("nothing there"), 0);
}

#[tokio::test]
async fn deleting_a_round_spares_its_neighbours() {
    let blobs = in_memory();
    let (first, other) = (round_id(1, 1), round_id(1, 10));
    for round in [first, other] {
        blobs
            .write(&BlobName::update(round, site(1)), 0, b"update")
            .await
            .expect("memory");
    }
    blobs
        .delete(&BlobName::updates(first))
        .await
        .expect("memory");
    assert_eq!(
        blobs
            .count(&BlobName::update(first, site(1)))
            .await
            .expect("memory"),
        0
    );
    assert_eq!(
        blobs
            .count(&BlobName::update(other, site(1)))
            .await
            .expect("memory"),
        1
    );
}

#[tokio::test]
async fn nothing_lies_on_disk_in_the_clear_and_chunks_cannot_change_places() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path(), key(1)).expect("a folder");
    let secret = b"a secret that is long enough to be found";
    blobs.write(&name(), 0, secret).await.expect("space");
    blobs.write(&name(), 1, b"another").await.expect("space");
    let path = |index: u64| folder.path().join(object(&name(), index).as_ref());
    let bytes = std::fs::read(path(0)).expect("the chunk's file");
    assert!(!bytes.windows(8).any(|window| window == &secret[..8]));
    std::fs::copy(path(1), path(0)).expect("a copy");
    let swapped = blobs
        .read(&name(), 0)
        .await
        .expect_err("another chunk in its place");
    assert!(
        matches!(swapped, BlobError::Unopened { index: 0, .. }),
        "{swapped}"
    );
    let stranger = Blobs::open(folder.path(), key(2)).expect("a folder");
    assert!(
        stranger
            .read(&name(), 1)
            .await
            .expect_err("another key")
            .is_lasting()
    );
}

/// A store whose disk is full from the given write on.
#[derive(Debug)]
struct SmallDisk {
    inner: InMemory,
    left: Mutex<usize>,
}

impl fmt::Display for SmallDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmallDisk")
    }
}

#[tonic::async_trait]
impl ObjectStore for SmallDisk {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        {
            let mut left = self.left.lock().expect("not poisoned");
            if *left == 0 {
                let full = io::Error::from(io::ErrorKind::StorageFull);
                return Err(object_store::Error::Generic {
                    store: "SmallDisk",
                    source: Box::new(full),
                });
            }
            *left -= 1;
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Key,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Key,
        to: &Key,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_full_disk_says_so_and_leaves_what_was_written() {
    let disk = SmallDisk {
        inner: InMemory::new(),
        left: Mutex::new(1),
    };
    let blobs = Blobs::new(Arc::new(disk), key(1));
    blobs
        .write(&name(), 0, b"first")
        .await
        .expect("space for one");
    let full = blobs
        .write(&name(), 1, b"second")
        .await
        .expect_err("no space for two");
    assert!(matches!(full, BlobError::Full), "{full}");
    assert!(!full.is_lasting());
    assert_eq!(blobs.count(&name()).await.expect("memory"), 1);
    assert_eq!(**blobs.read(&name(), 0).await.expect("written"), *b"first");
}
