//! Shaders in WGSL in a build that has SPIR-V as well.
//!
//! There burn takes SPIR-V wherever the driver offers Vulkan, by either of its names for a card, and a driver
//! that is wrong about SPIR-V would be wrong for good. So the name without an API gets a server of its own,
//! before burn makes one: on the same opened card, with the types that WGSL has.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device as Opened, DeviceKind};
use cubecl_core::{
    WgpuCompilationOptions,
    client::Client,
    device::{Device as _, ServiceId},
    ir::{
        AddressType, DeviceProperties, ElemType, FloatKind, IntKind, Type, UIntKind,
        features::{AtomicUsage, Features, Plane, TypeUsage},
    },
    server::ServerUtilities,
};
use cubecl_server::{
    allocator::ContiguousMemoryLayoutPolicy, logging::ServerLogger, runtime::Runtime as _,
};
use cubecl_wgpu::{
    AutoCompiler, AutoGraphicsApi, RuntimeOptions, WgpuBackend, WgpuDevice, WgpuDeviceKind,
    WgpuInitError, WgpuRuntime, WgpuServer, WgpuSetup, try_init_setup, wgpu,
};

use super::DeviceError;

type Server = WgpuServer<AutoCompiler>;

/// Cards that have their server.
static SERVED: Mutex<Vec<DeviceKind>> = Mutex::new(Vec::new());

/// Opens a card whose shaders are WGSL.
pub(super) fn open(kind: DeviceKind) -> Result<Opened, DeviceError> {
    let mut served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    if !served.contains(&kind) {
        let device = WgpuDevice::new(match kind {
            DeviceKind::DiscreteGpu(at) => WgpuDeviceKind::DiscreteGpu(at),
            DeviceKind::IntegratedGpu(at) => WgpuDeviceKind::IntegratedGpu(at),
            DeviceKind::VirtualGpu(at) => WgpuDeviceKind::VirtualGpu(at),
            _ => WgpuDeviceKind::Cpu,
        });
        serve(device).map_err(DeviceError::computation)?;
        served.push(kind.clone());
    }
    Ok(Opened::wgpu(kind))
}

fn serve(device: WgpuDevice) -> Result<(), WgpuInitError> {
    let options = RuntimeOptions::try_default()?;
    let over_vulkan = device.clone().on(WgpuBackend::Vulkan);
    let setup = try_init_setup::<AutoGraphicsApi>(&over_vulkan, RuntimeOptions::try_default()?)?;
    let over_vulkan = <WgpuRuntime>::client(&over_vulkan);
    let properties = properties(&setup, over_vulkan.properties());
    let (memory, timing) = (properties.memory.clone(), properties.timing_method);
    let (utilities, captures) = ServerUtilities::init(
        ServiceId::of::<Server>(device.to_id()),
        "wgpu<wgsl>",
        properties,
        <WgpuRuntime>::target_properties(),
        Arc::new(ServerLogger::default()),
        ContiguousMemoryLayoutPolicy::new(memory.alignment as usize),
    );
    let server = Server::new(
        memory,
        options.memory_config,
        // Without a word of SPIR-V, the compiler is that of WGSL.
        WgpuCompilationOptions::default(),
        setup.device,
        setup.queue,
        options.tasks_max,
        setup.backend,
        timing,
        utilities,
        captures,
    );
    match Client::try_init(device.to_id(), server) {
        Ok(_) => Ok(()),
        Err(error) => Err(WgpuInitError::Registration {
            message: format!("{error:?}"),
        }),
    }
}

/// The card as WGSL sees it: the same memory and the same units, fewer types.
fn properties(setup: &WgpuSetup, over_vulkan: &DeviceProperties) -> DeviceProperties {
    let mut properties = DeviceProperties::new(
        Features::default(),
        over_vulkan.memory.clone(),
        over_vulkan.hardware.clone(),
        over_vulkan.timing_method,
        over_vulkan.identity.clone(),
    );
    let is_software = setup.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
    if setup.device.features().contains(wgpu::Features::SUBGROUP) && !is_software {
        properties.features.plane.insert(Plane::Ops);
    }
    properties.register_address_type(AddressType::U32);
    for kind in [
        ElemType::Index,
        ElemType::UInt(UIntKind::U32),
        ElemType::Int(IntKind::I32),
        ElemType::Float(FloatKind::F32),
        ElemType::Float(FloatKind::Flex32),
        ElemType::Bool,
    ] {
        properties.register_type_usage(kind, TypeUsage::all());
    }
    for kind in [ElemType::Int(IntKind::I32), ElemType::UInt(UIntKind::U32)] {
        let usage = AtomicUsage::LoadStore | AtomicUsage::Exchange | AtomicUsage::Add;
        properties.register_atomic_type_usage(Type::atomic(kind), usage);
    }
    properties
}
