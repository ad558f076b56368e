//! Where tensors are computed: the CPU, or a graphics card through one of Burn's backends, chosen by name at run time.
//!
//! The CPU is always there. The others need a build with the feature of their name (`cuda`, `vulkan`,
//! `metal`, `wgpu`).

use crate::{Error, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a device: `cpu`, `cuda`, `vulkan`, `metal` or `wgpu`, all but the first with `:N` for the N-th of its kind (from 0).
///
/// ```
/// use foils::device::DeviceName;
/// let name: DeviceName = "cuda:1".parse()?;
/// assert_eq!(name, DeviceName::Cuda(1));
/// assert_eq!(DeviceName::default().open()?, burn::tensor::Device::flex());
/// # Ok::<(), foils::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceName {
    /// This process's own memory and processors, with the kernels of [`foils_kernels`].
    #[default]
    Cpu,
    /// An NVIDIA card.
    Cuda(usize),
    /// A device with a Vulkan driver, by shaders in SPIR-V; integrated and software ones count after the others.
    Vulkan(usize),
    /// An Apple graphics processor.
    Metal(usize),
    /// A device of any graphics interface, by portable shaders (WGSL): slower than the others, but drivers that stumble over those
    /// run it, software ones too. Build with this feature alone: beside `vulkan` or `metal`, theirs are taken.
    Wgpu(usize),
}

impl DeviceName {
    /// Whether it is the default.
    pub fn is_cpu(&self) -> bool {
        *self == Self::Cpu
    }

    /// The device itself, without autodiff.
    ///
    /// # Errors
    /// When this build lacks the backend (the message has the feature to build with), or the machine the device.
    pub fn open(self) -> Result<Device> {
        let (devices, index) = match self {
            Self::Cpu => return Ok(Device::flex()),
            Self::Cuda(index) => (all_cuda()?, index),
            Self::Vulkan(index) => (all_vulkan()?, index),
            Self::Metal(index) => (all_metal()?, index),
            Self::Wgpu(index) => (all_wgpu()?, index),
        };
        let count = devices.len();
        devices.into_iter().nth(index).ok_or_else(|| {
            let (kind, _) = self.parts();
            Error::invalid(match count {
                0 => format!("there is no device {self}: this machine has no {} device, or no driver for it", title(kind)),
                1 => format!("there is no device {self}: this machine has one {} device, {kind}:0", title(kind)),
                _ => format!("there is no device {self}: this machine has {kind}:0 to {kind}:{}", count - 1),
            })
        })
    }

    fn parts(self) -> (&'static str, usize) {
        match self {
            Self::Cpu => ("cpu", 0),
            Self::Cuda(index) => ("cuda", index),
            Self::Vulkan(index) => ("vulkan", index),
            Self::Metal(index) => ("metal", index),
            Self::Wgpu(index) => ("wgpu", index),
        }
    }
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::invalid(format!(
                "there is no kind of device {text:?}; give cpu, cuda, vulkan, metal or wgpu, or cuda:N and so on for the N-th"
            ))
        };
        let (kind, index) = match text.split_once(':') {
            None => (text, None),
            Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("vulkan", index) => Ok(Self::Vulkan(index.unwrap_or(0))),
            ("metal", index) => Ok(Self::Metal(index.unwrap_or(0))),
            ("wgpu", index) => Ok(Self::Wgpu(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (kind, 0) => f.write_str(kind),
            (kind, index) => write!(f, "{kind}:{index}"),
        }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for DeviceName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// How people write it.
fn title(kind: &str) -> &'static str {
    match kind {
        "cuda" => "CUDA",
        "vulkan" => "Vulkan",
        "metal" => "Metal",
        _ => "wgpu",
    }
}

/// Defines the list of a backend's devices, or the refusal of a build without it.
macro_rules! devices {
    ($all:ident, $feature:literal, $kind:ident) => {
        #[cfg(feature = $feature)]
        fn $all() -> Result<Vec<Device>> {
            Ok(Device::enumerate(burn::tensor::DeviceType::$kind).into_vec())
        }

        #[cfg(not(feature = $feature))]
        fn $all() -> Result<Vec<Device>> {
            Err(Error::invalid(format!("this build has no {} support: build with --features {}", title($feature), $feature)))
        }
    };
}

devices!(all_cuda, "cuda", Cuda);
devices!(all_vulkan, "vulkan", Vulkan);
devices!(all_metal, "metal", Metal);
devices!(all_wgpu, "wgpu", Wgpu);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, name) in [
            ("cpu", DeviceName::Cpu),
            ("cuda", DeviceName::Cuda(0)),
            ("cuda:1", DeviceName::Cuda(1)),
            ("vulkan:12", DeviceName::Vulkan(12)),
            ("metal", DeviceName::Metal(0)),
            ("wgpu:2", DeviceName::Wgpu(2)),
        ] {
            assert_eq!(text.parse::<DeviceName>().unwrap(), name);
            assert_eq!(name.to_string(), text);
            assert_eq!(serde_json::from_str::<DeviceName>(&serde_json::to_string(&name).unwrap()).unwrap(), name);
        }
        assert_eq!("cuda:0".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
        for wrong in ["", "gpu", "cpu:0", "CUDA", "cuda:", "cuda:-1", "cuda:x", "vulkan:1:2", " cpu"] {
            let message = wrong.parse::<DeviceName>().unwrap_err().to_string();
            assert!(message.contains(&format!("{wrong:?}")) && message.contains("cuda:N"), "{message}");
        }
    }

    #[test]
    fn a_device_that_is_not_to_be_had_is_refused() {
        let message = |name: DeviceName| name.open().unwrap_err().to_string();
        if !cfg!(feature = "cuda") {
            assert_eq!(message(DeviceName::Cuda(0)), "this build has no CUDA support: build with --features cuda");
        }
        if !cfg!(feature = "metal") {
            assert!(message(DeviceName::Metal(1)).contains("--features metal"));
        }
        if cfg!(feature = "vulkan") {
            assert!(message(DeviceName::Vulkan(1000)).contains("there is no device vulkan:1000"));
        } else {
            assert!(message(DeviceName::Vulkan(0)).contains("--features vulkan"));
        }
    }
}
