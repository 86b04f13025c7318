//! Laws that every trunk keeps, whatever it denoises (docs/methods.md).

use afterimage::cache::{CachePlan, CacheRule, Course, Refresh, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoiser::{Blueprint, Evaluation, Rows, StagedDenoiser};
use afterimage::recall::{BranchMemory, Recall, Site};
use burn::tensor::Tensor;

use crate::fixture::{Reference, values};
use crate::tolerance::F32_CPU;

/// A trunk, what it is given, and what its configuration says of that.
pub(crate) struct Subject<'a, D: StagedDenoiser> {
    pub(crate) trunk: &'a D,
    pub(crate) condition: &'a Conditioning,
    pub(crate) rows: Rows,
    pub(crate) sample: &'a dyn Fn(u64) -> Tensor<4>,
    pub(crate) blueprint: &'a Blueprint,
}

fn evaluation(index: usize, timestep: f64) -> Evaluation {
    Evaluation { index, timestep }
}

impl<D: StagedDenoiser> Subject<'_, D> {
    fn plan(&self, rule: &CacheRule, evaluations: usize) -> CachePlan {
        rule.plan(&Course::steps(evaluations), self.blueprint)
            .unwrap()
    }

    pub(crate) fn a_pass_can_pause_at_every_cut(&self) {
        let trunk = self.trunk;
        let evaluations = [evaluation(0, 501.0)];
        let prepared = trunk.prepare(&trunk.start(self.condition, &evaluations), &evaluations);
        let cells = trunk.cells();
        assert_eq!(cells, self.blueprint.cells.len());
        let whole = values(trunk.forward((self.sample)(1), &prepared));
        assert!(whole.iter().all(|value| value.is_finite()));
        for cut in 0..=cells {
            let carry = trunk.enter((self.sample)(1), &prepared);
            let carry = trunk.advance(carry, 0..cut, &prepared, &mut Recall::none());
            let rest = |carry| {
                let carry = trunk.advance(carry, cut..cells, &prepared, &mut Recall::none());
                values(trunk.leave(carry, &prepared))
            };
            assert_eq!(rest(carry.clone()), whole, "cut {cut}");
            assert_eq!(rest(carry), whole, "cut {cut}, resumed a second time");
        }
    }

    pub(crate) fn reuse_at_the_same_sample_and_time_changes_nothing(&self) {
        let evaluations = [0, 1, 2].map(|index| evaluation(index, 501.0));
        let run = self.trunk.start(self.condition, &evaluations);
        for skip in 0..self.blueprint.skips() {
            let rule = CacheRule::deepcache_skip(skip, Refresh::At(vec![0]));
            let plan = self.plan(&rule, 3);
            let mut session = Session::new(self.trunk, &run, &plan, self.rows);
            let mut predict = |index: usize, seed: u64| {
                let evaluations = &evaluations[index..=index];
                let sample = || (self.sample)(seed);
                values(
                    session
                        .predict(&plan.spans[index], evaluations, sample)
                        .remove(0),
                )
            };
            let full = predict(0, 1);
            assert_eq!(full, predict(1, 1), "skip {skip}");
            assert_ne!(full, predict(2, 2), "skip {skip}: the sample is not read");
            let account = session.account();
            assert_eq!(
                (account.refreshes, account.reuses, account.fallbacks),
                (1, 2, 0),
                "skip {skip}"
            );
            let forecast = plan.forecast(self.blueprint, self.rows, size_of::<f32>());
            assert_eq!(account.cells, forecast.cells, "skip {skip}");
            assert_eq!(
                account.store_bytes as u64, forecast.store_bytes,
                "skip {skip}"
            );
        }
    }

    pub(crate) fn batched_propagation_is_the_sequential_one(&self, tolerance: f64) {
        let evaluations: Vec<_> = (0..6)
            .map(|index| evaluation(index, 901.0 - 150.0 * index as f64))
            .collect();
        let run = self.trunk.start(self.condition, &evaluations);
        let predictions = |parallel: usize| {
            let rule = CacheRule::encoder_propagation(Refresh::At(vec![0, 1]));
            let plan = self.plan(&rule.with_parallel(parallel), 6);
            let mut session = Session::new(self.trunk, &run, &plan, self.rows);
            let span = |span: &afterimage::cache::Span| {
                let seed = span.first as u64;
                session.predict(span, &evaluations[span.range()], || {
                    assert!(span.refresh, "a reuse step reads the sample");
                    (self.sample)(seed)
                })
            };
            plan.spans.iter().flat_map(span).collect::<Vec<_>>()
        };
        let sequential = predictions(1);
        for parallel in 2..=5 {
            for (index, (one, batched)) in sequential.iter().zip(predictions(parallel)).enumerate()
            {
                Reference::from(one.clone())
                    .compare(batched, tolerance)
                    .unwrap_or_else(|error| {
                        panic!("evaluation {index}, parallel {parallel}: {error}")
                    });
            }
        }
    }

    /// Every branch computed or every branch recalled, the outcome is the same; gives the number of branches.
    pub(crate) fn branches_recalled_change_nothing(&self) -> usize {
        let trunk = self.trunk;
        let evaluations = [evaluation(0, 501.0)];
        let prepared = trunk.prepare(&trunk.start(self.condition, &evaluations), &evaluations);
        let mut kept = Kept::default();
        let plain = values(trunk.forward((self.sample)(1), &prepared));
        for _ in 0..2 {
            let carry = trunk.enter((self.sample)(1), &prepared);
            let mut recall = Recall::with(&mut kept);
            let carry = trunk.advance(carry, 0..trunk.cells(), &prepared, &mut recall);
            assert_eq!(values(trunk.leave(carry, &prepared)), plain);
        }
        assert_eq!(kept.recalled, kept.outputs.len());
        let sites: Vec<Site> = kept.outputs.keys().copied().collect();
        assert_eq!(sites, self.blueprint.sites().collect::<Vec<_>>());
        kept.recalled
    }
}

/// Keeps everything it sees, and recalls everything it has.
#[derive(Default)]
struct Kept {
    outputs: std::collections::BTreeMap<Site, Tensor<3>>,
    recalled: usize,
}

impl BranchMemory for Kept {
    fn recall(&mut self, site: Site) -> Option<Tensor<3>> {
        let output = self.outputs.get(&site).cloned();
        self.recalled += usize::from(output.is_some());
        output
    }

    fn keep(&mut self, site: Site, output: &Tensor<3>) {
        let before = self.outputs.insert(site, output.clone());
        assert!(before.is_none(), "{site:?} is asked for twice");
    }
}

/// What is made once a run (embeddings of all timesteps, keys and values of the condition, encoded hints) is what would be made at every
/// evaluation, whether these are prepared one by one or together.
pub(crate) fn made_once_is_made_at_every_step<D: StagedDenoiser>(
    trunk: &D,
    condition: &Conditioning,
    sample: &Tensor<4>,
) {
    let times = [999.0, 640.5, 333.0, 1.0];
    let evaluations: Vec<_> = (0..4)
        .map(|index| evaluation(index, times[index]))
        .collect();
    let whole = trunk.start(condition, &evaluations);
    let together = trunk.prepare(&whole, &evaluations[1..]);
    let together = trunk.forward(sample.clone().repeat_dim(0, 3), &together);
    for (index, &timestep) in times.iter().enumerate() {
        let alone = [evaluation(0, timestep)];
        let every = trunk.prepare(&trunk.start(condition, &alone), &alone);
        let every = Reference::from(trunk.forward(sample.clone(), &every));
        let once = trunk.prepare(&whole, &evaluations[index..=index]);
        let once = trunk.forward(sample.clone(), &once);
        let difference = every.compare(once, F32_CPU);
        let difference = difference.unwrap_or_else(|error| panic!("at {timestep}: {error}"));
        eprintln!("at {timestep}: {difference:.1e}");
        let rows = sample.dims()[0];
        if let Some(place) = index.checked_sub(1) {
            let batched = together.clone().narrow(0, place * rows, rows);
            let outcome = every.compare(batched, F32_CPU);
            outcome.unwrap_or_else(|error| panic!("at {timestep}, batched: {error}"));
        }
    }
}
