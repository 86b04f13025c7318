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
use super::packed;
use super::simd::{Unwritten, copy, prefetch};
use pass::{Ahead, Last, Pass};
#[cfg(test)]
pub(super) use values::Samples;
pub(crate) use values::Values;

/// Products summed before the sums are put away: with them a tile's columns fill three quarters of a first-level cache.
pub(super) const DEPTH: usize = 192;

/// Columns of a task, at most.
pub(super) const COLUMNS: usize = 320;

const _: () = assert!(
    COLUMNS <= packed::MOST,
    "packed weights are widened a task's line at a time"
);

/// Columns of a task are a multiple of these.
const UNIT: usize = 32;

/// Units of a task, at least.
const LEAST_UNITS: usize = 2;

/// Rows of a task, at least.
const LEAST_ROWS: usize = 64;

/// Sums of a task, at most: they stay in the second-level cache.
const SUMS: usize = 384 * 256;

/// Products that take as long as putting a row's or a column's value where it is multiplied.
const LAYING: usize = 16;

/// Tasks for every thread, at least, so that one that is kept up holds up the others by little.
const TASKS: usize = 4;

/// Products of every thread below which it has one task: some tenths of a millisecond, in which what is put in order once more for every task
/// costs more than a thread that is kept up.
const FEW: usize = 1 << 25;

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

/// Divides `items` products of `rows` by `depth` by `columns`, so that threads that are alike end soonest.
pub(super) fn tasks(items: usize, sides: [usize; 3]) -> Vec<Task> {
    divided(items, sides, rayon::current_num_threads())
}

fn divided(items: usize, [rows, depth, columns]: [usize; 3], threads: usize) -> Vec<Task> {
    let is_little = items * rows * depth * columns < FEW * threads;
    let wanted = if is_little { threads } else { TASKS * threads };
    let widths = (LEAST_UNITS..=COLUMNS / UNIT).rev();
    let ways = widths.flat_map(|units| {
        let width = part(columns, columns.div_ceil(units * UNIT), UNIT);
        let fewest = rows.div_ceil(SUMS / width);
        let most = rows.div_ceil(LEAST_ROWS).min(fewest + wanted);
        (fewest..=most.max(fewest)).map(move |count| (part(rows, count, 8), width))
    });
    let best = ways.min_by_key(|(height, width)| {
        let count = items * rows.div_ceil(*height) * columns.div_ceil(*width);
        let each = height * width + LAYING * (height + width);
        (count < wanted, count.div_ceil(threads) * each)
    });
    let (height, width) = best.unwrap_or((8, UNIT));
    let ranges = |whole: usize, each: usize| {
        let starts = (0..whole).step_by(each);
        starts.map(move |start| start..whole.min(start + each))
    };
    let places = (0..items).flat_map(|item| ranges(columns, width).map(move |part| (item, part)));
    let tasks = places.flat_map(|(item, columns)| {
        ranges(rows, height).map(move |rows| Task {
            item,
            rows,
            columns: columns.clone(),
        })
    });
    tasks.collect()
}

/// The size of parts of which there are at most `count`: nearly equal multiples of a `unit`.
fn part(whole: usize, count: usize, unit: usize) -> usize {
    whole
        .div_ceil(count.max(1))
        .next_multiple_of(unit)
        .max(unit)
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
    fn work_is_divided_evenly_into_parts_that_are_worth_their_gathering() {
        let largest = |items, sides, threads| {
            let tasks = divided(items, sides, threads);
            let sizes = tasks
                .iter()
                .map(|task| [task.rows.len(), task.columns.len()]);
            (tasks.len(), sizes.max().unwrap_or_default())
        };
        assert_eq!(largest(2, [1280, 1280, 64], 2), (8, [320, 64]));
        assert_eq!(largest(1, [512, 1280, 1280], 2), (8, [256, 320]));
        assert_eq!(largest(1, [320, 320, 4096], 2), (16, [320, 256]));
        assert_eq!(largest(1, [2048; 3], 2), (48, [344, 256]));
        assert_eq!(largest(1, [154, 768, 320], 2), (2, [154, 160]));
        assert_eq!(largest(1, [154, 7680, 320], 2), (10, [80, 64]));
        // What is too little for all is not cut into shreds.
        assert_eq!(largest(1, [2, 320, 320], 2), (2, [2, 160]));
        assert_eq!(largest(1, [1; 3], 64), (1, [1, 1]));
        assert_eq!(largest(1, [0, 5, 5], 2), (0, [0, 0]));
    }

    #[test]
    fn tasks_cover_everything_once() {
        for (rows, columns, threads) in [(1, 1, 1), (154, 320, 3), (1000, 333, 2), (77, 49, 16)] {
            let mut met = vec![0; 2 * rows * columns];
            for task in divided(2, [rows, 64, columns], threads) {
                for row in task.rows {
                    let start = (task.item * rows + row) * columns;
                    for met in &mut met[start..][task.columns.clone()] {
                        *met += 1;
                    }
                }
            }
            assert!(met.iter().all(|met| *met == 1), "{rows} {columns}");
        }
    }
}
