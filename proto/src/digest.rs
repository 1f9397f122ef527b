//! SHA-256 digests, each with a type that says what was digested.

use std::{fmt, str::FromStr};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::OutOfRange;

/// A SHA-256 digest. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digests `parts` one after the other, under a label that separates the purposes.
    pub fn of(label: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Hasher::new(label);
        for part in parts {
            hasher.update(part);
        }
        hasher.finish()
    }

    /// Digests bytes with no label, as `sha256sum` does.
    pub fn plain(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        Hasher(context).finish()
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits in groups of four, for people who compare by eye.
    pub fn to_short(&self) -> String {
        let text = hex::encode(&self.0[..8]);
        format!(
            "{}-{}-{}-{}",
            &text[..4],
            &text[4..8],
            &text[8..12],
            &text[12..]
        )
    }
}

/// Digests bytes that arrive in pieces.
pub struct Hasher(Context);

impl Hasher {
    /// Starts under a label.
    pub fn new(label: &str) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(label.as_bytes());
        context.update(&[0]);
        Self(context)
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(bytes)
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = OutOfRange;
    fn try_from(bytes: &[u8]) -> Result<Self, OutOfRange> {
        let bytes = bytes
            .try_into()
            .map_err(|_| OutOfRange::new("digest", "32 bytes", format!("{} bytes", bytes.len())))?;
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = OutOfRange;
    fn from_str(text: &str) -> Result<Self, OutOfRange> {
        let refused = || OutOfRange::new("digest", "64 hexadecimal digits", format!("{text:?}"));
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| refused())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

macro_rules! digest_of {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub Digest);

        impl $name {
            /// Its 32 bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = OutOfRange;
            fn try_from(bytes: &[u8]) -> Result<Self, OutOfRange> {
                Digest::try_from(bytes).map(Self)
            }
        }

        impl FromStr for $name {
            type Err = OutOfRange;
            fn from_str(text: &str) -> Result<Self, OutOfRange> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

digest_of! {
    /// Identifies a plan: SHA-256 under `consilium/plan/1` of its canonical bytes.
    PlanDigest;
    /// Identifies a layout: names, order and shapes of tensors.
    LayoutDigest;
    /// Identifies the bytes of a parameter vector together with its layout.
    ModelDigest;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest::of("label", &[b"a", b"b"]);
        assert_eq!(digest, digest.to_string().parse().expect("its own text"));
        assert_ne!(digest, Digest::of("other", &[b"a", b"b"]));
        assert!("zz".parse::<Digest>().is_err());
    }

    #[test]
    fn a_plain_digest_is_the_published_one() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::plain(b"abc").to_string(), expected);
    }
}
