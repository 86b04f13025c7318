//! Any trunk behind one type, so that one pipeline holds whatever a model has.

use std::any::Any;
use std::fmt::{self, Debug};
use std::ops::Range;

use burn::tensor::Tensor;

use super::{Carry, Evaluation, StagedDenoiser};
use crate::conditioning::Conditioning;
use crate::recall::Recall;
use crate::weights::BlockReader;

/// [`StagedDenoiser`] with its types erased: every trunk is one, and `dyn Denoiser` is a [`StagedDenoiser`] again, so sessions and
/// executors run it like any other.
pub trait Denoiser: Debug + Any + Send + Sync {
    /// [`StagedDenoiser::cells`].
    fn cell_count(&self) -> usize;

    /// [`StagedDenoiser::start`].
    fn start_any(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> AnyRun;

    /// [`StagedDenoiser::prepare`].
    fn prepare_any(&self, run: &AnyRun, evaluations: &[Evaluation]) -> AnyPrepared;

    /// [`StagedDenoiser::embedding`].
    fn embedding_any<'p>(&self, prepared: &'p mut AnyPrepared) -> Option<&'p mut Tensor<2>>;

    /// [`StagedDenoiser::select`].
    fn select_any(&self, run: &AnyRun, rows: Range<usize>) -> AnyRun;

    /// [`StagedDenoiser::enter`].
    fn enter_any(&self, sample: Tensor<4>, prepared: &AnyPrepared) -> AnyCarry;

    /// [`StagedDenoiser::advance`].
    fn advance_any(
        &self,
        carry: AnyCarry,
        cells: Range<usize>,
        prepared: &AnyPrepared,
        recall: &mut Recall<'_>,
    ) -> AnyCarry;

    /// [`StagedDenoiser::reader`].
    fn reader_any(&self) -> Option<&BlockReader>;

    /// [`StagedDenoiser::leave`].
    fn leave_any(&self, carry: AnyCarry, prepared: &AnyPrepared) -> Tensor<4>;
}

/// The run of some trunk.
pub struct AnyRun(Box<dyn Any + Send + Sync>);

/// What some trunk has prepared for a span.
pub struct AnyPrepared(Box<dyn Any + Send + Sync>);

/// What crosses the cell boundaries of some trunk.
pub struct AnyCarry(Box<dyn ErasedCarry>);

/// Said of a value that reaches another trunk than the one that made it.
const FOREIGN: &str = "a trunk reads what it made itself";

impl<D> Denoiser for D
where
    D: StagedDenoiser<Carry: 'static, Run: 'static, Prepared: 'static> + Debug + Send + 'static,
{
    fn cell_count(&self) -> usize {
        self.cells()
    }

    fn start_any(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> AnyRun {
        AnyRun(Box::new(self.start(conditioning, evaluations)))
    }

    fn prepare_any(&self, run: &AnyRun, evaluations: &[Evaluation]) -> AnyPrepared {
        let run = run.0.downcast_ref().expect(FOREIGN);
        AnyPrepared(Box::new(self.prepare(run, evaluations)))
    }

    fn embedding_any<'p>(&self, prepared: &'p mut AnyPrepared) -> Option<&'p mut Tensor<2>> {
        self.embedding(prepared.0.downcast_mut().expect(FOREIGN))
    }

    fn select_any(&self, run: &AnyRun, rows: Range<usize>) -> AnyRun {
        let run = run.0.downcast_ref().expect(FOREIGN);
        AnyRun(Box::new(self.select(run, rows)))
    }

    fn enter_any(&self, sample: Tensor<4>, prepared: &AnyPrepared) -> AnyCarry {
        AnyCarry(Box::new(self.enter(sample, prepared.of::<D>())))
    }

    fn advance_any(
        &self,
        carry: AnyCarry,
        cells: Range<usize>,
        prepared: &AnyPrepared,
        recall: &mut Recall<'_>,
    ) -> AnyCarry {
        let carry = carry.into::<D::Carry>();
        AnyCarry(Box::new(self.advance(
            carry,
            cells,
            prepared.of::<D>(),
            recall,
        )))
    }

    fn reader_any(&self) -> Option<&BlockReader> {
        self.reader()
    }

    fn leave_any(&self, carry: AnyCarry, prepared: &AnyPrepared) -> Tensor<4> {
        self.leave(carry.into::<D::Carry>(), prepared.of::<D>())
    }
}

impl StagedDenoiser for dyn Denoiser {
    type Carry = AnyCarry;
    type Run = AnyRun;
    type Prepared = AnyPrepared;

    fn cells(&self) -> usize {
        self.cell_count()
    }

    fn start(&self, conditioning: &Conditioning, evaluations: &[Evaluation]) -> AnyRun {
        self.start_any(conditioning, evaluations)
    }

    fn prepare(&self, run: &AnyRun, evaluations: &[Evaluation]) -> AnyPrepared {
        self.prepare_any(run, evaluations)
    }

    fn embedding<'p>(&self, prepared: &'p mut AnyPrepared) -> Option<&'p mut Tensor<2>> {
        self.embedding_any(prepared)
    }

    fn select(&self, run: &AnyRun, rows: Range<usize>) -> AnyRun {
        self.select_any(run, rows)
    }

    fn enter(&self, sample: Tensor<4>, prepared: &AnyPrepared) -> AnyCarry {
        self.enter_any(sample, prepared)
    }

    fn advance(
        &self,
        carry: AnyCarry,
        cells: Range<usize>,
        prepared: &AnyPrepared,
        recall: &mut Recall<'_>,
    ) -> AnyCarry {
        self.advance_any(carry, cells, prepared, recall)
    }

    fn reader(&self) -> Option<&BlockReader> {
        self.reader_any()
    }

    fn leave(&self, carry: AnyCarry, prepared: &AnyPrepared) -> Tensor<4> {
        self.leave_any(carry, prepared)
    }
}

impl AnyPrepared {
    fn of<D: StagedDenoiser<Prepared: 'static>>(&self) -> &D::Prepared {
        self.0.downcast_ref().expect(FOREIGN)
    }
}

impl AnyCarry {
    fn into<C: Carry + 'static>(self) -> C {
        *self.0.into_any().downcast().expect(FOREIGN)
    }
}

impl Clone for AnyCarry {
    fn clone(&self) -> Self {
        Self(self.0.cloned())
    }
}

impl Carry for AnyCarry {
    fn graft_deep(&mut self, from: &Self) {
        self.0.grafted(from.0.as_any());
    }

    fn without_skips(self) -> Self {
        Self(self.0.skipless())
    }

    fn mix(parts: &[(&Self, f64)]) -> Self {
        let erased = parts
            .iter()
            .map(|(part, weight)| (part.0.as_any(), *weight));
        let erased: Vec<(&dyn Any, f64)> = erased.collect();
        let (first, _) = parts.first().expect("a carry to mix");
        Self(first.0.mixed(&erased))
    }

    fn join(steps: Vec<Self>) -> Self {
        let mut steps = steps.into_iter();
        let Self(first) = steps.next().expect("a carry to join");
        Self(first.joined(steps.map(|step| step.0).collect()))
    }

    fn magnitude(&self) -> Tensor<1> {
        self.0.measured()
    }

    fn bytes(&self) -> usize {
        self.0.size()
    }
}

/// [`Carry`] as an object.
trait ErasedCarry: Send + Sync {
    fn cloned(&self) -> Box<dyn ErasedCarry>;
    fn grafted(&mut self, from: &dyn Any);
    fn skipless(self: Box<Self>) -> Box<dyn ErasedCarry>;
    fn mixed(&self, parts: &[(&dyn Any, f64)]) -> Box<dyn ErasedCarry>;
    fn joined(self: Box<Self>, others: Vec<Box<dyn ErasedCarry>>) -> Box<dyn ErasedCarry>;
    fn measured(&self) -> Tensor<1>;
    fn size(&self) -> usize;
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<C: Carry + 'static> ErasedCarry for C {
    fn cloned(&self) -> Box<dyn ErasedCarry> {
        Box::new(self.clone())
    }

    fn grafted(&mut self, from: &dyn Any) {
        self.graft_deep(from.downcast_ref().expect(FOREIGN));
    }

    fn skipless(self: Box<Self>) -> Box<dyn ErasedCarry> {
        Box::new(self.without_skips())
    }

    fn mixed(&self, parts: &[(&dyn Any, f64)]) -> Box<dyn ErasedCarry> {
        let own = parts.iter().map(|&(part, weight)| {
            let part: &C = part.downcast_ref().expect(FOREIGN);
            (part, weight)
        });
        let parts: Vec<(&C, f64)> = own.collect();
        Box::new(C::mix(&parts))
    }

    fn joined(self: Box<Self>, others: Vec<Box<dyn ErasedCarry>>) -> Box<dyn ErasedCarry> {
        let own =
            |other: Box<dyn ErasedCarry>| -> C { *other.into_any().downcast().expect(FOREIGN) };
        let steps = [*self].into_iter().chain(others.into_iter().map(own));
        Box::new(C::join(steps.collect()))
    }

    fn measured(&self) -> Tensor<1> {
        self.magnitude()
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Debug for AnyRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AnyRun")
    }
}

impl Debug for AnyPrepared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AnyPrepared")
    }
}

impl Debug for AnyCarry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.size();
        formatter
            .debug_struct("AnyCarry")
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}
