//! Time and memory of this process.

use std::{fs, time::Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Seconds of one step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    /// On the wall's clock.
    pub(super) wall: f64,
    /// Of processors, all threads together.
    pub(super) cpu: f64,
}

/// Begins when it is made.
pub(super) struct Clock {
    wall: Instant,
    cpu: f64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        Self { wall, cpu }
    }

    /// The mean of so many steps since then.
    pub(super) fn cost(&self, steps: u32) -> Cost {
        Cost {
            wall: self.wall.elapsed().as_secs_f64() / f64::from(steps),
            cpu: (cpu_seconds() - self.cpu) / f64::from(steps),
        }
    }
}

/// The mean of so many steps, after one that does not count.
pub(super) fn per_step(steps: u32, mut step: impl FnMut()) -> Cost {
    step();
    let clock = Clock::start();
    (0..steps).for_each(|_| step());
    clock.cost(steps)
}

/// Seconds of processors that this process has had.
pub(super) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Most memory that this process ever held, in MB of 10⁶ bytes; none where the system does not say.
pub(super) fn peak_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
