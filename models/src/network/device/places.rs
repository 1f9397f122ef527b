//! The devices that a network computes on: each takes one microbatch at a time, and what is too large for
//! it in halves.
//!
//! Any number of threads load examples and clip gradients; one that needs a device takes the one that
//! has been free for longest. What a microbatch gives does not depend on which it was, but for rounding.
//!
//! A device may run out of memory, and burn may say so by a panic. Both end at [`Lease::attempt`], around the
//! computation of one microbatch alone, which leaves nothing behind: its records are computed again in
//! halves. A device that its driver gave up altogether fails down to the single record, and then
//! training ends with an error.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{Device, DeviceError, NetworkError};

/// Devices, and which of them are free.
pub(in crate::network) struct Places {
    all: Vec<Place>,
    /// Those that compute nothing, free for longest first.
    free: Mutex<VecDeque<usize>>,
    freed: Condvar,
}

/// One device, opened.
pub(in crate::network) struct Place {
    device: Device,
    opened: burn::tensor::Device,
    most: Most,
    computed: AtomicU64,
}

/// Most examples that a device computes at once: every microbatch is filled up to so many.
#[derive(Clone)]
pub(in crate::network) struct Most(Arc<AtomicUsize>);

/// A device that computes for nobody else.
pub(super) struct Lease<'a> {
    places: &'a Places,
    at: usize,
}

impl Places {
    /// These devices; none for kernels of our own.
    pub(in crate::network) fn open(
        devices: &[Device],
        microbatch: usize,
    ) -> Result<Option<Self>, DeviceError> {
        let mut all = Vec::new();
        for &device in devices {
            let Some(opened) = device.open()? else {
                continue;
            };
            all.push(Place {
                device,
                opened,
                most: Most(Arc::new(AtomicUsize::new(microbatch))),
                computed: AtomicU64::new(0),
            });
        }
        let free = Mutex::new((0..all.len()).collect());
        let freed = Condvar::new();
        Ok((!all.is_empty()).then_some(Self { all, free, freed }))
    }

    pub(in crate::network) fn all(&self) -> &[Place] {
        &self.all
    }

    /// The largest microbatch that one of them takes.
    pub(in crate::network) fn most(&self) -> usize {
        let most = self.all.iter().map(|place| place.most.get());
        most.max().unwrap_or(1)
    }

    /// Waits until a device is free.
    pub(super) fn lease(&self) -> Lease<'_> {
        self.lease_where(|_| true)
    }

    /// Waits until this device is free.
    pub(super) fn lease_of(&self, at: usize) -> Lease<'_> {
        self.lease_where(|free| free == at)
    }

    fn lease_where(&self, suits: impl Fn(usize) -> bool) -> Lease<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // Whoever holds one gives it back when its microbatch ends, however that is.
            if let Some(found) = free.iter().position(|&at| suits(at))
                && let Some(at) = free.remove(found)
            {
                return Lease { places: self, at };
            }
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Place {
    pub(in crate::network) fn device(&self) -> Device {
        self.device
    }

    pub(in crate::network) fn opened(&self) -> &burn::tensor::Device {
        &self.opened
    }

    pub(in crate::network) fn most(&self) -> &Most {
        &self.most
    }

    /// Microbatches that it has computed.
    pub(in crate::network) fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }
}

impl Most {
    pub(in crate::network) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Lease<'_> {
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn place(&self) -> &Place {
        &self.places.all[self.at]
    }

    /// Computes a microbatch; a panic on the way is an error of the device.
    pub(super) fn attempt<T>(
        &self,
        compute: impl FnOnce() -> Result<T, NetworkError>,
    ) -> Result<T, NetworkError> {
        let ended = contained(compute);
        if ended.is_ok() {
            self.place().computed.fetch_add(1, Ordering::Relaxed);
        }
        ended
    }

    /// Halves what the device computes at once, for good, if its failure may be one of size.
    ///
    /// # Errors
    /// A failure that is not the device's, or with a single example.
    pub(super) fn halve(&self, error: NetworkError) -> Result<(), NetworkError> {
        let NetworkError::Device(DeviceError::Computation(cause)) = error else {
            return Err(error);
        };
        let (device, most) = (self.place().device, self.place().most.get());
        if most <= 1 {
            return Err(DeviceError::Exhausted { device, cause }.into());
        }
        self.place().most.0.store(most / 2, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut free = self
            .places
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        free.push_back(self.at);
        self.places.freed.notify_all();
    }
}

/// A panic on the way is an error of the device.
pub(in crate::network) fn contained<T>(
    compute: impl FnOnce() -> Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    // What a computation changes is its own until it succeeds.
    let ended = catch_unwind(AssertUnwindSafe(compute));
    ended.unwrap_or_else(|panic| Err(DeviceError::computation(said(&*panic)).into()))
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "it gave up without a reason".to_owned(),
    }
}
