//! The weights that a past round started from: believed by their digest, wherever they come from.
//!
//! The first round's are made as the plan says. Later ones are looked for in a folder, then
//! asked of the coordinator, on a connection that changes nothing in the member's folder.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use consilium_models::{
    network::Network,
    start::{PublicEncoderError, start},
};
use consilium_proto::{Layout, ModelDigest, ParameterVector, vector::ModelHasher};
use tonic::transport::Channel;

use crate::{
    membership::Membership,
    participation::{explained, version},
    store::KnownStudy,
    training::blocking,
};

/// Where start weights are looked for.
pub(super) struct Starts<'a> {
    membership: &'a Membership,
    study: &'a KnownStudy,
    network: Arc<Network>,
    encoder: Option<&'a Path>,
    folder: Option<&'a Path>,
    /// Files of the folder by what they digest to, once it was looked through.
    files: Option<HashMap<[u8; 32], PathBuf>>,
    /// The coordinator, once it was asked for.
    channel: Option<Result<Channel, String>>,
}

impl<'a> Starts<'a> {
    pub(super) fn new(
        membership: &'a Membership,
        study: &'a KnownStudy,
        network: Arc<Network>,
        encoder: Option<&'a Path>,
        folder: Option<&'a Path>,
    ) -> Self {
        Self {
            membership,
            study,
            network,
            encoder,
            folder,
            files: None,
            channel: None,
        }
    }

    /// The weights of this digest, or where they are not.
    pub(super) async fn find(
        &mut self,
        round: u32,
        digest: ModelDigest,
    ) -> Result<ParameterVector, String> {
        if round == 1 {
            let (network, plan) = (self.network.clone(), self.study.plan.clone());
            let encoder = self.encoder.map(Path::to_owned);
            let made = blocking(move || {
                let weights = start(&plan, &network, encoder.as_deref())?;
                Ok::<_, PublicEncoderError>((weights.digest(network.layout()), weights))
            });
            let (found, weights) = made.await.map_err(|error| explained(&error))?;
            return match found == digest {
                true => Ok(weights),
                false => Err(format!("the plan makes {found}, the ledger has {digest}")),
            };
        }
        if let Some(weights) = self.in_folder(digest).await? {
            return Ok(weights);
        }
        let layout = self.network.layout().clone();
        let channel = self.channel().await?;
        version(&channel, self.study.id, digest, &layout).await
    }

    async fn in_folder(&mut self, digest: ModelDigest) -> Result<Option<ParameterVector>, String> {
        let Some(folder) = self.folder else {
            return Ok(None);
        };
        let network = self.network.clone();
        let files = match self.files.take() {
            Some(files) => files,
            None => {
                let (network, path) = (network.clone(), folder.to_owned());
                let read = blocking(move || index(&path, network.layout())).await;
                read.map_err(|error| format!("{} cannot be read: {error}", folder.display()))?
            }
        };
        let file = files.get(digest.as_bytes()).cloned();
        self.files = Some(files);
        let Some(file) = file else { return Ok(None) };
        let read = blocking(move || {
            let layout = network.layout();
            let bytes = weights_at_the_end(&file, layout)?;
            let vector = bytes.and_then(|bytes| ParameterVector::from_bytes(&bytes, layout).ok());
            // The file may have changed since it was looked at.
            Ok(vector.filter(|vector| vector.digest(layout) == digest))
        });
        read.await
            .map_err(|error: io::Error| format!("{} cannot be read: {error}", folder.display()))
    }

    /// A connection as this site. The running agent renews the certificate, nobody else.
    async fn channel(&mut self) -> Result<Channel, String> {
        if self.channel.is_none() {
            let connected = match self.membership.needs_certificate() {
                Ok(false) => match self.membership.connect().await {
                    Ok(channel) => Ok(channel),
                    Err(error) => Err(explained(&error)),
                },
                Ok(true) => Err("this site's certificate has to be renewed before the \
                     coordinator is asked; a running agent does that"
                    .into()),
                Err(error) => Err(explained(&error)),
            };
            self.channel = Some(connected);
        }
        match &self.channel {
            Some(Ok(channel)) => Ok(channel.clone()),
            Some(Err(why)) => Err(why.clone()),
            None => Err("the coordinator was not asked".into()),
        }
    }
}

/// The files of a folder by the digest of the weights at their end.
fn index(folder: &Path, layout: &Layout) -> io::Result<HashMap<[u8; 32], PathBuf>> {
    let mut files = HashMap::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if !path.is_file() {
            continue;
        }
        if let Some(bytes) = weights_at_the_end(&path, layout)? {
            let mut hasher = ModelHasher::new(layout);
            hasher.update(&bytes);
            files.insert(*hasher.finish().as_bytes(), path);
        }
    }
    Ok(files)
}

/// The last four bytes per weight: all of a file of bare weights, and the tensors of a safetensors
/// file as this program writes it, whose header stands before them.
fn weights_at_the_end(path: &Path, layout: &Layout) -> io::Result<Option<Vec<u8>>> {
    let length = 4 * layout.parameters();
    let mut file = File::open(path)?;
    let Some(before) = file.metadata()?.len().checked_sub(length as u64) else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(before))?;
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() == length).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use consilium_proto::TensorSpec;

    use super::*;

    #[test]
    fn weights_are_found_bare_and_behind_a_header_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let tensor = TensorSpec {
            name: "w".into(),
            shape: vec![3],
        };
        let layout = Layout::new(vec![tensor]).expect("a sound layout");
        let [bare, headed] = [0.5, 2.0].map(|value| {
            let vector = ParameterVector::new(vec![value; 3]).expect("finite");
            (vector.digest(&layout), vector.to_bytes())
        });
        let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes);
        put("bare", &bare.1).expect("a file");
        put("headed", &[b"{header}".as_slice(), &headed.1].concat()).expect("a file");
        put("short", &[0; 11]).expect("a file");
        fs::create_dir(folder.path().join("inner")).expect("a folder");
        let found = index(folder.path(), &layout).expect("readable");
        assert_eq!(found.len(), 2);
        for (digest, name) in [(bare.0, "bare"), (headed.0, "headed")] {
            let path = found.get(digest.as_bytes()).expect("its weights");
            assert!(path.ends_with(name), "{}", path.display());
        }
        assert!(index(&folder.path().join("none"), &layout).is_err());
    }
}
