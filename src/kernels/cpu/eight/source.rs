//! What a layer reads, a token after the other.

#![allow(
    clippy::inline_always,
    reason = "the loops take the instructions of the kernel that they are part of"
)]

/// What a layer reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// `[tokens, inputs]`, or `[items, inputs, positions]`, where each position is a token.
    pub(super) values: &'a [f32],
    pub(super) inputs: usize,
    /// Of an item; `None` where tokens lie in order.
    pub(super) positions: Option<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn tokens(&self) -> usize {
        self.values.len() / self.inputs
    }

    /// `count` tokens from `first` on, in order.
    #[inline(always)]
    pub(super) fn some<'b>(&self, first: usize, count: usize, room: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        let inputs = self.inputs;
        let Some(positions) = self.positions else {
            return &self.values[first * inputs..(first + count) * inputs];
        };
        room.resize(count * inputs, 0.0);
        let mut at = 0;
        while at < count {
            let (item, position) = ((first + at) / positions, (first + at) % positions);
            let some = (positions - position).min(count - at);
            for input in 0..inputs {
                let line = &self.values[(item * inputs + input) * positions + position..][..some];
                for (token, value) in line.iter().enumerate() {
                    room[(at + token) * inputs + input] = *value;
                }
            }
            at += some;
        }
        room
    }
}
