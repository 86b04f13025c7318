//! Cache rules that cannot be read, or cannot be planned for a run.

use super::number;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    // Reading.
    #[error("unknown cache rule `{rule}`\nhint: there are {known}")]
    UnknownRule { rule: String, known: String },
    #[error("`{rule}` has no option `{option}`\nhint: it has {known}")]
    UnknownOption {
        rule: String,
        option: String,
        known: String,
    },
    #[error("`{option}` is given twice in `{rule}`")]
    RepeatedOption { rule: String, option: String },
    #[error("`{rule}` needs `{option}`\nhint: {hint}")]
    MissingOption {
        rule: String,
        option: &'static str,
        hint: &'static str,
    },
    #[error("`{option}` is `{value}`\nhint: {expected}")]
    Value {
        option: String,
        value: String,
        expected: String,
    },
    #[error("`{first}` and `{second}` exclude each other in `{rule}`")]
    Exclusive {
        rule: String,
        first: &'static str,
        second: &'static str,
    },
    #[error("`{option}` has no effect without `{needed}` in `{rule}`")]
    Idle {
        rule: String,
        option: &'static str,
        needed: &'static str,
    },
    #[error(
        "cache rules `{first}` and `{second}` do not go together\nhint: one rule that cuts the trunk and one that works inside cells (tgate, l2c, taylorseer) do"
    )]
    Combination { first: String, second: String },
    #[error(
        "`{other}` and a rule that is picked (`auto`, `--budget`, `--psnr`) do not go together\nhint: both cut the trunk: leave one of them out; rules that work inside cells (tgate, l2c, taylorseer) go with either"
    )]
    BesidePicked { other: String },

    // Schedules.
    #[error("a refresh interval of 0\nhint: 1 refreshes at every step, 2 at every other")]
    ZeroInterval,
    #[error(
        "refresh evaluation {evaluation} lies beyond the last of the run, {}\nhint: the run makes {count} model calls, counted from 0",
        count - 1
    )]
    BeyondEnd { evaluation: usize, count: usize },
    #[error(
        "the center {center} of the schedule lies beyond the last step, {}\nhint: about a third of the steps works well",
        count - 1
    )]
    CenterBeyondEnd { center: usize, count: usize },
    #[error(
        "a quadratic schedule with power {}\nhint: it must be above 1 and at most 10; 1.4 works well",
        number(*power)
    )]
    QuadraticPower { power: f64 },
    #[error("a power schedule with power {}\nhint: it must be above 0 and at most 10", number(*power))]
    Power { power: f64 },
    #[error(
        "no quadratic schedule with interval {interval}, center {center} and power {power} has the wanted number of refreshes in {count} steps\nhint: raise `interval` or `power`"
    )]
    NoQuadratic {
        interval: usize,
        center: usize,
        power: f64,
        count: usize,
    },
    #[error(
        "a guard band of {}\nhint: it is the share of the run at either end, from 0 to 0.5",
        number(*guard)
    )]
    Guard { guard: f64 },

    #[error(
        "`forecast={forecast}` needs {needed} refreshes, and the run has {refreshes}\nhint: use a lower order or a smaller interval"
    )]
    ForecastOrder {
        forecast: String,
        needed: usize,
        refreshes: usize,
    },

    // Plans that are picked.
    #[error(
        "`{rule}` is not picked yet\nhint: `Request::settled` picks a rule when the model and the run are known"
    )]
    Unpicked { rule: String },
    #[error(
        "`{file}` is no plan, or was cut short: {reason}\nhint: `afterimage calibrate` writes it anew"
    )]
    PlanFile { file: String, reason: String },
    #[error(
        "the plan `{file}` has version {found}, and this program knows {known}\nhint: a later release wrote it; `afterimage calibrate` writes it anew"
    )]
    PlanVersion {
        file: String,
        found: u64,
        known: u64,
    },
    #[error("the plan `{file}` is for {made_for}, and this is {found}\nhint: {hint}")]
    PlanOfOther {
        file: String,
        made_for: String,
        found: String,
        hint: String,
    },
    #[error(
        "`auto:{budget}` is measured where one model makes pictures\nhint: `generate` takes it; here, use `auto:speedup=S`"
    )]
    Unmeasured { budget: String },
    #[error("nothing reaches `{budget}`\nhint: the nearest is `auto:{nearest}`")]
    Unreached {
        budget: String,
        nearest: String,
        /// The largest speed-up there is.
        fastest: f64,
    },
    #[error(
        "`auto:{budget}` needs a calibrated plan, and the model has none for {run}\nhint: `afterimage calibrate --cache RULE` writes one; `auto:speedup=S` does without"
    )]
    Uncalibrated { budget: String, run: String },
    #[cfg(feature = "eval")]
    #[error(
        "`{rule}` cannot be calibrated: {reason}\nhint: a rule that cuts the trunk, as in deepcache:branch=0,forecast=linear"
    )]
    NoSchedule { rule: String, reason: &'static str },

    #[error("a threshold of {}\nhint: it is a share, from 0 on; 0.1 is usual", number(*threshold))]
    DeciderThreshold { threshold: f64 },
    #[error(
        "`{rule}` decides at every single step, and `parallel` is {parallel}\nhint: use parallel=1"
    )]
    ParallelDecided { rule: String, parallel: usize },
    #[error(
        "`{rule}` decides in the run what is computed, which leaves no plan for a rule inside cells\nhint: use one of them alone"
    )]
    DecidedBranches { rule: String },
    #[error(
        "`{rule}` makes its forecast itself\nhint: `forecast` goes with rules that are planned, and with `easycache`"
    )]
    DecidedForecast { rule: String },

    #[error(
        "`{rule}` cannot be verified: {reason}\nhint: `verify` goes with a rule that cuts the trunk at planned refreshes, as in deepcache:interval=3,forecast=linear,verify=0.05"
    )]
    Unverifiable { rule: String, reason: &'static str },

    // The run and the trunk.
    #[error("a gate at step 0 would never attend to the text\nhint: 10 of 50 works well")]
    ZeroGate,
    #[error("a warm-up of 0 leaves nothing to forecast from\nhint: 3 evaluations work well")]
    ZeroWarmup,
    #[error("`taylorseer` forecasts attention, and this trunk has none")]
    NoAttention,
    #[error("`tgate` freezes cross-attention, and this trunk has none")]
    NoCrossAttention,
    #[error(
        "the router `{file}` cannot be read: {reason}\nhint: put it back, or `afterimage calibrate --cache l2c` makes one; a replay goes by another rule with `--cache`"
    )]
    RouterFile { file: String, reason: String },
    #[error(
        "`{file}` holds no router\nhint: a router has a vector `0.prob`, `1.prob`, … for each step"
    )]
    NoRouter { file: String },
    #[error("`{row}` of the router has scores that are no numbers\nfile: {file}")]
    RouterScores { row: String, file: String },
    #[error(
        "a router threshold of {}\nhint: it lies in 0 to 1; 0.1 is the published one for 256x256, 0.9 for 512x512",
        number(*threshold)
    )]
    RouterThreshold { threshold: f64 },
    #[error(
        "router `{router}` is for {found} steps, the run has {expected}\nhint: use steps={found}"
    )]
    RouterSteps {
        router: String,
        found: usize,
        expected: usize,
    },
    #[error(
        "router `{router}` scores {found} branches a step, the trunk has {expected}\nhint: a router fits one depth only"
    )]
    RouterBranches {
        router: String,
        found: usize,
        expected: usize,
    },
    #[error(
        "`{rule}` works at every single step, and `parallel` is {parallel}\nhint: use parallel=1"
    )]
    ParallelBranches { rule: String, parallel: usize },
    #[error("the run makes no model call, so there is nothing to plan")]
    NoEvaluations,
    #[error(
        "{method} needs skip connections, and this trunk has none\nhint: use `dit-propagation`"
    )]
    NoSkips { method: &'static str },
    #[error(
        "`first-block` needs a line of cells that are alike, and this trunk has skip connections\nhint: use `dicache` or `easycache`"
    )]
    Skips,
    #[error(
        "a probe of cells 0 to {branch} leaves nothing to reuse of {cells} cells\nhint: use a smaller `branch`"
    )]
    Probe { branch: usize, cells: usize },
    #[error("branch {branch} does not exist in this trunk\nhint: its branches are 0 to {last}")]
    Branch { branch: usize, last: usize },
    #[error(
        "a cut in front of cell {cut} of {cells} leaves nothing to reuse or nothing to compute\nhint: cut at 1 to {}",
        cells - 1
    )]
    CutPlace { cut: usize, cells: usize },
    #[error("`parallel` is 0\nhint: 1 decodes one step at a time")]
    ZeroParallel,
    #[error(
        "`parallel` is {parallel}, but this rule recomputes its skips from the latents of every step\nhint: only rules that hold the skips decode several steps at once: encoder-propagation, dit-propagation"
    )]
    ParallelRecompute { parallel: usize },
    #[error(
        "`parallel` is {parallel}, but the sampler calls the model {calls} times in step {step}\nhint: use parallel=1, or a sampler with one call a step"
    )]
    ParallelSolver {
        parallel: usize,
        calls: usize,
        step: usize,
    },
    #[error(
        "prior noise with alpha {} from {}\nhint: alpha is a small number, from lies in 0 to 1",
        number(*alpha),
        number(*from)
    )]
    Noise { alpha: f64, from: f64 },
    #[error(
        "the sampler calls the model {calls} times in step {step}, and a router would make one of the calls stale\nhint: use a sampler with one call a step"
    )]
    RouterSolver { calls: usize, step: usize },
}
