//! The cells of the KV cache, counted: which are free, and how many slots use each of the others. llama.cpp keeps the
//! cells themselves and fails when none is free; this book says beforehand. No cell has an address here, only a number.

use super::slot::defect;
use crate::error::Failure;

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

    /// The slots that use `cell`.
    pub(super) fn users(&self, cell: u32) -> u16 {
        self.users[cell as usize]
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

    #[test]
    fn a_cell_is_free_when_its_last_user_has_left() {
        let mut pool = Pool::new(4);
        let first = pool.take(3).unwrap();
        let second = pool.share(&first[..2]);
        assert_eq!((first.len(), pool.free()), (3, 1));
        pool.give(first);
        assert_eq!(pool.free(), 2, "two cells are still the second's");
        assert!(pool.take(3).is_err_and(|failure| failure.code == "DEFECT"));
        assert_eq!(pool.take(2).unwrap().len(), 2);
        pool.give(second);
        assert_eq!(pool.free(), 2);
    }
}
