//! Working memory that threads keep from call to call.

use super::{attention, direct, eight, product, winograd};

/// Frees it, of this thread and of those that share its work; whoever needs some has it anew.
pub(crate) fn give_back() {
    give_back_own();
    rayon::broadcast(|_| give_back_own());
}

fn give_back_own() {
    attention::give_back();
    direct::give_back();
    eight::give_back();
    product::give_back();
    winograd::give_back();
}
