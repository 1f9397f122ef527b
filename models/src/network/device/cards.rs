//! Graphics cards, and how burn reaches them.
//!
//! Cards are counted the same way on every road: those with memory of their own first, then those that
//! share the processor's, virtual ones, and last the processor itself, when a driver makes it look like a card.

use burn::tensor::{Device as Opened, DeviceKind, DeviceType};

use super::{Device, DeviceError, Road, Tested};

/// Most cards of one kind that are looked for.
const MOST: usize = 64;

/// Opens a card; the driver is asked for work only when the first tensor is made there.
pub(super) fn open(number: usize, road: Road) -> Result<Opened, DeviceError> {
    over(find(number, road)?, road)
}

/// What the driver says of a card that works.
pub(super) fn described(number: usize, road: Road) -> Result<Tested, DeviceError> {
    let kind = find(number, road)?;
    let is_software = kind == DeviceKind::Cpu;
    let identity = over(kind, road)?.identity();
    let name = identity.map_or_else(|| "without a name".to_owned(), |identity| identity.name);
    Ok(Tested { name, is_software })
}

fn find(number: usize, road: Road) -> Result<DeviceKind, DeviceError> {
    let device = Device::Card(number, road);
    if !Road::BUILT.contains(&road) {
        return Err(DeviceError::NotBuilt(device));
    }
    let present = Opened::enumerate(DeviceType::Wgpu);
    let is_present =
        |kind: &DeviceKind| present.iter().any(|one| *one == Opened::wgpu(kind.clone()));
    let cards: Vec<_> = kinds().filter(is_present).collect();
    let found = cards.len();
    let card = cards.into_iter().nth(number);
    card.ok_or(DeviceError::Absent { device, found })
}

/// In a build with SPIR-V burn's own name for a card means SPIR-V too.
fn over(kind: DeviceKind, road: Road) -> Result<Opened, DeviceError> {
    match road {
        #[cfg(feature = "gpu")]
        Road::Spirv => Ok(Opened::vulkan(kind)),
        #[cfg(feature = "gpu")]
        Road::Wgsl => super::wgsl::open(kind),
        #[cfg(not(feature = "gpu"))]
        _ => Ok(Opened::wgpu(kind)),
    }
}

fn kinds() -> impl Iterator<Item = DeviceKind> {
    let discrete = (0..MOST).map(DeviceKind::DiscreteGpu);
    let integrated = (0..MOST).map(DeviceKind::IntegratedGpu);
    let on_loan = (0..MOST).map(DeviceKind::VirtualGpu);
    discrete
        .chain(integrated)
        .chain(on_loan)
        .chain([DeviceKind::Cpu])
}
