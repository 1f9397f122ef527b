//! The numbers a guarantee is made of, each valid wherever it exists.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::OutOfRange;

macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: $what:literal, $allowed:literal, $test:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// The number itself.
            pub fn value(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;
            fn try_from(value: f64) -> Result<Self, OutOfRange> {
                let allowed: fn(f64) -> bool = $test;
                // Comparisons are false for NaN, so it never passes.
                if allowed(value) {
                    Ok(Self(value))
                } else {
                    Err(OutOfRange::new($what, $allowed, value))
                }
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

parameters! {
    /// Noise standard deviation divided by the clipping norm (σ). Finite and above 0.
    NoiseMultiplier: "noise multiplier", "finite and above 0", |x| x.is_finite() && x > 0.0;

    /// Probability that a privacy unit enters a batch (q). Above 0, at most 1.
    SamplingRate: "sampling rate", "above 0 and at most 1", |x| x > 0.0 && x <= 1.0;

    /// Bound on the privacy loss (ε), in nats. Finite and above 0.
    Epsilon: "epsilon", "finite and above 0", |x| x.is_finite() && x > 0.0;

    /// Probability with which the bound ε may fail (δ). Above 0 and below 0.01.
    Delta: "delta", "above 0 and below 0.01", |x| x > 0.0 && x < 1e-2;

    /// Zero-concentrated differential privacy (ρ): RDP is at most ρα at every order α. Finite and
    /// above 0.
    Rho: "rho", "finite and above 0", |x| x.is_finite() && x > 0.0;

    /// Largest L2 norm that one record may contribute to a sum (C). From 1e-12 to 1e12, so that
    /// neither the lattice step nor a sum leaves the range of `f32`.
    ClippingNorm: "clipping norm", "from 1e-12 to 1e12", |x| (1e-12..=1e12).contains(&x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_mean_nothing_are_refused_with_their_range() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(NoiseMultiplier::try_from(bad).is_err(), "{bad}");
            assert!(Epsilon::try_from(bad).is_err(), "{bad}");
            assert!(Delta::try_from(bad).is_err(), "{bad}");
            assert!(SamplingRate::try_from(bad).is_err(), "{bad}");
            assert!(ClippingNorm::try_from(bad).is_err(), "{bad}");
        }
        assert!(SamplingRate::try_from(1.0).is_ok() && SamplingRate::try_from(1.01).is_err());
        let error = Delta::try_from(0.01).expect_err("too large");
        assert_eq!(
            error.to_string(),
            "delta must be above 0 and below 0.01, found 0.01"
        );
    }

    #[test]
    fn a_number_out_of_range_is_refused_in_files_too() {
        assert!(serde_json::from_str::<SamplingRate>("0.25").is_ok());
        let error = serde_json::from_str::<SamplingRate>("1.5").expect_err("too large");
        assert!(error.to_string().contains("sampling rate"), "{error}");
    }
}
