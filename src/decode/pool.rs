//! The cells of the KV cache, counted: which are free, and how many slots use each of the others. llama.cpp keeps the
//! cells themselves and fails when none is free; this book says beforehand. No cell has an address here, only a number.

use super::slot::defect;
use crate::error::Failure;
use std::collections::HashMap;

/// The book.
#[derive(Debug)]
pub(super) struct Pool {
    /// For each cell, the slots that use it.
    users: Vec<u16>,
    free: Vec<u32>,
}

impl Pool {
    /// `n_cells`, all free.
    pub(super) fn new(n_cells: usize) -> Self {
        let n = u32::try_from(n_cells).unwrap_or(u32::MAX);
        Self { users: vec![0; n as usize], free: (0..n).rev().collect() }
    }

    /// Cells that nobody uses.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes `n` free cells. Fewer would be a defect: what llama.cpp holds and this book would part for good.
    pub(super) fn take(&mut self, n: usize) -> Result<Vec<u32>, Failure> {
        let left = self.free.len().checked_sub(n).ok_or_else(|| defect("more cells are taken than are free"))?;
        let taken = self.free.split_off(left);
        taken.iter().for_each(|cell| self.users[*cell as usize] = 1);
        Ok(taken)
    }

    /// What to cut so that `n` cells are free: slots, and how many of their cells stay. `held`: each slot that may be cut, in
    /// this order, with its cells and how many of them must stay. `None`: all of them together are not enough.
    pub(super) fn cuts<'c>(
        &self,
        n: usize,
        held: impl Iterator<Item = (usize, &'c [u32], usize)>,
    ) -> Option<Vec<(usize, usize)>> {
        let mut missing = n.saturating_sub(self.free.len());
        let (mut cuts, mut left) = (Vec::new(), HashMap::new());
        for (slot, cells, least) in held {
            if missing == 0 {
                break;
            }
            let mut len = cells.len();
            while missing > 0 && len > least {
                len -= 1;
                // A cell is free when the last slot that uses it has been cut.
                let users = left.entry(cells[len]).or_insert_with(|| self.users[cells[len] as usize]);
                *users = users.saturating_sub(1);
                missing -= usize::from(*users == 0);
            }
            cuts.push((slot, len));
        }
        (missing == 0).then_some(cuts)
    }

    /// One slot more uses these.
    pub(super) fn share(&mut self, cells: &[u32]) -> Vec<u32> {
        cells.iter().for_each(|cell| self.users[*cell as usize] += 1);
        cells.to_vec()
    }

    /// One slot uses these no longer; what was its alone is free.
    pub(super) fn give(&mut self, cells: impl IntoIterator<Item = u32>) {
        for cell in cells {
            let users = &mut self.users[cell as usize];
            *users -= 1;
            if *users == 0 {
                self.free.push(cell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use crate::error::Code;

    #[test]
    fn no_more_is_cut_than_is_needed_and_nothing_where_it_would_not_do() {
        let mut pool = Pool::new(12);
        let (old, new) = (pool.take(5).unwrap(), pool.take(4).unwrap());
        let shared = pool.share(&old[..3]);
        assert_eq!(pool.free(), 3);
        let cuts = |n, least| {
            let held = [(7, old.as_slice(), least), (8, shared.as_slice(), 0), (9, new.as_slice(), 0)];
            pool.cuts(n, held.into_iter())
        };
        assert_eq!(cuts(3, 0), Some(vec![]), "enough is free");
        assert_eq!(cuts(4, 0), Some(vec![(7, 4)]), "one cell, from the end of the first");
        assert_eq!(cuts(5, 0), Some(vec![(7, 3)]));
        assert_eq!(cuts(6, 0), Some(vec![(7, 0), (8, 2)]), "what two slots use is free when both have been cut");
        assert_eq!(cuts(6, 4), Some(vec![(7, 4), (8, 0), (9, 2)]), "what must stay stays");
        assert_eq!(cuts(12, 0), Some(vec![(7, 0), (8, 0), (9, 0)]));
        assert_eq!(cuts(12, 1), None);
        assert_eq!(cuts(13, 0), None);
    }

    #[test]
    fn a_cell_is_free_when_its_last_user_has_left() {
        let mut pool = Pool::new(4);
        let first = pool.take(3).unwrap();
        let second = pool.share(&first[..2]);
        assert_eq!((first.len(), pool.free()), (3, 1));
        pool.give(first);
        assert_eq!(pool.free(), 2, "two cells are still the second's");
        assert!(pool.take(3).is_err_and(|failure| failure.code == Code::Defect));
        assert_eq!(pool.take(2).unwrap().len(), 2);
        pool.give(second);
        assert_eq!(pool.free(), 2);
    }
}
