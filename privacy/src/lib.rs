//! Everything between a patient record and the outside world.
//!
//! No async, no network, no GPU, no tensors: an auditor can read this crate on its own. The
//! neighbouring relation is **add or remove one privacy unit** (a patient, unless a report says
//! otherwise), and the protected patient is protected from everyone who sees what leaves the
//! hospital: coordinator, other hospitals, users of the model.
//!
//! An update leaves by one road, and the types keep everybody on it:
//!
//! ```
//! use consilium_privacy::{
//!     accountant::{Charge, Delta, Epsilon},
//!     keystream::MasterSecret,
//!     ledger::{Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, Purpose, Repeat},
//!     sampling::PoissonSampler,
//!     step::NoisySteps,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let budget = Budget { epsilon: Epsilon::try_from(8.0)?, delta: Delta::try_from(1e-5)? };
//! let (journal, key) = (MemoryJournal::default(), LedgerKey::random()?.into());
//! let mut ledger = Ledger::open(journal, key, [("scans".to_owned(), budget)])?;
//! let secret = MasterSecret::random()?;
//! let request = ChargeRequest {
//!     data_set: "scans".to_owned(),
//!     study: [7; 16],
//!     round: 1,
//!     attempt: 1,
//!     purpose: Purpose::Training,
//!     charge: Charge::SampledGaussian { q: 0.5.try_into()?, sigma: 4.0.try_into()?, steps: 3 },
//!     study_cap: None,
//!     repeat: Repeat::Refuse,
//!     key: Some(secret.commitment()), // the secret of batches and noise is fixed before them
//! };
//! let grant = ledger.reserve(request, std::time::SystemTime::now())?; // on disk before any batch
//! let mut sampler = PoissonSampler::new(&grant, &secret)?;
//! let batch_size = 2.try_into()?;
//! let clipping_norm = 1.0.try_into()?;
//! let mut noisy = NoisySteps::new(grant, &secret, batch_size, clipping_norm)?; // a Grant cannot be copied
//! let mut model = vec![0.0_f32; 10];
//! while noisy.steps_left() > 0 {
//!     let mut sum = noisy.empty_sum(model.len())?;
//!     for patient in sampler.draw(4) {
//!         sum.add(&vec![patient as f32; 10])?; // the gradient of one record of this patient
//!     }
//!     for (weight, gradient) in model.iter_mut().zip(noisy.step(sum)?) {
//!         *weight -= 0.1 * gradient;
//!     }
//! }
//! let update = noisy.finish(model)?; // the only thing that may be sealed and sent
//! # let _ = update;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`accountant`] | turns a history of charges into a guarantee (ε, δ), and a target into noise |
//! | [`ledger`] | append-only record of charges; the budget of each data set over all studies |
//! | [`keystream`] | keys and random bits, separate for every step and purpose |
//! | [`sampling`] | which patients enter a batch |
//! | [`noise`] | the discrete Gaussian, from a table, in constant time |
//! | [`step`] | clipping, the integer sum, noise, and the road to a [`step::PrivateUpdate`] |
//! | [`release`] | counts, sums, histograms and metrics that leave, through OpenDP |
//! | [`seal`] | keys and files at rest |
//! | [`secagg`] | masks over updates: the coordinator learns their sum alone |
//! | [`empirical`] | what an audit by experiment can prove: lower bounds, and checks of noise and batches |
//! | [`pseudonym`] | stand-ins for patient identifiers in logs |
//! | [`deidentify`] | what in a note points to a person, and the note without it |
//! | [`audit`] | what an auditor checks of a ledger, from a file alone |

pub mod accountant;
pub mod audit;
mod binomial;
pub mod deidentify;
pub mod empirical;
pub mod keystream;
pub mod ledger;
pub mod noise;
pub mod pseudonym;
pub mod release;
pub mod sampling;
pub mod seal;
pub mod secagg;
pub mod step;
mod vectors;

/// Value that does not fit where it was given: what it is, what is allowed, what was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what} must be {allowed}, found {found}")]
pub struct OutOfRange {
    what: &'static str,
    allowed: &'static str,
    found: String,
}

impl OutOfRange {
    /// Names the value, its allowed range and what was found instead.
    pub fn new(what: &'static str, allowed: &'static str, found: impl ToString) -> Self {
        Self {
            what,
            allowed,
            found: found.to_string(),
        }
    }
}
