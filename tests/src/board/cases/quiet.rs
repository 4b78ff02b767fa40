//! (No case yet.)

use crate::board::Case;

pub const CASES: &[Case] = &[];
