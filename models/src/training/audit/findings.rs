//! What an audit found, beside what was claimed.

use consilium_privacy::{
    accountant::{Accountant, Charge, ClippingNorm, Delta, NoiseMultiplier, Rdp, SamplingRate},
    empirical::{Batches, Confidence, Guesses, Irregularity, Observations, Residuals},
};

/// What a study says of itself: all of its steps, and the guarantee that follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    q: SamplingRate,
    sigma: NoiseMultiplier,
    steps: u32,
    clipping_norm: ClippingNorm,
    delta: Delta,
    epsilon: f64,
}

impl Claim {
    /// The claim of so many steps in all; the accountant says its ε.
    pub fn new(
        (q, sigma, steps): (SamplingRate, NoiseMultiplier, u32),
        clipping_norm: ClippingNorm,
        delta: Delta,
    ) -> Self {
        let mut claim = Self {
            q,
            sigma,
            steps,
            clipping_norm,
            delta,
            epsilon: 0.0,
        };
        claim.epsilon = claim.epsilon_with(sigma);
        claim
    }

    /// ε of all steps, by the accountant.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// δ of all steps.
    pub fn delta(&self) -> Delta {
        self.delta
    }

    /// Probability that a record enters a batch (q).
    pub fn sampling_rate(&self) -> SamplingRate {
        self.q
    }

    /// Noise deviation over the clipping norm (σ).
    pub fn noise_multiplier(&self) -> NoiseMultiplier {
        self.sigma
    }

    /// Steps of all rounds.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Largest norm that one record contributes (C).
    pub fn clipping_norm(&self) -> ClippingNorm {
        self.clipping_norm
    }

    /// What the same accountant says of the same steps with this noise.
    fn epsilon_with(&self, sigma: NoiseMultiplier) -> f64 {
        let (q, steps) = (self.q, self.steps);
        Rdp::new().epsilon(&[Charge::SampledGaussian { q, sigma, steps }], self.delta)
    }

    /// Steps that these charges pay for as claimed.
    fn paid(&self, charges: &[Charge]) -> u64 {
        let steps = |charge: &Charge| match *charge {
            Charge::SampledGaussian { q, sigma, steps } if (q, sigma) == (self.q, self.sigma) => {
                u64::from(steps)
            }
            _ => 0,
        };
        charges.iter().map(steps).sum()
    }
}

/// What was seen in one audit. Batch sizes depend on the number of patients: it stays where the
/// data is, unless that is public.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Which canaries were in, guessed from everything released.
    pub guesses: Guesses,
    /// Whether a canary was in a batch, answered from that step alone; none where canaries were
    /// never, or always, drawn.
    pub observations: Option<Observations>,
    /// The noise.
    pub residuals: Residuals,
    /// The batches.
    pub batches: Batches,
    /// What was charged, round by round.
    pub charges: Vec<Charge>,
}

/// Why a claim does not hold.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Breach {
    /// The guesses prove more.
    #[error("the guesses prove ε > {low:.3}, claimed is {claimed:.3}")]
    Guesses {
        /// The lower bound.
        low: f64,
        /// What is claimed.
        claimed: f64,
    },
    /// Single steps show more of a record than the claimed noise would.
    #[error("single steps prove a noise multiplier below {high:.4}, claimed is {claimed:.4}")]
    Observations {
        /// Upper bound on the noise multiplier.
        high: f64,
        /// What is claimed.
        claimed: f64,
    },
    /// Noise or batches are not what was charged.
    #[error(transparent)]
    Irregular(#[from] Irregularity),
    /// Steps were released that no charge pays for.
    #[error("{released} steps were released, {paid} were charged as claimed")]
    NotCharged {
        /// Steps released.
        released: u64,
        /// Steps charged with the claimed noise and sampling rate.
        paid: u64,
    },
}

impl Findings {
    /// Lower bound on ε from the guesses.
    pub fn epsilon_low(&self, claim: &Claim, confidence: Confidence) -> f64 {
        self.guesses.epsilon_low(Some(claim.delta), confidence)
    }

    /// Upper bound on the noise multiplier from single steps: a step is a Gaussian mechanism of
    /// μ = 1/σ for whoever knows the batch. None where nothing is proved.
    pub fn noise_high(&self, confidence: Confidence) -> Option<NoiseMultiplier> {
        let mu = self.observations?.mu_low(confidence);
        NoiseMultiplier::try_from(1.0 / mu).ok()
    }

    /// What the accountant would say of a study with no more noise than single steps show.
    pub fn epsilon_of_steps(&self, claim: &Claim, confidence: Confidence) -> Option<f64> {
        Some(claim.epsilon_with(self.noise_high(confidence)?))
    }

    /// Everything in which the claim does not hold. Sound code is accused by the guesses, and by
    /// single steps, with probability 1 - `confidence` at most; by the rest, once in 80 000 audits.
    pub fn breaches(&self, claim: &Claim, confidence: Confidence) -> Vec<Breach> {
        let low = self.epsilon_low(claim, confidence);
        let guesses = (low > claim.epsilon).then_some(Breach::Guesses {
            low,
            claimed: claim.epsilon,
        });
        let claimed = claim.sigma.value();
        let high = self.noise_high(confidence).map(NoiseMultiplier::value);
        let observations = high
            .filter(|&high| high < claimed)
            .map(|high| Breach::Observations { high, claimed });
        let (released, paid) = (u64::from(self.residuals.steps()), claim.paid(&self.charges));
        let not_charged = (released > paid).then_some(Breach::NotCharged { released, paid });
        let irregular = [
            self.residuals.irregularities(),
            self.batches.irregularities(),
        ];
        [guesses, observations, not_charged]
            .into_iter()
            .flatten()
            .chain(irregular.into_iter().flatten().map(Breach::from))
            .collect()
    }
}
