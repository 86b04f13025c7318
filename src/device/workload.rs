//! Whether a run is worth a GPU that has never seen it.

use super::DeviceClass;

/// What is known of a run before its device is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Tells runs with other shapes apart; one line.
    pub name: String,
    /// Multiply-accumulates of the whole run.
    pub macs: u64,
}

/// Multiply-accumulates that a thread makes in a second, at the least. An estimate: a ninth of what wide convolutions reach on a core with
/// AVX-512 (`docs/performance.md`), since other processors, small layers and many threads on one memory are slower.
const MACS_A_THREAD: f64 = 1e10;

/// Seconds that a GPU takes to try and compile the kernels of a network it has not seen. An estimate, not measured on hardware.
const TUNING: f64 = 60.0;

impl Workload {
    /// What a processor of `threads` takes, at the most: an estimate.
    pub fn seconds(&self, threads: usize) -> f64 {
        self.macs as f64 / (MACS_A_THREAD * threads as f64)
    }

    /// Why this run goes to a processor of `threads` instead of `gpu`, if `auto` found it and it is not tuned for the run.
    pub(super) fn refuses(&self, gpu: &str, class: DeviceClass, threads: usize) -> Option<String> {
        let seconds = self.seconds(threads);
        (class != DeviceClass::Processor && seconds < TUNING).then(|| {
            format!(
                "about {seconds:.0} s of work; the first run of its kind on {gpu} would tune kernels for about {TUNING:.0} s"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(macs: u64, threads: usize) -> Option<String> {
        let name = "a model at 512x512".to_owned();
        Workload { name, macs }.refuses("cuda:0 (a card)", DeviceClass::DiscreteGpu, threads)
    }

    #[test]
    fn short_runs_stay_on_the_processor() {
        assert_eq!(
            refused(100_000_000_000, 2).as_deref(),
            Some(
                "about 5 s of work; the first run of its kind on cuda:0 (a card) would tune kernels for about 60 s"
            )
        );
        // About SD 1.5 at 512x512 in 50 guided steps.
        let long = 40_000_000_000_000;
        assert_eq!(refused(long, 2), None);
        assert_eq!(refused(long, 64), None);
        assert!(refused(long, 128).is_some());
    }

    #[test]
    fn the_processor_refuses_nothing_to_itself() {
        let name = String::new();
        assert_eq!(
            Workload { name, macs: 0 }.refuses("cpu", DeviceClass::Processor, 1),
            None
        );
    }
}
