//! The product of matrices that convolutions and linear layers share: rows as they are stored, times a tile of gathered columns.
//!
//! Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008). A vector's lanes are columns. A tile of
//! columns stays in the first-level cache while all rows pass over it.

#![allow(
    clippy::inline_always,
    clippy::needless_range_loop,
    unsafe_code,
    reason = "the inner loops are whole only where they are inlined, index registers, and read blocks through pointers whose lengths are \
              asserted once a block; tasks write parts of the output that do not overlap"
)]

use std::{
    cell::{Cell, RefCell},
    mem::MaybeUninit,
    ops::Range,
};

mod pass;
mod values;

use macerator::Simd;
use rayon::prelude::*;

use super::memory::working;
use super::simd::{Unwritten, copy, prefetch};
use pass::{Ahead, Last, Pass};
#[cfg(test)]
pub(super) use values::Samples;
pub(crate) use values::Values;

/// Products summed before the sums are put away: with them a tile's columns fill three quarters of a first-level cache.
pub(super) const DEPTH: usize = 192;

/// Columns of a task, at most.
pub(super) const COLUMNS: usize = 256;

/// Rows of a task, at least, where columns alone leave threads idle.
const LEAST_ROWS: usize = 64;

/// Rows of a task, at most: its sums stay in the second-level cache.
const MOST_ROWS: usize = 384;

/// Tasks for every thread, at least.
const TASKS: usize = 4;

/// Values of a line of the cache.
const LINE: usize = 16;

/// Vectors of a tile.
const VECTORS: usize = 2;

/// Rows that are multiplied at once, at most.
const MOST: usize = 8;

/// Columns of a tile of the widest vectors.
const WIDEST: usize = VECTORS * 64;

/// Columns of a tile.
#[inline(always)]
pub(super) fn tile_width<S: Simd>() -> usize {
    VECTORS * S::lanes32()
}

/// A part of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) item: usize,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// Divides `items` products of `rows` by `columns`; rows are divided where columns alone leave threads idle.
pub(super) fn tasks(items: usize, rows: usize, columns: usize) -> Vec<Task> {
    divided(items, rows, columns, TASKS * rayon::current_num_threads())
}

fn divided(items: usize, rows: usize, columns: usize, wanted: usize) -> Vec<Task> {
    let blocks = parts(columns, COLUMNS, 32);
    let apart = wanted.div_ceil((items * blocks.len()).max(1));
    let group = rows.div_ceil(apart).clamp(LEAST_ROWS, MOST_ROWS);
    let groups = parts(rows, group.next_multiple_of(8), 8);
    let mut tasks = Vec::with_capacity(items * blocks.len() * groups.len());
    for item in 0..items {
        for columns in &blocks {
            for rows in &groups {
                tasks.push(Task {
                    item,
                    rows: rows.clone(),
                    columns: columns.clone(),
                });
            }
        }
    }
    tasks
}

/// As few parts as no part larger than `most` allows, nearly equal multiples of a `unit`.
fn parts(whole: usize, most: usize, unit: usize) -> Vec<Range<usize>> {
    let count = whole.div_ceil(most).max(1);
    let each = whole.div_ceil(count).next_multiple_of(unit).max(unit);
    let starts = (0..whole).step_by(each);
    starts.map(|start| start..whole.min(start + each)).collect()
}

/// Memory that many tasks write, each a part of it.
pub(super) struct Output<T = f32>(*mut MaybeUninit<T>, usize);

// SAFETY: tasks write parts that do not overlap.
unsafe impl<T: Send> Send for Output<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Output<T> {}

impl<T> Output<T> {
    pub(super) fn new(values: &mut Unwritten<T>) -> Self {
        Self(values.as_mut_ptr(), values.len())
    }

    /// Over values that are there already.
    pub(super) fn over(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr().cast(), values.len())
    }

    /// Asks for `count` values from `start` on, which are written soon.
    #[inline(always)]
    pub(super) fn prefetch(&self, start: usize, count: usize) {
        for at in (0..count).step_by(LINE) {
            prefetch(self.0.wrapping_add(start + at).cast());
        }
    }

    /// A part of it.
    ///
    /// # Safety
    ///
    /// The memory outlives the part, and no other task has any of it.
    #[allow(
        clippy::mut_from_ref,
        reason = "tasks share the output and write parts of it"
    )]
    #[inline(always)]
    pub(super) unsafe fn part(&self, start: usize, count: usize) -> &mut Unwritten<T> {
        assert!(start + count <= self.1);
        // SAFETY: within the memory, asserted above; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), count) }
    }

    /// A part of values that are there already.
    ///
    /// # Safety
    ///
    /// As [`part`](Self::part), and the output is [`over`](Self::over) values.
    #[allow(
        clippy::mut_from_ref,
        reason = "tasks share the output and write parts of it"
    )]
    #[inline(always)]
    pub(super) unsafe fn values(&self, start: usize, count: usize) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { self.part(start, count).assume_init_mut() }
    }
}

/// Working memory of a thread; what is in it at first means nothing.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[tiles, DEPTH, width]`
    columns: Vec<f32>,
    /// `[tiles, rows, width]`
    sums: Vec<f32>,
    /// `[rows, DEPTH]`, of rows in half precision.
    rows: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Frees this thread's working memory.
pub(super) fn give_back() {
    SCRATCH.take();
}

/// Buffers of at least these sizes, from the beginning of a line of the cache on, which no vector crosses then; what is in them at first means
/// nothing.
pub(super) fn sized<const N: usize>(
    buffers: [&mut Vec<f32>; N],
    counts: [usize; N],
) -> [&mut [f32]; N] {
    let mut counts = counts.into_iter();
    buffers.map(|values| {
        let count = counts.next().unwrap_or(0);
        if values.len() < count + LINE {
            values.resize(count + LINE, 0.0);
        }
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>());
        &mut values[start.min(LINE)..][..count]
    })
}

/// Runs `compute` for every task, on all threads.
pub(super) fn run(tasks: &[Task], compute: impl Fn(&Task, &mut Scratch) + Sync) {
    let tasks = tasks.par_iter().with_max_len(1);
    tasks.for_each(|task| working(&SCRATCH, |scratch| compute(task, scratch)));
}

/// Rows that follow each other, each `depth` long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: Values<'a>,
    pub(super) depth: usize,
}

impl<'a> Rows<'a> {
    /// The values, where rows are read as they lie.
    ///
    /// Rows that begin multiples of half a page apart drive each other out of the first-level cache. Copying them side by side costs less where
    /// they meet narrow tiles, and so come from there more often.
    #[inline(always)]
    fn as_they_lie<S: Simd>(&self) -> Option<&'a [f32]> {
        const HALF_A_PAGE: usize = 2048;
        let apart = self.depth * size_of::<f32>();
        let collide = S::lanes32() == 8 && apart.is_multiple_of(HALF_A_PAGE);
        self.values.in_f32().filter(|_| !collide)
    }

    /// Room for [`part`](Self::part) of `rows` rows.
    fn room<S: Simd>(&self, rows: usize) -> usize {
        match self.as_they_lie::<S>() {
            Some(_) => 0,
            None => rows * DEPTH,
        }
    }

    /// A part of some rows in f32, and how far the rows are apart in it.
    #[inline(always)]
    fn part<'b, S: Simd>(
        &self,
        rows: Range<usize>,
        part: Range<usize>,
        room: &'b mut [f32],
    ) -> (&'b [f32], usize)
    where
        'a: 'b,
    {
        let depth = self.depth;
        if let Some(values) = self.as_they_lie::<S>() {
            return (
                &values[rows.start * depth + part.start..rows.end * depth],
                depth,
            );
        }
        for (row, room) in rows.zip(room.chunks_exact_mut(part.len())) {
            let start = row * depth + part.start;
            self.values.prefetch(start + depth, part.len());
            match self.values {
                Values::F32(values) => copy::<S>(&values[start..start + part.len()], room),
                values => {
                    values.widened(start..start + part.len(), room);
                }
            }
        }
        (room, part.len())
    }
}

/// What a product is of, and where it goes.
///
/// A trait and not two closures, which are not always inlined, and then lack the kernel's instructions.
pub(super) trait Factor {
    /// Fills the columns for a `part` of the depth, `[tiles, DEPTH, width]`.
    fn gather<S: Simd>(&self, part: Range<usize>, width: usize, columns: &mut [f32]);

    /// Asks for what [`gather`](Self::gather) reads for one place of the depth.
    fn ask(&self, place: usize);

    /// Takes a row's sums of a tile that begins at the column `first`.
    fn put<S: Simd>(&self, row: usize, first: usize, sums: &[f32]);

    /// Asks for where `count` sums of a row go.
    fn expect(&self, row: usize, first: usize, count: usize);
}

/// Puts what one place of the depth has into the tiles, as its `slot`.
#[inline(always)]
pub(super) fn lay<S: Simd>(line: &[f32], slot: usize, width: usize, columns: &mut [f32]) {
    for (tile, values) in line.chunks(width).enumerate() {
        let start = (tile * DEPTH + slot) * width;
        copy::<S>(values, &mut columns[start..start + values.len()]);
    }
}

/// One task.
#[inline(always)]
pub(super) fn compute<S: Simd>(
    task: &Task,
    rows: Rows<'_>,
    factor: &impl Factor,
    scratch: &mut Scratch,
) {
    let width = tile_width::<S>();
    let (tiles, count) = (task.columns.len().div_ceil(width), task.rows.len());
    let sizes = [
        tiles * DEPTH * width,
        tiles * count * width,
        rows.room::<S>(count),
    ];
    let buffers = [&mut scratch.columns, &mut scratch.sums, &mut scratch.rows];
    let [columns, all_sums, room] = sized(buffers, sizes);
    assert!(rows.depth > 0, "sums of nothing would not be put anywhere");
    for first in (0..rows.depth).step_by(DEPTH) {
        let part = first..rows.depth.min(first + DEPTH);
        factor.gather::<S>(part.clone(), width, columns);
        let (is_first, is_last) = (first == 0, part.end == rows.depth);
        let ahead = Ahead {
            factor,
            rows,
            some: task.rows.clone(),
            part: part.end..rows.depth.min(part.end + DEPTH),
            each: (DEPTH + count).div_ceil(tiles * count.div_ceil(MOST)),
            next: Cell::new(0),
        };
        let (rows, stride) = rows.part::<S>(task.rows.clone(), part.clone(), room);
        for (tile, sums) in all_sums.chunks_exact_mut(count * width).enumerate() {
            let columns = &columns[tile * DEPTH * width..][..part.len() * width];
            let last = Last {
                factor,
                row: task.rows.start,
                column: task.columns.start + tile * width,
                kept: width.min(task.columns.len() - tile * width),
            };
            let pass = Pass {
                columns,
                rows,
                stride,
                is_first,
                is_new: is_first && tile == 0,
                ahead: (!is_last).then_some(&ahead),
                last: is_last.then_some(last),
            };
            pass.all::<S>(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_columns_divide_the_rows() {
        let found = divided(2, 1280, 64, 8);
        assert_eq!(found.len(), 8);
        assert_eq!((found[1].rows.clone(), found[7].item), (320..640, 1));
        assert_eq!(divided(1, 320, 4096, 8).len(), 16);
        assert_eq!(divided(1, 8192, 128, 8).len(), 22);
        let nearly_equal = divided(1, 154, 320, 8);
        let sizes = nearly_equal
            .iter()
            .map(|task| (task.rows.len(), task.columns.len()));
        let sizes: Vec<_> = sizes.collect();
        assert_eq!(sizes, [(56, 160), (56, 160), (42, 160)].repeat(2));
    }
}
