//! What training needs of a data set; the agent has it.

use crate::network::Target;

/// Why a record cannot be used. For the hospital's own log.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// Patients and their records.
pub trait Examples: Sync {
    /// Number of patients. May be 0: steps are then made of noise alone.
    fn patients(&self) -> usize;

    /// Number of records of a patient. Asked anew for every batch: 0 from the moment on that the
    /// patient opts out.
    fn records_of(&self, patient: usize) -> usize;

    /// One record, prepared for the network but not augmented. Called from several threads, and
    /// again whenever the record is drawn.
    ///
    /// # Errors
    /// A record that cannot be read: it counts as zeros and training goes on.
    fn load(&self, patient: usize, record: usize) -> Result<(Vec<f32>, Target), LoadError>;
}

/// One record of a drawn patient.
#[derive(Clone, Copy)]
pub(super) struct Pick {
    pub(super) patient: usize,
    pub(super) record: usize,
}
