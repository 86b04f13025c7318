//! Rows of a batch: step, half and item stay together, and so do a span and its evaluations.

use std::ops::Range;

use afterimage::{
    cache::{CachePlan, CacheRule, Course, Refresh, Session, Span},
    denoiser::{Blueprint, Carry, Cell, Evaluation, Rows, StagedDenoiser},
    recall::Recall,
};
use burn::tensor::Tensor;
use proptest::prelude::*;

use crate::toy_trunk::{Request, tensor, values};

/// Answers `[half, item, condition, timestep]` for each row: the first two travel with the stored tensor, the others are prepared.
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

    fn repeat(&self, steps: usize) -> Self {
        Self {
            hidden: self.hidden.clone().repeat_dim(0, steps),
        }
    }

    fn bytes(&self) -> usize {
        0
    }
}

impl StagedDenoiser for Coder {
    type Carry = Codes;
    type Condition = Tensor<3>;
    type Run = Vec<f32>;
    type Prepared = Tensor<4>;

    fn cells(&self) -> usize {
        2
    }

    fn start(&self, condition: &Tensor<3>, _evaluations: &[Evaluation]) -> Vec<f32> {
        values(condition)
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
        let rows = Rows { halves, items };
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
    let rows = Rows {
        halves: 1,
        items: 1,
    };
    let mut session = Session::new(&Coder, &conditions, &plan, rows);
    let span = Span {
        first: 0,
        len: 1,
        refresh: true,
        read_after: false,
    };
    session.predict(&span, &[], || unreachable!("asked for the latents"));
}
