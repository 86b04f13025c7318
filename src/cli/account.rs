//! What a run took, beside the account of how it could be made again.

use std::time::Duration;

use serde::Serialize;

use super::{console, progress::speed};
use crate::{
    cache::Verified,
    device,
    engine::{Account, Made, Summary},
    pipeline::Report,
    weights::BlocksRead,
};

#[derive(Serialize)]
struct Seconds {
    loading: f64,
    text: f64,
    denoising: f64,
    decoding: f64,
}

impl Seconds {
    fn new(made: &Made) -> Self {
        let sum = |time: fn(&Report) -> Duration| {
            let times = made.reports.iter().map(time);
            times.sum::<Duration>().as_secs_f64()
        };
        Self {
            loading: made.loading.as_secs_f64(),
            text: sum(|report| report.text),
            denoising: sum(|report| report.denoising),
            decoding: sum(|report| report.decoding),
        }
    }

    fn text(&self, evaluations: usize) -> String {
        format!(
            "{:.2} s loading, {:.2} s text, {:.2} s denoising ({}), {:.2} s decoding",
            self.loading,
            self.text,
            self.denoising,
            speed(evaluations as f64 / self.denoising),
            self.decoding,
        )
    }
}

/// What was read of streamed blocks.
#[derive(Serialize)]
struct Reads {
    blocks: u64,
    bytes: u64,
}

impl Reads {
    /// Of all models of a run; `None` where their blocks stay in memory.
    fn new(made: &Made) -> Option<Self> {
        let reads = made.reports.iter().map(|report| report.blocks_read);
        let BlocksRead { blocks, bytes } = reads.sum();
        (blocks > 0).then_some(Self { blocks, bytes })
    }

    fn text(&self) -> String {
        let bytes = console::bytes(self.bytes);
        format!("{} blocks read as they were needed, {bytes}", self.blocks)
    }
}

#[derive(Serialize)]
pub(super) struct Outcome {
    files: Vec<String>,
    #[serde(flatten)]
    account: Account,
    work: Summary,
    /// Evaluations that computed everything, counted over all models.
    refreshed: Vec<usize>,
    /// What was expected of them, where the rule verifies that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verified: Vec<Verified>,
    /// Evaluations that were played from a recording, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluations_played: Option<usize>,
    /// What was read of streamed blocks while the denoiser ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks_read: Option<Reads>,
    seconds: Seconds,
    /// Bytes of main memory, where the system says.
    peak_memory: Option<u64>,
    /// Bytes that the device's memory pool held, where it has one.
    peak_device_memory: Option<u64>,
}

impl Outcome {
    pub(super) fn new(
        account: Account,
        files: Vec<String>,
        work: Summary,
        made: &Made,
        step_graphs: bool,
    ) -> Self {
        let reports = made.reports.iter();
        let device_memory = reports.filter_map(|report| report.device_memory);
        let done = made.computed();
        Self {
            files,
            account,
            work,
            refreshed: done.refreshed,
            verified: done.verified,
            evaluations_played: step_graphs.then(|| {
                let played = made.reports.iter().map(|report| report.account.played);
                played.sum()
            }),
            blocks_read: Reads::new(made),
            seconds: Seconds::new(made),
            peak_memory: device::peak_memory(),
            peak_device_memory: device_memory.max(),
        }
    }

    /// How far forecasts were off, where they were held against what was computed.
    fn forecasts(&self) -> Option<String> {
        let errors = || self.verified.iter().map(|one| one.error);
        let mean = errors().sum::<f64>() / self.verified.len() as f64;
        let worst = self.verified.iter();
        let worst = worst.max_by(|a, b| a.error.total_cmp(&b.error))?;
        let Verified {
            evaluation, error, ..
        } = worst;
        Some(format!(
            "off by {mean:.4} on average, by {error:.4} at most, at evaluation {evaluation}"
        ))
    }

    pub(super) fn text(&self) -> String {
        let facts = &self.account.facts;
        let (prompt, classes) = (&self.account.prompt, self.account.classes());
        let mut lines = Vec::new();
        lines.extend((!prompt.is_empty()).then(|| ("prompt", prompt.clone())));
        lines.extend(self.account.told.texts());
        lines.extend((!classes.is_empty()).then_some(("class", classes)));
        lines.extend([
            ("seed", self.account.seed.to_string()),
            ("run", facts.course()),
            (
                "device",
                format!("{} in {}", self.account.device, self.account.arithmetic),
            ),
            ("time", self.seconds.text(facts.evaluations)),
        ]);
        lines.extend(facts.refinement().map(|text| ("refiner", text)));
        lines.extend(
            facts
                .upscalers
                .iter()
                .map(|name| ("upscaler", name.clone())),
        );
        lines.splice(0..0, self.account.sources.lines());
        if facts.cache != "none" {
            lines.push(("cache", format!("{}: {}", facts.cache, self.work.spared())));
            lines.push(("in full", console::numbers(&self.refreshed)));
        }
        lines.extend(
            self.blocks_read
                .iter()
                .map(|reads| ("weights", reads.text())),
        );
        lines.extend(self.forecasts().map(|text| ("forecasts", text)));
        lines.extend(self.evaluations_played.map(|played| {
            let text = format!("{played} of {} evaluations played", facts.evaluations);
            ("step graphs", text)
        }));
        format!("{}\n{}", console::pairs(&lines), self.files.join("\n"))
    }
}
