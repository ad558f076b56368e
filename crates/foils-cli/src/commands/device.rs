//! `--device` of the commands that compute vectors.

use foils::Result;
use foils::device::DeviceName;
use foils::models::{self, Trainable};

/// Where vectors are computed.
#[derive(clap::Args)]
pub struct DeviceArg {
    /// Where to compute dense layers: cpu, cuda, vulkan, metal, wgpu (each needs a build with that feature), or cuda:1 and so on.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

impl DeviceArg {
    /// The encoder `name` ([`models::load`]) on the device.
    pub fn load(&self, name: &str, seed: u64) -> Result<Box<dyn Trainable>> {
        let device = self.device.open()?;
        let mut encoder = models::load(name, seed)?;
        encoder.to_device(&device);
        Ok(encoder)
    }
}
