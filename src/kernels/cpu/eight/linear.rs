//! Products of tokens: a tile of tokens and outputs at a time. Lanes are outputs.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read through pointers whose lengths are checked \
              once a task; tasks write parts of the output that do not overlap"
)]

use rayon::prelude::*;

use super::{
    instruction::{Instruction, QUAD},
    kept::{Integer, Outlier},
    rows::Rows,
    weight::{PANEL, Sizes, Weight},
};
use crate::kernels::cpu::{
    executed::{Operands, count},
    half::Element,
    product::{Output, Task, tasks},
    simd::{Unwritten, written},
};

/// Outputs of a tile, at most.
const WIDEST: usize = 2 * PANEL;

/// A linear layer whose products are in 8 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a, T> {
    /// `[tokens, inputs]`
    pub(super) input: &'a [T],
    pub(super) weight: Weight<'a>,
    /// Of every output.
    pub(super) bias: Option<&'a [f32]>,
}

impl<T: Element> Layer<'_, T> {
    pub(super) fn tokens(&self) -> usize {
        self.input.len() / self.weight.sizes.inputs
    }

    /// What it gives of its tokens, `rows`, by a `compute` for one instruction that leaves `columns` of a token: `[tokens, columns]`.
    pub(super) fn by<V: Integer>(
        self,
        rows: Rows<V>,
        columns: usize,
        compute: impl Fn(&Job<'_, V, T>, &Task) + Sync,
    ) -> Vec<T> {
        let tokens = self.tokens();
        let Sizes {
            inputs, outputs, ..
        } = self.weight.sizes;
        count(Operands::I8, tokens * inputs * outputs);
        let write = |output: &mut Unwritten<T>| {
            let job = Job {
                rows,
                layer: self,
                output: Output::new(output),
            };
            let tasks = tasks(1, [tokens, inputs * outputs / columns.max(1), columns]);
            let tasks = tasks.par_iter().with_max_len(1);
            tasks.for_each(|task| compute(&job, task));
        };
        // SAFETY: the tasks divide it without a gap.
        unsafe { written(tokens * columns, write) }
    }
}

/// A layer, its tokens in 8 bits, and where it goes.
pub(super) struct Job<'a, V: Integer, T> {
    pub(super) rows: Rows<V>,
    pub(super) layer: Layer<'a, T>,
    pub(super) output: Output<T>,
}

/// Outputs as a tile has them, padded: the layer's weights, the sums of integers, scales and biases.
pub(super) struct Outputs<'a, const N: usize> {
    pub(super) first: usize,
    /// Those that the layer has.
    some: usize,
    weights: [&'a [u8]; N],
    offsets: [&'a [f32]; N],
    scales: [f32; WIDEST],
    biases: [f32; WIDEST],
}

impl<'a> Outputs<'a, 2> {
    /// A vector of `lanes` outputs, and the one that comes half of all outputs later.
    #[inline(always)]
    pub(super) fn halves<T>(layer: &Layer<'a, T>, first: usize, lanes: usize) -> Self {
        let place = |n: usize| first + n * layer.weight.sizes.outputs / 2;
        let mut outputs = Self::over(layer, place, lanes);
        (outputs.first, outputs.some) = (first, 2 * lanes);
        for n in 0..2 {
            let (part, to) = (place(n)..place(n) + lanes, n * lanes..(n + 1) * lanes);
            outputs.scales[to.clone()].copy_from_slice(&layer.weight.scales[part.clone()]);
            if let Some(bias) = layer.bias {
                outputs.biases[to].copy_from_slice(&bias[part]);
            }
        }
        outputs
    }
}

impl<'a, const N: usize> Outputs<'a, N> {
    /// Outputs from `first` on, before `end`, in vectors of `lanes`.
    #[inline(always)]
    fn of<T>(layer: &Layer<'a, T>, first: usize, end: usize, lanes: usize) -> Self {
        // Vectors after the last repeat it; nobody keeps them.
        let last = end.next_multiple_of(PANEL) - lanes;
        let place = |n: usize| (first + n * lanes).min(last);
        let some = (end - first).min(N * lanes);
        let mut outputs = Self::over(layer, place, lanes);
        (outputs.first, outputs.some) = (first, some);
        let part = first..first + some;
        outputs.scales[..some].copy_from_slice(&layer.weight.scales[part.clone()]);
        if let Some(bias) = layer.bias {
            outputs.biases[..some].copy_from_slice(&bias[part]);
        }
        outputs
    }

    /// Scales and biases from a lane of the tile on.
    #[inline(always)]
    fn moved(&self, place: usize) -> [*const f32; 2] {
        [self.scales[place..].as_ptr(), self.biases[place..].as_ptr()]
    }

    /// Vectors of `lanes` outputs from some places on.
    #[inline(always)]
    fn over<T>(layer: &Layer<'a, T>, place: impl Fn(usize) -> usize, lanes: usize) -> Self {
        Self {
            first: 0,
            some: 0,
            weights: std::array::from_fn(|n| {
                &layer.weight.panel(0, place(n) / PANEL)[place(n) % PANEL * QUAD..]
            }),
            offsets: std::array::from_fn(|n| {
                &layer.weight.offsets(0, place(n) / PANEL)[place(n) % PANEL..][..lanes]
            }),
            scales: [0.0; WIDEST],
            biases: [0.0; WIDEST],
        }
    }
}

/// One task, by tiles of `R` tokens and `N` vectors of outputs.
///
/// # Safety
///
/// The processor has the instruction.
#[inline(always)]
pub(super) unsafe fn multiply<I: Instruction, T: Element, const R: usize, const N: usize>(
    job: &Job<'_, I::Value, T>,
    task: &Task,
) {
    const { assert!(N * I::LANES <= WIDEST && PANEL.is_multiple_of(I::LANES)) };
    let firsts = task.columns.clone().step_by(N * I::LANES);
    let end = task.columns.end;
    let outputs = firsts.map(|first| Outputs::<N>::of(&job.layer, first, end, I::LANES));
    let outputs: Vec<_> = outputs.collect();
    let mut lines = [[0.0; WIDEST]; R];
    // A token's outputs one after the other, so that memory is written in order; the weights come from the second-level cache.
    for first in task.rows.clone().step_by(R) {
        let group = Group::<R>::of(&job.rows, first, task.rows.end);
        for outputs in &outputs {
            let whole = outputs.some == N * I::LANES;
            let mut to = [std::ptr::null_mut(); R];
            // By index: adaptors of iterators are not always inlined.
            for r in 0..R {
                to[r] = lines[r].as_mut_ptr();
            }
            for r in 0..group.count {
                // SAFETY: no other task has these values of the token.
                let places = unsafe { places(job, first + r, outputs) };
                if let Some(straight) = T::straight(places).filter(|_| whole) {
                    to[r] = straight;
                }
            }
            // SAFETY: the caller's promise; a line, and a whole tile's places, have the lanes of `N` vectors.
            unsafe { group.sums::<I, N>(job, outputs, to, I::LANES) };
            for r in 0..group.count {
                // SAFETY: as above.
                let places = unsafe { places(job, first + r, outputs) };
                if !whole || T::straight(places).is_none() {
                    put(&lines[r], whole.then_some(N * I::LANES), places);
                }
            }
        }
    }
}

/// Where the outputs of a token go.
///
/// # Safety
///
/// No other task has these values of the token.
#[allow(
    clippy::mut_from_ref,
    reason = "tasks share the output and write parts of it"
)]
#[inline(always)]
unsafe fn places<'a, V: Integer, T, const N: usize>(
    job: &'a Job<'_, V, T>,
    token: usize,
    outputs: &Outputs<'_, N>,
) -> &'a mut Unwritten<T> {
    let start = token * job.layer.weight.sizes.outputs + outputs.first;
    // SAFETY: the caller's promise.
    unsafe { job.output.part(start, outputs.some) }
}

/// Puts the first values of a line, as many as a whole tile has or fewer.
#[inline(always)]
fn put<T: Element>(line: &[f32; WIDEST], whole: Option<usize>, places: &mut Unwritten<T>) {
    if let Some(whole) = whole {
        // A count that the compiler knows.
        let (places, line) = (&mut places[..whole], &line[..whole]);
        for i in 0..whole {
            places[i].write(T::nearest(line[i]));
        }
        return;
    }
    let line = &line[..places.len()];
    for i in 0..places.len() {
        places[i].write(T::nearest(line[i]));
    }
}

/// Tokens of a tile; those after the last repeat it, and nobody keeps what they give.
pub(super) struct Group<'a, const R: usize> {
    first: usize,
    pub(super) count: usize,
    /// Their values that are kept apart.
    apart: [&'a [Outlier]; R],
}

impl<'a, const R: usize> Group<'a, R> {
    #[inline(always)]
    pub(super) fn of<V: Integer>(rows: &'a Rows<V>, first: usize, end: usize) -> Self {
        let count = R.min(end - first);
        let mut apart: [&[Outlier]; R] = [&[]; R];
        for r in 0..count {
            apart[r] = rows.outliers(first + r);
        }
        Self {
            first,
            count,
            apart,
        }
    }

    /// Puts what every token gives of `N` vectors of outputs: the first where `to` says, each other `apart` after the one before.
    ///
    /// # Safety
    ///
    /// The processor has the instruction, and a vector's lanes are writable in all these places.
    #[inline(always)]
    pub(super) unsafe fn sums<I: Instruction, const N: usize>(
        &self,
        job: &Job<'_, I::Value, impl Element>,
        outputs: &Outputs<'_, N>,
        to: [*mut f32; R],
        apart: usize,
    ) {
        let quads = job.layer.weight.sizes.quads();
        let (values, depth) = (job.rows.values.values(), quads * QUAD);
        assert!((self.first + self.count) * depth <= values.len());
        let (mut tokens, mut scales) = ([values.as_ptr(); R], [0.0; R]);
        let mut weights = [outputs.weights[0].as_ptr(); N];
        for r in 0..R {
            let token = self.first + r.min(self.count - 1);
            tokens[r] = values[token * depth..].as_ptr();
            scales[r] = job.rows.scales[token];
        }
        for n in 1..N {
            weights[n] = outputs.weights[n].as_ptr();
        }
        // SAFETY: the tokens are there, asserted above, and a panel's last quad has as many bytes as a vector takes from its place on; offsets,
        // scales and biases have the lanes of `N` vectors; the rest is the caller's promise.
        unsafe {
            let mut begun = [I::begun(outputs.offsets[0].as_ptr()); N];
            for n in 1..N {
                begun[n] = I::begun(outputs.offsets[n].as_ptr());
            }
            let tile = tile::<I, R, N>(quads, tokens, weights, begun);
            // By numbers that the compiler knows, or the sums would be kept in memory.
            if self.is_whole() {
                for r in 0..R {
                    for n in 0..N {
                        let moved = outputs.moved(n * I::LANES);
                        I::put(tile[r][n], scales[r], moved, to[r].add(n * apart));
                    }
                }
                return;
            }
            for r in 0..R {
                for n in 0..N {
                    I::scaled(tile[r][n], scales[r], to[r].add(n * apart));
                }
            }
            for r in 0..self.count {
                for n in 0..N {
                    self.finish::<I, N>(outputs, [r, n], to[r].add(n * apart));
                }
            }
        }
    }

    /// Whether none of their values are kept apart.
    #[inline(always)]
    fn is_whole(&self) -> bool {
        let mut apart = 0;
        for r in 0..R {
            apart += self.apart[r].len();
        }
        apart == 0
    }

    /// Adds to the sums of a token and a vector of outputs, under the token's scale, what its values that are kept apart give, and puts them
    /// under the outputs' scales, with the bias.
    ///
    /// # Safety
    ///
    /// The processor has the instruction, and a vector's lanes are writable at `to`.
    #[inline(always)]
    unsafe fn finish<I: Instruction, const N: usize>(
        &self,
        outputs: &Outputs<'_, N>,
        [r, n]: [usize; 2],
        to: *mut f32,
    ) {
        let [scales, biases] = outputs.moved(n * I::LANES);
        // SAFETY: the caller's promise; scales and biases have the lanes of `N` vectors.
        unsafe {
            if !self.apart[r].is_empty() {
                I::add_apart(self.apart[r], outputs.weights[n], PANEL * QUAD, to);
            }
            I::moved(to, scales, biases, to);
        }
    }
}

/// The products of `R` tokens and `N` vectors of outputs, over all quads, and what the outputs' sums have `begun` with.
///
/// # Safety
///
/// The processor has the instruction; `quads` quads are readable of every token, and of weights, a panel apart.
#[inline(always)]
unsafe fn tile<I: Instruction, const R: usize, const N: usize>(
    quads: usize,
    tokens: [*const I::Value; R],
    weights: [*const u8; N],
    begun: [I::Sums; N],
) -> [[I::Sums; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [begun; R];
        for quad in 0..quads {
            // No closures, which are not always inlined, and then lack the instruction.
            let mut vectors = [I::weights(weights[0].add(quad * PANEL * QUAD)); N];
            for n in 1..N {
                vectors[n] = I::weights(weights[n].add(quad * PANEL * QUAD));
            }
            for r in 0..R {
                let quad = I::quad(tokens[r].add(quad * QUAD));
                for n in 0..N {
                    sums[r][n] = I::add(sums[r][n], quad, vectors[n]);
                }
            }
        }
        sums
    }
}
