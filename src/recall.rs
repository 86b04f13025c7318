//! The one seam inside a cell: a branch of a block is computed, or its output of an earlier evaluation is used again.
//!
//! A model names its branches in the order it runs them and knows no method. Methods such as Learning-to-Cache (attention and
//! feed-forward branches) and T-GATE (cross-attention) are a [`BranchMemory`].

use burn::tensor::Tensor;

/// What a branch of a block does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Branch {
    /// Tokens attend to each other.
    SelfAttention,
    /// Tokens attend to the condition.
    CrossAttention,
    /// Every token by itself.
    FeedForward,
}

/// One branch of one block of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The cell it stands in.
    pub cell: usize,
    /// Its number among the branches of that cell, in execution order.
    pub ordinal: usize,
    /// What it does.
    pub branch: Branch,
}

/// Keeps outputs of branches between evaluations, and says which are used again.
pub trait BranchMemory: Send {
    /// The output to use in place of computing the branch.
    fn recall(&mut self, site: Site) -> Option<Tensor<3>>;

    /// An output that was computed, `[rows, tokens, width]`, before a gate or residual is applied.
    fn keep(&mut self, site: Site, output: &Tensor<3>);
}

/// Handed along a line of cells; the cells ask it for the output of every branch.
#[derive(Default)]
pub struct Recall<'a> {
    memory: Option<&'a mut dyn BranchMemory>,
    cell: usize,
    ordinal: usize,
}

impl std::fmt::Debug for Recall<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Recall")
            .field("remembers", &self.memory.is_some())
            .field("cell", &self.cell)
            .field("ordinal", &self.ordinal)
            .finish()
    }
}

impl<'a> Recall<'a> {
    /// Every branch is computed.
    pub fn none() -> Self {
        Self::default()
    }

    /// Branches are computed or used again as `memory` says.
    pub fn with(memory: &'a mut dyn BranchMemory) -> Self {
        Self {
            memory: Some(memory),
            ..Self::default()
        }
    }

    /// The branches asked for next are those of this cell, from its first.
    pub fn at_cell(&mut self, cell: usize) -> &mut Self {
        (self.cell, self.ordinal) = (cell, 0);
        self
    }

    /// The output of the next branch of the cell, `[rows, tokens, width]`.
    pub fn branch(&mut self, branch: Branch, compute: impl FnOnce() -> Tensor<3>) -> Tensor<3> {
        let site = Site {
            cell: self.cell,
            ordinal: self.ordinal,
            branch,
        };
        self.ordinal += 1;
        let Some(memory) = self.memory.as_deref_mut() else {
            return compute();
        };
        memory.recall(site).unwrap_or_else(|| {
            let output = compute();
            memory.keep(site, &output);
            output
        })
    }
}
