//! Counts the cells of the KV cache with a free list and reference counts, so that a full cache is detected before
//! llama.cpp fails. Cell numbers are only used for counting; they are not llama.cpp's indices.

use crate::error::{Code, Failure};
use std::collections::HashMap;

/// The cells of the KV cache.
#[derive(Debug)]
pub(super) struct KvCells {
    /// For each cell, the number of slots that use it.
    ref_counts: Vec<u16>,
    free: Vec<u32>,
}

impl KvCells {
    /// Creates `n_cells` free cells.
    pub(super) fn new(n_cells: usize) -> Self {
        let n = u32::try_from(n_cells).unwrap_or(u32::MAX);
        Self { ref_counts: vec![0; n as usize], free: (0..n).rev().collect() }
    }

    /// Number of free cells.
    pub(super) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Allocates `n` cells. It is an internal error if fewer are free: this count then differs from llama.cpp's cache.
    pub(super) fn alloc(&mut self, n: usize) -> Result<Vec<u32>, Failure> {
        let left = self.free.len().checked_sub(n).ok_or_else(|| defect("more cells are allocated than are free"))?;
        let taken = self.free.split_off(left);
        taken.iter().for_each(|cell| self.ref_counts[*cell as usize] = 1);
        Ok(taken)
    }

    /// Plans which cells to release so that `n` are free: (slot, number of its cells that stay). `held`: the slots
    /// whose cells can be evicted, in this order, with their cells and the number of cells that must stay. `None` if
    /// all these cells are not enough.
    pub(super) fn plan_eviction<'c>(
        &self,
        n: usize,
        held: impl Iterator<Item = (usize, &'c [u32], usize)>,
    ) -> Option<Vec<(usize, usize)>> {
        let mut missing = n.saturating_sub(self.free.len());
        let (mut evictions, mut left) = (Vec::new(), HashMap::new());
        for (slot, cells, least) in held {
            if missing == 0 {
                break;
            }
            let mut len = cells.len();
            while missing > 0 && len > least {
                len -= 1;
                // A shared cell becomes free when the last slot that uses it releases it.
                let users = left.entry(cells[len]).or_insert_with(|| self.ref_counts[cells[len] as usize]);
                *users = users.saturating_sub(1);
                missing -= usize::from(*users == 0);
            }
            evictions.push((slot, len));
        }
        (missing == 0).then_some(evictions)
    }

    /// Increments the reference counts of the cells, and returns the cells.
    pub(super) fn retain(&mut self, cells: &[u32]) -> Vec<u32> {
        cells.iter().for_each(|cell| self.ref_counts[*cell as usize] += 1);
        cells.to_vec()
    }

    /// Decrements the reference counts of the cells; a cell with count 0 becomes free.
    pub(super) fn release(&mut self, cells: impl IntoIterator<Item = u32>) {
        for cell in cells {
            let users = &mut self.ref_counts[cell as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(cell);
            }
        }
    }
}

/// Returns an internal error: slots and cells are inconsistent.
pub(super) fn defect(what: &str) -> Failure {
    Failure::engine(Code::Defect, what, "this is a bug in tulu-quant; please report it")
}

#[cfg(test)]
mod tests {
    use super::KvCells;
    use crate::error::Code;

    #[test]
    fn evicts_no_more_than_needed_and_nothing_if_it_is_not_enough() {
        let mut cells = KvCells::new(12);
        let (old, new) = (cells.alloc(5).unwrap(), cells.alloc(4).unwrap());
        let shared = cells.retain(&old[..3]);
        assert_eq!(cells.n_free(), 3);
        let plan = |n, least| {
            let held = [(7, old.as_slice(), least), (8, shared.as_slice(), 0), (9, new.as_slice(), 0)];
            cells.plan_eviction(n, held.into_iter())
        };
        assert_eq!(plan(3, 0), Some(vec![]), "enough is free");
        assert_eq!(plan(4, 0), Some(vec![(7, 4)]), "one cell, from the end of the first");
        assert_eq!(plan(5, 0), Some(vec![(7, 3)]));
        assert_eq!(plan(6, 0), Some(vec![(7, 0), (8, 2)]), "a shared cell is free after both slots release it");
        assert_eq!(plan(6, 4), Some(vec![(7, 4), (8, 0), (9, 2)]), "protected cells stay");
        assert_eq!(plan(12, 0), Some(vec![(7, 0), (8, 0), (9, 0)]));
        assert_eq!(plan(12, 1), None);
        assert_eq!(plan(13, 0), None);
    }

    #[test]
    fn a_cell_is_free_after_its_last_user_releases_it() {
        let mut cells = KvCells::new(4);
        let first = cells.alloc(3).unwrap();
        let second = cells.retain(&first[..2]);
        assert_eq!((first.len(), cells.n_free()), (3, 1));
        cells.release(first);
        assert_eq!(cells.n_free(), 2, "two cells are still the second's");
        assert!(cells.alloc(3).is_err_and(|failure| failure.code == Code::Defect));
        assert_eq!(cells.alloc(2).unwrap().len(), 2);
        cells.release(second);
        assert_eq!(cells.n_free(), 2);
    }
}
