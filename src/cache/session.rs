//! The interpreter: runs the spans of a plan, or of a decider, on any trunk.
//!
//! Sessions belong to one run (under two-pass guidance, to one half of it) and die with it; no state outlives them.

use std::cell::OnceCell;
use std::ops::Range;

use burn::tensor::Tensor;

use super::{
    account::Account,
    branches::BranchStore,
    changing::Changing,
    decider::Decider,
    graphs::StepGraphs,
    plan::CachePlan,
    probe::Probe,
    rule::OpenSkips,
    spans::{Before, Span, Spans},
    step::{Entry, Line, Outcome},
    store::{Expected, Store, signature},
    verify::Verifier,
    whole::Predicted,
};
use crate::denoiser::{Carry, Evaluation, Rows, StagedDenoiser};
use crate::error::Error;
use crate::recall::Recall;
use crate::weights::BlockReader;

/// Executes the spans of one run in order.
#[derive(Debug)]
pub struct Session<'a, D: StagedDenoiser + ?Sized> {
    line: Line<'a, D>,
    spans: Box<dyn Spans + 'a>,
    run: &'a D::Run,
    /// What goes on in place of `run`: that of one guidance half.
    half: Option<D::Run>,
    rows: Rows,
    /// The second guidance half, where each is computed by itself.
    second: Option<Box<Self>>,
    store: Store<D::Carry>,
    /// Whole predictions, where those are stored.
    outputs: Option<Store<Predicted>>,
    /// What decides in the middle of evaluations, if anything does.
    probe: Option<Probe<D::Carry>>,
    /// What holds forecasts against refreshes, if anything does.
    verifier: Option<Verifier>,
    branches: BranchStore,
    graphs: Option<StepGraphs<'a, D>>,
    account: Account,
    last_refreshed: bool,
}

impl<'a, D: StagedDenoiser + ?Sized> Session<'a, D> {
    /// Begins a run of `plan` with an empty store.
    pub fn new(denoiser: &'a D, run: &'a D::Run, plan: &'a CachePlan, rows: Rows) -> Self {
        Self {
            line: Line { denoiser, plan },
            spans: match plan.decider {
                Some(Decider::EasyCache { threshold }) => Box::new(Changing::new(plan, threshold)),
                _ => Box::new(plan),
            },
            run,
            half: None,
            rows,
            second: None,
            store: Store::new(plan.predictor, plan.verify.is_some()),
            outputs: (plan.whole()).then(|| Store::new(plan.predictor, plan.verify.is_some())),
            probe: Probe::of(plan),
            verifier: Verifier::of(plan),
            branches: BranchStore::default(),
            graphs: None,
            account: Account::of(plan.cells),
            last_refreshed: false,
        }
    }

    /// Takes the spans from `spans` in place of the plan, whose cut stays: when the line is computed in full is decided in the run, and
    /// nothing is verified.
    #[must_use]
    pub fn decided_by(mut self, spans: impl Spans + 'a) -> Self {
        self.spans = Box::new(spans);
        self.verifier = None;
        self
    }

    /// Computes both halves of guidance one after the other, each with what is stored and decided of its own; nothing changes without
    /// guidance. A source of spans that takes the plan's place comes after, and is the first half's.
    #[must_use]
    pub fn apart(self) -> Self {
        if self.rows.halves == 1 {
            return self;
        }
        let (Line { denoiser, plan }, size) = (self.line, self.rows.half());
        let of = |rows| {
            let mut half = Session::new(denoiser, self.run, plan, self.rows);
            half.half = Some(denoiser.select(self.run, rows));
            half.rows.halves = 1;
            half
        };
        let second = Some(Box::new(of(size..2 * size)));
        Self {
            second,
            ..of(0..size)
        }
    }

    /// Records what the device launches in a step, and plays it at later steps of the same kind: fewer orders to the device for the same
    /// predictions. It costs memory (what a step works on stays) and the time of some steps, so it is for long runs; nothing changes on
    /// devices that record nothing (the CPU), for batched spans, forecasts, reuse inside cells and `ControlNet`s. While a step is recorded, other
    /// work of the process on the device may be refused.
    #[must_use]
    pub fn with_step_graphs(mut self) -> Self {
        self.graphs = StepGraphs::of(self.line);
        if let Some(second) = &mut self.second {
            second.graphs = StepGraphs::of(self.line);
        }
        self
    }

    /// Goes on with the rows of one guidance half, `conditioned`. What is stored of the line no longer fits, so the next span
    /// refreshes; kept outputs of branches become the mean of both halves.
    pub fn end_guidance(&mut self, conditioned: Range<usize>) {
        if let Some(second) = self.second.take() {
            if conditioned.start > 0 {
                let first = std::mem::replace(self, *second);
                self.account = first.account.beside(&self.account);
            }
            return;
        }
        if self.rows.halves == 1 {
            return;
        }
        self.half = Some(self.line.denoiser.select(self.run(), conditioned));
        self.rows.halves = 1;
        self.void();
        self.branches.merge_halves();
        if let Some(graphs) = &mut self.graphs {
            graphs.clear();
        }
    }

    /// What was computed so far; of halves that are computed apart, by either of them.
    pub fn account(&self) -> Account {
        let own = self.own_account();
        match &self.second {
            Some(second) => own.beside(&second.own_account()),
            None => own,
        }
    }

    fn own_account(&self) -> Account {
        let verifier = self.verifier.as_ref();
        Account {
            verified: verifier.map_or_else(Vec::new, |verifier| verifier.found.clone()),
            added: verifier.map_or(0, |verifier| verifier.added),
            branches_reused: self.branches.reused,
            played: self.graphs.as_ref().map_or(0, |graphs| graphs.played),
            store_bytes: self.store.bytes
                + self.outputs.as_ref().map_or(0, |outputs| outputs.bytes)
                + self.branches.bytes
                + self.probe.as_ref().map_or(0, |probe| probe.bytes),
            ..self.account.clone()
        }
    }

    /// Whether the last span ran every cell for its first evaluation.
    pub fn refreshed(&self) -> bool {
        self.last_refreshed
    }

    /// Whether all blocks could be read, where they are read as they are needed: else what was predicted is worth nothing.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.line
            .denoiser
            .reader()
            .map_or(Ok(()), BlockReader::check)
    }

    /// The span that comes next.
    ///
    /// # Panics
    ///
    /// If a decider names one that begins elsewhere, is empty, or goes beyond the end of the run.
    pub fn next_span(&mut self, before: &Before<'_>) -> Span {
        let span = match &mut self.verifier {
            Some(verifier) => verifier.next(self.line.plan, before),
            None => self.spans.next(before),
        };
        let fits = span.first == before.evaluation && span.len > 0;
        assert!(fits && span.range().end <= before.total, "{span:?}");
        if let Some(second) = &mut self.second {
            // Spans depend on the plan and on what both halves have made together.
            second.next_span(before);
        }
        span
    }

    /// The predictions of one span, `[rows, channels, height, width]` for each of its evaluations.
    ///
    /// `evaluations` are those of the span. `input` gives the scaled and expanded latents at the first of them; it is called only if
    /// the span reads the latents, which spans that reuse held skips do not.
    ///
    /// # Panics
    ///
    /// If `evaluations` are not as many as the span has.
    pub fn predict(
        &mut self,
        span: &Span,
        evaluations: &[Evaluation],
        input: impl FnOnce() -> Tensor<4>,
    ) -> Vec<Tensor<4>> {
        assert_eq!(evaluations.len(), span.len, "evaluations of {span:?}");
        match self.second.take() {
            None => self.predict_rows(span, evaluations, input),
            Some(mut second) => {
                let made = self.predict_halves(&mut second, span, evaluations, input);
                self.second = Some(second);
                made
            }
        }
    }

    /// Of both halves, one after the other; rows of an evaluation stand in the order of the halves.
    fn predict_halves(
        &mut self,
        second: &mut Self,
        span: &Span,
        evaluations: &[Evaluation],
        input: impl FnOnce() -> Tensor<4>,
    ) -> Vec<Tensor<4>> {
        let sample = OnceCell::new();
        let mut input = Some(input);
        let rows = self.rows.total();
        let mut half = |first: usize| {
            let whole: &Tensor<4> = sample.get_or_init(|| {
                let input = input.take().expect("it is asked for once");
                input()
            });
            whole.clone().narrow(0, first, rows)
        };
        let first = self.predict_rows(span, evaluations, || half(0));
        let second = second.predict_rows(span, evaluations, || half(rows));
        let pairs = first.into_iter().zip(second);
        pairs
            .map(|(first, second)| Tensor::cat(vec![first, second], 0))
            .collect()
    }

    fn predict_rows(
        &mut self,
        span: &Span,
        evaluations: &[Evaluation],
        input: impl FnOnce() -> Tensor<4>,
    ) -> Vec<Tensor<4>> {
        if self.line.plan.changes.contains(&span.first) {
            self.void();
        }
        if let Some(mut probe) = self.probe.take() {
            let prediction = self.probed(&mut probe, span, evaluations, input());
            self.probe = Some(probe);
            return vec![prediction];
        }
        if let Some(mut outputs) = self.outputs.take() {
            let predictions = self.whole(&mut outputs, span, evaluations, input);
            self.outputs = Some(outputs);
            return split(predictions.0, span.len);
        }
        let entry = self.enter(span, input);
        let cells = self.line.cells(&entry);
        self.last_refreshed = entry.refreshes();
        self.account.note(span, entry.refreshes(), cells);
        let refreshed = entry.refreshed().map(signature);
        if let Some(sample) = refreshed {
            self.store.admit(sample);
        }
        let outcome = match self.play(&entry, evaluations) {
            Some(outcome) => outcome,
            None => self.compute(span, entry, evaluations),
        };
        if let Some(sample) = refreshed {
            let expected = self
                .verifier
                .is_some()
                .then(|| self.store.expected(span.first));
            self.verify(span, outcome.kept.as_ref(), expected.flatten());
            let kept = outcome.kept.filter(|_| span.keep > 0);
            self.store.fill(span, kept, sample, outcome.played);
        }
        split(outcome.prediction, span.len)
    }

    /// Holds what was expected of a refresh against what it computed.
    fn verify<C: Carry>(
        &mut self,
        span: &Span,
        computed: Option<&C>,
        expected: Option<Expected<C>>,
    ) {
        if let Some(verifier) = &mut self.verifier {
            verifier.refreshed(span.first, computed, expected);
        }
    }

    /// Whole predictions of a span, from the store where there are some, without reading the latents.
    fn whole(
        &mut self,
        outputs: &mut Store<Predicted>,
        span: &Span,
        evaluations: &[Evaluation],
        input: impl FnOnce() -> Tensor<4>,
    ) -> Predicted {
        let read = outputs.read(span);
        self.last_refreshed = read.is_none();
        let cells = self.line.plan.runs(read.is_none());
        self.account.note(span, read.is_none(), cells);
        if let Some(read) = read {
            return read.carry;
        }
        let sample = input();
        let made_from = signature(&sample);
        outputs.admit(made_from);
        let prepared = self.prepare(&evaluations[..1]);
        let computed = Predicted(self.line.denoiser.forward(sample, &prepared));
        let expected = self
            .verifier
            .is_some()
            .then(|| outputs.expected(span.first));
        self.verify(span, Some(&computed), expected.flatten());
        let all = outputs.ahead(computed.clone(), span);
        let kept = (span.keep > 0).then_some(computed);
        outputs.fill(span, kept, made_from, false);
        all
    }

    /// The prediction of an evaluation in whose middle `probe` decides.
    fn probed(
        &mut self,
        probe: &mut Probe<D::Carry>,
        span: &Span,
        evaluations: &[Evaluation],
        sample: Tensor<4>,
    ) -> Tensor<4> {
        probe.admit(signature(&sample));
        let prepared = self.prepare(evaluations);
        let (prediction, refresh) = self.line.probed(sample, &prepared, span, probe);
        let decided = Span { refresh, ..*span };
        let cells = self.line.plan.runs(refresh);
        self.last_refreshed = refresh;
        self.account.note(&decided, refresh, cells);
        prediction
    }

    /// Forgets what was made under other conditions, or for other rows.
    fn void(&mut self) {
        self.store.void();
        if let Some(outputs) = &mut self.outputs {
            outputs.void();
        }
        if let Some(probe) = &mut self.probe {
            probe.void();
        }
    }

    /// Where the span comes in: at the store if there is one that fits, else at the latents.
    fn enter(&mut self, span: &Span, input: impl FnOnce() -> Tensor<4>) -> Entry<D::Carry> {
        match self.store.read(span) {
            Some(read) if self.line.plan.skips == OpenSkips::Hold => Entry::Stored(read.carry),
            read => {
                let sample = input();
                match read.filter(|read| read.fits(&sample)) {
                    Some(read) => Entry::Around(read.carry, sample),
                    None => Entry::Latents(sample),
                }
            }
        }
    }

    /// A recording of a single evaluation, if there is one.
    fn play(
        &mut self,
        entry: &Entry<D::Carry>,
        evaluations: &[Evaluation],
    ) -> Option<Outcome<D::Carry>> {
        if evaluations.len() > 1 {
            return None;
        }
        let mut graphs = self.graphs.take()?;
        let prepare = || self.prepare(evaluations);
        let outcome = graphs.step(self.line, entry, prepare, self.store.in_place);
        self.graphs = Some(graphs);
        outcome
    }

    /// A refresh computes everything up to the cut for the first evaluation, whose embeddings are its own, not those of the span; from
    /// there on all evaluations go together.
    fn compute(
        &mut self,
        span: &Span,
        entry: Entry<D::Carry>,
        evaluations: &[Evaluation],
    ) -> Outcome<D::Carry> {
        let first = self.prepare(&evaluations[..1]);
        let all = (span.len > 1).then(|| self.prepare(evaluations));
        let prepared = [&first, all.as_ref().unwrap_or(&first)];
        let mut memory = self.branches.at(&self.line.plan.branches, span.first);
        let mut recall = Recall::with(&mut memory);
        let ahead = |carry| self.store.ahead(carry, span);
        self.line.step(entry, prepared, span, ahead, &mut recall)
    }

    /// The prediction of one evaluation for some of its rows, `[rows, channels, height, width]`, by the line without the cells that it
    /// `skips`. Nothing is stored and nothing reused.
    pub fn without_cells(
        &self,
        skips: impl Fn(usize) -> bool,
        rows: Range<usize>,
        evaluation: Evaluation,
        sample: Tensor<4>,
    ) -> Tensor<4> {
        let denoiser = self.line.denoiser;
        let run = denoiser.select(self.run, rows);
        let prepared = denoiser.prepare(&run, &[evaluation]);
        let entered = denoiser.enter(sample, &prepared);
        let left = (0..denoiser.cells()).filter(|&cell| !skips(cell));
        let carry = left.fold(entered, |carry, cell| {
            denoiser.advance(carry, cell..cell + 1, &prepared, &mut Recall::none())
        });
        denoiser.leave(carry, &prepared)
    }

    fn prepare(&self, evaluations: &[Evaluation]) -> D::Prepared {
        self.line.denoiser.prepare(self.run(), evaluations)
    }

    fn run(&self) -> &D::Run {
        self.half.as_ref().unwrap_or(self.run)
    }
}

/// One tensor for each evaluation; rows are step-major.
fn split(predictions: Tensor<4>, evaluations: usize) -> Vec<Tensor<4>> {
    match evaluations {
        1 => vec![predictions],
        _ => predictions.chunk(evaluations, 0),
    }
}
