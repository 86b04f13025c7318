//! Spans that are decided in the run: what was decided is a plan, run as that plan.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use afterimage::{
    cache::{Account, Before, CachePlan, CacheRule, Course, Cut, Refresh, Session, Span, Spans},
    conditioning::Conditioning,
    denoise::{Denoise, Noise},
    denoiser::{Rows, StagedDenoiser},
    guidance::Guidance,
    samplers::SamplerConfig,
};
use burn::tensor::Tensor;

use super::rules;
use crate::toy_trunk::{HEIGHT, ToyUnet, WIDTH, tensor, values, wave};

pub(super) const STEPS: usize = 12;

/// Refreshes while the guided prediction is expected to have changed by `threshold` since it was computed, after `EasyCache`: its
/// change for a change of the latents is taken to be that between the last two computed evaluations.
#[derive(Debug, Default)]
pub(super) struct Changing {
    threshold: f32,
    expected: f32,
    rate: Option<f32>,
    /// Latents and prediction of the last computed evaluation.
    computed: Option<[Tensor<4>; 2]>,
    /// Latents of the evaluation before, and whether it was computed.
    last: Option<(Tensor<4>, bool)>,
    refreshes: Arc<Mutex<Vec<usize>>>,
}

fn size(tensor: Tensor<4>) -> f32 {
    tensor.abs().mean().into_scalar::<f32>()
}

impl Changing {
    /// Takes in what the last evaluation gave.
    fn learn(&mut self, prediction: &Tensor<4>) {
        let Some((latents, true)) = self.last.clone() else {
            return;
        };
        let now = [latents, prediction.clone()];
        let before = self.computed.replace(now.clone());
        self.rate = before.map(|before| {
            let [moved, changed] = [0, 1].map(|of| size(now[of].clone() - before[of].clone()));
            changed / moved
        });
    }

    fn refreshes(&mut self, latents: &Tensor<4>) -> bool {
        let (Some(rate), Some((last, _)), Some([_, prediction])) =
            (self.rate, &self.last, &self.computed)
        else {
            return true;
        };
        let moved = size(latents.clone() - last.clone());
        self.expected += rate * moved / size(prediction.clone());
        self.expected >= self.threshold
    }
}

impl Spans for Changing {
    fn next(&mut self, before: &Before<'_>) -> Span {
        if let Some(prediction) = before.prediction {
            self.learn(prediction);
        }
        let refresh = self.refreshes(before.latents);
        if refresh {
            self.expected = 0.0;
            self.refreshes.lock().unwrap().push(before.evaluation);
        }
        self.last = Some((before.latents.clone(), refresh));
        Span {
            first: before.evaluation,
            len: 1,
            refresh,
            keep: usize::from(before.evaluation + 1 < before.total),
        }
    }
}

/// DDIM without eta draws nothing.
struct Silent;

impl Noise for Silent {
    fn draw(&mut self, shape: [usize; 4]) -> Tensor<4> {
        unreachable!("asked for {shape:?}")
    }
}

/// The latents at the end of a run of `plan`, or of what `spans` decide under its cut.
pub(super) fn run(
    unet: &ToyUnet,
    plan: &CachePlan,
    spans: Option<Changing>,
) -> (Vec<f32>, Account) {
    let json = r#"{"_class_name": "DDIMScheduler", "clip_sample": false}"#;
    let config = SamplerConfig::from_json(json, Path::new("scheduler_config.json")).unwrap();
    let sampler = config.build(STEPS, 0.0).unwrap();
    let guidance = Guidance {
        scale: 1.5,
        ..Guidance::default()
    };
    let rows = guidance.rows(2);
    let states = tensor(wave(rows.total(), 8), [rows.total(), 1, 1]);
    let condition = Conditioning {
        rows,
        ..Conditioning::of_context(states)
    };
    let run = unet.start(&condition, sampler.evaluations());
    let mut session = Session::new(unet, &run, plan, rows);
    if let Some(spans) = spans {
        session = session.decided_by(spans);
    }
    let denoise = Denoise {
        sampler: sampler.as_ref(),
        plan,
        guidance,
        prior_noise: None,
        known: None,
    };
    let latents = tensor(wave(2 * HEIGHT * WIDTH, 7), [2, 1, HEIGHT, WIDTH]);
    let made = denoise.run(&mut session, latents, &mut Silent, &mut ());
    (values(&made.unwrap()), session.account())
}

pub(super) fn planned(unet: &ToyUnet, rule: &CacheRule) -> CachePlan {
    rule.plan(&Course::steps(STEPS), &unet.blueprint()).unwrap()
}

/// At every cut, and at thresholds from where everything is computed to where nothing is that need not be.
#[test]
fn a_decided_run_is_the_planned_run_of_its_decisions() {
    let unet = ToyUnet::new(4);
    let mut counts = Vec::new();
    for threshold in [0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, f32::INFINITY] {
        for (index, rule) in rules(&unet, &Refresh::every(2)).into_iter().enumerate() {
            let refreshes = Arc::default();
            let spans = Changing {
                threshold,
                refreshes: Arc::clone(&refreshes),
                ..Changing::default()
            };
            let (latents, account) = run(&unet, &planned(&unet, &rule), Some(spans));
            let decided = std::mem::take(&mut *refreshes.lock().unwrap());
            assert_eq!(account.refreshes, decided.len(), "{rule} {threshold}");
            assert_eq!(account.fallbacks, 0, "{rule} {threshold}");
            counts.push(decided.len());
            let plan = planned(&unet, &rules(&unet, &Refresh::At(decided))[index]);
            let (expected, other) = run(&unet, &plan, None);
            assert_eq!(latents, expected, "{rule} {threshold}");
            assert_eq!(account.cells, other.cells, "{rule} {threshold}");
        }
    }
    let between = |count: &usize| (3..STEPS).contains(count);
    assert!(counts.iter().any(between), "{counts:?}");
    assert_eq!((counts.first(), counts.last()), (Some(&STEPS), Some(&2)));
}

/// A decider cannot leave an evaluation out.
#[test]
#[should_panic(expected = "Span { first: 1")]
fn spans_follow_each_other() {
    #[derive(Debug)]
    struct Ahead;
    impl Spans for Ahead {
        fn next(&mut self, before: &Before<'_>) -> Span {
            Span {
                first: before.evaluation + 1,
                len: 1,
                refresh: true,
                keep: 0,
            }
        }
    }
    let unet = ToyUnet::new(2);
    let plan = planned(&unet, &CacheRule::none());
    let conditions = wave(1, 2);
    let rows = Guidance::default().rows(1);
    let mut session = Session::new(&unet, &conditions, &plan, rows).decided_by(Ahead);
    let latents = tensor(wave(HEIGHT * WIDTH, 7), [1, 1, HEIGHT, WIDTH]);
    session.next_span(&Before {
        evaluation: 0,
        total: STEPS,
        latents: &latents,
        prediction: None,
    });
}

/// A run that decides for itself computes between as little as it may and everything, and says which evaluations those were.
#[test]
fn rules_decide_between_the_least_and_everything() {
    let unet = ToyUnet::new(4);
    for rule in [
        "easycache:threshold=",
        "easycache:branch=2,threshold=",
        "easycache:cut=5,threshold=",
        "easycache:cut=middle,threshold=",
        "easycache:cut=end,threshold=",
        "dicache:branch=1,threshold=",
    ] {
        let refreshes = [0.0, 0.05, 0.3, 1e9].map(|threshold| {
            let rule: CacheRule = format!("{rule}{threshold}").parse().unwrap();
            let plan = planned(&unet, &rule);
            let (latents, account) = run(&unet, &plan, None);
            assert!(latents.iter().all(|value| value.is_finite()));
            assert_eq!(account.refreshed.len(), account.refreshes, "{rule}");
            assert_eq!(account.refreshes + account.reuses, STEPS, "{rule}");
            assert_eq!(account.fallbacks, 0, "{rule}");
            let forecast = plan.forecast(&unet.blueprint(), Rows::new(2, 2), 4);
            assert!(forecast.decided);
            assert!(account.store_bytes as u64 <= forecast.store_bytes, "{rule}");
            let full = account.refreshed.clone();
            let cell = plan.prefix;
            assert_eq!(account.cells[cell], full.len(), "{rule}");
            let (least, most) = (forecast.total_macs(), forecast.plain_macs);
            let spent = account.macs(&unet.blueprint());
            assert!((least..=most).contains(&spent), "{rule}: {spent}");
            assert_eq!(spent == most, full.len() == STEPS, "{rule}");
            full.len()
        });
        assert_eq!(refreshes[0], STEPS, "{rule}");
        assert!(
            refreshes.is_sorted_by(|more, less| more >= less),
            "{rule} {refreshes:?}"
        );
        assert!((1..3).contains(&refreshes[3]), "{rule} {refreshes:?}");
        let between = refreshes[1..3]
            .iter()
            .any(|count| (3..STEPS).contains(count));
        assert!(between, "{rule} {refreshes:?}");
    }
}

/// Everything computed is the plain run, bit for bit.
#[test]
fn a_threshold_of_0_is_the_plain_run() {
    let unet = ToyUnet::new(4);
    let (plain, _) = run(&unet, &planned(&unet, &CacheRule::none()), None);
    for rule in ["easycache:threshold=0", "dicache:threshold=0"] {
        let plan = planned(&unet, &rule.parse().unwrap());
        assert_eq!(run(&unet, &plan, None).0, plain, "{rule}");
    }
}

#[test]
fn what_cannot_be_decided_is_refused() {
    let unet = ToyUnet::new(4);
    for (rule, expected) in [
        (
            "first-block:threshold=0.1",
            "`first-block` needs a line of cells that are alike",
        ),
        ("easycache:threshold=-1", "a threshold of -1"),
        (
            "dicache:threshold=0.1,forecast=linear",
            "`dicache:threshold=0.1,branch=0,forecast=linear` makes its forecast itself",
        ),
        (
            "easycache:threshold=0.1;tgate:gate=3",
            "`easycache:threshold=0.1;tgate:gate=3` decides in the run",
        ),
    ] {
        let rule: CacheRule = rule.parse().unwrap();
        let error = rule
            .plan(&Course::steps(STEPS), &unet.blueprint())
            .unwrap_err();
        assert!(error.is_plan());
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let batched = CacheRule::easycache(0.1, Cut::AfterMiddle).with_parallel(2);
    let error = batched
        .plan(&Course::steps(STEPS), &unet.blueprint())
        .unwrap_err();
    assert!(
        error.to_string().ends_with("hint: use parallel=1"),
        "{error}"
    );
}
