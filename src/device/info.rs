//! What is known of a device.

use super::DtypeChoice;

/// What a device is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceClass {
    /// A card with its own memory.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A GPU lent to a virtual machine.
    VirtualGpu,
    /// A GPU whose driver does not say more.
    OtherGpu,
    /// A graphics driver that computes on the processor (llvmpipe, lavapipe, WARP): slow, used only when named.
    SoftwareRasteriser,
    /// The processor itself.
    Processor,
}

impl DeviceClass {
    /// A word or two for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::DiscreteGpu => "discrete gpu",
            Self::IntegratedGpu => "integrated gpu",
            Self::VirtualGpu => "virtual gpu",
            Self::OtherGpu => "gpu",
            Self::SoftwareRasteriser => "software",
            Self::Processor => "processor",
        }
    }
}

/// What is known of a device. `None` means that neither burn nor the operating system tells.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    /// The word for `--device`: `cpu`, `cuda:0`, `wgpu:1`.
    pub selector: String,
    /// The part, as its driver names it.
    pub name: String,
    /// What it is made of.
    pub class: DeviceClass,
    /// The compiler that serves it: `wgpu<spirv>`, `wgpu<wgsl>`, `cuda`, `flex`.
    pub runtime: &'static str,
    /// Its driver and the driver's version.
    pub driver: Option<String>,
    /// Bytes the device may hold at once.
    pub memory: Option<u64>,
    /// Data types it computes in, best for its class first.
    pub dtypes: Vec<DtypeChoice>,
    /// Subgroup (warp, plane) operations.
    pub subgroups: Option<bool>,
    /// Lanes of a subgroup, smallest and largest.
    pub subgroup_size: Option<(u32, u32)>,
    /// Matrix units (tensor cores, cooperative matrices).
    pub matrix_units: Option<bool>,
}

impl DeviceInfo {
    /// A file name that tells the device, what compiles for it, and its driver from others.
    pub fn fingerprint(&self) -> String {
        /// Systems take 255 bytes; what is appended to the name has room too.
        const LONGEST: usize = 160;
        let driver = self.driver.as_deref().unwrap_or("unknown driver");
        let text = format!("{} {} {driver}", self.runtime, self.name).to_lowercase();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
        let words = text.split(|letter| !is_plain(letter));
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("-").chars().take(LONGEST).collect()
    }
}
