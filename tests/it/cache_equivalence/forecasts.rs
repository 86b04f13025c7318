//! Laws of forecasts: what stands in for a stored tensor between refreshes.

use std::ops::Range;

use afterimage::{
    cache::{
        Account, Before, CachePlan, CacheRule, Course, OpenSkips, Predictor, Refresh, Session,
    },
    conditioning::Conditioning,
    denoiser::{
        Blueprint, Carry, Cell, Denoiser, Evaluation, Rows, StagedDenoiser, join_rows,
        mean_magnitude, weighted_sum,
    },
    recall::Recall,
};
use burn::tensor::Tensor;
use proptest::prelude::*;

use super::rules;
use crate::toy_trunk::{
    Request, ToyDit, ToyUnet, assert_forecast, drive, run_dit, run_unet, tensor, values,
};

/// Gives the latents back through two cells, so that what is stored between them is the latents themselves.
#[derive(Debug)]
struct Echo;

#[derive(Clone)]
struct Echoed(Tensor<4>);

impl Carry for Echoed {
    fn graft_deep(&mut self, from: &Self) {
        self.clone_from(from);
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        Self(weighted_sum(parts, |part| &part.0))
    }

    fn join(steps: Vec<Self>) -> Self {
        Self(join_rows(&steps, |step| &step.0))
    }

    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.0)
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl StagedDenoiser for Echo {
    type Carry = Echoed;
    type Run = ();
    type Prepared = ();

    fn cells(&self) -> usize {
        2
    }

    fn start(&self, _conditioning: &Conditioning, _evaluations: &[Evaluation]) {}

    fn prepare(&self, _run: &(), _evaluations: &[Evaluation]) {}

    fn select(&self, _run: &(), _rows: Range<usize>) {}

    fn enter(&self, sample: Tensor<4>, _prepared: &()) -> Echoed {
        Echoed(sample)
    }

    fn advance(
        &self,
        carry: Echoed,
        _cells: Range<usize>,
        _prepared: &(),
        _recall: &mut Recall<'_>,
    ) -> Echoed {
        carry
    }

    fn leave(&self, carry: Echoed, _prepared: &()) -> Tensor<4> {
        carry.0
    }
}

fn echo_plan(rule: &CacheRule, course: &Course) -> CachePlan {
    let trunk = Blueprint {
        cells: vec![Cell::default(); 2],
        prepare_macs: 0,
        leave_macs: 0,
        prediction: 1,
    };
    rule.plan(course, &trunk).unwrap()
}

/// What the forecasts of a run give whose latents at each evaluation are those of `trajectory`.
fn echoes<D>(trunk: &D, run: &D::Run, plan: &CachePlan, trajectory: &dyn Fn(f64) -> f64) -> Vec<f32>
where
    D: StagedDenoiser + ?Sized,
{
    let mut session = Session::new(trunk, run, plan, Rows::single(1));
    let mut made = Vec::new();
    for span in &plan.spans {
        let evaluations = span.range().map(|index| Evaluation {
            index,
            timestep: 0.0,
        });
        let evaluations: Vec<Evaluation> = evaluations.collect();
        let sample = || tensor(vec![trajectory(span.first as f64) as f32; 2], [1, 1, 1, 2]);
        for prediction in session.predict(span, &evaluations, sample) {
            made.push(values(&prediction)[1]);
        }
    }
    assert_eq!(session.account().fallbacks, 0);
    made
}

fn assert_follows(made: &[f32], from: usize, trajectory: &dyn Fn(f64) -> f64) {
    for (evaluation, &value) in made.iter().enumerate().skip(from) {
        let expected = trajectory(evaluation as f64);
        let near = (f64::from(value) - expected).abs() < 1e-4 * expected.abs().max(1.0);
        assert!(near, "evaluation {evaluation}: {value} for {expected}");
    }
}

/// Refreshes at 0, 1 and from there on wherever they are: lines are forecast exactly by every order from 1 on.
#[test]
fn a_line_is_forecast_exactly() {
    let line = |at: f64| 3.0 - 0.25 * at;
    for predictor in [
        "linear",
        "taylor:1",
        "taylor:2",
        "taylorseer:1",
        "taylorseer:2",
    ] {
        for parallel in [1, 3] {
            let rule = CacheRule::dit_propagation(1, vec![0, 1, 4, 5, 9])
                .with_parallel(parallel)
                .with_forecast(predictor.parse().unwrap());
            let plan = echo_plan(&rule, &Course::steps(14));
            assert_follows(&echoes(&Echo, &(), &plan, &line), 0, &line);
        }
    }
}

#[test]
fn a_parabola_is_forecast_exactly_by_the_second_order() {
    let parabola = |at: f64| 1.0 + 0.5 * at - 0.03 * at * at;
    let keys = vec![0, 1, 2, 5, 9];
    let rule = CacheRule::dit_propagation(1, keys).with_forecast(Predictor::Taylor(2));
    let plan = echo_plan(&rule, &Course::steps(13));
    assert_follows(&echoes(&Echo, &(), &plan, &parabola), 0, &parabola);
}

/// The first refresh holds, the second gives a line: the order falls where history is short.
#[test]
fn the_order_falls_where_history_is_short() {
    let parabola = |at: f64| at * at;
    let rule = CacheRule::dit_propagation(1, vec![0, 2, 4]).with_forecast(Predictor::Taylor(2));
    let plan = echo_plan(&rule, &Course::steps(6));
    let made = echoes(&Echo, &(), &plan, &parabola);
    assert_eq!(made, [0.0, 0.0, 4.0, 6.0, 16.0, 25.0]);
}

/// Nothing that was stored before a change of conditions is read after it: two lines with a jump are each forecast exactly.
#[test]
fn a_change_of_conditions_voids_the_history() {
    let jumping = |at: f64| if at < 6.0 { at } else { 100.0 - at };
    for predictor in ["linear", "taylor:3", "chebyshev:2"] {
        let refresh = Refresh::At(vec![0, 1, 3, 7, 9]);
        let rule = CacheRule::dit_propagation(1, refresh).with_forecast(predictor.parse().unwrap());
        let plan = echo_plan(&rule, &Course::steps(12).refreshing_at([6]));
        let made = echoes(&Echo, &(), &plan, &jumping);
        assert!(made[8] > 50.0, "{predictor}: {made:?}");
        if predictor == "linear" {
            assert_follows(&made, 0, &jumping);
        }
    }
}

/// What a run of `rule` over twelve latents `at + 1` computes, every third evaluation in full where nothing is added.
fn verified(rule: &str) -> Account {
    let plan = echo_plan(&rule.parse().unwrap(), &Course::steps(12));
    let mut session = Session::new(&Echo, &(), &plan, Rows::single(1));
    let sample = |at: usize| tensor(vec![1.0 + at as f32; 2], [1, 1, 1, 2]);
    for index in 0..12 {
        let span = session.next_span(&Before {
            evaluation: index,
            total: 12,
            latents: &sample(index),
            prediction: None,
        });
        let timestep = 0.0;
        session.predict(&span, &[Evaluation { index, timestep }], || sample(index));
    }
    session.account()
}

/// Held over three evaluations, a refresh is off by three of what it is; along a line by nothing. Three at half as much again as is
/// allowed are two from there on, and three again once two are off by less.
#[test]
fn a_verified_run_measures_how_far_forecasts_are_off() {
    for (options, refreshed, expected) in [
        ("verify=2", vec![0, 3, 6, 9], vec![0.75, 3.0 / 7.0, 0.3]),
        (
            "forecast=linear,verify=2",
            vec![0, 3, 6, 9],
            vec![0.75, 0.0, 0.0],
        ),
        (
            "verify=0.5",
            vec![0, 3, 5, 6, 9],
            vec![0.75, 1.0 / 3.0, 1.0 / 7.0, 0.3],
        ),
    ] {
        let account = verified(&format!("dit-propagation:cut=1,every=3,{options}"));
        assert_eq!(account.refreshed, refreshed, "{options}");
        let errors: Vec<f64> = account.verified.iter().map(|one| one.error).collect();
        let near = |(error, expected): (&f64, &f64)| (error - expected).abs() < 1e-6;
        assert!(
            errors.iter().zip(&expected).all(near),
            "{options}: {errors:?}"
        );
        assert_eq!(errors.len(), expected.len());
        let drift = account.drift().map(|drift| drift.to_string());
        let beyond = "1 of 4 forecasts were off by more than `verify` allows, the farthest by 0.7500 at evaluation 3; 1 ";
        assert_eq!(drift.is_some(), account.added > 0, "{options}");
        assert!(drift.is_none_or(|drift| drift.contains(beyond)));
    }
}

#[test]
fn erased_trunks_forecast_the_same() {
    let curve = |at: f64| (0.3 * at).sin();
    let rule = CacheRule::dit_propagation(1, Refresh::every(3)).with_parallel(2);
    let rule = rule.with_forecast(Predictor::Chebyshev(2));
    let plan = echo_plan(&rule, &Course::steps(13));
    let own = echoes(&Echo, &(), &plan, &curve);
    let erased: &dyn Denoiser = &Echo;
    let condition = Conditioning::of_context(tensor(vec![0.0], [1, 1, 1]));
    let run = erased.start(&condition, &[]);
    assert_eq!(echoes(erased, &run, &plan, &curve), own);
}

/// At every cut, bit for bit.
#[test]
fn order_0_is_hold() {
    let unet = ToyUnet::new(4);
    let request = Request::new(9, 2, 1);
    for rule in rules(&unet, &Refresh::every(3)) {
        let held = run_unet(&unet, &rule, &request);
        for predictor in [Predictor::Taylor(0), Predictor::Chebyshev(0)] {
            let found = run_unet(&unet, &rule.clone().with_forecast(predictor), &request);
            assert_eq!(found.predictions, held.predictions, "{rule}");
        }
        let forecast = run_unet(
            &unet,
            &rule.clone().with_forecast(Predictor::Linear),
            &request,
        );
        assert_ne!(forecast.predictions, held.predictions, "{rule}");
    }
}

fn predictors() -> impl Strategy<Value = Predictor> {
    prop_oneof![
        Just(Predictor::Hold),
        Just(Predictor::Linear),
        Just(Predictor::Taylor(2)),
        Just(Predictor::Chebyshev(2)),
        Just(Predictor::TaylorSeer(2)),
    ]
}

proptest! {
    /// Cells, and the bytes that the store holds at most.
    #[test]
    fn executed_cells_are_the_plan(
        predictor in predictors(),
        refreshes in prop::collection::btree_set(1..14_usize, 2..9),
        cap in 1..5_usize,
        change in prop::option::of(1..14_usize),
    ) {
        let unet = ToyUnet::new(3);
        let request = Request::new(14, 2, 1);
        let course = Course::steps(14).refreshing_at(change);
        for rule in rules(&unet, &Refresh::At(refreshes.into_iter().collect())) {
            let parallel = if rule.cut.skips() == OpenSkips::Hold { cap } else { 1 };
            let rule = rule.with_parallel(parallel).with_forecast(predictor);
            let plan = rule.plan(&course, &unet.blueprint()).unwrap();
            let outcome = drive(&unet, &plan, &request);
            assert_forecast(&plan, &unet.blueprint(), request.rows, &outcome.account);
        }
    }

    /// A batch of evaluations is forecast evaluation by evaluation.
    #[test]
    fn batched_forecasts_are_sequential_ones(
        predictor in predictors(),
        interval in 1..6_usize,
        cap in 2..7_usize,
        halves in 1..3_usize,
    ) {
        let (unet, dit) = (ToyUnet::new(3), ToyDit::new(6));
        let request = Request::new(16, halves, 2);
        let refresh = Refresh::every(interval);
        let propagation = CacheRule::encoder_propagation(refresh.clone()).with_forecast(predictor);
        let blocks = CacheRule::dit_propagation(4, refresh).with_forecast(predictor);
        let expected = run_unet(&unet, &propagation, &request);
        let found = run_unet(&unet, &propagation.with_parallel(cap), &request);
        prop_assert_eq!(found.predictions, expected.predictions);
        prop_assert_eq!(found.latents, expected.latents);
        let expected = run_dit(&dit, &blocks, &request);
        let found = run_dit(&dit, &blocks.with_parallel(cap), &request);
        prop_assert_eq!(found.predictions, expected.predictions);
    }
}

#[test]
fn an_order_beyond_the_refreshes_is_refused() {
    let unet = ToyUnet::new(3);
    let plan = |rule: &str| {
        let rule: CacheRule = rule.parse().unwrap();
        rule.plan(&Course::steps(6), &unet.blueprint())
    };
    let error = plan("deepcache:interval=3,forecast=taylor:2").unwrap_err();
    assert!(error.is_plan());
    assert_eq!(
        error.to_string(),
        "`forecast=taylor:2` needs 3 refreshes, and the run has 2\nhint: use a lower order or a smaller interval"
    );
    assert!(plan("deepcache:interval=2,forecast=taylor:2").is_ok());
    let lonely = plan("deepcache:interval=6,forecast=linear").unwrap();
    let said: Vec<String> = lonely.warnings.iter().map(ToString::to_string).collect();
    let expected =
        "the run refreshes once: there is nothing to forecast from, and what is stored is held";
    assert_eq!(said.last().map(String::as_str), Some(expected));
}
