//! Transfer syntaxes: which are read, and the names of those that are not.

use std::fmt;

use super::header::Encoding;

/// How an object's elements and pixels are written down (PS3.5 §10, PS3.6 table A-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// Implicit VR Little Endian.
    ImplicitLittle,
    /// Explicit VR Little Endian.
    ExplicitLittle,
    /// Explicit VR Big Endian, retired.
    ExplicitBig,
    /// Deflated Explicit VR Little Endian.
    Deflated,
    /// RLE Lossless.
    Rle,
    /// JPEG Baseline (Process 1).
    JpegBaseline,
    /// JPEG Extended (Process 2 and 4).
    JpegExtended,
    /// JPEG Lossless (Process 14).
    JpegLossless,
    /// JPEG Lossless, first-order prediction (Process 14, selection value 1).
    JpegLosslessFirstOrder,
    /// JPEG 2000, lossless only.
    Jpeg2000Lossless,
    /// JPEG 2000.
    Jpeg2000,
    /// A syntax whose pixels are not decoded. Its elements are read all the same.
    NotDecoded(&'static str),
}

/// Names of the syntaxes that PS3.6 lists and that nothing here decodes.
const NOT_DECODED: [(&str, &str); 30] = [
    ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless"),
    ("1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless"),
    ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Lossless"),
    ("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2"),
    ("1.2.840.10008.1.2.4.94", "JPIP Referenced"),
    ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile, Main Level"),
    (
        "1.2.840.10008.1.2.4.100.1",
        "MPEG2 Main Profile, Main Level, fragmentable",
    ),
    ("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile, High Level"),
    (
        "1.2.840.10008.1.2.4.101.1",
        "MPEG2 Main Profile, High Level, fragmentable",
    ),
    ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile"),
    (
        "1.2.840.10008.1.2.4.102.1",
        "MPEG-4 AVC/H.264 High Profile, fragmentable",
    ),
    ("1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible"),
    (
        "1.2.840.10008.1.2.4.103.1",
        "MPEG-4 AVC/H.264 BD-compatible, fragmentable",
    ),
    ("1.2.840.10008.1.2.4.104", "MPEG-4 AVC/H.264 for 2D video"),
    (
        "1.2.840.10008.1.2.4.104.1",
        "MPEG-4 AVC/H.264 for 2D video, fragmentable",
    ),
    ("1.2.840.10008.1.2.4.105", "MPEG-4 AVC/H.264 for 3D video"),
    (
        "1.2.840.10008.1.2.4.105.1",
        "MPEG-4 AVC/H.264 for 3D video, fragmentable",
    ),
    ("1.2.840.10008.1.2.4.106", "MPEG-4 AVC/H.264 Stereo"),
    (
        "1.2.840.10008.1.2.4.106.1",
        "MPEG-4 AVC/H.264 Stereo, fragmentable",
    ),
    ("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile"),
    ("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile"),
    ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
    ("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression"),
    ("1.2.840.10008.1.2.4.112", "JPEG XL"),
    (
        "1.2.840.10008.1.2.4.201",
        "High-Throughput JPEG 2000 Lossless",
    ),
    (
        "1.2.840.10008.1.2.4.202",
        "High-Throughput JPEG 2000 with RPCL, Lossless",
    ),
    ("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000"),
    ("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced"),
    (
        "1.2.840.10008.1.2.1.98",
        "Encapsulated Uncompressed Explicit VR Little Endian",
    ),
    ("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression"),
];

impl Syntax {
    /// Those whose pixels are decoded: what a receiver may offer. Senders then convert the rest.
    pub const DECODED: [Self; 11] = [
        Self::ImplicitLittle,
        Self::ExplicitLittle,
        Self::ExplicitBig,
        Self::Deflated,
        Self::Rle,
        Self::JpegBaseline,
        Self::JpegExtended,
        Self::JpegLossless,
        Self::JpegLosslessFirstOrder,
        Self::Jpeg2000Lossless,
        Self::Jpeg2000,
    ];

    /// The syntax of a UID, padding allowed; `None` for one that PS3.6 does not list.
    pub fn from_uid(uid: &str) -> Option<Self> {
        let uid = uid.trim_end_matches(['\0', ' ']);
        let decoded = Self::DECODED.into_iter().find(|syntax| syntax.uid() == uid);
        let named = || NOT_DECODED.iter().find(|(other, _)| *other == uid);
        decoded.or_else(|| named().map(|(_, name)| Self::NotDecoded(name)))
    }

    /// Its UID.
    pub fn uid(&self) -> &'static str {
        match self {
            Self::ImplicitLittle => "1.2.840.10008.1.2",
            Self::ExplicitLittle => "1.2.840.10008.1.2.1",
            Self::ExplicitBig => "1.2.840.10008.1.2.2",
            Self::Deflated => "1.2.840.10008.1.2.1.99",
            Self::Rle => "1.2.840.10008.1.2.5",
            Self::JpegBaseline => "1.2.840.10008.1.2.4.50",
            Self::JpegExtended => "1.2.840.10008.1.2.4.51",
            Self::JpegLossless => "1.2.840.10008.1.2.4.57",
            Self::JpegLosslessFirstOrder => "1.2.840.10008.1.2.4.70",
            Self::Jpeg2000Lossless => "1.2.840.10008.1.2.4.90",
            Self::Jpeg2000 => "1.2.840.10008.1.2.4.91",
            Self::NotDecoded(name) => {
                let listed = NOT_DECODED.iter().find(|(_, other)| other == name);
                listed.map_or("", |(uid, _)| uid)
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ImplicitLittle => "Implicit VR Little Endian",
            Self::ExplicitLittle => "Explicit VR Little Endian",
            Self::ExplicitBig => "Explicit VR Big Endian",
            Self::Deflated => "Deflated Explicit VR Little Endian",
            Self::Rle => "RLE Lossless",
            Self::JpegBaseline => "JPEG Baseline",
            Self::JpegExtended => "JPEG Extended",
            Self::JpegLossless => "JPEG Lossless",
            Self::JpegLosslessFirstOrder => "JPEG Lossless, first-order prediction",
            Self::Jpeg2000Lossless => "JPEG 2000 Lossless",
            Self::Jpeg2000 => "JPEG 2000",
            Self::NotDecoded(name) => name,
        }
    }

    /// How its elements are written; pixels aside, all compressed syntaxes are explicit little endian.
    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Self::ImplicitLittle => Encoding::ImplicitLittle,
            Self::ExplicitBig => Encoding::ExplicitBig,
            _ => Encoding::ExplicitLittle,
        }
    }

    /// Whether pixels stand as they are, without fragments.
    pub(super) fn is_native(&self) -> bool {
        use Syntax::*;
        matches!(
            self,
            ImplicitLittle | ExplicitLittle | ExplicitBig | Deflated
        )
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_is_found_by_its_uid() {
        for syntax in Syntax::DECODED {
            assert_eq!(Syntax::from_uid(syntax.uid()), Some(syntax));
        }
        for (uid, name) in NOT_DECODED {
            let syntax = Syntax::from_uid(uid).expect("listed");
            assert_eq!((syntax.uid(), syntax.name()), (uid, name));
        }
        assert_eq!(
            Syntax::from_uid("1.2.840.10008.1.2.1\0"),
            Some(Syntax::ExplicitLittle)
        );
        assert_eq!(Syntax::from_uid("1.2.840.10008.1.2.77"), None);
    }
}
