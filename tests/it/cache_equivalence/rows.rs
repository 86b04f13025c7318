//! Rows of a batch: step, half and item stay together, and so do a span and its evaluations.

use std::ops::Range;

use afterimage::conditioning::Conditioning;
use afterimage::{
    cache::{CachePlan, CacheRule, Course, Refresh, Session, Span},
    denoiser::{
        Blueprint, Carry, Cell, Denoiser, Evaluation, Rows, StagedDenoiser, join_rows,
        mean_magnitude, weighted_sum,
    },
    recall::Recall,
};
use burn::tensor::Tensor;
use proptest::prelude::*;

use crate::toy_trunk::{Request, tensor, values};

/// Answers `[half, item, condition, timestep]` for each row: the first two travel with the stored tensor, the others are prepared.
#[derive(Debug)]
struct Coder;

#[derive(Clone)]
struct Codes {
    hidden: Tensor<4>,
}

impl Carry for Codes {
    fn graft_deep(&mut self, from: &Self) {
        self.hidden = from.hidden.clone();
    }

    fn without_skips(self) -> Self {
        self
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        Self {
            hidden: weighted_sum(parts, |part| &part.hidden),
        }
    }

    fn join(steps: Vec<Self>) -> Self {
        Self {
            hidden: join_rows(&steps, |step| &step.hidden),
        }
    }

    fn magnitude(&self) -> Tensor<1> {
        mean_magnitude(&self.hidden)
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl StagedDenoiser for Coder {
    type Carry = Codes;
    type Run = Vec<f32>;
    type Prepared = Tensor<4>;

    fn cells(&self) -> usize {
        2
    }

    fn start(&self, conditioning: &Conditioning, _evaluations: &[Evaluation]) -> Vec<f32> {
        values(conditioning.states())
    }

    fn prepare(&self, run: &Vec<f32>, evaluations: &[Evaluation]) -> Tensor<4> {
        let rows = evaluations.iter().flat_map(|evaluation| {
            let timestep = evaluation.timestep as f32;
            run.iter().flat_map(move |&condition| [condition, timestep])
        });
        tensor(rows.collect(), [run.len() * evaluations.len(), 2, 1, 1])
    }

    fn select(&self, run: &Vec<f32>, rows: Range<usize>) -> Vec<f32> {
        run[rows].to_vec()
    }

    fn enter(&self, sample: Tensor<4>, _prepared: &Self::Prepared) -> Codes {
        Codes { hidden: sample }
    }

    fn advance(
        &self,
        mut carry: Codes,
        cells: Range<usize>,
        prepared: &Tensor<4>,
        _recall: &mut Recall<'_>,
    ) -> Codes {
        if cells.contains(&1) {
            carry.hidden = Tensor::cat(vec![carry.hidden, prepared.clone()], 1);
        }
        carry
    }

    fn leave(&self, carry: Codes, _prepared: &Self::Prepared) -> Tensor<4> {
        carry.hidden
    }
}

fn coder_plan(steps: usize, interval: usize, cap: usize) -> CachePlan {
    let cell = Cell {
        name: String::new(),
        macs: 1,
        hidden: 2,
        pushes: 0,
        pops: false,
        ..Cell::default()
    };
    let trunk = Blueprint {
        cells: vec![cell.clone(), cell],
        prepare_macs: 0,
        leave_macs: 0,
        prediction: 1,
    };
    let rule = CacheRule::dit_propagation(1, Refresh::every(interval)).with_parallel(cap);
    rule.plan(&Course::steps(steps), &trunk).unwrap()
}

/// `[half, item]` for each row.
fn row_codes(rows: Rows) -> Vec<[f32; 2]> {
    let halves = (0..rows.halves).map(|half| half as f32);
    halves
        .flat_map(|half| (0..rows.items).map(move |item| [half, item as f32]))
        .collect()
}

proptest! {
    /// Step, half and item of every row belong together. Half-major rows would fail it.
    #[test]
    fn rows_never_mix(
        halves in 1..4_usize,
        items in 1..4_usize,
        steps in 1..12_usize,
        interval in 1..8_usize,
        cap in 1..8_usize,
    ) {
        let rows = Rows::new(halves, items);
        let plan = coder_plan(steps, interval, cap);
        let conditions: Vec<f32> = row_codes(rows).iter().map(|[half, item]| 10.0 * half + item).collect();
        let evaluations = Request::new(steps, halves, items).evaluations();
        let mut session = Session::new(&Coder, &conditions, &plan, rows);
        let sample = tensor(row_codes(rows).concat(), [rows.total(), 2, 1, 1]);
        for span in &plan.spans {
            let span_evaluations = &evaluations[span.range()];
            let made = session.predict(span, span_evaluations, || sample.clone());
            prop_assert_eq!(made.len(), span.len);
            for (evaluation, prediction) in span_evaluations.iter().zip(made) {
                let expected: Vec<f32> = row_codes(rows)
                    .iter()
                    .flat_map(|&[half, item]| [half, item, 10.0 * half + item, evaluation.timestep as f32])
                    .collect();
                prop_assert_eq!(values(&prediction), expected);
            }
        }
    }
}

#[test]
#[should_panic(expected = "evaluations of Span")]
fn a_span_wants_its_own_evaluations() {
    let plan = coder_plan(4, 2, 1);
    let conditions = vec![0.0];
    let rows = Rows::new(1, 1);
    let mut session = Session::new(&Coder, &conditions, &plan, rows);
    let span = Span {
        first: 0,
        len: 1,
        refresh: true,
        keep: 0,
    };
    session.predict(&span, &[], || unreachable!("asked for the latents"));
}

/// A trunk whose types are erased is the trunk itself, whatever the plan reuses.
#[test]
fn erased_trunks_predict_the_same() {
    let (trunk, rows) = (Coder, Rows::new(2, 3));
    let erased: &dyn Denoiser = &trunk;
    let plan = coder_plan(6, 3, 2);
    let conditioning = Conditioning {
        rows,
        ..Conditioning::of_context(tensor(vec![0.5; 6], [6, 1, 1]))
    };
    let evaluations: Vec<_> = (0..plan.evaluations())
        .map(|index| Evaluation {
            index,
            timestep: 900.0 - index as f64,
        })
        .collect();
    let own = trunk.start(&conditioning, &evaluations);
    let other = erased.start(&conditioning, &evaluations);
    let mut plain = Session::new(&trunk, &own, &plan, rows);
    let mut through = Session::new(erased, &other, &plan, rows);
    for span in &plan.spans {
        let evaluations = &evaluations[span.range()];
        let sample = || tensor(vec![0.25; 6], [6, 1, 1, 1]);
        let plain = plain.predict(span, evaluations, sample);
        let through = through.predict(span, evaluations, sample);
        for (plain, through) in plain.into_iter().zip(through) {
            assert_eq!(plain.into_data(), through.into_data());
        }
    }
    assert_eq!(plain.account(), through.account());
    assert!(plain.account().reuses > 0);
}
