//! The processor, through burn Flex.

use super::{Backend, OpenDevice, bounds::bounds};
use crate::error::Error;

#[cfg(feature = "cpu")]
pub(super) fn open(reason: &str) -> Result<OpenDevice, Error> {
    use super::{DeviceClass, DeviceInfo, DtypeChoice};
    use burn::tensor::Device;

    Backend::Cpu.require()?;
    let device = Device::flex();
    let info = DeviceInfo {
        selector: "cpu".into(),
        name: name(),
        class: DeviceClass::Processor,
        runtime: "flex",
        driver: None,
        memory: memory(),
        dtypes: DtypeChoice::supported_by(&device),
        subgroups: Some(false),
        subgroup_size: None,
        matrix_units: Some(false),
    };
    let reason = reason.into();
    Ok(OpenDevice {
        device,
        info,
        reason,
        refused: false,
    })
}

#[cfg(not(feature = "cpu"))]
pub(super) fn open(_reason: &str) -> Result<OpenDevice, Error> {
    Backend::Cpu.require()?;
    unreachable!("`require` refuses a backend that is not built")
}

/// Threads a core beyond which nothing is computed sooner: thousands take minutes to start.
#[cfg(all(feature = "cpu", feature = "cli"))]
const THREADS_A_CORE: usize = 16;

/// Starts fewer threads where `RAYON_NUM_THREADS` asks for far more than there are cores, and says so; says too that it is no number.
#[cfg(all(feature = "cpu", feature = "cli"))]
pub(crate) fn bound_threads() -> Option<String> {
    const KEY: &str = "RAYON_NUM_THREADS";
    let asked = std::env::var_os(KEY).filter(|asked| !asked.is_empty())?;
    let asked = asked.to_string_lossy();
    let Ok(asked) = asked.parse::<usize>() else {
        return Some(format!(
            "`{KEY}` is `{asked}`, which is no number of threads: there are as many as cores"
        ));
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = cores.saturating_mul(THREADS_A_CORE);
    if asked <= most {
        return None;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(most);
    // Where there is a pool already, it stays as it is.
    pool.build_global().ok()?;
    Some(format!(
        "`{KEY}` is {asked}, and {cores} cores have {most} threads at most: so many are started"
    ))
}

/// The processor's name where Linux tells it, else its architecture; with its threads.
#[cfg(feature = "cpu")]
fn name() -> String {
    let part = field("/proc/cpuinfo", "model name");
    let part = part.unwrap_or_else(|| std::env::consts::ARCH.into());
    match std::thread::available_parallelism() {
        Ok(threads) => format!("{part}, {threads} threads"),
        Err(_) => part,
    }
}

/// Bytes of main memory that this process may have of the machine's, where Linux tells them.
#[cfg(feature = "cpu")]
fn memory() -> Option<u64> {
    let limits = bounds().into_iter().map(|bound| bound.limit);
    limits.chain(bytes("/proc/meminfo", "MemTotal")).min()
}

/// The most main memory that this process has held so far, in bytes, where Linux tells it.
pub fn peak_memory() -> Option<u64> {
    bytes("/proc/self/status", "VmHWM")
}

/// Bytes of main memory that new work can have without swapping, where Linux tells them: of the machine, of the container or the job, and of this
/// process.
pub(super) fn available() -> Option<u64> {
    let left = bounds()
        .into_iter()
        .map(|bound| bound.left.min(bound.limit));
    left.chain(bytes("/proc/meminfo", "MemAvailable")).min()
}

fn bytes(table: &str, key: &str) -> Option<u64> {
    let amount = field(table, key)?;
    let kibibytes: u64 = amount.strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The first `key: value` line of a kernel table.
fn field(table: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(table).ok()?;
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    values.next().filter(|value| !value.is_empty())
}
